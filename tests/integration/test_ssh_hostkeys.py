"""Host keys against a real OpenSSH server: what is not recorded is refused, with the fingerprint, whatever a config says."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evidencesync.errors import ConfigurationError, HostKeyChangedError, HostKeyError
from evidencesync.exit_codes import ExitCode
from evidencesync.ssh.address import Address
from evidencesync.ssh.known_hosts import remember_host_key
from evidencesync.ssh.options import Program
from evidencesync.ssh.route import find_route
from evidencesync.ssh.ssh_process import SshProcess
from evidencesync.ssh.trust import fetch_host_key
from tests.support.ssh_client import open_channel

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd


def log_in(sshd: Sshd, known_hosts: str | Path, folder: Path, **changes: object) -> None:
    """Connects with these known hosts and nothing else."""
    file = known_hosts
    if isinstance(known_hosts, str):
        file = folder / "hosts"
        file.write_text(known_hosts)

    async def scenario() -> None:
        options = sshd.options(known_hosts=file, remote_command="true;:", **changes)
        channel = await open_channel(sshd.address(), options, [])
        await channel.close()

    asyncio.run(scenario())


def public(sshd: Sshd, name: str) -> str:
    return " ".join((sshd.folder / f"{name}.pub").read_text().split()[:2])


def test_an_unknown_host_key_is_refused_with_its_fingerprint_and_the_command_that_trusts_it(sshd: Sshd, tmp_path: Path) -> None:
    with pytest.raises(HostKeyError) as caught:
        log_in(sshd, "", tmp_path)
    assert not isinstance(caught.value, HostKeyChangedError)
    assert caught.value.exit_code is ExitCode.HOST_KEY
    assert sshd.host_fingerprint in caught.value.message
    command = f"evidencesync host trust --known-hosts {tmp_path / 'hosts'} "
    assert (caught.value.hint or "").endswith(f"{command}{trust_options(sshd)}ssh://{sshd.user}@127.0.0.1:{sshd.port}")


def trust_options(sshd: Sshd) -> str:
    config = sshd.options().config
    return "" if config is None else f"-F {config} "


def test_a_known_hosts_file_that_is_not_there_knows_nobody(sshd: Sshd, tmp_path: Path) -> None:
    with pytest.raises(HostKeyError, match="not known"):
        log_in(sshd, tmp_path / "absent", tmp_path)


def test_a_config_cannot_make_an_unknown_host_key_acceptable(sshd: Sshd, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host *\n  StrictHostKeyChecking no\n  CheckHostIP no\n  NoHostAuthenticationForLocalhost yes\n")
    with pytest.raises(HostKeyError):
        log_in(sshd, "", tmp_path, config=config)


def test_another_key_of_the_same_type_is_a_changed_key(sshd: Sshd, tmp_path: Path, keygen: Callable[..., Path]) -> None:
    keygen(tmp_path / "other")
    other = (tmp_path / "other.pub").read_text()
    with pytest.raises(HostKeyChangedError, match="another host key") as caught:
        log_in(sshd, f"# first\n[127.0.0.1]:{sshd.port} {other}", tmp_path)
    assert sshd.host_fingerprint in caught.value.message
    assert "hosts:2" in caught.value.message


def test_a_host_that_is_known_by_a_key_of_another_type_is_refused_with_the_key_it_shows(
    sshd: Sshd, tmp_path: Path, keygen: Callable[..., Path]
) -> None:
    keygen(tmp_path / "ecdsa", "-t", "ecdsa")
    with pytest.raises(HostKeyChangedError, match="another host key") as caught:
        log_in(sshd, f"[127.0.0.1]:{sshd.port} {(tmp_path / 'ecdsa.pub').read_text()}", tmp_path)
    assert sshd.host_fingerprint in caught.value.message


def test_a_server_with_several_keys_is_asked_for_the_one_that_is_known(sshd: Sshd, tmp_path: Path) -> None:
    log_in(sshd, f"[127.0.0.1]:{sshd.port} {public(sshd, 'host_rsa')}\n", tmp_path)


def test_a_revoked_host_key_is_refused_even_where_it_is_also_known(sshd: Sshd, tmp_path: Path) -> None:
    key = public(sshd, "host_ed25519")
    for revocation in (f"@revoked * {key}", f"@revoked 127.0.0.1 {key}", f"@revoked [127.0.0.1]:{sshd.port} {key}"):
        with pytest.raises(HostKeyChangedError, match="revoked") as caught:
            log_in(sshd, f"[127.0.0.1]:{sshd.port} {key}\n{revocation}\n", tmp_path)
        assert sshd.host_fingerprint in caught.value.message


def test_who_shows_a_revoked_key_is_not_told_who_we_are(sshd: Sshd, tmp_path: Path) -> None:
    key = public(sshd, "host_ed25519")
    hosts = tmp_path / "hosts"
    hosts.write_text(f"[127.0.0.1]:{sshd.port} {key}\n@revoked 127.0.0.1 {key}\n")
    options = sshd.options(known_hosts=hosts)
    child = SshProcess(find_route(sshd.address(), options), options, "true")
    try:
        with pytest.raises(HostKeyChangedError, match="revoked"):
            child.wait_ready()
        assert not child.logs[-1].is_host_verified
        assert child.logs[-1].login_key is None
    finally:
        child.kill()
        child.release()


def test_a_key_that_is_revoked_for_the_host_is_not_offered_for_trust(sshd: Sshd, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(f"@revoked 127.0.0.1 {public(sshd, 'host_ed25519')}\n")
    with pytest.raises(HostKeyChangedError, match="revoked"):
        fetch_host_key(sshd.address(), sshd.options(known_hosts=hosts))


def test_what_is_revoked_must_be_known(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ssh").symlink_to(shutil.which("ssh") or "ssh")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostKeyError, match="ssh-keygen"):
        log_in(sshd, f"[127.0.0.1]:{sshd.port} {public(sshd, 'host_ed25519')}\n@revoked other {sshd.host_key}\n", tmp_path)


def test_hashed_names_are_found(sshd: Sshd, tmp_path: Path) -> None:
    file = tmp_path / "hashed"
    file.write_text(f"[127.0.0.1]:{sshd.port} {public(sshd, 'host_ed25519')}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    assert file.read_text().startswith("|1|")
    log_in(sshd, file, tmp_path)


def test_a_certificate_of_a_trusted_authority_is_accepted_and_any_other_is_not(
    sshd_with_certificate: tuple[Sshd, Path, Path], tmp_path: Path
) -> None:
    server, authority, stranger = sshd_with_certificate
    line = f"@cert-authority [127.0.0.1]:{server.port} "
    log_in(server, line + authority.read_text(), tmp_path)
    with pytest.raises(HostKeyError):
        log_in(server, line + stranger.read_text(), tmp_path)
    with pytest.raises(HostKeyError):
        log_in(server, f"{line}{authority.read_text()}@revoked * {authority.read_text()}", tmp_path)


def test_an_address_that_another_name_is_recorded_for_does_not_vouch_for_this_name(sshd: Sshd, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(f"[127.0.0.1]:{sshd.port} {public(sshd, 'host_ed25519')}\n")
    address = Address.parse(f"ssh://{sshd.user}@localhost:{sshd.port}/v")
    with pytest.raises(HostKeyError, match=r"\[localhost\]"):
        asyncio.run(open_channel(address, sshd.options(known_hosts=hosts), ["true"]))


@pytest.mark.parametrize(
    "option", ["StrictHostKeyChecking=no", "StrictHostKeyChecking=accept-new", "NoHostAuthenticationForLocalhost=yes"]
)
def test_a_program_that_switches_the_check_off_before_our_options_is_refused(sshd: Sshd, tmp_path: Path, option: str) -> None:
    program = tmp_path / "wrapper"
    program.write_text(f'#!/bin/sh\nexec ssh -o {option} "$@"\n')
    program.chmod(0o700)
    options = sshd.options(known_hosts=tmp_path / "absent", program=Program((str(program),)))
    with pytest.raises(HostKeyError, match="switches host-key checks off"):
        fetch_host_key(sshd.address(), options)


def test_a_command_that_could_call_any_shown_key_known_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host *\n  UserKnownHostsFile /dev/null\n  KnownHostsCommand /bin/echo %H %t %K\n")
    with pytest.raises(HostKeyError, match="KnownHostsCommand"):
        asyncio.run(open_channel(sshd.address(), sshd.options(known_hosts=None, config=config), ["true"]))


@pytest.mark.parametrize("name", ["/dev/null", "none"])
def test_known_hosts_that_would_switch_the_check_off_are_refused(sshd: Sshd, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="switch host-key checks off"):
        log_in(sshd, Path(name), tmp_path)


def test_a_fetched_key_is_the_servers_and_is_trusted_once_it_is_remembered(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "evidencesync" / "known_hosts"
    shown = fetch_host_key(sshd.address(), sshd.options(identity=None, known_hosts=None))
    assert shown.key.fingerprint == sshd.host_fingerprint
    assert shown.line is not None
    with pytest.raises(HostKeyError):
        asyncio.run(open_channel(sshd.address(), sshd.options(known_hosts=None), ["true"]))
    remember_host_key(file, shown.hop.lookup, shown.line)
    assert file.read_text() == f"[127.0.0.1]:{sshd.port} {public(sshd, 'host_ed25519')}\n"

    async def scenario() -> None:
        channel = await open_channel(sshd.address(), sshd.options(known_hosts=None), ["true"])
        await channel.close()

    asyncio.run(scenario())
    found = subprocess.run(["ssh-keygen", "-F", f"[127.0.0.1]:{sshd.port}", "-f", file], check=True, capture_output=True)
    assert b"found" in found.stdout


def test_a_config_alias_is_the_name_that_is_looked_up(sshd: Sshd, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(f"Host lab\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User {sshd.user}\n  HostKeyAlias evidence-lab\n")
    hosts = tmp_path / "hosts"
    options = sshd.options(config=config, known_hosts=hosts)
    shown = fetch_host_key(Address.parse("lab:"), options)
    assert shown.line is not None
    remember_host_key(hosts, shown.hop.lookup, shown.line)

    async def scenario() -> None:
        channel = await open_channel(Address.parse("lab:/v"), options, ["true"])
        await channel.close()

    asyncio.run(scenario())
    assert "evidence-lab" in hosts.read_text()


def test_a_key_is_fetched_through_a_jump_host_which_is_held_to_its_own(sshd: Sshd, tmp_path: Path) -> None:
    config, hosts = tmp_path / "config", tmp_path / "hosts"
    login = f"  Port {sshd.port}\n  User {sshd.user}\n  IdentityFile {sshd.identity}\n  StrictHostKeyChecking no\n"
    config.write_text(f"Host jump\n  HostName 127.0.0.1\n{login}Host target\n  HostName localhost\n{login}  ProxyJump jump\n")
    options = sshd.options(config=config, known_hosts=hosts, identity=None)
    hosts.write_text("")
    with pytest.raises(HostKeyError, match=r"\[127\.0\.0\.1\]") as caught:
        fetch_host_key(Address.parse("target:"), options)
    assert (caught.value.hint or "").endswith(f"evidencesync host trust --known-hosts {hosts} -F {config} jump")
    jump = fetch_host_key(Address.parse("jump:"), options)
    assert jump.line is not None
    remember_host_key(hosts, jump.hop.lookup, jump.line)
    target = fetch_host_key(Address.parse("target:"), options)
    assert (target.hop.lookup, target.key.fingerprint) == (f"[localhost]:{sshd.port}", sshd.host_fingerprint)
    assert target.line is not None
    remember_host_key(hosts, target.hop.lookup, target.line)
    assert fetch_host_key(Address.parse("target:"), options).line is None  # it is known now


def test_a_key_that_an_authority_vouches_for_is_known(sshd_with_certificate: tuple[Sshd, Path, Path], tmp_path: Path) -> None:
    server, authority, stranger = sshd_with_certificate
    hosts = tmp_path / "hosts"
    hosts.write_text(f"@cert-authority [127.0.0.1]:{server.port} {authority.read_text()}")
    assert fetch_host_key(server.address(), server.options(known_hosts=hosts)).line is None
    hosts.write_text(f"@cert-authority [127.0.0.1]:{server.port} {stranger.read_text()}")
    shown = fetch_host_key(server.address(), server.options(known_hosts=hosts))
    assert shown.line is not None
    assert shown.line.startswith("ssh-ed25519 ")  # the key itself, not its certificate
