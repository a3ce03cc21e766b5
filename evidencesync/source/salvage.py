"""Reads as much as possible of a range with bad sectors, and keeps a map of the bytes that cannot be read.

Within one block at a time: first larger steps from the front to the first bad one, then from the back to the last bad one, then
what lies between; after that the same with the smallest steps inside each bad one. So good bytes are read before bad ones are
retried, an isolated bad sector costs few failing reads, and the end of a bad area is found from behind.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple

from evidencesync.errors import SourceReadError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import ReadError
from evidencesync.limits import KIB, MAX_READ_ERRORS
from evidencesync.source.reader import OpenedFile

MEDIUM_ERRORS: Final = frozenset(
    {errno.EIO, errno.ENODATA, errno.EREMOTEIO, errno.EILSEQ, errno.ETIMEDOUT, errno.EBADMSG, errno.EUCLEAN, errno.ENOLINK}
)
"""The errors of a bad sector, a failed checksum or a bad cable; other bytes may still be readable.

Source: `blk_errors` in the kernel's block/blk-core.c; file systems report damage as EUCLEAN and EBADMSG.
"""
DEAD_ERRORS: Final = frozenset({errno.ENXIO, errno.ENODEV, errno.ENOMEDIUM, errno.ESHUTDOWN, errno.ESTALE, errno.ENOTCONN})
"""The errors of a device or file system that is gone: no further read is tried."""
GIVEN_UP: Final = errno.ETIMEDOUT
"""The error that is recorded for bytes that were not tried sector by sector, because of a large bad area or the time limit."""

STEP: Final = 64 * KIB
TRIES: Final = 2  # of each smallest step
BLOCK_SECONDS: Final = 60.0  # for the bad parts of one block (at most 4 MiB)
_LEAST_SECONDS: Final = 2.0

ReadAt = Callable[[int, memoryview], None]
"""Fills a buffer from an offset on, or raises OSError."""


class BadRange(NamedTuple):
    """Bytes that could not be read, and the system's error (or GIVEN_UP)."""

    offset: int
    length: int
    errno: int


class Salvage:
    """Salvages block after block of one device or file. `unit` is the smallest step, a power of two up to STEP.

    The time is bounded: BLOCK_SECONDS a block, or half the time of the block before if nothing of that could be read, since a
    medium may need seconds to report a bad sector. Two reads of each block are made in any case. If nothing could be read of a
    block and of the one before it, its parts are not tried in smaller steps. `clock` is in seconds and never goes back.
    """

    def __init__(self, read_at: ReadAt, unit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.read_at = read_at
        self._unit = unit
        self._clock = clock
        self._patience = BLOCK_SECONDS
        self._gave_nothing = False
        self._deadline = 0.0
        self._dead = 0

    @property
    def is_dead(self) -> bool:
        """Whether the medium is gone: nothing more can be read."""
        return self._dead != 0

    def recover(self, room: memoryview, offset: int) -> list[BadRange]:
        """Fills `room`, which begins at `offset`, with what can be read, and with zeros elsewhere.

        Returns the bad ranges, ascending. Adjacent ranges with the same error are joined.
        """
        self._deadline = self._clock() + self._patience
        coarse = self._sweep(room, offset, BadRange(offset, len(room), 0), STEP)
        nothing = sum(bad.length for bad in coarse) == len(room)
        if nothing and self._gave_nothing:
            bad = [found if self._dead else found._replace(errno=GIVEN_UP) for found in coarse]
        else:
            bad = [fine for found in coarse for fine in self._closer(room, offset, found)]
            bad = [found for found in bad if not self._again(room, offset, found)]
        self._gave_nothing = sum(found.length for found in bad) == len(room)
        self._patience = max(self._patience / 2, _LEAST_SECONDS) if self._gave_nothing else BLOCK_SECONDS
        for found in bad:
            start = found.offset - offset
            room[start : start + found.length] = bytes(found.length)
        return list(_joined(bad))

    def _sweep(self, room: memoryview, base: int, whole: BadRange, step: int) -> list[BadRange]:
        """The steps of a range that could not be read; those that could are in `room`."""
        steps = list(_steps(whole.offset, whole.length, step))
        failed: list[BadRange] = []
        front, back = 0, len(steps)
        while front < back and (failure := self._try(room, base, *steps[front])) is None:
            front += 1
        if front < back:
            failed.append(BadRange(*steps[front], failure or 0))
            front += 1
        last: list[BadRange] = []
        while front < back and (failure := self._try(room, base, *steps[back - 1])) is None:
            back -= 1
        if front < back:
            back -= 1
            last.append(BadRange(*steps[back], failure or 0))
        for position, length in steps[front:back]:
            late = self._clock() > self._deadline
            failure = GIVEN_UP if late and not self._dead else self._try(room, base, position, length)
            if failure is not None:
                failed.append(BadRange(position, length, failure))
        return failed + last

    def _closer(self, room: memoryview, base: int, found: BadRange) -> list[BadRange]:
        """The same range in the smallest steps, where there is time for that."""
        if self._dead or found.length <= self._unit:
            return [found]
        if self._clock() > self._deadline:
            return [found._replace(errno=GIVEN_UP)]
        return self._sweep(room, base, found, self._unit)

    def _again(self, room: memoryview, base: int, found: BadRange) -> bool:
        """Whether another try of a smallest step succeeds."""
        for _ in range(TRIES - 1):
            if self._dead or found.errno == GIVEN_UP or self._clock() > self._deadline:
                return False
            if self._try(room, base, found.offset, found.length) is None:
                return True
        return False

    def _try(self, room: memoryview, base: int, position: int, length: int) -> int | None:
        """None where a range was read, else the error's number."""
        if self._dead:
            return self._dead
        try:
            self.read_at(position, room[position - base : position - base + length])
        except OSError as error:
            number = error.errno or errno.EIO
            if number in DEAD_ERRORS:
                self._dead = number
            return number
        return None


def _steps(offset: int, length: int, step: int) -> Iterator[tuple[int, int]]:
    """A range cut at the multiples of `step`."""
    end = offset + length
    while offset < end:
        cut = min(end, (offset // step + 1) * step)
        yield offset, cut - offset
        offset = cut


def _joined(bad: list[BadRange]) -> Iterator[BadRange]:
    """Joins adjacent ranges with the same error."""
    whole: BadRange | None = None
    for found in bad:
        if whole is not None and whole.offset + whole.length == found.offset and whole.errno == found.errno:
            whole = whole._replace(length=whole.length + found.length)
            continue
        if whole is not None:
            yield whole
        whole = found
    if whole is not None:
        yield whole


_USE_ZERO: Final = "Use zero (the default): what cannot be read becomes zeros, and the manifest says where."
OnReadError = Literal["zero", "fail"]
"""What to do with bytes that cannot be read: fill with zeros, or fail."""
ON_READ_ERROR: Final[tuple[OnReadError, ...]] = ("zero", "fail")


def parse_on_read_error(text: str) -> OnReadError:
    """Parses the option, from a person or from the other end of a pull. Raises UsageError."""
    if text == "skip":
        raise UsageError("--on-read-error skip is gone: it moved all that lies behind a bad sector", hint=_USE_ZERO)
    if text not in ON_READ_ERROR:
        raise UsageError(f"--on-read-error is zero or fail, not {safe_text(text, 40)}", hint=_USE_ZERO)
    return "fail" if text == "fail" else "zero"


class Gaps:
    """The gaps of one file or device, found while it is read. `read_errors` is the manifest's map of them, ascending.

    If the medium is gone, or has more gaps than MAX_READ_ERRORS, the content ends there: the rest is a range that is left out
    (`skip`), while other gaps are filled with zeros.
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
        """Called after `error` at the file's offset: fills `room` from there, and returns how many bytes to deliver.

        It returns 0, with an unchanged offset, if the content ends here.
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
            self._note(found, "zero")
        return len(left)

    def end(self, error: SourceReadError) -> None:
        """Ends the content because of an error."""
        rest = self._opened.size - self._opened.offset
        partial = self._on_error != "fail" and self._opened.offset > self._bad_bytes and rest > 0
        if partial and (error.errno in DEAD_ERRORS or error.errno in MEDIUM_ERRORS):
            self._note(BadRange(self._opened.offset, rest, error.errno), "skip")  # nothing stands in place of what is cut off
        else:
            self._error = error

    def verdict(self) -> SourceReadError | None:
        """The error if there is nothing to deliver: the one that ended the content, or that no byte could be read."""
        if self._error is None and self._bad_bytes and self._bad_bytes >= self._opened.size:
            return SourceReadError("not one byte of it could be read", errno=self.read_errors[0].errno)
        return self._error

    def take_bad_bytes(self) -> int:
        """How many bad bytes were found since the last call."""
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
