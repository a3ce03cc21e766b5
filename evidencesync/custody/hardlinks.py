"""Checks the hard links of a manifest: each must lead to an entry that is listed, of the same kind and with the same content.

A manifest's reader keeps no entries, so it can only check that a link leads backwards. A caller that reads a whole manifest adds
its entries here, and the targets are then looked for in further readings of the manifest: memory is bounded, whatever the
manifest lists. Receiving, verifying and comparing all use this check, so that a vault accepts exactly what `verify` passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from evidencesync.custody.wholeness import TYPE_ORDER
from evidencesync.evidence.digest import chunk_digest_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.path import from_json_fields

AT_ONCE: Final = 100_000  # targets that are looked for in one reading: about 25 MB of memory
_TYPE_PLACE: Final = {name: place.to_bytes(1, "big") for place, name in enumerate(TYPE_ORDER)}

Entries = Iterable[tuple[bytes, Entry]]
"""All entries of a manifest, with their raw paths, in order."""


class FalseLink(NamedTuple):
    """A hard link that is wrong. `listed`: its target is in the manifest, but is something else."""

    path: bytes
    target: bytes
    listed: bool

    @property
    def text(self) -> str:
        """Describes what is wrong, for people."""
        link, target = safe_text(self.path), safe_text(self.target)
        if self.listed:
            return f"{link} is another kind or other content than {target}, to which it is a hard link"
        return f"{link} is a hard link to {target}, which the manifest does not list"


def is_hard_link(entry: Entry) -> bool:
    """Whether an entry states that it is the same inode as one before it."""
    return entry.hardlink_to is not None or entry.hardlink_to_b64 is not None


class HardLinkCheck:
    """Takes all entries of a manifest in order (`add`), and finds the wrong links (`false_links`)."""

    __slots__ = ("_at_once", "_batch", "count")

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self.count = 0
        """The number of links that were added."""
        self._at_once = at_once
        self._batch = _Batch(0, at_once)

    def add(self, path: bytes, entry: Entry) -> None:
        """Adds the next entry of the first reading; the entry itself was checked before."""
        if entry.hardlink_to is not None or entry.hardlink_to_b64 is not None:
            self._batch.add(self.count, entry)
            self.count += 1

    def false_links(self, again: Callable[[], Entries]) -> Iterator[FalseLink]:
        """Yields every wrong link. `again` reads the manifest once more; it is not called where there are no links.

        Each reading finds the targets of one batch of links, and collects the next batch. Only where something is wrong, the
        links themselves are read once more, for their names. Raises what `again` raises.
        """
        batch = self._batch
        while batch.wanted:
            following = _Batch(batch.end, self._at_once)
            number = 0
            wrong = _Wrong()
            for path, entry in again():
                batch.compare(path, entry, wrong)
                if is_hard_link(entry):
                    if number >= batch.end:
                        following.add(number, entry)
                    number += 1
            wrong.lost = batch.wanted
            if wrong:
                yield from _name(batch, wrong, again())
            batch = following


class _Wrong:
    """Targets that are missing, and those that are something else, each with what the links to it state."""

    __slots__ = ("lost", "other")

    def __init__(self) -> None:
        self.lost: dict[bytes, set[bytes]] = {}
        self.other: dict[bytes, set[bytes]] = {}

    def __bool__(self) -> bool:
        return bool(self.lost or self.other)


class _Batch:
    """The targets of the links from number `start` up to `end`, each with what the links to it state."""

    __slots__ = ("_most", "_rows", "end", "start", "wanted")

    def __init__(self, start: int, most: int) -> None:
        self.start = self.end = start
        self.wanted: dict[bytes, set[bytes]] = {}
        self._rows = 0
        self._most = most

    def add(self, number: int, entry: Entry) -> None:
        """Adds a link, if it is the next one and there is room for it."""
        if number != self.end:
            return
        key, said = _key_of(_target_of(entry)), _said_by(entry)
        if said not in self.wanted.get(key, ()):
            if self._rows >= self._most:
                return
            self.wanted.setdefault(key, set()).add(said)
            self._rows += 1
        self.end = number + 1

    def compare(self, path: bytes, entry: Entry, wrong: _Wrong) -> None:
        """Compares an entry with the links to it, if it is a target in this batch."""
        key = _key_of(path)
        wanted = self.wanted.pop(key, None)
        if wanted is not None:
            own = _said_by(entry)
            differing = {said for said in wanted if not _agree(own, said)}
            if differing:
                wrong.other[key] = differing


def _name(batch: _Batch, wrong: _Wrong, entries: Entries) -> Iterator[FalseLink]:
    links = ((path, entry) for path, entry in entries if is_hard_link(entry))
    for number, (path, entry) in enumerate(links):
        if batch.start <= number < batch.end:
            target, said = _target_of(entry), _said_by(entry)
            key = _key_of(target)
            if key in wrong.lost or said in wrong.other.get(key, ()):
                yield FalseLink(path, target, listed=key not in wrong.lost)


def _target_of(entry: Entry) -> bytes:
    return from_json_fields(entry.hardlink_to, entry.hardlink_to_b64)


def _key_of(path: bytes) -> bytes:
    """Returns a key of 16 bytes for a path, which may be long."""
    return chunk_digest_of(path)


def _said_by(entry: Entry) -> bytes:
    """Encodes what an entry states of its inode: kind, whether reading it failed, and its content."""
    content = repr((entry.blake3, entry.target, entry.target_b64, entry.device_number)).encode()
    return _TYPE_PLACE[entry.type] + (b"\1" if entry.flags else b"\0") + chunk_digest_of(content)


def _agree(one: bytes, other: bytes) -> bool:
    """Whether two entries can be one inode. Where it changed or a read failed between the two readings, contents may differ."""
    return one[0] == other[0] and (one[2:] == other[2:] or bool(one[1] or other[1]))
