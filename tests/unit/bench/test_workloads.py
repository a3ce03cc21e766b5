"""The comparison's data is what the comparison says it is."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from tests.bench import workloads

MIB = workloads.MIB
pytestmark = pytest.mark.slow


def test_an_image_is_half_random_a_quarter_text_and_a_quarter_zeros(tmp_path: Path) -> None:
    workloads.make_image(tmp_path / "a", 16 * MIB, "seed")
    image = (tmp_path / "a" / workloads.IMAGE_NAME).read_bytes()
    blocks = [image[start : start + MIB] for start in range(0, len(image), MIB)]
    shares = [len(zlib.compress(block, 1)) / MIB for block in blocks]
    assert len(image) == 16 * MIB
    assert sum(share > 0.99 for share in shares) == 8
    assert sum(0.1 < share < 0.7 for share in shares) == 4
    assert sum(block == bytes(MIB) for block in blocks) == 4
    assert len(set(blocks)) == 8 + 4 + 1, "content that repeats would flatter whoever finds it again"


def test_the_same_seed_gives_the_same_data(tmp_path: Path) -> None:
    for name in ("one", "two"):
        workloads.make_image(tmp_path / name / "image", 16 * MIB, "seed")
        workloads.make_files(tmp_path / name / "files", 250, "seed")
    one, two = (
        {file.relative_to(tmp_path / name): file.read_bytes() for file in (tmp_path / name).rglob("*") if file.is_file()}
        for name in ("one", "two")
    )
    assert len(one) == 251
    assert one == two


def test_changed_images_differ_as_they_say(tmp_path: Path) -> None:
    workloads.make_image(tmp_path / "a", 16 * MIB, "seed")
    image = tmp_path / "a" / workloads.IMAGE_NAME
    workloads.make_edited(image, tmp_path / "edited", 5, "edits")
    workloads.make_inserted(image, tmp_path / "inserted")
    workloads.make_renamed(image, tmp_path / "renamed")
    before, edited = image.read_bytes(), (tmp_path / "edited" / image.name).read_bytes()
    differing = sum(before[start : start + 4096] != edited[start : start + 4096] for start in range(0, len(before), 4096))
    assert len(edited) == len(before)
    assert 5 <= differing <= 10
    assert (tmp_path / "inserted" / image.name).read_bytes() == b"\x01" + before
    assert [file.read_bytes() == before for file in (tmp_path / "renamed").iterdir()] == [True]
    assert (tmp_path / "edited" / image.name).stat().st_mtime_ns > image.stat().st_mtime_ns
