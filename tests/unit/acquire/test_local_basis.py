"""A folder of this machine as a basis: nothing of it is trusted, and nothing that is wrong with it is an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evidencesync.acquire import local_basis
from evidencesync.acquire.local_basis import LocalBasis
from evidencesync.delta.chunker import SegmentCutter
from evidencesync.delta.rows import Row
from evidencesync.errors import UsageError
from evidencesync.limits import MIB, SMALL_FILE


def rows_of(data: bytes) -> list[tuple[int, Row, bytes]]:
    """The chunks of a content with their offsets and bytes."""
    cutter, found, offset = SegmentCutter(), [], 0
    cutter.buffer(len(data))[:] = data
    for segment in [*cutter.commit(len(data)), *cutter.finish()]:
        for row in segment.rows():
            found.append((offset, row, data[offset : offset + row.length]))
            offset += row.length
    return found


def found_in(basis: LocalBasis, new: bytes) -> int:
    """How many bytes of a new content the older file has. What is given has to be what was asked for."""
    file = basis.open_file(b"file")
    assert file is not None
    had = 0
    for offset, row, data in rows_of(new):
        given = None if row.is_zeros else file.find(row, offset)
        assert given in (None, data)
        had += len(given or b"")
    file.close()
    return had


@pytest.fixture
def old(tmp_path: Path) -> bytes:
    data = os.urandom(8 * MIB)
    (tmp_path / "file").write_bytes(data)
    return data


@pytest.fixture
def basis(tmp_path: Path) -> LocalBasis:
    return LocalBasis(os.fsencode(tmp_path))


def test_equal_chunks_are_found_where_they_are(old: bytes, basis: LocalBasis) -> None:
    assert found_in(basis, old) == len(old)
    changed = bytearray(old)
    for at in range(MIB, 7 * MIB, MIB):
        changed[at] ^= 1
    assert len(old) - 6 * 256 * 1024 <= found_in(basis, bytes(changed)) < len(old)


def test_moved_chunks_are_found_by_their_content(old: bytes, basis: LocalBasis) -> None:
    for new in (b"i" * 50_000 + old, old[50_000:], old[:MIB] + os.urandom(99_999) + old[MIB : 4 * MIB] + old[5 * MIB :]):
        assert found_in(basis, new) > len(new) - 700_000


def test_a_sparse_basis_is_cut_as_its_newer_state_was(tmp_path: Path, basis: LocalBasis) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.write(first := os.urandom(MIB))
        file.seek(6 * MIB)
        file.write(second := os.urandom(MIB))
    assert found_in(basis, b"x" * 70_000 + first + bytes(5 * MIB) + second) > 2 * MIB - 600_000


def test_what_is_remembered_of_a_file_is_bounded(old: bytes, basis: LocalBasis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_basis, "_MOST_CHUNKS", 4)
    monkeypatch.setattr(local_basis, "_AHEAD", MIB)
    file = basis.open_file(b"file")
    assert file is not None
    for offset, row, _ in rows_of(os.urandom(4 * MIB)):
        assert file.find(row, offset) is None
        assert len(file._places) <= 4
        assert file._read_to <= offset + 2 * MIB
    file.close()


def test_a_read_error_is_no_error(old: bytes, basis: LocalBasis, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", failing)
    monkeypatch.setattr(os, "preadv", failing)
    assert found_in(basis, old) == 0
    monkeypatch.setattr(os, "read", failing)
    assert basis.read_small(b"file") == b""


def test_of_a_file_no_more_is_read_than_a_small_one_has(tmp_path: Path, basis: LocalBasis) -> None:
    (tmp_path / "small").write_bytes(b"abc")
    (tmp_path / "larger").write_bytes(bytes(SMALL_FILE + 1))
    assert basis.read_small(b"small") == b"abc"
    assert basis.read_small(b"larger") == bytes(SMALL_FILE)
    assert basis.read_small(b"none") == b""
    assert basis.open_file(b"none") is None


@pytest.mark.parametrize("path", [b"../outside", b"link/outside", b"a/../../outside"])
def test_nothing_outside_of_the_folder_is_read(tmp_path: Path, path: bytes) -> None:
    (tmp_path / "outside").write_bytes(b"abc")
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    basis = LocalBasis(os.fsencode(tmp_path / "in"))
    assert basis.read_small(path) == b""
    assert basis.open_file(path) is None


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--basis"):
        LocalBasis(os.fsencode(tmp_path / "none"))
