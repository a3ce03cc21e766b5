"""What is written for a test need not outlive a power cut; but each place that syncs does so once in earnest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.spared_disk import spare


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Which descriptors were synced in earnest."""
    found: list[int] = []
    monkeypatch.setattr(os, "fsync", found.append)
    return found


def sync_here(fd: int) -> None:
    os.fsync(fd)


def sync_there(fd: int) -> None:
    os.fsync(fd)


def test_each_place_syncs_once_below_the_folder_for_temporary_files(
    tmp_path: Path, synced: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    spare(tmp_path.stat().st_dev, monkeypatch.setattr)
    with (tmp_path / "file").open("wb") as file:
        for _ in range(3):
            sync_here(file.fileno())
            sync_there(file.fileno())
            assert synced == [file.fileno()] * 2


def test_any_other_file_system_is_always_synced(tmp_path: Path, synced: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    spare(tmp_path.stat().st_dev + 1, monkeypatch.setattr)
    with (tmp_path / "file").open("wb") as file:
        for _ in range(3):
            sync_here(file.fileno())
    assert len(synced) == 3


def test_what_cannot_be_synced_is_still_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    spare(tmp_path.stat().st_dev, monkeypatch.setattr)
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    for number in range(2):
        if number:
            with pytest.raises(OSError, match="Bad file descriptor"):
                sync_here(writing)
        else:
            sync_here(writing)
