"""Which recorded keys count for which host; ssh-keygen writes the files and judges the lookups."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidencesync.errors import ConfigurationError
from evidencesync.ssh.hostkeys import KnownHosts, _clean, remember_host_key


@pytest.fixture(scope="module")
def keys() -> list[asyncssh.SSHKey]:
    return [asyncssh.generate_private_key("ssh-ed25519").convert_to_public() for _ in range(3)]


def line(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key("openssh").decode().split()[:2])


def known(folder: Path, text: str) -> KnownHosts:
    (folder / "hosts").write_text(text, encoding="utf-8")
    return KnownHosts([folder / "hosts"])


def test_names_ports_patterns_and_case(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    hosts = known(
        tmp_path,
        f"lab,192.0.2.1 {line(keys[0])}\n[lab]:2222 {line(keys[1])}\n*.example,!bad.example {line(keys[2])} a comment\n",
    )
    assert hosts.known("lab", 22).keys == (keys[0],)
    assert hosts.known("LAB", 22).keys == (keys[0],)
    assert hosts.known("192.0.2.1", 22).keys == (keys[0],)
    assert hosts.known("lab", 2222).keys == (keys[1],)
    assert hosts.known("lab", 2200).keys == (keys[0],)  # as OpenSSH does it: a name without a port speaks of all ports
    assert hosts.known("one.example", 22).keys == (keys[2],)
    assert hosts.known("bad.example", 22).keys == ()
    assert hosts.known("other", 22).keys == ()


def test_a_revocation_with_or_without_a_port_wins(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    for revocation in ("lab", "[lab]:2222", "*"):
        hosts = known(tmp_path, f"@revoked {revocation} {line(keys[0])}\n[lab]:2222 {line(keys[0])}\nlab {line(keys[1])}\n")
        assert keys[0] in hosts.known("lab", 2222).revoked
        assert hosts.known("lab", 2222).keys == ()


def test_a_revoked_authority_certifies_nobody(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    hosts = known(tmp_path, f"@cert-authority * {line(keys[0])}\n@revoked * {line(keys[0])}\n")
    assert hosts.known("lab", 22).authorities == ()


@pytest.mark.parametrize("names", ["lab,,other", "lab,", ",lab"])
def test_an_empty_name_matches_nobody_else(tmp_path: Path, keys: list[asyncssh.SSHKey], names: str) -> None:
    hosts = known(tmp_path, f"{names} {line(keys[0])}\n")
    assert hosts.known("lab", 22).keys == (keys[0],)
    assert hosts.known("stranger", 22).keys == ()
    assert hosts.known("stranger", 2222).keys == ()


def test_lines_that_make_no_sense_are_passed_over_and_hide_none(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    junk = "lab\nlab ssh-ed25519\nlab ssh-ed25519 AAAA\n@unknown lab ssh-ed25519 AAAA\n"
    junk += "|1|bad|hash ssh-ed25519 AAAA\n\x00\x1b\n, x y\n"
    hosts = known(tmp_path, f"{junk}lab {line(keys[0])}\n")
    assert hosts.known("lab", 22).keys == (keys[0],)
    assert hosts.places("lab", 22) == [f"{tmp_path}/hosts:8"]


def test_a_comment_cannot_smuggle_in_a_line(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    hosts = known(tmp_path, f"lab {line(keys[0])} comment\u2028stranger {line(keys[1])}\x0bother {line(keys[1])}\n")
    assert hosts.known("stranger", 22).keys == ()
    assert hosts.known("other", 22).keys == ()


def test_the_known_types_are_asked_for_first_and_no_sha1(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    rsa = asyncssh.generate_private_key("ssh-rsa", key_size=3072).convert_to_public()
    algorithms = known(tmp_path, f"lab {line(rsa)}\n").known("lab", 22).algorithms()
    assert algorithms[:3] == ["rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519"]
    assert "ssh-rsa" not in algorithms
    assert not any("cert" in name for name in algorithms)
    certified = known(tmp_path, f"@cert-authority lab {line(keys[0])}\n").known("lab", 22).algorithms()
    assert certified[0] == "ssh-ed25519-cert-v01@openssh.com"
    assert "sk-ssh-ed25519-cert-v01@openssh.com" in certified


def test_several_files_count_together_and_a_missing_one_is_empty(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    (tmp_path / "a").write_text(f"lab {line(keys[0])}\n")
    (tmp_path / "b").write_text(f"lab {line(keys[1])}")
    hosts = KnownHosts([tmp_path / "a", tmp_path / "absent", tmp_path / "b"])
    assert set(hosts.known("lab", 22).keys) == {keys[0], keys[1]}


def test_devices_pipes_and_folders_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/null"), Path("/dev/zero"), tmp_path / "pipe", tmp_path):
        with pytest.raises(ConfigurationError):
            KnownHosts([path])


def test_a_file_larger_than_any_honest_one_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(64 * 1024 * 1024)
    with pytest.raises(ConfigurationError, match="larger"):
        KnownHosts([tmp_path / "large"])


def test_a_remembered_key_is_found_by_ssh_keygen_and_by_us(
    tmp_path: Path, keys: list[asyncssh.SSHKey], require_program: Callable[[str], str]
) -> None:
    file = tmp_path / "new folder" / "known_hosts"
    remember_host_key(file, "lab", line(keys[0]))
    remember_host_key(file, "[::1]:2222", line(keys[1]))
    assert file.stat().st_mode & 0o777 == 0o600
    for name in ("lab", "[::1]:2222"):
        found = subprocess.run([require_program("ssh-keygen"), "-F", name, "-f", file], capture_output=True, check=True)
        assert b"found" in found.stdout
    assert KnownHosts([file]).known("lab", 22).keys == (keys[0],)
    assert KnownHosts([file]).known("::1", 2222).keys == (keys[1],)


def test_a_torn_last_line_does_not_swallow_the_new_key(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    file = tmp_path / "hosts"
    file.write_text("lab ssh-ed25519 AAAAC3")
    remember_host_key(file, "lab", line(keys[0]))
    assert KnownHosts([file]).known("lab", 22).keys == (keys[0],)


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="can't be written"):
        remember_host_key(tmp_path / "file" / "known_hosts", "lab", line(keys[0]))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_clean_line_or_none(data: bytes) -> None:
    clean = _clean(data)
    if clean is not None:
        assert b"\n" not in clean
        assert clean.isascii()
        assert len(clean.decode().splitlines()) == 1
