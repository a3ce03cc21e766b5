"""Compares a source with the manifest of its last acquisition by names, types, sizes and times alone: no content is read.

Both come in the order of the same walk, and are gone through side by side. So it says what a push would probably find, and what
would travel at most if what looks the same is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from evidencesync.custody.differences import EntryDifference, FieldChange, differences
from evidencesync.custody.manifest import WholeEntry
from evidencesync.evidence.entry import Entry, EntryType
from evidencesync.evidence.utc_time import parse_file_time

PlannedKind = Literal["added", "removed", "changed", "unread"]
PlannedField = Literal["type", "size", "time", "content"]
_SECOND: Final = 1_000_000_000
_MOST_MOVES: Final = 100_000
"""Where more files than this are on one side alone, it is not looked for what was moved: their names would take memory."""


class PlannedChange(NamedTuple):
    """An entry that a push would probably find added, removed or changed, or that it could not read.

    `fields`: what says that it has changed; `content` where its content was not read the last time, or is a device's.
    """

    kind: PlannedKind
    path: bytes
    type: EntryType
    size: int | None
    fields: tuple[PlannedField, ...] = ()


@dataclass(slots=True)
class PlannedChanges:
    """Counts of entries, and bytes of the files among them that can be read.

    `unread`: it cannot be read now, or lies in a folder that cannot; so it is not known whether it has changed. `left_out`: a
    filter or a list leaves it out of one of both. `moves`: an added file that has name, size and time of one removed file alone,
    as old path, new path and size; None where there are too many to look for it.
    """

    added: int = 0
    removed: int = 0
    changed: int = 0
    same: int = 0
    unread: int = 0
    left_out: int = 0
    added_bytes: int = 0
    changed_bytes: int = 0
    same_bytes: int = 0
    moves: list[tuple[bytes, bytes, int]] | None = field(default_factory=list)

    @property
    def most_bytes(self) -> int:
        """The bytes of the contents that may travel."""
        return self.added_bytes + self.changed_bytes


def compare_planned(
    before: Iterator[WholeEntry],
    found: Iterator[WholeEntry],
    note: Callable[[PlannedChange], None],
    *,
    is_wanted: Callable[[bytes], bool] = lambda _path: True,
    in_seconds: bool = False,
) -> PlannedChanges:
    """Compares both. `note` is called with each change, in the order of the walk.

    What a list does not want (`is_wanted`) is not removed, because nobody looks for it. `in_seconds`: the manifest has no finer
    times. Raises what reading the manifest and walking raise.
    """
    comparison = _Comparison(note, is_wanted, in_seconds=in_seconds)
    there = (one for one in found if "vanished" not in (one.entry.flags or ()))
    for one in differences(before, there, comparison.compare):
        if one is not None:
            comparison.take(one)
    return comparison.finish()


class _Comparison:
    def __init__(self, note: Callable[[PlannedChange], None], is_wanted: Callable[[bytes], bool], *, in_seconds: bool) -> None:
        self._changes = PlannedChanges()
        self._note = note
        self._is_wanted = is_wanted
        self._in_seconds = in_seconds
        self._closed: list[bytes] = []  # the folders here that could not be read: what was in them is not known to be gone
        self._removed = _Unpaired()
        self._added = _Unpaired()

    def compare(self, one: WholeEntry, other: WholeEntry) -> EntryDifference | None:
        """What differs of an entry that both have. What is the same is counted here."""
        fields = [] if _has(other.entry, "skipped", "unreadable") else list(self._fields(one.entry, other.entry))
        if fields or _has(other.entry, "unreadable"):
            return EntryDifference("changed", other.path, one.entry, other.entry, fields)
        if not _has(other.entry, "skipped"):
            self._changes.same += 1
            self._changes.same_bytes += other.entry.size or 0
        return None

    def _fields(self, before: Entry, after: Entry) -> Iterator[FieldChange]:
        if before.type != after.type:
            yield FieldChange("type", before.type, after.type)
        elif after.size is not None:
            if before.size != after.size:
                yield FieldChange("size", str(before.size), str(after.size))
            if before.blake3 is None or after.type == "block-device":
                yield FieldChange("content", None, None)
        if after.type not in ("directory", "block-device") and self._time(before) != self._time(after):
            yield FieldChange("time", before.mtime, after.mtime)

    def _time(self, entry: Entry) -> int | None:
        if entry.mtime is None:
            return None
        return parse_file_time(entry.mtime) // (_SECOND if self._in_seconds else 1)

    def take(self, one: EntryDifference) -> None:
        """Counts and notes what is not the same."""
        counts, entry = self._changes, one.after or one.before
        if entry is None:
            return
        if one.kind == "filtered":
            counts.left_out += 1
        elif one.after is not None and _has(one.after, "unreadable"):
            if one.after.type == "directory":
                self._closed.append(one.path + b"/" if one.path else b"")
            self._count_unread(one.path, entry)
        elif one.kind == "removed":
            self._take_removed(one.path, entry)
        elif one.kind == "added":
            counts.added += 1
            counts.added_bytes += entry.size or 0
            self._added.add(one.path, entry)
            self._note(PlannedChange("added", one.path, entry.type, entry.size))
        else:
            counts.changed += 1
            counts.changed_bytes += entry.size or 0
            fields: tuple[PlannedField, ...] = tuple(change.field for change in one.fields)  # type: ignore[misc]
            self._note(PlannedChange("changed", one.path, entry.type, entry.size, fields))

    def _take_removed(self, path: bytes, entry: Entry) -> None:
        while self._closed and not path.startswith(self._closed[-1]):
            self._closed.pop()
        if not self._is_wanted(path):
            self._changes.left_out += 1
        elif self._closed:
            self._count_unread(path, entry)
        else:
            self._changes.removed += 1
            self._removed.add(path, entry)
            self._note(PlannedChange("removed", path, entry.type, entry.size))

    def _count_unread(self, path: bytes, entry: Entry) -> None:
        self._changes.unread += 1
        self._note(PlannedChange("unread", path, entry.type, entry.size))

    def finish(self) -> PlannedChanges:
        """The result, with what may have been moved."""
        gone, new = self._removed.paths, self._added.paths
        if gone is None or new is None:
            self._changes.moves = None
        else:
            pairs = ((gone[key], path, key[0]) for key, path in new.items() if key in gone)
            self._changes.moves = [(old, path, size) for old, path, size in pairs if old is not None and path is not None]
        return self._changes


class _Unpaired:
    """Files of one side by size, time and name; None for what several of them have. None at all if there are too many."""

    def __init__(self) -> None:
        self.paths: dict[tuple[int, str, bytes], bytes | None] | None = {}

    def add(self, path: bytes, entry: Entry) -> None:
        if self.paths is None or entry.type != "file" or not entry.size or entry.mtime is None:
            return
        key = (entry.size, entry.mtime, path.rpartition(b"/")[2])
        self.paths[key] = None if key in self.paths else path
        if len(self.paths) > _MOST_MOVES:
            self.paths = None


def _has(entry: Entry, *flags: str) -> bool:
    return entry.flags is not None and any(flag in entry.flags for flag in flags)
