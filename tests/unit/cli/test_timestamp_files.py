"""The files that `timestamp` writes for an authority."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from evidencesync.cli import timestamp_commands
from evidencesync.errors import NoSpaceError, UsageError


def test_a_request_without_room_on_its_disk_says_so_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(NoSpaceError):
            timestamp_commands._write_new(tmp_path / "request.tsq", tmp_path / "vault", b"request")
    assert not os.listdir(tmp_path)
    timestamp_commands._write_new(tmp_path / "request.tsq", tmp_path / "vault", b"request")
    with pytest.raises(UsageError):
        timestamp_commands._write_new(tmp_path / "request.tsq", tmp_path / "vault", b"another")
    assert (tmp_path / "request.tsq").read_bytes() == b"request"
