"""Counts a manifest's entries, and decides from the counts how complete an acquisition is: one rule for every verdict and list.

The writer and the reader of a manifest count alike, for its last line.

Four cases are told apart. What could not be read, or had vanished, is a *gap*. What changed while it was read is stored, but may
be a mix of two states. What a filter left out was left out on purpose. And a file that was read in part is stored, with other
bytes in place of the rest; its entry is flagged as unreadable, so it makes a gap, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal, get_args

import msgspec

from evidencesync.custody.documents import Earlier, ManifestFooter, ManifestHeader
from evidencesync.evidence.entry import Entry, EntryType, Flag, Remark
from evidencesync.evidence.utc_time import UtcTime

TYPE_ORDER: Final[tuple[str, ...]] = get_args(EntryType)
FLAG_ORDER: Final[tuple[str, ...]] = get_args(Flag)
REMARK_ORDER: Final[tuple[Remark, ...]] = get_args(Remark)
_ABSENT: Final[frozenset[Flag]] = frozenset({"skipped", "vanished"})
Wholeness = Literal["complete", "gaps", "source-changed"]
_DIGITS: Final = 16


class ManifestTally:
    """Counts by type and by flag, contents (entries whose bytes are kept) and the bytes of all contents, and remarks.

    `taken` counts the entries that are not folders, vanished or skipped: without any, there is no evidence at all. `earlier`
    counts the contents that were not read in this acquisition.
    """

    __slots__ = ("_earlier", "_flags", "_remarks", "_types", "bytes", "contents", "taken")

    def __init__(self) -> None:
        self._types: dict[str, int] = dict.fromkeys(TYPE_ORDER, 0)
        self._flags: dict[str, int] = dict.fromkeys(FLAG_ORDER, 0)
        self._remarks: dict[Remark, int] = dict.fromkeys(REMARK_ORDER, 0)
        self.contents = 0
        self.taken = 0
        self.bytes = 0
        self._earlier = (0, 0, 0)

    def add(self, entry: Entry) -> None:
        """Counts one entry. Its continuation lines do not count."""
        self._types[entry.type] += 1
        if entry.blake3 is not None:
            self.contents += 1
            self.bytes += entry.size or 0
        if entry.flags:
            self.taken += entry.type != "directory" and _ABSENT.isdisjoint(entry.flags)
            for flag in entry.flags:
                self._flags[flag] += 1
        else:
            self.taken += entry.type != "directory"
        if entry.read_in is not None:
            files, size, oldest = self._earlier
            self._earlier = files + 1, size + (entry.size or 0), min(oldest or entry.read_in, entry.read_in)

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

    @property
    def earlier(self) -> Earlier | None:
        """Contents that were not read in this acquisition; None where all were."""
        return Earlier(*self._earlier) if self._earlier[0] else None

    def footer(self, finished: UtcTime) -> ManifestFooter:
        """Returns the last line for what was counted so far."""
        return ManifestFooter(
            counts=self.counts,
            flags=self.flags,
            bytes=self.bytes,
            finished=finished,
            remarks=self.remarks or None,
            earlier=self.earlier,
        )


class SourceState(msgspec.Struct, frozen=True):
    """The state of the source as a manifest states it, in entries. `unread_bytes`: of files that were read in part, if known."""

    unreadable: int = 0
    vanished: int = 0
    not_reached: int = 0
    changed: int = 0
    changed_folders: int = 0
    left_out: int = 0
    filtered: bool = False
    unread_bytes: int = 0

    @classmethod
    def of(
        cls,
        flags: Mapping[str, int],
        remarks: Mapping[Remark, int] | None = None,
        *,
        filtered: bool = False,
        unread_bytes: int = 0,
    ) -> SourceState:
        """Makes a state from the counts of flags and remarks in a tally or a footer. `filtered`: a filter was set."""
        more = remarks or {}
        return cls(
            unreadable=flags.get("unreadable", 0),
            vanished=flags.get("vanished", 0),
            not_reached=more.get("listed-not-reached", 0),
            changed=flags.get("changed-while-read", 0),
            changed_folders=more.get("folder-changed-while-read", 0),
            left_out=flags.get("skipped", 0),
            filtered=filtered or bool(flags.get("skipped", 0)),
            unread_bytes=unread_bytes,
        )

    @classmethod
    def of_manifest(cls, header: ManifestHeader, footer: ManifestFooter, unread_bytes: int = 0) -> SourceState:
        """Makes a state from a manifest's first and last line. A filter counts also where it matched nothing."""
        return cls.of(footer.flags, footer.remarks, filtered=bool(header.method.filters), unread_bytes=unread_bytes)

    @property
    def verdict(self) -> Wholeness:
        """`gaps` where something is missing; else whether something changed. What a filter left out is neither."""
        if self.unreadable or self.vanished or self.not_reached:
            return "gaps"
        return "source-changed" if self.changed or self.changed_folders else "complete"

    @property
    def parts(self) -> list[str]:
        """Sentences for people; empty where everything was read."""
        said = []
        if self.verdict == "gaps":
            said.append(f"WITH GAPS ({', '.join(self._gaps())})")
        changed = [_many(self.changed, "entry", "entries"), _many(self.changed_folders, "folder", "folders")]
        if any(changed):
            said.append(f"CHANGED while it was read ({', '.join(filter(None, changed))})")
        if self.filtered:
            many = _many(self.left_out, "entry", "entries")
            said.append(f"filtered ({many} left out)" if many else "filtered (no entry is marked as left out)")
        return said

    @property
    def words(self) -> str:
        """The same in a few words, for a table."""
        said = [
            "with gaps" if self.verdict == "gaps" else "",
            "changed while it was read" if self.changed or self.changed_folders else "",
            "files read in part" if self.unread_bytes else "",
            "filtered" if self.filtered else "",
        ]
        return ", ".join(filter(None, said)) or "complete"

    def _gaps(self) -> Iterator[str]:
        if self.unreadable:
            yield f"{_many(self.unreadable, 'entry', 'entries')} not read, or not whole"
        if self.unread_bytes:
            yield f"{_many(self.unread_bytes, 'byte', 'bytes')} of files that were read in part"
        if self.vanished:
            yield f"{_many(self.vanished, 'entry', 'entries')} not there when it was read"
        if self.not_reached:
            yield f"{_many(self.not_reached, 'listed name', 'listed names')} not reached"


def is_count(text: str) -> bool:
    """Whether a record's detail is a count, as in `acquired`: digits, and no more of them than a size can have."""
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS


def _many(count: int, one: str, many: str) -> str:
    return "" if not count else f"{count:,} {one if count == 1 else many}"
