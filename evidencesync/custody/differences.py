"""What differs between two manifests, entry by entry: paths that one of them lacks, and fields with other values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Final, Literal, NamedTuple

from evidencesync.custody.manifest import WholeEntry
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.path import from_json_fields, pair_in_order, walk_order

DifferenceKind = Literal["added", "removed", "changed", "metadata", "filtered", "not-read"]

# What makes an entry another one; all else is metadata. `device` (st_dev) is the number of a mount, and is not compared.
_CONTENT: Final = ("type", "size", "blake3", "sha256", "device_number")
_IDENTITY: Final = attrgetter(*_CONTENT, "target", "target_b64")
_METADATA: Final = (
    "mode",
    "uid",
    "gid",
    "user",
    "group",
    "mtime",
    "atime",
    "ctime",
    "btime",
    "inode",
    "links",
    "inode_flags",
)
_SHOWN_VALUE: Final = 200  # characters of an attribute's value in base64


class FieldChange(NamedTuple):
    """A field that differs, with both values as safe text; None is what a manifest does not state."""

    field: str
    before: str | None
    after: str | None


class EntryDifference(NamedTuple):
    """One path about which two manifests differ."""

    kind: DifferenceKind
    path: bytes
    before: Entry | None
    after: Entry | None
    fields: list[FieldChange]


class _LeftOut:
    """Tells what a filter left out of one of two acquisitions: also what lies in a folder that was left out.

    So nothing is called gone, or added, because of a filter. Entries come in the order of a walk: a folder, then what is in it.
    """

    def __init__(self) -> None:
        self._folder: bytes | None = None

    def covers(self, one: WholeEntry | None, other: WholeEntry | None) -> bool:
        """Whether the next pair is not to be compared."""
        pair = [each for each in (one, other) if each is not None]
        path = pair[0].path
        if self._folder is not None and path.startswith(self._folder) and len(pair) == 1:
            return True
        left_out = ["skipped" in (each.entry.flags or ()) for each in pair]
        if not any(left_out) or (len(pair) == 2 and all(left_out)):
            return False
        if any(each.entry.type == "directory" for each in pair):
            self._folder = path + b"/"
        return True


Compare = Callable[[WholeEntry, WholeEntry], EntryDifference | None]
"""Compares two entries of one path."""


def differences(
    before: Iterator[WholeEntry], after: Iterator[WholeEntry], compare: Compare | None = None
) -> Iterator[EntryDifference | None]:
    """All paths of two manifests in their common order; None for one about which they agree. Holds two entries at a time.

    What a filter left out of one of them is `filtered`, and nothing else. What neither has read is `not-read` where all else
    agrees: nobody knows whether it is the same. `compare`: by default all that manifests state.
    """
    left_out = _LeftOut()
    for one, other in pair_in_order(before, after, _order, _order):
        known = one or other
        if known is not None and left_out.covers(one, other):
            yield EntryDifference("filtered", known.path, one.entry if one else None, other.entry if other else None, [])
        elif one is not None and other is not None:
            yield (compare or _compare)(one, other)
        elif one is not None:
            yield EntryDifference("removed", one.path, one.entry, None, [])
        elif other is not None:
            yield EntryDifference("added", other.path, None, other.entry, [])


def _order(whole: WholeEntry) -> bytes:
    return walk_order(whole.path)


def has_changed(before: Entry, after: Entry) -> bool:
    """Whether an entry is another one than before: of another kind, with another content, or leading elsewhere."""
    return bool(_IDENTITY(before) != _IDENTITY(after))


def _lacks_content(entry: Entry) -> bool:
    """Whether something of it was not read: its content, a part of that, or what lies in a folder."""
    return bool(entry.read_errors) or not {"unreadable", "skipped"}.isdisjoint(entry.flags or ())


def _compare(one: WholeEntry, other: WholeEntry) -> EntryDifference | None:
    left, right = one.entry, other.entry
    if left == right and one.attributes == other.attributes:
        return EntryDifference("not-read", one.path, left, right, []) if _lacks_content(left) else None
    changed = has_changed(left, right)
    content = [*_plain_changes(left, right, _CONTENT), *_path_change(left, right, "target")] if changed else []
    metadata = [
        *_plain_changes(left, right, _METADATA),
        *_path_change(left, right, "hardlink_to"),
        *_attribute_changes(one.attributes or {}, other.attributes or {}),
        *_list_changes(left, right),
    ]
    if not content and not metadata:
        return EntryDifference("not-read", one.path, left, right, []) if _lacks_content(left) else None
    return EntryDifference("changed" if changed else "metadata", one.path, left, right, content + metadata)


def _plain_changes(left: Entry, right: Entry, names: tuple[str, ...]) -> Iterator[FieldChange]:
    for name in names:
        one, other = getattr(left, name), getattr(right, name)
        if one != other:
            yield FieldChange(name, _text(one), _text(other))


def _path_change(left: Entry, right: Entry, name: str) -> Iterator[FieldChange]:
    one, other = ((getattr(entry, name), getattr(entry, f"{name}_b64")) for entry in (left, right))
    if one != other:
        yield FieldChange(name, *(None if pair == (None, None) else safe_text(from_json_fields(*pair)) for pair in (one, other)))


def _attribute_changes(left: dict[str, str], right: dict[str, str]) -> Iterator[FieldChange]:
    for name in sorted(left.keys() | right.keys()):
        one, other = left.get(name), right.get(name)
        if one != other:
            yield FieldChange(f"xattrs.{safe_text(name)}", _cut(one), _cut(other))


def _list_changes(left: Entry, right: Entry) -> Iterator[FieldChange]:
    if left.flags != right.flags:
        yield FieldChange("flags", ", ".join(left.flags or ()) or None, ", ".join(right.flags or ()) or None)
    if left.read_errors != right.read_errors:
        counts = (str(len(entry.read_errors)) if entry.read_errors else None for entry in (left, right))
        yield FieldChange("read_errors", *counts)


def _text(value: object) -> str | None:
    return None if value is None else safe_text(str(value))


def _cut(value: str | None) -> str | None:
    return value if value is None or len(value) <= _SHOWN_VALUE else value[:_SHOWN_VALUE] + "…"
