"""Defines how the content of an entry was captured: once, out of a pipe, from standard input or from a command's output."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from evidencesync.evidence.utc_time import UtcTime
from evidencesync.limits import MAX_COMMAND, MAX_COMMAND_WORDS, MAX_FILE_SIZE

CaptureSource = Literal["standard-input", "standard-output", "standard-error"]
CaptureEnd = Literal["end-of-data", "idle", "link-lost", "left-open", "read-error", "interrupted"]
"""How the data ended: by itself; nothing came for too long; the SSH connection was lost; the command was over, and something that
it had started kept its output open; the system would not read on; a person has ended it."""
Word = Annotated[str, msgspec.Meta(max_length=MAX_COMMAND)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=MAX_FILE_SIZE)]


class Capture(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where the bytes of an entry came from, when, and how they ended. They cannot be read again.

    `shell_command` is one string that a shell was given, `arguments` a list of words that no shell has seen; standard input has
    neither. `exit_status` is the command's; absent where it is not known. `signal` is the number of the signal that ended it.
    `expected_bytes`: what was to come, by whoever started it. `dropped_bytes`: what came beyond the limit, and was not kept.
    """

    source: CaptureSource
    started: UtcTime
    ended: UtcTime
    end: CaptureEnd
    shell_command: Word | None = None
    arguments: Annotated[list[Word], msgspec.Meta(min_length=1, max_length=MAX_COMMAND_WORDS)] | None = None
    exit_status: Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)] | None = None
    signal: Annotated[int, msgspec.Meta(ge=1, le=255)] | None = None
    expected_bytes: _Size | None = None
    dropped_bytes: _Size | None = None

    @property
    def is_of_command(self) -> bool:
        """Whether a command printed it."""
        return self.source != "standard-input"

    def is_whole(self, size: int) -> bool:
        """Whether everything came: to its end, as many bytes as expected, from a command that said that it had succeeded."""
        return (
            self.end == "end-of-data"
            and (self.exit_status == 0 or self.source != "standard-output")
            and not self.dropped_bytes
            and self.expected_bytes in (None, size)
        )
