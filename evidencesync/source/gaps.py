"""What stands in a content for the bytes that could not be read, and the map of where that is."""

from __future__ import annotations

from typing import Final, Literal

from evidencesync.errors import SourceReadError, UsageError
from evidencesync.evidence.entry import ReadError
from evidencesync.limits import MAX_READ_ERRORS
from evidencesync.source.reader import OpenedFile
from evidencesync.source.root import SourceRoot
from evidencesync.source.salvage import DEAD_ERRORS, MEDIUM_ERRORS, BadRange, Salvage

OnReadError = Literal["zero", "skip", "fail"]
"""In place of bytes that cannot be read: zeros; nothing, so that what follows moves forward; or the run fails."""
ON_READ_ERROR: Final[tuple[OnReadError, ...]] = ("zero", "skip", "fail")


def refuse_moved_bytes(source: SourceRoot, on_error: str | None) -> None:
    """Raises UsageError where leaving out what cannot be read would make the image of a device another one."""
    if on_error == "skip" and source.is_device:
        raise UsageError(
            "--on-read-error skip would move everything behind a bad sector of a device to another offset",
            hint="Use zero (the default): bad sectors become zeros, and the manifest says where.",
        )


class Gaps:
    """The gaps of one file or device, made while it is read. `read_errors` is the manifest's map of them, ascending.

    A medium that is gone, or has more gaps than anybody could look through, ends the content there: what is missing from
    there on is a range that is left out, whatever was chosen for the others.
    """

    def __init__(self, opened: OpenedFile, on_error: OnReadError) -> None:
        self.read_errors: list[ReadError] = []
        self._opened = opened
        self._on_error = on_error
        self._error: SourceReadError | None = None
        self._salvage: Salvage | None = None
        self._bad_bytes = 0
        self._taken = 0

    def recover(self, room: memoryview, error: SourceReadError) -> int:
        """After `error` at the file's offset: fills `room` from there as far as can be; gives how many bytes to deliver.

        0 with the offset where it was: the content ends here.
        """
        opened = self._opened
        left = room[: max(min(len(room), opened.size - opened.offset), 0)]
        is_dead = self._salvage is not None and self._salvage.is_dead
        may_go_on = self._on_error != "fail" and error.errno in MEDIUM_ERRORS and len(self.read_errors) < MAX_READ_ERRORS
        if not may_go_on or is_dead or not left:
            self.end(error)
            return 0
        start = opened.offset
        with opened.close_reads() as read_at:
            if self._salvage is None:
                self._salvage = Salvage(read_at, opened.unit)
            self._salvage.read_at = read_at
            bad = self._salvage.recover(left, start)
        opened.offset = start + len(left)
        for found in bad:
            self._note(found, "zero" if self._on_error == "zero" else "skip")
        return len(left) if self._on_error == "zero" else _leave_out(left, start, bad)

    def end(self, error: SourceReadError) -> None:
        """Nothing more can be read, because of this."""
        rest = self._opened.size - self._opened.offset
        partial = self._on_error != "fail" and self._opened.offset > self._bad_bytes and rest > 0
        if partial and (error.errno in DEAD_ERRORS or error.errno in MEDIUM_ERRORS):
            self._note(BadRange(self._opened.offset, rest, error.errno), "skip")
        else:
            self._error = error

    def verdict(self) -> SourceReadError | None:
        """Why there is nothing to deliver: the error that ended it, or that not one byte could be read."""
        if self._error is None and self._bad_bytes and self._bad_bytes >= self._opened.size:
            return SourceReadError("not one byte of it could be read", errno=self.read_errors[0].errno)
        return self._error

    def take_bad_bytes(self) -> int:
        """How many bytes were found bad since this was last asked."""
        new, self._taken = self._bad_bytes - self._taken, self._bad_bytes
        return new

    def _note(self, found: BadRange, fill: Literal["zero", "skip"]) -> None:
        self._bad_bytes += found.length
        last = self.read_errors[-1] if self.read_errors else None
        joins = last is not None and (last.offset + last.length, last.errno, last.fill) == (found.offset, found.errno, fill)
        if last is not None and joins:
            self.read_errors[-1] = ReadError(last.offset, last.length + found.length, last.errno, fill)
        else:
            self.read_errors.append(ReadError(found.offset, found.length, found.errno, fill))


def _leave_out(room: memoryview, start: int, bad: list[BadRange]) -> int:
    """Moves the good bytes together; gives how many there are."""
    kept = position = 0
    for offset, length, _ in [*bad, BadRange(start + len(room), 0, 0)]:
        good = bytes(room[position : offset - start])
        room[kept : kept + len(good)] = good
        kept += len(good)
        position = offset - start + length
    return kept
