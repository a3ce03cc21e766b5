"""The one door to the terminal: results to stdout, progress and messages to stderr, nothing raw through either."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

from evidencesync.cli.shield import shield
from evidencesync.errors import StorageError, UsageError

if TYPE_CHECKING:
    import msgspec

    from evidencesync.errors import EvidenceSyncError


class Console:
    """What one command may print.

    With `as_json`, stdout carries exactly one JSON document. `quiet` drops messages and progress, never results or errors.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose

    @property
    def is_live(self) -> bool:
        """Whether bars may be drawn: on a terminal that can move its cursor, for somebody who did not decline."""
        declined = self.as_json or self.quiet or os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
        return not declined and sys.stderr is not None and sys.stderr.isatty()

    def give(self, output: msgspec.Struct, lines: Iterable[str]) -> None:
        """The result: the JSON document, or its lines for people. Raises StorageError where stdout takes no more."""
        if self.as_json:
            import msgspec

            data = msgspec.json.encode(output) + b"\n"
        else:
            data = "".join(f"{shield(line)}\n" for line in lines).encode("utf-8", "backslashreplace")
        _write(sys.stdout, data)

    def say(self, line: str) -> None:
        """A message on stderr."""
        if not self.quiet:
            self._print_error(line)

    def note(self, line: str) -> None:
        """A line on stderr that somebody waits for: even `quiet` does not drop it."""
        self._print_error(line)

    def warn(self, line: str) -> None:
        """A warning on stderr; not dropped either."""
        self._print_error(f"warning: {line}")

    def ask(self, question: str, beforehand: str = "Say yes beforehand with --yes.") -> bool:
        """Asks on stderr and reads stdin: whether the answer was yes.

        Raises UsageError where nobody answers; `beforehand` says how to do without the question.
        """
        _write(sys.stderr, f"{shield(question)} [yes/no] ".encode("utf-8", "backslashreplace"))
        answer = sys.stdin.readline() if sys.stdin is not None else ""
        if not answer:
            self._print_error("")
            raise UsageError("nobody answered the question", hint=beforehand)
        return answer.strip().lower() in {"y", "yes"}

    def fail(self, error: EvidenceSyncError) -> None:
        """The error: as JSON on stdout, else one line and a hint on stderr. A traceback only with `-v`."""
        if self.verbose:
            for line in "".join(traceback.format_exception(error)).splitlines():
                self._print_error(line)
        if self.as_json:
            from evidencesync.cli.outputs import error_output

            self.give(error_output(error), ())
            return
        self._print_error(f"error: {error.message}")
        if error.hint:
            self._print_error(f"hint: {error.hint}")

    def _print_error(self, line: str) -> None:
        _write(sys.stderr, f"{shield(line)}\n".encode("utf-8", "backslashreplace"))


def _write(stream: TextIO | None, data: bytes) -> None:
    """Writes and flushes. A reader that has gone away (`| head`) is no failure of ours; a full disk is."""
    if stream is None:
        return
    try:
        stream.flush()
        stream.buffer.write(data)
        stream.buffer.flush()
    except BrokenPipeError:
        _mute(stream)
    except OSError as error:
        if stream is sys.stdout:
            _mute(stream)
            raise StorageError(f"the result could not be written to stdout: {error.strerror}", hint="") from error


def _mute(stream: TextIO) -> None:
    """Sends what else is written to a stream, also by the interpreter at its end, to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)
