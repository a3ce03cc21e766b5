"""Puts a folder back as its template is: a look at every name, and a copy of what is not as it was."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

Look = tuple[int, int, int, int, int, int]


class Undo:
    """A copy of `template` at `place`, hard links and all."""

    def __init__(self, template: Path, place: Path) -> None:
        self._template = template
        self.place = place
        self._seen: dict[str, Look] = {}
        self._names = _look_below(template)
        self._groups: dict[int, list[str]] = {}
        for name, look in self._names.items():
            if stat.S_ISREG(look[0]):
                self._groups.setdefault(look[1], []).append(name)

    def undo(self) -> None:
        """Makes the copy, or makes good what was done to it."""
        if self.place.is_symlink() or not self.place.is_dir():
            remove(self.place)
            self.place.mkdir()
        os.chmod(self.place, stat.S_IMODE(self._template.stat().st_mode))
        found = self._remove_others(_look_below(self.place))
        for name, look in self._names.items():
            if stat.S_ISDIR(look[0]):
                path = self.place / name
                if name not in found:
                    path.mkdir()
                if name not in found or stat.S_IMODE(found[name][0]) != stat.S_IMODE(look[0]):
                    path.chmod(stat.S_IMODE(look[0]))
        for names in self._groups.values():
            if any(found.get(name) is None or found[name] != self._seen.get(name) for name in names):
                self._copy(names)

    def _remove_others(self, found: dict[str, Look]) -> dict[str, Look]:
        """Removes whatever is not there, or is something else, in the template."""
        for name in sorted(found, reverse=True):  # what is in a folder, before the folder
            look = self._names.get(name)
            if look is None or stat.S_IFMT(look[0]) != stat.S_IFMT(found[name][0]):
                remove(self.place / name)
                del found[name]
        return found

    def _copy(self, names: list[str]) -> None:
        """One inode, with all its names."""
        for name in names:
            (self.place / name).unlink(missing_ok=True)
        first = self.place / names[0]
        shutil.copy2(self._template / names[0], first)
        for name in names[1:]:
            os.link(first, self.place / name)
        look = _look(first)
        self._seen |= dict.fromkeys(names, look)


def remove(place: Path) -> None:
    """Whatever is there, if anything is."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _look(path: Path | os.DirEntry[str]) -> Look:
    status = path.stat(follow_symlinks=False)
    return status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_nlink


def _look_below(folder: Path) -> dict[str, Look]:
    """Everything below a folder, a folder before what is in it."""
    found: dict[str, Look] = {}
    open_folders = [""]
    while open_folders:
        inside = open_folders.pop()
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                name = f"{inside}/{entry.name}" if inside else entry.name
                found[name] = _look(entry)
                if entry.is_dir(follow_symlinks=False):
                    open_folders.append(name)
    return found
