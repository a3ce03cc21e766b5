"""Which files can hold a key that ssh is to use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evidencesync.ssh.private_files import check_key_file


def test_what_ssh_would_wait_at_or_read_for_ever_is_no_key_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for place in (tmp_path / "fifo", tmp_path, Path("/dev/full"), Path("/dev/null")):
        with pytest.raises(OSError, match="no regular file"):
            check_key_file(place)
    (tmp_path / "key").write_bytes(b"")
    check_key_file(tmp_path / "key")
