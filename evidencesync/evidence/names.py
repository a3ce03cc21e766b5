"""Sorts the names of a folder by their bytes, in little memory even for millions of names."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import groupby
from typing import Final

RUN: Final = 1 << 16
"""Names that are sorted at once: about 6 MiB as objects. More names are kept packed, in about as many bytes as they have."""

_SEPARATOR: Final = b"/"  # no name contains it


class SortedNames:
    """Takes names in any order, in runs of about `RUN`; iterating gives them sorted, each once."""

    def __init__(self) -> None:
        self._packed: list[bytes] = []
        self._last: list[bytes] = []

    def add(self, names: list[bytes]) -> None:
        """Adds the next run and takes the list over. No name is empty or contains a slash."""
        if self._last:
            self._packed.append(_SEPARATOR.join(self._last))
        names.sort()
        if any(map(bytes.__eq__, names, names[1:])):  # some file systems list a name twice while it is being renamed
            names = list(dict.fromkeys(names))
        self._last = names

    def __iter__(self) -> Iterator[bytes]:
        if not self._packed:
            return iter(self._last)
        return (name for name, _ in groupby(heapq.merge(*map(_unpacked, self._packed), self._last)))


def _unpacked(packed: bytes) -> Iterator[bytes]:
    start = 0
    while (end := packed.find(_SEPARATOR, start)) >= 0:
        yield packed[start:end]
        start = end + 1
    yield packed[start:]
