"""TreeComparison: walks `data/` in step with a manifest, so that neither is ever in memory as a whole.

The manifest lists entries in the order of a walk that sorts each folder's names by their raw bytes. So one folder's sorted
names for each level of depth are enough to see what is missing and what is too much. Nothing but folders is opened here.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import Protocol

from evidencesync.evidence.entry import Entry
from evidencesync.vault.folders import FolderStack
from evidencesync.verify.documents import Kind, kind_of, unsafe_folder_bits


class TreeSink(Protocol):
    """Takes what the comparison finds. Paths are evidence paths."""

    def take_file(self, path: bytes, entry: Entry) -> None:
        """A regular file is where the manifest lists one."""

    def take_missing(self, path: bytes, entry: Entry) -> None:
        """Nothing is there."""

    def take_wrong(self, path: bytes, entry: Entry, kind: Kind) -> None:
        """Something else is there than what the manifest lists."""

    def take_extra(self, path: bytes, kind: Kind) -> None:
        """Something is there that no entry wants to be there. What is in an extra folder is not listed one by one."""

    def take_unreadable(self, path: bytes, error: OSError) -> None:
        """A folder cannot be read; what is in it is not known."""

    def take_folder_mode(self, path: bytes, mode: int) -> None:
        """A folder can be changed by others than its owner."""


@dataclass(slots=True)
class _Level:
    """One folder on the way: its sorted names, how far the walk is, and what is no regular file."""

    path: bytes
    names: list[bytes]
    others: dict[bytes, Kind]
    known: bool  # False: it could not be listed, so that nothing is known about what is in it
    next: int = 0


@dataclass(slots=True)
class TreeComparison:
    """Give it `data/` (the descriptor is taken over), every entry in the manifest's order, and then `finish`."""

    stack: FolderStack
    sink: TreeSink
    _levels: list[_Level] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._levels.append(self._list(b""))

    def admit(self, path: bytes, entry: Entry) -> None:
        """The next entry of a manifest whose order was checked. Its root folder is `data/` itself."""
        if not path:
            return
        parent, _, name = path.rpartition(b"/")
        level = self._levels[-1]
        while level.path != parent and len(self._levels) > 1:
            self._leave()
            level = self._levels[-1]
        names = level.names
        at, end = level.next, len(names)
        while at < end and names[at] < name:
            self._extra(level, names[at])
            at += 1
        present = at < end and names[at] == name
        level.next = at + 1 if present else at
        if entry.blake3 is not None:
            self._meet_file(level, path, name, entry, present=present)
        elif entry.type == "directory":
            self._meet_folder(level, path, name, entry, present=present)
        elif present:
            self._extra(level, name)

    def finish(self) -> None:
        """Everything that is left is too much. The stack stays open."""
        while self._levels:
            self._leave()

    def _meet_file(self, level: _Level, path: bytes, name: bytes, entry: Entry, *, present: bool) -> None:
        kind = level.others.get(name)
        if present and kind is None:
            self.sink.take_file(path, entry)
        elif kind is not None:
            self.sink.take_wrong(path, entry, kind)
        elif level.known:
            self.sink.take_missing(path, entry)

    def _meet_folder(self, level: _Level, path: bytes, name: bytes, entry: Entry, *, present: bool) -> None:
        kind = level.others.get(name, "file") if present else None
        if kind == "folder":
            self._levels.append(self._list(path))
            return
        self._levels.append(_Level(path, [], {}, known=level.known))
        if kind is not None:
            self.sink.take_wrong(path, entry, kind)
        elif level.known:
            self.sink.take_missing(path, entry)

    def _list(self, path: bytes) -> _Level:
        names: list[bytes] = []
        others: dict[bytes, Kind] = {}
        try:
            fd = self.stack.enter(path)
            with os.scandir(fd) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    names.append(name)
                    if not entry.is_file(follow_symlinks=False):
                        others[name] = kind_of(entry)
            mode = os.fstat(fd).st_mode
        except OSError as error:
            self.sink.take_unreadable(path, error)
            return _Level(path, [], {}, known=False)
        names.sort()
        if unsafe_folder_bits(mode):
            self.sink.take_folder_mode(path, stat.S_IMODE(mode))
        return _Level(path, names, others, known=True)

    def _leave(self) -> None:
        level = self._levels.pop()
        for name in level.names[level.next :]:
            self._extra(level, name)

    def _extra(self, level: _Level, name: bytes) -> None:
        path = level.path + b"/" + name if level.path else name
        self.sink.take_extra(path, level.others.get(name, "file"))
