"""TreeComparison: walks `data/` in step with a manifest, so that neither is ever in memory as a whole.

The manifest lists entries in the order of a walk that sorts each folder's names by their raw bytes. So one folder's sorted
names for each level of depth (packed, where they are very many) are enough to see what is missing and what is too much.
Nothing but folders is opened here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from evidencesync.evidence.entry import Entry
from evidencesync.evidence.path import RUN, SortedNames
from evidencesync.files.folders import FolderStack
from evidencesync.verify.documents import Kind, kind_of, unsafe_folder_bits

_LETTERS: Final[dict[Kind, bytes]] = {
    "file": b"f",
    "folder": b"d",
    "symbolic link": b"l",
    "FIFO": b"p",
    "socket": b"s",
    "device": b"b",
}
_KINDS: Final = {letter: kind for kind, letter in _LETTERS.items()}


class TreeSink(Protocol):
    """Receives the differences. Paths are evidence paths."""

    def take_file(self, path: bytes, entry: Entry) -> None:
        """A regular file is where the manifest lists one."""

    def take_missing(self, path: bytes, entry: Entry) -> None:
        """Nothing is there."""

    def take_wrong(self, path: bytes, entry: Entry, kind: Kind) -> None:
        """Something else is there than what the manifest lists."""

    def take_extra(self, path: bytes, kind: Kind) -> None:
        """A name that no entry has. The contents of an extra folder are not listed."""

    def take_unreadable(self, path: bytes, error: OSError) -> None:
        """A folder cannot be read; its contents are unknown."""

    def take_folder_mode(self, path: bytes, mode: int) -> None:
        """A folder can be changed by others than its owner."""


class _Level:
    """One folder on the way: the next of its names, what it is, and the rest of them.

    `known` is False where it could not be listed, so that nothing is known about what is in it. In `listed`, a name that is
    no regular file's has NUL and a letter for its kind behind it: that does not change the order.
    """

    __slots__ = ("_names", "kind", "known", "name", "path")

    def __init__(self, path: bytes, listed: Iterable[bytes], *, known: bool) -> None:
        self.path = path
        self.known = known
        self.name: bytes | None = None
        self.kind: Kind = "file"
        self._names = iter(listed)
        self.advance()

    def advance(self) -> None:
        """Goes on to the next name; None after the last."""
        name = next(self._names, None)
        if name is not None and b"\0" in name:
            self.name, self.kind = name[:-2], _KINDS[name[-1:]]
        else:
            self.name, self.kind = name, "file"


@dataclass(slots=True)
class TreeComparison:
    """Takes `data/` (and its descriptor), every entry in the manifest's order, and then `finish`."""

    stack: FolderStack
    sink: TreeSink
    _levels: list[_Level] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._levels.append(self._list(b""))

    def admit(self, path: bytes, entry: Entry) -> None:
        """Compares the next entry of a manifest whose order was checked. Its root folder is `data/` itself."""
        if not path:
            return
        parent, _, name = path.rpartition(b"/")
        level = self._levels[-1]
        while level.path != parent and len(self._levels) > 1:
            self._leave()
            level = self._levels[-1]
        while (there := level.name) is not None and there < name:
            self._extra(level)
        kind = level.kind if there == name else None
        if entry.blake3 is not None:
            self._compare_file(level, path, entry, kind)
        elif entry.type == "directory":
            self._compare_folder(level, path, entry, kind)
        elif kind is not None:
            self._extra(level)
            return
        if kind is not None:
            level.advance()

    def finish(self) -> None:
        """Reports everything that is left as extra. The stack stays open."""
        while self._levels:
            self._leave()

    def _compare_file(self, level: _Level, path: bytes, entry: Entry, kind: Kind | None) -> None:
        if kind == "file":
            self.sink.take_file(path, entry)
        elif kind is not None:
            self.sink.take_wrong(path, entry, kind)
        elif level.known:
            self.sink.take_missing(path, entry)

    def _compare_folder(self, level: _Level, path: bytes, entry: Entry, kind: Kind | None) -> None:
        if kind == "folder":
            self._levels.append(self._list(path))
            return
        self._levels.append(_Level(path, (), known=level.known))
        if kind is not None:
            self.sink.take_wrong(path, entry, kind)
        elif level.known:
            self.sink.take_missing(path, entry)

    def _list(self, path: bytes) -> _Level:
        listed, run = SortedNames(), list[bytes]()
        try:
            fd = self.stack.enter(path)
            with os.scandir(fd) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    run.append(name if entry.is_file(follow_symlinks=False) else name + b"\0" + _LETTERS[kind_of(entry)])
                    if len(run) == RUN:
                        listed.add(run)
                        run = []
            mode = os.fstat(fd).st_mode
        except OSError as error:
            self.sink.take_unreadable(path, error)
            return _Level(path, (), known=False)
        listed.add(run)
        if unsafe_folder_bits(mode):
            self.sink.take_folder_mode(path, stat.S_IMODE(mode))
        return _Level(path, listed, known=True)

    def _leave(self) -> None:
        level = self._levels.pop()
        while level.name is not None:
            self._extra(level)

    def _extra(self, level: _Level) -> None:
        """The level's next name is one too many; goes on to the one after it."""
        name = level.name or b""
        self.sink.take_extra(level.path + b"/" + name if level.path else name, level.kind)
        level.advance()
