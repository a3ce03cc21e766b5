from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from evidencesync.errors import DigestMismatchError, InternalError, StorageError
from evidencesync.files import copying
from evidencesync.files.disk import FOLDER_FLAGS
from evidencesync.vault.staged_files import StagedContent


@pytest.fixture
def staged(tmp_path: Path) -> Iterator[StagedContent]:
    fd = os.open(tmp_path, FOLDER_FLAGS)
    content = StagedContent(fd, "c", tmp_path / "c")
    yield content
    content.close()
    os.close(fd)


def test_bytes_and_holes_stand_in_order(staged: StagedContent) -> None:
    staged.append(b"start")
    staged.append_zeros(1 << 20)
    staged.append(memoryview(b"middle"))
    staged.append_zeros(1 << 20)
    staged.finish()
    assert staged.path.read_bytes() == b"start" + bytes(1 << 20) + b"middle" + bytes(1 << 20)
    assert staged.size == staged.path.stat().st_size
    assert staged.path.stat().st_blocks * 512 < 1 << 20


def test_writing_at_an_offset_does_not_move_the_end_back(staged: StagedContent) -> None:
    staged.append(b"0123456789")
    staged.write_at(2, b"AB")
    staged.append(b"!")
    staged.finish()
    assert staged.path.read_bytes() == b"01AB456789!"


@pytest.mark.parametrize("in_kernel", [True, False])
def test_ranges_of_other_files_are_copied(
    staged: StagedContent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_kernel: bool
) -> None:
    if not in_kernel:
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    basis = os.urandom(3 << 20)
    (tmp_path / "basis").write_bytes(basis)
    fd = os.open(tmp_path / "basis", os.O_RDONLY)
    staged.append(b"head")
    staged.append_from(fd, 1000, 2 << 20)
    staged.append(b"tail")
    staged.append_from(fd, 0, 10)
    staged.finish()
    with pytest.raises(DigestMismatchError):
        staged.append_from(fd, (3 << 20) - 5, 10)
    os.close(fd)
    assert staged.path.read_bytes()[: 8 + (2 << 20) + 10] == b"head" + basis[1000 : 1000 + (2 << 20)] + b"tail" + basis[:10]


def test_a_content_is_of_no_use_after_it_was_closed(staged: StagedContent) -> None:
    staged.discard()
    assert not staged.path.exists()
    with pytest.raises(StorageError):
        staged.append(b"x")
    with pytest.raises(InternalError):
        staged.require_open()


def test_sharing_blocks_says_whether_it_did(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    with open(tmp_path / "a", "rb") as source, open(tmp_path / "b", "wb") as target:
        shared = copying.share_blocks(source.fileno(), target.fileno())
    assert (tmp_path / "b").read_bytes() == (b"x" * 100_000 if shared else b"")


@pytest.mark.parametrize(
    ("code", "again"), [(errno.EOPNOTSUPP, False), (errno.EXDEV, False), (errno.EINVAL, True), (errno.ENOSPC, True)]
)
def test_what_cannot_be_shared_is_left_to_be_written(
    staged: StagedContent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, again: bool
) -> None:
    asked: list[int] = []

    def refuse(_fd: int, request: int, _argument: bytes) -> int:
        asked.append(request)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    sharing = copying.BlockSharing()
    (tmp_path / "basis").write_bytes(bytes(1 << 20))
    with open(tmp_path / "basis", "rb") as basis:
        unit = sharing.unit(basis.fileno(), staged.fd)
        assert unit is not None
        assert not staged.append_shared(sharing, basis.fileno(), 0, 2 * unit)
        # Two file systems that cannot are not asked again; two files that cannot say nothing of others.
        assert sharing.unit(basis.fileno(), staged.fd) == (unit if again else None)
    assert (staged.size, len(asked)) == (0, 1)


def test_a_disk_that_fails_while_blocks_are_shared_is_an_error(
    staged: StagedContent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_fd: int, _request: int, _argument: bytes) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "ioctl", fail)
    (tmp_path / "basis").write_bytes(bytes(1 << 20))
    with open(tmp_path / "basis", "rb") as basis, pytest.raises(StorageError):
        staged.append_shared(copying.BlockSharing(), basis.fileno(), 0, 4096)
    assert staged.size == 0


def test_a_copied_range_keeps_its_holes(staged: StagedContent, tmp_path: Path) -> None:
    with open(tmp_path / "basis", "wb") as file:
        file.write(b"start" * 1000)
        file.seek(50 << 20)
        file.write(b"middle" * 1000)
        file.truncate(100 << 20)
    staged.append(b"before")
    with open(tmp_path / "basis", "rb") as basis:
        staged.append_from(basis.fileno(), 1000, 90 << 20)
    staged.append(b"after")
    staged.finish()
    assert staged.path.read_bytes() == b"before" + (tmp_path / "basis").read_bytes()[1000 : 1000 + (90 << 20)] + b"after"
    assert staged.path.stat().st_blocks * 512 < 1 << 20


def test_large_contents_survive_early_writeback(staged: StagedContent) -> None:
    block = os.urandom(1 << 20)
    for _ in range(70):
        staged.append(block)
    staged.finish()
    assert staged.path.stat().st_size == 70 << 20
    with open(staged.path, "rb") as file:
        assert all(file.read(1 << 20) == block for _ in range(70))


def test_a_copy_keeps_holes_and_bytes(tmp_path: Path) -> None:
    with open(tmp_path / "a", "wb") as file:
        file.write(b"start" * 1000)
        file.seek(50 << 20)
        file.write(b"middle" * 1000)
        file.truncate(100 << 20)
    with open(tmp_path / "a", "rb") as source, open(tmp_path / "b", "wb") as target:
        copying.copy_file(source.fileno(), target.fileno(), 100 << 20)
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    assert (tmp_path / "b").stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("size", [2, 4])
def test_a_copy_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "a").write_bytes(b"123")
    with open(tmp_path / "a", "rb") as source, open(tmp_path / "b", "wb") as target, pytest.raises(DigestMismatchError):
        copying.copy_file(source.fileno(), target.fileno(), size)
