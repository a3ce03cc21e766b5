"""Entries of a manifest with their extended attributes whole, in however many lines these stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from evidencesync.custody.manifest import ManifestReader, read_manifest
from evidencesync.errors import LimitExceededError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.limits import MAX_ATTRIBUTES

_MOST_ATTRIBUTES: Final = 2 * MAX_ATTRIBUTES  # in base64, with their names


class WholeEntry(NamedTuple):
    """An entry with its checked raw path, and all its extended attributes (names and base64)."""

    path: bytes
    entry: Entry
    attributes: dict[str, str] | None


def whole_entries(blocks: Iterable[bytes], takes: Callable[[bytes], bool] | None = None) -> Iterator[WholeEntry]:
    """Every entry of a manifest given in blocks of any size, or those whose path `takes` wants; it is asked for all, in order.

    Raises as `read_manifest` does, and LimitExceededError for more attributes than an entry can have.
    """
    last: tuple[bytes, Entry] | None = None
    attributes: dict[str, str] | None = None
    room = _MOST_ATTRIBUTES
    for path, line in read_manifest(blocks, ManifestReader()):
        if isinstance(line, Entry):
            if last is not None:
                yield WholeEntry(*last, attributes)
            last = (path, line) if takes is None or takes(path) else None
            attributes, room = line.xattrs, _MOST_ATTRIBUTES
        elif line.xattrs is not None and last is not None:
            room -= sum(len(name) + len(value) for name, value in line.xattrs.items())
            if room < 0:
                raise LimitExceededError(f"{safe_text(path, 200)} has more attributes than any honest entry")
            attributes = {**(attributes or {}), **line.xattrs}
    if last is not None:
        yield WholeEntry(*last, attributes)
