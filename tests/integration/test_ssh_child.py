"""The user's ssh as a child, against a real OpenSSH server: its pipes, what it states about the server, and why it failed."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evidencesync.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    DroppedError,
    ExposedKeyError,
    HostKeyChangedError,
    HostKeyError,
    NoRemoteError,
    ProtocolError,
    SigningKeyError,
)
from evidencesync.exit_codes import ExitCode
from evidencesync.ssh import ssh_process as child_module
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions, parse_program
from evidencesync.ssh.route import find_route
from evidencesync.ssh.ssh_process import SshProcess
from tests.support.patience import wait_until

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd


@contextmanager
def started(address: Address, options: SshOptions, wanted: str, *, subsystem: bool = False) -> Iterator[SshProcess]:
    child = SshProcess(find_route(address, options), options, wanted, subsystem=subsystem)
    try:
        yield child
    finally:
        child.kill()
        child.release()


def read_all(child: SshProcess) -> bytes:
    found = b""
    while block := os.read(child.source, 65536):
        child.begin_receiving()
        found += block
    return found


def says(address: Address, options: SshOptions, wanted: str) -> bytes:
    with started(address, options, wanted) as child:
        child.wait_ready()
        found = read_all(child)
        assert child.end() is None
        return found


def test_a_command_has_its_input_and_output_and_the_server_is_named(sshd: Sshd) -> None:
    with started(sshd.address(), sshd.options(), "read word; echo got $word; echo beside >&2") as child:
        peer = child.wait_ready()
        assert (peer.user, peer.host, peer.port) == (sshd.user, "127.0.0.1", sshd.port)
        assert peer.host_key == sshd.host_fingerprint
        assert peer.algorithms["send_cipher"] == peer.algorithms["recv_mac"] == "aes128-gcm@openssh.com"
        assert peer.algorithms["server_version"].startswith("SSH-2.0-OpenSSH")
        os.write(child.sink, b"one\n")
        assert read_all(child) == b"got one\n"
        assert child.end() is None
        assert child.stderr_text == "beside"


def test_with_more_words_everything_that_ssh_and_the_server_say_is_shown_safely(
    sshd: Sshd, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    says(sshd.address(), sshd.options(), r"printf '\033[2Jbeside\n' >&2; echo out")
    said = [record.getMessage() for record in caplog.records]
    assert any("Authenticated to 127.0.0.1" in line for line in said)
    assert r"stderr: \x1b[2Jbeside" in said


def test_a_subsystem_is_asked_for_by_its_name(sshd: Sshd) -> None:
    with started(sshd.address(), sshd.options(), "no-such-subsystem", subsystem=True) as child:
        child.wait_ready()
        assert os.read(child.source, 1) == b""
        assert isinstance(error := child.end(), ConnectError)
        assert "subsystem" in error.message


def test_arguments_of_the_child_hold_nothing_but_what_was_said(sshd: Sshd) -> None:
    with started(sshd.address(), sshd.options(), "cat") as child:
        child.wait_ready()
        assert os.listdir(f"/proc/{child.process_id}/fd")
        environment = Path(f"/proc/{child.process_id}/environ").read_bytes()
        assert b"LC_ALL=C\0" in environment + b"\0"


def test_a_command_that_is_not_there_says_so(sshd: Sshd) -> None:
    with started(sshd.address(), sshd.options(), "no-such-program serve") as child:
        child.wait_ready()
        assert os.read(child.source, 1) == b""
        assert isinstance(child.end(), NoRemoteError)


def test_a_server_that_drops_the_session_before_a_word_is_a_dropped_link(sshd: Sshd) -> None:
    with started(sshd.address(), sshd.options(), "kill -9 $PPID") as child:
        child.wait_ready()
        assert os.read(child.source, 1) == b""
        assert isinstance(child.end(), DroppedError)


def test_the_key_that_is_not_accepted_is_an_authentication_error(sshd: Sshd, tmp_path: Path, keygen: Callable[..., Path]) -> None:
    options = sshd.options(identity=keygen(tmp_path / "stranger"))
    with pytest.raises(AuthenticationError), started(sshd.address(), options, "true") as child:
        child.wait_ready()


def test_a_named_key_that_is_not_there_is_said(sshd: Sshd, tmp_path: Path) -> None:
    with pytest.raises(SigningKeyError, match="absent"):
        find_route(sshd.address(), sshd.options(identity=tmp_path / "absent"))


def test_a_named_key_that_others_can_read_is_said(sshd: Sshd, tmp_path: Path, keygen: Callable[..., Path]) -> None:
    keygen(tmp_path / "open").chmod(0o644)
    with pytest.raises(ExposedKeyError):
        find_route(sshd.address(), sshd.options(identity=tmp_path / "open"))


def test_why_a_key_of_the_configuration_is_not_used_is_said(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "open").write_bytes(sshd.identity.read_bytes())
    (tmp_path / "open").chmod(0o644)
    (tmp_path / "config").write_text(f"Host *\n  IdentityFile {tmp_path}/open\n")
    options = sshd.options(identity=None, config=tmp_path / "config")
    with pytest.raises(AuthenticationError, match="are too open"), started(sshd.address(), options, "true") as child:
        child.wait_ready()


def _no_terminal() -> tuple[int, int]:
    raise FileNotFoundError("/dev/ptmx")


@pytest.mark.parametrize("terminals", [True, False])
def test_the_log_is_read_where_proc_is_closed_and_nothing_is_left(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminals: bool
) -> None:
    monkeypatch.setattr(child_module, "_is_open_to_children", lambda: False)
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder" if terminals else str(tmp_path))
    if not terminals:
        monkeypatch.setattr(os, "openpty", _no_terminal)
    with started(sshd.address(), sshd.options(), "echo in") as child:
        assert child.wait_ready().host_key == sshd.host_fingerprint
        assert read_all(child) == b"in\n"
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_closes_its_output_and_goes_on_has_finished(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "_STATUS_SECONDS", 0.2)
    with started(sshd.address(), sshd.options(), "echo in; exec >&- 2>&-; sleep 60") as child:
        child.wait_ready()
        assert read_all(child) == b"in\n"
        assert child.end() is None


def test_the_processes_of_jump_hosts_end_with_the_connection(sshd: Sshd, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("".join(f"[{name}]:{sshd.port} ssh-ed25519 {sshd.host_key}\n" for name in ("127.0.0.1", "localhost")))
    options = sshd.options(config=jump_config(sshd, tmp_path), known_hosts=hosts, identity=None)
    with started(Address.parse("target:/vault"), options, "cat") as child:
        child.wait_ready()
        assert len(processes_that_name(str(hosts))) >= 2
    wait_until(lambda: not processes_that_name(str(hosts)))


def processes_that_name(word: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if word in (process / "cmdline").read_bytes().decode("utf-8", "replace"):
                found.append(process.name)
    return found


def test_nobody_listening_and_no_such_name_are_connect_errors(sshd: Sshd, closed_port: int) -> None:
    for place, words in ((f"127.0.0.1:{closed_port}", "can't connect"), ("no-such-host.invalid", "can't be found")):
        with (
            pytest.raises(ConnectError, match=words),
            started(Address.parse(f"ssh://{place}/v"), sshd.options(), "true") as child,
        ):
            child.wait_ready()


def test_where_there_is_no_ssh_the_package_is_named(sshd: Sshd) -> None:
    with pytest.raises(ConfigurationError) as caught:
        find_route(sshd.address(), sshd.options(program=parse_program("/no/such/ssh")))
    assert "openssh-client" in str(caught.value.hint)


_SWITCHED_OFF = (
    "StrictHostKeyChecking no\nCheckHostIP no\nNoHostAuthenticationForLocalhost yes\nVerifyHostKeyDNS yes\nLogLevel QUIET\n"
)


def jump_config(sshd: Sshd, folder: Path) -> Path:
    config = folder / "config"
    login = f"  Port {sshd.port}\n  User {sshd.user}\n  IdentityFile {sshd.identity}\n"
    config.write_text(
        f"{_SWITCHED_OFF}Host jump\n  HostName 127.0.0.1\n{login}Host target\n  HostName localhost\n{login}  ProxyJump jump\n"
    )
    return config


@pytest.mark.parametrize("unknown", ["127.0.0.1", "localhost"])
def test_a_jump_host_is_held_to_its_host_key_whatever_the_configuration_says(sshd: Sshd, tmp_path: Path, unknown: str) -> None:
    hosts = tmp_path / "with a blank and %h"
    lines = {name: f"[{name}]:{sshd.port} ssh-ed25519 {sshd.host_key}\n" for name in ("127.0.0.1", "localhost")}
    hosts.write_text("".join(lines.values()))
    options = sshd.options(config=jump_config(sshd, tmp_path), known_hosts=hosts, identity=None)
    assert says(Address.parse("target:/vault"), options, "echo in") == b"in\n"
    del lines[unknown]
    hosts.write_text("".join(lines.values()))
    with pytest.raises(HostKeyError) as caught, started(Address.parse("target:/vault"), options, "touch reached") as child:
        child.wait_ready()
    assert caught.value.exit_code is ExitCode.HOST_KEY
    assert f"[{unknown}]:{sshd.port}" in caught.value.message
    assert sshd.host_fingerprint in caught.value.message


def test_another_key_than_the_recorded_one_is_a_changed_key(sshd: Sshd, tmp_path: Path, keygen: Callable[..., Path]) -> None:
    keygen(tmp_path / "other")
    hosts = tmp_path / "hosts"
    hosts.write_text(f"# first\n[127.0.0.1]:{sshd.port} {(tmp_path / 'other.pub').read_text()}")
    config = tmp_path / "config"
    config.write_text(_SWITCHED_OFF)
    options = sshd.options(known_hosts=hosts, config=config)
    with pytest.raises(HostKeyChangedError, match="hosts:2"), started(sshd.address(), options, "true") as child:
        child.wait_ready()


def test_lines_in_a_banner_or_on_stderr_that_look_like_ssh_s_own_are_no_facts(sshd: Sshd) -> None:
    lie = f"debug1: Server host key: ssh-ed25519 SHA256:{'A' * 43}"
    with started(sshd.address(), sshd.options(), f"echo {shlex.quote(lie)} >&2; echo out") as child:
        child.wait_ready()
        assert read_all(child) == b"out\n"
        assert child.peer.host_key == sshd.host_fingerprint


def test_a_log_that_states_a_fact_in_two_ways_is_a_lie(sshd: Sshd, tmp_path: Path) -> None:
    """As a server could have it that puts line breaks into what ssh logs of it."""
    program = tmp_path / "ssh"
    program.write_text(
        "#!/bin/sh\nfor word; do\n"
        f'  [ "$before" = -E ] && printf \'debug1: Server host key: ssh-ed25519 SHA256:{"A" * 43}\\r\\n\' >> "$word"\n'
        '  before=$word\ndone\nexec ssh "$@"\n'
    )
    program.chmod(0o755)
    options = sshd.options(program=parse_program(str(program)))
    with pytest.raises(ProtocolError, match="host_key"), started(sshd.address(), options, "echo out") as child:
        child.wait_ready()


def test_a_configuration_that_means_another_server_each_time_puts_nothing_false_on_record(sshd: Sshd, tmp_path: Path) -> None:
    config, seen = tmp_path / "config", tmp_path / "seen"
    config.write_text(
        f'Match exec "test -e {seen} || ! touch {seen}"\n  HostName localhost\n'
        f"Host lab\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User {sshd.user}\n"
    )
    known = tmp_path / "known"
    known.write_text(f"[localhost]:{sshd.port} ssh-ed25519 {sshd.host_key}\n")
    options = sshd.options(config=config, known_hosts=known)
    with (
        started(Address.parse("lab:/v"), options, "cat") as child,
        pytest.raises(ConfigurationError, match=r"goes to 127\.0\.0\.1.*went to localhost"),
    ):
        child.wait_ready()


def test_ctrl_c_is_not_heard_by_the_child(sshd: Sshd) -> None:
    with started(sshd.address(), sshd.options(), "cat") as child:
        child.wait_ready()
        status = Path(f"/proc/{child.process_id}/status").read_text()
        blocked = int(next(line for line in status.splitlines() if line.startswith("SigBlk")).split()[1], 16)
        assert blocked & 0b10


def test_nothing_stays_open_or_running(sshd: Sshd) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert says(sshd.address(), sshd.options(), "echo in") == b"in\n"
    assert len(os.listdir("/proc/self/fd")) == before
    running = subprocess.run(["pgrep", "-P", str(os.getpid()), "-x", "ssh"], capture_output=True, check=False)
    assert running.stdout == b""
