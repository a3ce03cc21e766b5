"""Entries of a manifest with their extended attributes whole, in however many lines these stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from evidencesync.custody.manifest import ManifestReader, read_manifest
from evidencesync.evidence.entry import Entry


class WholeEntry(NamedTuple):
    """An entry with its checked raw path, and all its extended attributes (names and base64)."""

    path: bytes
    entry: Entry
    attributes: dict[str, str] | None


def whole_entries(blocks: Iterable[bytes], takes: Callable[[bytes], bool] | None = None) -> Iterator[WholeEntry]:
    """Every entry of a manifest given in blocks of any size, or those whose path `takes` wants; it is asked for all, in order.

    Raises as `read_manifest` does. How many attributes an entry can have is the reader's to say.
    """
    last: tuple[bytes, Entry] | None = None
    attributes: dict[str, str] | None = None
    for path, line in read_manifest(blocks, ManifestReader()):
        if isinstance(line, Entry):
            if last is not None:
                yield WholeEntry(*last, attributes)
            last = (path, line) if takes is None or takes(path) else None
            attributes = line.xattrs
        elif line.xattrs is not None and last is not None:
            attributes = {**(attributes or {}), **line.xattrs}
    if last is not None:
        yield WholeEntry(*last, attributes)
