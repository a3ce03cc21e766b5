"""Counts entries for a manifest's last line, in the writer and in the reader."""

from __future__ import annotations

from typing import Final, get_args

from evidencesync.custody.documents import ManifestFooter
from evidencesync.evidence.entry import Entry, EntryType, Flag, Remark
from evidencesync.evidence.utc_time import UtcTime

TYPE_ORDER: Final[tuple[str, ...]] = get_args(EntryType)
FLAG_ORDER: Final[tuple[str, ...]] = get_args(Flag)
REMARK_ORDER: Final[tuple[Remark, ...]] = get_args(Remark)
_ABSENT: Final[frozenset[Flag]] = frozenset({"skipped", "vanished"})


class ManifestTally:
    """Counts by type and by flag, contents (entries whose bytes are kept) and the bytes of all contents, and remarks.

    `taken` counts the entries that are not folders, vanished or skipped: without any, there is no evidence at all.
    """

    __slots__ = ("_flags", "_remarks", "_types", "bytes", "contents", "taken")

    def __init__(self) -> None:
        self._types: dict[str, int] = dict.fromkeys(TYPE_ORDER, 0)
        self._flags: dict[str, int] = dict.fromkeys(FLAG_ORDER, 0)
        self._remarks: dict[Remark, int] = dict.fromkeys(REMARK_ORDER, 0)
        self.contents = 0
        self.taken = 0
        self.bytes = 0

    def add(self, entry: Entry) -> None:
        """Counts one entry. Its continuation lines do not count."""
        self._types[entry.type] += 1
        if entry.blake3 is not None:
            self.contents += 1
            self.bytes += entry.size or 0
        self.taken += entry.type != "directory" and _ABSENT.isdisjoint(entry.flags or ())
        if entry.flags:
            for flag in entry.flags:
                self._flags[flag] += 1

    def remark(self, remark: Remark, count: int) -> None:
        """Adds to a count that is only known at the end of the walk."""
        self._remarks[remark] += count

    @property
    def counts(self) -> dict[str, int]:
        """Entries by type, in the types' declared order; only those that occur."""
        return {name: count for name, count in self._types.items() if count}

    @property
    def flags(self) -> dict[str, int]:
        """Flags in their declared order; only those that occur."""
        return {name: count for name, count in self._flags.items() if count}

    @property
    def remarks(self) -> dict[Remark, int]:
        """Remarks in their declared order; only those that occur."""
        return {name: count for name, count in self._remarks.items() if count}

    def footer(self, finished: UtcTime) -> ManifestFooter:
        """Returns the last line for what was counted so far."""
        return ManifestFooter(
            counts=self.counts, flags=self.flags, bytes=self.bytes, finished=finished, remarks=self.remarks or None
        )
