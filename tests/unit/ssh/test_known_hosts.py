"""How a host key is recorded; ssh-keygen judges the file."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.errors import ConfigurationError
from evidencesync.ssh.known_hosts import remember_host_key

KEYS = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPpm5EQ6oYOtEBTbiWZyUFmCDWZrmGqJHuZbUlIyHFTU",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIoE7cjV7yFqkmZwYiv7ekDSWb83p3CptFwaQn3zPGQ",
)


def is_known(file: Path, name: str, program: str) -> bool:
    return b"found" in subprocess.run([program, "-F", name, "-f", file], capture_output=True, check=False).stdout


def test_a_remembered_key_is_found_by_ssh_keygen(tmp_path: Path, require_program: Callable[[str], str]) -> None:
    file = tmp_path / "new folder" / "known_hosts"
    remember_host_key(file, "lab", KEYS[0])
    remember_host_key(file, "[::1]:2222", KEYS[1])
    assert file.stat().st_mode & 0o777 == 0o600
    for name in ("lab", "[::1]:2222"):
        assert is_known(file, name, require_program("ssh-keygen"))
    assert file.read_text() == f"lab {KEYS[0]}\n[::1]:2222 {KEYS[1]}\n"


def test_a_torn_last_line_does_not_swallow_the_new_key(tmp_path: Path, require_program: Callable[[str], str]) -> None:
    file = tmp_path / "hosts"
    file.write_text("other ssh-ed25519 AAAAC3")
    remember_host_key(file, "lab", KEYS[0])
    assert is_known(file, "lab", require_program("ssh-keygen"))


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="can't be written"):
        remember_host_key(tmp_path / "file" / "known_hosts", "lab", KEYS[0])
