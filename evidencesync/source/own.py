"""Folders of this program's own run that may lie in a source: where it keeps receipts, and what it remembers."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OwnFolder:
    """A folder that is no evidence. `path` is where it lies, `identity` its device and inode, by which it is known."""

    path: bytes
    identity: tuple[int, int]


def own_folders(root: bytes, folders: list[bytes]) -> tuple[OwnFolder, ...]:
    """Those of the folders that are there and lie below a source, each once. The source itself is none of them."""
    source = os.path.realpath(root)
    below = source.rstrip(b"/") + b"/"
    found: dict[tuple[int, int], OwnFolder] = {}
    for folder in folders:
        path = os.path.realpath(folder)
        try:
            status = os.lstat(path)
        except OSError:
            continue  # one that is not there holds nothing
        if path.startswith(below):
            identity = (status.st_dev, status.st_ino)
            found.setdefault(identity, OwnFolder(path, identity))
    return tuple(found.values())
