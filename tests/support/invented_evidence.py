"""Sources of any kind, and what becomes of them between two acquisitions: all from a seed."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20


def invent(source: Path, chance: random.Random) -> None:
    """Small files, larger ones, zeros and holes, in some folders."""
    folders = [source, *(source / f"folder-{number}" for number in range(chance.randrange(4)))]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    for number in range(chance.choice([0, 3, 40, 150])):
        _write(chance.choice(folders) / f"small-{number:03}", chance.randbytes(chance.choice([0, 1, 900, 20_000])))
    for number in range(chance.choice([0, 1, 3, 6])):
        _write(chance.choice(folders) / f"large-{number}", _large(chance))
    if chance.random() < 0.5:
        with (chance.choice(folders) / "sparse").open("wb") as file:
            for _ in range(chance.randrange(5)):
                file.seek(chance.randrange(64) * 256 * KIB)
                file.write(chance.randbytes(chance.choice([100, 64 * KIB, MIB])))
            file.truncate(16 * MIB + chance.randrange(5000))
    if chance.random() < 0.3:
        (source / "link").symlink_to("small-000")


def change(source: Path, chance: random.Random) -> None:
    """Some files are edited, longer, shorter, renamed, copied, gone or new."""
    files = sorted(path for path in source.rglob("*") if path.is_file() and not path.is_symlink())
    for path in files:
        what = chance.random()
        if what < 0.25:
            _write(path, _edited(path.read_bytes(), chance))
        elif what < 0.35:
            path.rename(path.with_name(path.name + ".renamed"))
        elif what < 0.40:
            path.unlink()
        elif what < 0.45:
            _write(path.with_name(path.name + ".copy"), path.read_bytes())
        elif what < 0.50:
            os.utime(path, ns=(1, chance.randrange(10**18)))
    for number in range(chance.randrange(5)):
        _write(source / f"new-{number}", _large(chance) if chance.random() < 0.3 else chance.randbytes(chance.randrange(9000)))


def _large(chance: random.Random) -> bytes:
    parts = []
    for _ in range(chance.randrange(1, 5)):
        size = chance.choice([130 * KIB, 700 * KIB, 3 * MIB])
        kind = chance.random()
        if kind < 0.6:
            parts.append(chance.randbytes(size))
        elif kind < 0.8:
            parts.append(bytes(size))
        else:
            parts.append(b"%d the same line again and again\n" % chance.randrange(9) * (size // 40))
    return b"".join(parts)


def _edited(content: bytes, chance: random.Random) -> bytes:
    edited = bytearray(content)
    for _ in range(chance.choice([1, 4, 30])):
        at = chance.randrange(len(edited) + 1)
        kind = chance.random()
        if kind < 0.6:  # in place, as on a disk
            more = chance.randbytes(chance.choice([1, 512, 4096]))
            edited[at : at + len(more)] = more
        elif kind < 0.8:
            edited[at:at] = chance.randbytes(chance.choice([1, 5000]))
        else:
            del edited[at : at + chance.choice([1, 5000])]
    return bytes(edited)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
