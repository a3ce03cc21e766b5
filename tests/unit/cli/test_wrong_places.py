"""A server that was named without a path is told apart from a path of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from evidencesync.cli.options import local_vault, parse_address
from evidencesync.errors import UsageError


def test_a_person_at_a_server_without_a_path_is_no_folder_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="names a server, but no vault on it") as refused:
        parse_address("ana@lab", "vault")
    assert refused.value.hint == "Add the vault's path: ana@lab:/path"
    (tmp_path / "ana@lab").mkdir()
    assert parse_address("ana@lab", "vault").local
    assert parse_address("./ben@lab", "vault").local


def test_a_command_for_this_machine_says_where_it_must_be_run() -> None:
    with pytest.raises(UsageError) as refused:
        local_vault("ana@lab:/srv/my vault")
    assert refused.value.hint == "Run it on the machine where the vault lies: ssh ana@lab"
