"""A disk that fails, or lacks a call, accuses nobody: what it says is neither that a file is something else, nor a defect."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evidencesync.errors import EvidenceSyncError, MissingOrExtraError, StorageError
from evidencesync.files import disk


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    (tmp_path / "document").write_bytes(b"x")
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def failing(call: Callable[..., Any], number: int, where: str = "document") -> Callable[..., Any]:
    def fail(given: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(given, int) or given == where:
            raise OSError(number, os.strerror(number))
        return call(given, *arguments, **options)

    return fail


@pytest.mark.parametrize("number", [errno.ENXIO, errno.ELOOP, errno.EIO])
def test_a_file_that_a_disk_does_not_open_is_not_called_something_else(
    folder: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "open", failing(os.open, number))
    with pytest.raises(StorageError):
        disk.load_file(folder, "document", 10)


@pytest.mark.parametrize("kind", ["link", "socket", "fifo", "folder"])
def test_what_is_no_file_is_said_to_be_none(folder: int, tmp_path: Path, kind: str) -> None:
    if kind == "link":
        (tmp_path / "other").symlink_to("document")
    elif kind == "folder":
        (tmp_path / "other").mkdir()
    else:
        os.mknod(tmp_path / "other", 0o600 | (0o140000 if kind == "socket" else 0o010000))
    with pytest.raises(MissingOrExtraError):
        disk.load_file(folder, "other", 10)


def test_a_file_whose_status_is_not_given_is_the_disks_failure_and_is_closed(
    folder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", failing(os.fstat, errno.EOVERFLOW))
        opened: list[int] = []
        real = os.open

        def kept(*arguments: Any, **options: Any) -> int:
            opened.append(real(*arguments, **options))
            return opened[-1]

        patch.setattr(os, "open", kept)
        with pytest.raises(StorageError):
            disk.load_file(folder, "document", 10)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_folder_that_cannot_be_synced_alone_is_synced_with_its_file_system(
    folder: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []

    def syncfs(fd: int) -> int:
        synced.append(fd)
        return 0

    monkeypatch.setattr(os, "fsync", failing(os.fsync, number))
    monkeypatch.setitem(disk._system_calls, "syncfs", syncfs)
    disk.sync_folder(folder, "it")
    assert synced == [folder]


@pytest.mark.parametrize(("number", "has_syncfs"), [(errno.EIO, True), (errno.ENOSPC, True), (errno.EINVAL, False)])
def test_a_folder_that_is_not_synced_is_an_error(
    folder: int, number: int, has_syncfs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", failing(os.fsync, number))
    monkeypatch.setitem(disk._system_calls, "syncfs", (lambda _: 0) if has_syncfs else None)
    with pytest.raises(EvidenceSyncError):
        disk.sync_folder(folder, "it")
