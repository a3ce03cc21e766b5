"""Folders of this program's own run that may lie in a source: where it keeps receipts, and what it remembers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OwnFolder:
    """A folder that is no evidence, wherever it is seen: `name` in the folder with the identity `above` (device and inode).

    `path` is where it lies. It need not be there yet.
    """

    path: bytes
    above: tuple[int, int]
    name: bytes


def own_folders(root: bytes, folders: Iterable[bytes]) -> tuple[OwnFolder, ...]:
    """Those of the folders that lie below a source, each once. The source itself is none of them."""
    below = os.path.realpath(root).rstrip(b"/") + b"/"
    found: dict[bytes, OwnFolder] = {}
    for folder in folders:
        path = os.path.realpath(folder)
        above, name = os.path.split(path)
        if not path.startswith(below):
            continue
        try:
            status = os.lstat(above)
        except OSError:
            continue  # what is in a folder that is not there is not there, either
        found[path] = OwnFolder(path, (status.st_dev, status.st_ino), name)
    return tuple(found.values())
