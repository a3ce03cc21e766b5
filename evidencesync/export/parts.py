"""The parts of an exported folder, in the order in which they are written, for a folder and for an archive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from evidencesync.errors import DigestMismatchError
from evidencesync.evidence.digest import new_sha256
from evidencesync.evidence.entry import Entry

Blocks = Callable[[], Iterator[bytes]]
"""The bytes of a document; each call gives the same from the beginning."""

_GATHERED: Final = 1 << 16


class Measured(NamedTuple):
    """The length of a document, and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class MetadataFile:
    """A file that describes the evidence. `name` is relative to the exported folder, plain ASCII with `/`."""

    name: str
    measured: Measured
    blocks: Blocks


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of the evidence, at its path below `data/`; `b""` is that folder itself."""

    path: bytes
    mtime_ns: int | None


@dataclass(frozen=True, slots=True)
class Content:
    """A file of the evidence, at its path below `data/`."""

    path: bytes
    entry: Entry
    mtime_ns: int | None


Part = MetadataFile | Folder | Content


class Measure:
    """Computes the length and the digest of a document that is added in pieces."""

    def __init__(self) -> None:
        self._size = 0
        self._digest = new_sha256()

    def add(self, block: bytes) -> None:
        """The next piece."""
        self._size += len(block)
        self._digest.update(block)

    def result(self) -> Measured:
        """The length and digest of all pieces."""
        return Measured(self._size, self._digest.digest().hex())


def measure(blocks: Iterable[bytes]) -> Measured:
    """The length and digest of all blocks."""
    found = Measure()
    for block in blocks:
        found.add(block)
    return found.result()


def joined_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Joins many short lines into fewer, longer blocks."""
    parts: list[bytes] = []
    size = 0
    for line in lines:
        parts.append(line)
        size += len(line)
        if size >= _GATHERED:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


def written_blocks(document: MetadataFile) -> Iterator[bytes]:
    """Yields the bytes of a document for writing. Raises DigestMismatchError at the end unless they are the measured ones."""
    found = Measure()
    for block in document.blocks():
        found.add(block)
        yield block
    if found.result() != document.measured:
        raise DigestMismatchError(f"{document.name} changed while it was exported", hint="Run: evidencesync verify VAULT")


def document_of(name: str, blocks: Blocks) -> MetadataFile:
    """A document whose bytes are made once to measure them, and again to write them."""
    return MetadataFile(name, measure(blocks()), blocks)


def document_from(name: str, data: bytes) -> MetadataFile:
    """A short document that is in memory."""
    return document_of(name, lambda: iter((data,)))
