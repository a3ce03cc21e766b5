from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
from blake3 import blake3

from evidencesync.files import large_hash
from evidencesync.files.large_hash import ContentReadError, Hashed, LargeHasher
from evidencesync.limits import MIB


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """Data, a hole, data that ends in the middle of a block, and a hole at the end."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(os.urandom(MIB + 77))
        file.seek(3 * MIB)
        file.write(os.urandom(MIB))
        file.truncate(6 * MIB + 5)
    return path


@pytest.mark.parametrize("all_cores", [True, False])
@pytest.mark.parametrize("block", [4099, 300_000, 8 * MIB])
def test_the_digests_are_those_of_the_bytes_in_every_shape(
    sparse: Path, monkeypatch: pytest.MonkeyPatch, all_cores: bool, block: int
) -> None:
    monkeypatch.setattr(large_hash, "_BLOCK", block)
    data = sparse.read_bytes()
    told: list[tuple[int, int]] = []
    for with_sha256 in (True, False):
        hasher = LargeHasher(with_sha256=with_sha256, all_cores=all_cores)
        fd = os.open(sparse, os.O_RDONLY)
        try:
            expected = Hashed(len(data), blake3(data).hexdigest(), hashlib.sha256(data).hexdigest() if with_sha256 else None)
            assert [hasher.hash(fd, len(data), lambda *read: told.append(read)) for _ in range(2)] == [expected] * 2
        finally:
            os.close(fd)
            hasher.close()
    assert sum(size for size, _ in told) == 4 * len(data)


def test_of_a_file_that_grew_one_byte_more_is_read_and_a_short_one_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "grown"
    path.write_bytes(b"abc" * 100)
    hasher = LargeHasher(with_sha256=False, all_cores=False)
    fd = os.open(path, os.O_RDONLY)
    try:
        assert (hasher.hash(fd, 7, lambda _, __: None).size, hasher.hash(fd, 1000, lambda _, __: None).size) == (8, 300)
    finally:
        os.close(fd)
        hasher.close()


@pytest.mark.parametrize("all_cores", [True, False])
def test_a_refused_read_is_told_with_its_place_and_the_hasher_goes_on_with_another_file(
    sparse: Path, monkeypatch: pytest.MonkeyPatch, all_cores: bool
) -> None:
    monkeypatch.setattr(large_hash, "_BLOCK", 8192)
    real, refuse = os.preadv, True

    def preadv(fd: int, buffers: list[memoryview], offset: int) -> int:
        if refuse and offset >= 65536:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    hasher = LargeHasher(with_sha256=True, all_cores=all_cores)
    fd = os.open(sparse, os.O_RDONLY)
    try:
        with pytest.raises(ContentReadError) as caught:
            hasher.hash(fd, 6 * MIB + 5, lambda _, __: None)
        assert (caught.value.offset, caught.value.error.errno) == (65536, errno.EIO)
        refuse = False
        assert hasher.hash(fd, 6 * MIB + 5, lambda _, __: None).blake3 == blake3(sparse.read_bytes()).hexdigest()
    finally:
        os.close(fd)
        hasher.close()
