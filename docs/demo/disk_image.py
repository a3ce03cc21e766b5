"""Writes a small disk image with a FAT12 file system, so that the demo needs no mkfs.

Layout after Microsoft's "FAT: General Overview of On-Disk Format" 1.03: boot sector, two copies of the allocation table,
the root folder, then clusters numbered from 2. Names are 8.3; folders go one level deep.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

SECTOR: Final = 512
CLUSTER: Final = 8 * SECTOR
ROOT_ENTRIES: Final = 512
TABLES: Final = 2
MAX_CLUSTERS: Final = 4084  # one more, and every reader would take it for FAT16
END_OF_CHAIN: Final = 0xFFF
FORMATTED: Final = datetime(2024, 1, 1, tzinfo=UTC)  # FAT itself knows no zone
VOLUME_LABEL, FOLDER, ARCHIVE = 0x08, 0x10, 0x20


@dataclass(frozen=True)
class ImageFile:
    """One file: `FOLDER/NAME.EXT` or `NAME.EXT`. A deleted one keeps its bytes and loses its clusters, as on any FAT."""

    path: str
    data: bytes
    modified: datetime
    deleted: bool = False


def build_fat_image(size_bytes: int, label: str, files: Iterable[ImageFile]) -> bytes:
    """The bytes of a disk of `size_bytes` that holds `files`, in this order. The same arguments give the same bytes.

    Raises ValueError where it is too large for FAT12, or the files do not fit.
    """
    disk = _Disk(size_bytes)
    root = [_directory_entry(label, VOLUME_LABEL, FORMATTED)]
    folders: dict[str, list[bytes]] = {}
    for file in files:
        folder, _, name = file.path.rpartition("/")
        first = disk.store(file.data, keep=not file.deleted)
        entry = _directory_entry(name, ARCHIVE, file.modified, first, len(file.data))
        entries = folders.setdefault(folder, []) if folder else root
        entries.append(b"\xe5" + entry[1:] if file.deleted else entry)
    for name, entries in folders.items():
        first = disk.store(bytes(CLUSTER))
        dots = [_directory_entry(".", FOLDER, FORMATTED, first), _directory_entry("..", FOLDER, FORMATTED)]
        disk.overwrite(first, b"".join(dots + entries))
        root.append(_directory_entry(name, FOLDER, FORMATTED, first))
    return disk.finish(label, b"".join(root))


def _short_name(name: str) -> bytes:
    if name in {".", ".."}:
        return name.ljust(11).encode("ascii")
    stem, _, extension = name.partition(".")
    if len(stem) > 8 or len(extension) > 3 or name != name.upper():
        raise ValueError(f"not an 8.3 name: {name!r}")
    return (stem.ljust(8) + extension.ljust(3)).encode("ascii")


def _directory_entry(name: str, attributes: int, when: datetime, first: int = 0, size: int = 0) -> bytes:
    raw = name.ljust(11).encode("ascii") if attributes == VOLUME_LABEL else _short_name(name)
    date = (when.year - 1980) << 9 | when.month << 5 | when.day
    time = when.hour << 11 | when.minute << 5 | when.second // 2
    return struct.pack("<11sBBBHHHHHHHI", raw, attributes, 0, 0, time, date, date, 0, time, date, first, size)


class _Disk:
    """Clusters and the table that chains them."""

    def __init__(self, size_bytes: int) -> None:
        self.sectors = size_bytes // SECTOR
        self.table_sectors = 1
        while self.table_sectors * SECTOR * 2 // 3 < self.clusters + 2:
            self.table_sectors += 1
        if self.clusters > MAX_CLUSTERS:
            raise ValueError(f"{self.clusters} clusters are too many for FAT12")
        self.chain = [0xFF8, END_OF_CHAIN]
        self.data = bytearray()

    @property
    def clusters(self) -> int:
        system_sectors = 1 + TABLES * self.table_sectors + ROOT_ENTRIES * 32 // SECTOR
        return (self.sectors - system_sectors) * SECTOR // CLUSTER

    def store(self, data: bytes, keep: bool = True) -> int:
        """Puts `data` into the next clusters; the number of the first, 0 for nothing. Without `keep` they count as free."""
        count = -(-len(data) // CLUSTER)
        first = len(self.chain)
        if first + count > self.clusters + 2:
            raise ValueError("the files do not fit on the disk")
        self.data += data.ljust(count * CLUSTER, b"\0")
        links = [*range(first + 1, first + count), END_OF_CHAIN][:count]
        self.chain += links if keep else [0] * count
        return first if count else 0

    def overwrite(self, cluster: int, data: bytes) -> None:
        if len(data) > CLUSTER:
            raise ValueError("too many files in one folder")
        start = (cluster - 2) * CLUSTER
        self.data[start : start + len(data)] = data

    def finish(self, label: str, root: bytes) -> bytes:
        table = self._pack_table()
        if len(root) > ROOT_ENTRIES * 32:
            raise ValueError("too many files in the root folder")
        image = self._boot_sector(label) + table * TABLES + root.ljust(ROOT_ENTRIES * 32, b"\0") + self.data
        return image.ljust(self.sectors * SECTOR, b"\0")

    def _pack_table(self) -> bytes:
        """Two links of twelve bits in three bytes."""
        links = self.chain + [0] * (len(self.chain) % 2)
        packed = bytearray()
        for low, high in zip(links[::2], links[1::2], strict=True):
            packed += (low | high << 12).to_bytes(3, "little")
        return bytes(packed.ljust(self.table_sectors * SECTOR, b"\0"))

    def _boot_sector(self, label: str) -> bytes:
        parameters = struct.pack(
            "<3s8sHBHBHHBHHHIIBBBI11s8s",
            b"\xeb\x3c\x90",
            b"MSWIN4.1",  # the name that every reader accepts
            SECTOR,
            CLUSTER // SECTOR,
            1,  # reserved sectors: this one
            TABLES,
            ROOT_ENTRIES,
            self.sectors,
            0xF8,  # a fixed disk
            self.table_sectors,
            32,  # sectors per track
            16,  # heads
            0,  # hidden sectors
            0,  # sectors, where they need more than 16 bits
            0x80,
            0,
            0x29,  # the three fields that follow are there
            0x20240117,  # serial number
            label.ljust(11).encode("ascii"),
            b"FAT12   ",
        )
        return parameters.ljust(510, b"\0") + b"\x55\xaa"
