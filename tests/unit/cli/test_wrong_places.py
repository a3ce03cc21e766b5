"""A server that was named without a path is told apart from a path of this machine."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest

from evidencesync.cli.acquire import owner_warning
from evidencesync.cli.options import local_vault, parse_address
from evidencesync.errors import UsageError
from evidencesync.home import account_name
from evidencesync.ssh.address import Address


def test_a_person_at_a_server_without_a_path_is_no_folder_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="names a server, but no vault on it") as refused:
        parse_address("ana@lab", "vault")
    assert refused.value.hint == "Add the vault's path: ana@lab:/path"
    there = "Add the vault's path: ssh://ana@lab:2222/path. The one vault that a server serves: ana@lab:/ --port 2222"
    assert Address.parse("ssh://ana@lab:2222/").without_path("vault").hint == there
    (tmp_path / "ana@lab").mkdir()
    assert parse_address("ana@lab", "vault").local
    assert parse_address("./ben@lab", "vault").local


@pytest.mark.parametrize(
    ("typed", "there"),
    [
        ("evidencesync list ana@lab:/srv/v", "evidencesync list /srv/v"),
        ("/opt/bin/evidencesync trust add ana@lab:/srv/v b.pub", "evidencesync trust add /srv/v b.pub"),
        ("evidencesync verify ana@lab:v", "evidencesync verify '~/v'"),
        ("evidencesync report --case 'a b' 'ssh://lab/srv/my vault'", "evidencesync report --case 'a b' '/srv/my vault'"),
    ],
)
def test_a_command_for_the_vaults_machine_is_said_as_it_is_typed_there(
    typed: str, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", shlex.split(typed))
    with pytest.raises(UsageError) as refused:
        local_vault(next(word for word in sys.argv if ":" in word))
    assert refused.value.hint == (
        "Somebody who can log in to a shell there (a key that may only push cannot) runs it on the machine where the vault lies: "
        + there
    )


def test_a_vault_of_the_settings_is_named_for_the_command_on_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["evidencesync", "list"])
    with pytest.raises(UsageError, match="not on lab:/srv/v") as refused:
        local_vault("lab:/srv/v")
    assert str(refused.value.hint).endswith(" EVIDENCESYNC_VAULT=/srv/v evidencesync list")


def test_root_is_told_that_a_vault_belongs_to_another_account(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        assert owner_warning(tmp_path, 0) is None
        os.chown(tmp_path, 4711, -1)
    owner = tmp_path.stat().st_uid
    said = owner_warning(tmp_path, 0)
    assert said is not None
    assert said.startswith(f"this vault belongs to {account_name(owner) or f'the account {owner}'}, and what root writes")
    assert owner_warning(tmp_path, owner) is None
    assert owner_warning(tmp_path / "none", 0) is None
