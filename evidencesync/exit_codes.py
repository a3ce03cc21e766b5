"""Defines the exit codes of the process, and which of several is shown."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of the process. Every code except 0 is a failure to a script."""

    COMPLETE = 0
    INTERNAL = 1
    USAGE = 2
    GAPS = 3
    SOURCE_CHANGED = 4
    NOT_THERE = 10
    LOCKED = 11
    KEY = 12
    NO_SPACE = 13
    CONNECT = 20
    HOST_KEY = 21
    AUTHENTICATION = 22
    LINK_LOST = 23
    DIGEST = 30
    MISSING_OR_EXTRA = 31
    SIGNATURE = 32
    TIMESTAMP = 33
    CHAIN = 34
    PEER = 40
    INTERRUPTED = 130


# Most severe first; the codes that are not listed (1, 2, 130) mean that the run itself did not finish.
SEVERITY_ORDER: tuple[ExitCode, ...] = (
    ExitCode.PEER,
    ExitCode.CHAIN,
    ExitCode.SIGNATURE,
    ExitCode.TIMESTAMP,
    ExitCode.DIGEST,
    ExitCode.MISSING_OR_EXTRA,
    ExitCode.NO_SPACE,
    ExitCode.KEY,
    ExitCode.LOCKED,
    ExitCode.NOT_THERE,
    ExitCode.HOST_KEY,
    ExitCode.AUTHENTICATION,
    ExitCode.CONNECT,
    ExitCode.LINK_LOST,
    ExitCode.GAPS,
    ExitCode.SOURCE_CHANGED,
    ExitCode.COMPLETE,
)


def most_severe(codes: set[ExitCode]) -> ExitCode:
    """Returns the exit code of a run that met all of `codes`; COMPLETE for an empty set."""
    for unfinished in (ExitCode.INTERRUPTED, ExitCode.INTERNAL, ExitCode.USAGE):
        if unfinished in codes:
            return unfinished
    return next((code for code in SEVERITY_ORDER if code in codes), ExitCode.COMPLETE)
