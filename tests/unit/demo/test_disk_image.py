"""The demo's disk image is a file system that the usual tools accept."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from docs.demo.disk_image import CLUSTER, ImageFile, build_fat_image

WHEN = datetime(2024, 3, 5, 14, 30, 20, tzinfo=UTC)
FILES = [
    ImageFile("README.TXT", b"hello\n", WHEN),
    ImageFile("EMPTY", b"", WHEN),
    ImageFile("LOGS/SYSTEM.LOG", b"line\n" * 5000, WHEN),
    ImageFile("LOGS/GONE.LOG", b"deleted, and still there\n" * 100, WHEN, deleted=True),
    ImageFile("DATA.BIN", bytes(range(256)) * 64, WHEN),
]


def read_file(image: bytes, name: bytes) -> bytes:
    """Follows the chain of one file in the root folder, with nothing but the specification's offsets."""
    table_sectors = int.from_bytes(image[22:24], "little")
    root = 512 + 2 * table_sectors * 512
    entry = next(image[at : at + 32] for at in range(root, root + 512 * 32, 32) if image[at : at + 11] == name)
    cluster, size = int.from_bytes(entry[26:28], "little"), int.from_bytes(entry[28:32], "little")
    data = b""
    while cluster and cluster < 0xFF8:
        start = root + 512 * 32 + (cluster - 2) * CLUSTER
        data += image[start : start + CLUSTER]
        pair = int.from_bytes(image[512 + cluster // 2 * 3 :][:3], "little")
        cluster = pair >> 12 if cluster % 2 else pair & 0xFFF
    return data[:size]


def test_an_image_gives_its_files_back() -> None:
    image = build_fat_image(2 << 20, "EVIDENCE", FILES)
    assert len(image) == 2 << 20
    assert read_file(image, b"README  TXT") == b"hello\n"
    assert read_file(image, b"DATA    BIN") == bytes(range(256)) * 64
    assert read_file(image, b"EMPTY      ") == b""
    assert b"deleted, and still there" in image


def test_a_file_system_check_finds_nothing(tmp_path: Path, require_program: Callable[[str], str]) -> None:
    fsck = require_program("fsck.vfat")
    image = tmp_path / "disk.img"
    image.write_bytes(build_fat_image(12 << 20, "EVIDENCE", FILES))
    checked = subprocess.run([fsck, "-n", "-v", image], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("size", "files"),
    [
        (64 << 20, []),
        (1 << 20, [ImageFile("BIG.BIN", bytes(2 << 20), WHEN)]),
        (1 << 20, [ImageFile("lower.txt", b"", WHEN)]),
        (1 << 20, [ImageFile("TOOLONGNAME.TXT", b"", WHEN)]),
        (1 << 20, [ImageFile(f"D/F{number}", b"", WHEN) for number in range(127)]),
    ],
    ids=["too large", "does not fit", "lower case", "long name", "full folder"],
)
def test_what_fat12_cannot_hold_is_refused(size: int, files: list[ImageFile]) -> None:
    with pytest.raises(ValueError, match=r"too many|do not fit|8\.3"):
        build_fat_image(size, "EVIDENCE", files)
