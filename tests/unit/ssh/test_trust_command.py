"""The command in a hint works as it stands: it names the server as it was named to ssh, and how it is reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from evidencesync.ssh.known_hosts import trust_command
from evidencesync.ssh.options import SshOptions, parse_program


@pytest.mark.parametrize(
    ("name", "user", "port", "address"),
    [
        ("vault.lab", None, None, "vault.lab"),
        ("vault.lab", "ana", None, "ana@vault.lab"),
        ("vault.lab", "ana", 2222, "ssh://ana@vault.lab:2222"),
        ("::1", None, None, "'ssh://[::1]'"),
        ("::1", "ana", 2222, "'ssh://ana@[::1]:2222'"),
    ],
)
def test_a_server_is_named_as_it_was_named_to_ssh(name: str, user: str | None, port: int | None, address: str) -> None:
    assert trust_command(SshOptions(), name, user, port, None, is_target=True) == f"evidencesync host trust {address}"


def test_files_that_were_named_are_named_again() -> None:
    options = SshOptions(config=Path("my config"), known_hosts=Path("hosts"), identity=Path("key"))
    said = trust_command(options, "lab", None, None, None, is_target=True)
    assert said == "evidencesync host trust --known-hosts hosts -F 'my config' lab"


def test_a_program_is_named_again_with_its_jump_host() -> None:
    program = parse_program("ssh -F conf -o ConnectTimeout=5 -J bastion")
    said = trust_command(SshOptions(program=program), "lab", None, None, program.jump, is_target=True)
    assert said == "evidencesync host trust --ssh 'ssh -o ConnectTimeout=5 -F conf -J bastion' lab"


def test_the_options_of_a_program_speak_of_the_last_server_but_its_config_of_all() -> None:
    options = SshOptions(program=parse_program("ssh -F conf -p 2222 -J first,second"))
    assert trust_command(options, "first", None, None, None, is_target=False) == (
        "evidencesync host trust --ssh 'ssh -F conf' first"
    )
    assert trust_command(options, "second", None, None, "first", is_target=False) == (
        "evidencesync host trust --ssh 'ssh -F conf -J first' second"
    )
