"""The data of the comparison, seeded, and made at about the speed of the disk.

A: one image; in every 16 MiB, 8 are random, 4 text-like, and 4 zeros (written, not holes).
B: many small files in folders of a hundred; sizes spread as real ones do (log-normal); half random, half text-like.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

MIB: Final = 1 << 20
EDIT_BYTES: Final = 4096
FILES_IN_FOLDER: Final = 100
MEAN_FILE_BYTES: Final = 6100
IMAGE_NAME: Final = "disk.img"

_LAYOUT: Final = (("random", 8 * MIB), ("text", 4 * MIB), ("zeros", 4 * MIB))


class RandomBytes:
    """An endless stream of bytes that do not compress: AES in counter mode, keyed by a label."""

    def __init__(self, label: str) -> None:
        key = hashlib.sha256(label.encode()).digest()
        self._encryptor = Cipher(algorithms.AES(key[:16]), modes.CTR(key[16:])).encryptor()

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        return self._encryptor.update(bytes(count))


class TextBytes:
    """An endless stream of words, frequent ones more often, as in a language. It compresses to about a third."""

    def __init__(self, label: str) -> None:
        source = random.Random(label)
        words = ["".join(source.choices("etaoinshrdlucmfwypvbgkjqxz", k=source.randrange(2, 11))).encode() for _ in range(20_000)]
        weights = [1 / rank for rank in range(1, len(words) + 1)]
        self._table = source.choices(words, weights, k=1 << 16)
        self._indexes = RandomBytes(label)
        self._left = b""

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        while len(self._left) < count:
            wanted = max(count - len(self._left), MIB // 4)
            indexes = memoryview(self._indexes.take(wanted // 4 * 2)).cast("H")
            self._left += b" ".join([self._table[index] for index in indexes]) + b"\n"
        taken, self._left = self._left[:count], self._left[count:]
        return taken


class ZeroBytes:
    """An endless stream of zeros."""

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        return bytes(count)


def make_image(folder: Path, size_bytes: int, seed: str) -> None:
    """Workload A in a new folder."""
    folder.mkdir(parents=True)
    streams: dict[str, RandomBytes | TextBytes | ZeroBytes] = {
        "random": RandomBytes(f"{seed} random"),
        "text": TextBytes(f"{seed} text"),
        "zeros": ZeroBytes(),
    }
    left = size_bytes
    with (folder / IMAGE_NAME).open("wb") as file:
        while left:
            for kind, extent in _LAYOUT:
                for _ in range(extent // MIB):
                    left -= file.write(streams[kind].take(min(MIB, left)))


def make_files(folder: Path, count: int, seed: str) -> None:
    """Workload B in a new folder."""
    folder.mkdir(parents=True)
    sizes = random.Random(seed)
    streams = (RandomBytes(f"{seed} random"), TextBytes(f"{seed} text"))
    spread = 1.2
    for number in range(count):
        place = f"{folder}/{number // FILES_IN_FOLDER:04}"
        if number % FILES_IN_FOLDER == 0:
            os.mkdir(place)
        size = int(sizes.lognormvariate(0, spread) * MEAN_FILE_BYTES / 2.0544)  # exp(spread**2 / 2) is the mean of the draw
        with open(f"{place}/file-{number:06}.dat", "wb", buffering=0) as file:
            file.write(streams[number % 2].take(min(size, MIB)))


def make_edited(image: Path, folder: Path, edits: int, seed: str) -> None:
    """A copy of `image` in a new folder with `edits` runs of 4 KiB, anywhere, overwritten with other bytes."""
    copy = _copied(image, folder)
    places, other = random.Random(seed), RandomBytes(seed)
    size = copy.stat().st_size
    with copy.open("r+b") as file:
        for _ in range(edits):
            file.seek(places.randrange(size - EDIT_BYTES))
            file.write(other.take(EDIT_BYTES))
    _set_later(image, copy)


def make_inserted(image: Path, folder: Path) -> None:
    """A copy of `image` in a new folder, one byte longer at the front."""
    folder.mkdir(parents=True)
    copy = folder / IMAGE_NAME
    with image.open("rb") as source, copy.open("wb") as target:
        target.write(b"\x01")
        shutil.copyfileobj(source, target, 4 * MIB)
    _set_later(image, copy)


def make_renamed(image: Path, folder: Path) -> None:
    """`image` under another name in a new folder. A hard link: the bytes and the time are the same."""
    folder.mkdir(parents=True)
    (folder / f"renamed-{IMAGE_NAME}").hardlink_to(image)


def _copied(image: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    return Path(shutil.copyfile(image, folder / IMAGE_NAME))


def _set_later(image: Path, copy: Path) -> None:
    """An hour later, so that whoever goes by size and time sees the change."""
    changed = image.stat().st_mtime_ns + 3_600_000_000_000
    os.utime(copy, ns=(changed, changed))
