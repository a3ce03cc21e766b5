"""What is said about holes is true, covers the whole range, and never hides a byte, whatever a file system answers."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidencesync.files.holes import HOLE_STEP, LEAST_HOLE, Extent, HoleFinder, extents
from evidencesync.limits import KIB, MIB
from tests.support.soak import often

plans = st.lists(st.tuples(st.booleans(), st.integers(1, 60)), max_size=14)


@pytest.fixture
def sparse(tmp_path: Path) -> Iterator[int]:
    """4 KiB, a hole of 1 MiB, 4 KiB, a hole up to 2 MiB."""
    fd = os.open(tmp_path / "sparse", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"\1" * 4 * KIB, 0)
    os.pwrite(fd, b"\2" * 4 * KIB, 4 * KIB + MIB)
    os.ftruncate(fd, 2 * MIB)
    yield fd
    os.close(fd)


@settings(max_examples=often(25, 1200), deadline=None)
@given(plan=plans, seed=st.integers(0, 2**32), most=st.sampled_from([5000, 64 * KIB, 2**40]))
def test_data_and_holes_cover_a_range_and_give_its_bytes(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[bool, int]], seed: int, most: int
) -> None:
    path, chance = tmp_path_factory.getbasetemp() / "holes", random.Random(seed)
    made = bytearray()
    with path.open("wb") as file:
        for is_hole, pages in plan:
            made += bytes(pages * 4096) if is_hole else chance.randbytes(pages * 4096)
            if not is_hole:
                file.seek(len(made) - pages * 4096)
                file.write(made[-pages * 4096 :])
        file.truncate(len(made))
    start = chance.randrange(len(made) + 1)
    end = chance.randint(start, len(made))
    fd = os.open(path, os.O_RDONLY)
    try:
        parts = list(extents(fd, start, end, most))
        given_bytes = b"".join(bytes(n) if is_hole else os.pread(fd, n, at) for at, n, is_hole in parts)
    finally:
        os.close(fd)
    assert given_bytes == made[start:end]
    assert [part.offset for part in parts] == [start + sum(p.length for p in parts[:i]) for i in range(len(parts))]
    assert all(0 < part.length <= (HOLE_STEP if part.is_hole else most) for part in parts)


def test_long_holes_are_found_and_short_ones_are_left_to_a_read(tmp_path: Path, sparse: int) -> None:
    assert list(extents(sparse, 0, 2 * MIB, MIB)) == [
        Extent(0, 4 * KIB, is_hole=False),
        Extent(4 * KIB, MIB, is_hole=True),
        Extent(4 * KIB + MIB, 4 * KIB, is_hole=False),
        Extent(8 * KIB + MIB, MIB - 8 * KIB, is_hole=True),
    ]
    with (tmp_path / "short").open("wb") as file:
        for number in range(1000):
            file.seek(number * 12 * KIB)
            file.write(b"x" * 4 * KIB)
    with (tmp_path / "short").open("rb") as file:
        assert not any(part.is_hole for part in extents(file.fileno(), 0, file.seek(0, 2), 2**40))


def test_the_file_is_asked_again_after_each_step_of_a_long_hole(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "long", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 10 * HOLE_STEP)
    finder = HoleFinder(fd)
    assert finder.next_extent(0, 10 * HOLE_STEP) == (0, HOLE_STEP, True)
    os.pwrite(fd, b"filled", 2 * HOLE_STEP)
    assert finder.next_extent(HOLE_STEP, 10 * HOLE_STEP) == (HOLE_STEP, HOLE_STEP, True)
    assert not finder.next_extent(2 * HOLE_STEP, 10 * HOLE_STEP).is_hole
    os.close(fd)


def test_behind_the_end_of_a_file_there_is_nothing_not_a_hole(sparse: int) -> None:
    finder = HoleFinder(sparse)
    assert finder.next_extent(8 * KIB + MIB, 5 * MIB).length == MIB - 8 * KIB
    assert finder.next_extent(2 * MIB, 5 * MIB).length == 0
    os.ftruncate(sparse, MIB)  # by somebody else, while we are in it
    assert finder.next_extent(MIB + 5, 2 * MIB).length == 0


def test_a_file_without_holes_is_asked_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dense").write_bytes(os.urandom(9 * MIB))
    asked: list[int] = []
    real = os.lseek

    def counted(fd: int, offset: int, whence: int) -> int:
        asked.append(offset)
        return real(fd, offset, whence)

    monkeypatch.setattr(os, "lseek", counted)
    with (tmp_path / "dense").open("rb") as file:
        assert len(list(extents(file.fileno(), 0, 9 * MIB, 64 * KIB))) == 144
    assert len(asked) <= 3


def test_a_file_system_that_cannot_tell_has_data_only() -> None:
    with open("/proc/self/maps", "rb") as file:  # EINVAL
        assert HoleFinder(file.fileno()).next_extent(0, 10**6) == (0, 10**6, False)


def refusing(code: int) -> Callable[[int, int, int], int]:
    def lseek(_fd: int, _offset: int, _whence: int) -> int:
        raise OSError(code, os.strerror(code))

    return lseek


def only_refuses(refused: int) -> Callable[[int, int, int], int]:
    def lseek(_fd: int, offset: int, whence: int) -> int:
        if whence == refused:
            raise OSError(errno.EIO, "Input/output error")
        return offset + 1 if whence == os.SEEK_HOLE else offset

    return lseek


LIES = {
    "EINVAL": refusing(errno.EINVAL),
    "EIO": refusing(errno.EIO),
    "ENOTSUP": refusing(errno.ENOTSUP),
    "no SEEK_HOLE": only_refuses(os.SEEK_HOLE),
    "no SEEK_DATA": only_refuses(os.SEEK_DATA),
    "backwards": lambda _fd, _offset, _whence: 0,
    "data is a hole": lambda _fd, offset, _whence: offset,
    "a byte each": lambda _fd, offset, _whence: offset + 1,
}


@pytest.mark.parametrize("lie", LIES)
def test_no_answer_of_a_file_system_hides_a_byte_or_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    (tmp_path / "file").write_bytes(os.urandom(3 * MIB))
    with (tmp_path / "file").open("rb") as file:
        monkeypatch.setattr(os, "lseek", LIES[lie])
        parts = list(extents(file.fileno(), 0, 3 * MIB, MIB))
    assert sum(part.length for part in parts) == 3 * MIB
    assert not any(part.is_hole for part in parts)


def test_the_least_hole_is_a_run_that_the_cutter_takes_out(sparse: int) -> None:
    os.pwrite(sparse, b"\3" * 4 * KIB, 4 * KIB + LEAST_HOLE)
    assert HoleFinder(sparse).next_extent(4 * KIB, MIB) == (4 * KIB, LEAST_HOLE, True)
