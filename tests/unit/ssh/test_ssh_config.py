"""What the OpenSSH config file, the address and the command line make of a server; `ssh -G` is asked for its view too."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.errors import ConfigurationError, UsageError
from evidencesync.ssh.address import Address
from evidencesync.ssh.config import Hop, own_known_hosts, resolve_route
from evidencesync.ssh.options import SshOptions


def route(folder: Path, config: str, address: str = "lab:/v", **options: object) -> tuple[Hop, ...]:
    (folder / "config").write_text(config)
    settings = SshOptions(config=folder / "config", **options)  # type: ignore[arg-type]
    return asyncio.run(resolve_route(Address.parse(address), settings))


def test_settings_of_a_host_are_those_that_ssh_itself_finds(tmp_path: Path, require_program: Callable[[str], str]) -> None:
    config = (
        "Host lab other\n  HostName %h.example.org\n  Port 2222\n  User ana\n  IdentityFile /keys/%u-%h\n"
        "  IdentityFile /keys/two\n"
        "Host *\n  User nobody\n  Port 22\n  UserKnownHostsFile /hosts/a /hosts/b\n  GlobalKnownHostsFile /hosts/c\n"
    )
    (hop,) = route(tmp_path, config)
    command: list[str | Path] = [require_program("ssh"), "-F", tmp_path / "config", "-G", "lab"]
    asked = subprocess.run(command, capture_output=True, text=True, check=True)
    said = [line.split(" ", 1) for line in asked.stdout.splitlines() if " " in line]
    first = dict(reversed(said))
    assert (hop.host, str(hop.port), hop.user) == (first["hostname"], first["port"], first["user"])
    assert [str(path) for path in hop.identities or ()][1:] == [value for name, value in said if name == "identityfile"][1:]
    assert [str(path) for path in hop.known_hosts] == ["/hosts/a", "/hosts/b", "/hosts/c", str(own_known_hosts())]
    assert hop.lookup == "lab.example.org"


def test_without_a_setting_the_files_are_openssh_s_and_our_own(tmp_path: Path, private_home: Path) -> None:
    (hop,) = route(tmp_path, "")
    assert hop.known_hosts == (
        private_home / ".ssh/known_hosts",
        private_home / ".ssh/known_hosts2",
        Path("/etc/ssh/ssh_known_hosts"),
        Path("/etc/ssh/ssh_known_hosts2"),
        private_home / ".config/evidencesync/known_hosts",
    )
    assert (hop.host, hop.port, hop.identities, hop.identities_only) == ("lab", 22, None, False)


def test_known_hosts_of_the_command_line_are_the_only_ones_for_jump_hosts_too(tmp_path: Path) -> None:
    hops = route(tmp_path, "Host lab\n  ProxyJump door\nHost *\n  UserKnownHostsFile none\n", known_hosts=tmp_path / "mine")
    assert [hop.known_hosts for hop in hops] == [(tmp_path / "mine",)] * 2


@pytest.mark.parametrize("setting", ["none", "NONE", "/dev/null", "/hosts/a /dev/null"])
def test_switching_host_key_checks_off_is_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(ConfigurationError, match="UserKnownHostsFile"):
        route(tmp_path, f"UserKnownHostsFile {setting}\n")


def test_a_jump_host_cannot_be_left_unchecked_by_a_setting_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="UserKnownHostsFile"):
        route(tmp_path, "Host lab\n  ProxyJump door\nHost door\n  UserKnownHostsFile none\n")


def test_the_command_line_wins_over_the_file_and_speaks_of_the_target_only(tmp_path: Path) -> None:
    config = (
        "Host lab\n  Port 2222\n  User file\n  IdentityFile /keys/file\n  ProxyJump door\nHost door\n  Port 2022\n  User guard\n"
    )
    door, lab = route(tmp_path, config, "ana@lab:/v", port=2200, identity=Path("/keys/mine"))
    assert (lab.port, lab.user, lab.identities, lab.identities_only) == (2200, "ana", (Path("/keys/mine"),), True)
    assert (door.host, door.port, door.user, door.identities) == ("door", 2022, "guard", None)


def test_several_jump_hosts_are_gone_through_in_their_order(tmp_path: Path) -> None:
    config = "Host lab\n  ProxyJump ana@one:2201,two\nHost one\n  ProxyJump zero\nHost two\n  ProxyJump ignored\n"
    assert [(hop.host, hop.port) for hop in route(tmp_path, config)] == [("zero", 22), ("one", 2201), ("two", 22), ("lab", 22)]


def test_a_jump_host_that_the_same_setting_speaks_of_is_reached_directly(tmp_path: Path) -> None:
    assert [hop.host for hop in route(tmp_path, "Host *\n  ProxyJump door\n")] == ["door", "lab"]


def test_jump_hosts_that_go_round_in_circles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="jump hosts"):
        route(tmp_path, "Host lab b\n  ProxyJump a\nHost a\n  ProxyJump b\n")


def test_a_proxy_command_is_split_without_a_shell_and_a_jump_host_goes_first(tmp_path: Path) -> None:
    (hop,) = route(tmp_path, "Host lab\n  ProxyCommand relay --to '%h' %p; id\n")
    assert hop.proxy_command == ("relay", "--to", "lab", "22;", "id")
    assert route(tmp_path, "Host lab\n  ProxyCommand relay\n  ProxyJump door\n")[-1].proxy_command == ()
    assert route(tmp_path, "Host lab\n  ProxyCommand none\n")[-1].proxy_command == ()


def test_the_agent_is_the_one_that_the_config_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    monkeypatch.setenv("OTHER", "/run/other")
    for setting, expected in [
        ("", "/run/agent"),
        ("IdentityAgent SSH_AUTH_SOCK", "/run/agent"),
        ("IdentityAgent $OTHER", "/run/other"),
        ("IdentityAgent none", ""),
        ("IdentityAgent /run/third", "/run/third"),
    ]:
        assert route(tmp_path, setting)[0].agent == expected


def test_match_final_is_read_in_a_second_pass(tmp_path: Path) -> None:
    (hop,) = route(tmp_path, "Host lab\n  HostName real.example\nMatch final host real.example\n  User late\n")
    assert (hop.host, hop.user) == ("real.example", "late")


def test_an_ip6_host_name_is_taken(tmp_path: Path) -> None:
    assert route(tmp_path, "Host lab\n  HostName ::1\n")[0].host == "::1"


@pytest.mark.parametrize("config", ["Port abc\n", "Host lab\n  HostName -oProxyCommand=id\n", "Compression maybe\n", "User 'x\n"])
def test_a_config_that_makes_no_sense_is_refused(tmp_path: Path, config: str) -> None:
    with pytest.raises(UsageError):
        route(tmp_path, config)


def test_a_config_file_that_is_named_but_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not there"):
        asyncio.run(resolve_route(Address.parse("lab:/v"), SshOptions(config=tmp_path / "absent")))


def test_two_different_ports_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another port"):
        route(tmp_path, "", "ssh://lab:2222/v", port=22)


def test_a_local_path_is_no_server(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="local"):
        route(tmp_path, "", "/vault")


def test_our_own_file_lies_in_the_users_config_folder(monkeypatch: pytest.MonkeyPatch, private_home: Path) -> None:
    assert own_known_hosts() == private_home / ".config/evidencesync/known_hosts"
    monkeypatch.setenv("XDG_CONFIG_HOME", "/xdg")
    assert own_known_hosts() == Path("/xdg/evidencesync/known_hosts")
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert own_known_hosts() == private_home / ".config/evidencesync/known_hosts"
