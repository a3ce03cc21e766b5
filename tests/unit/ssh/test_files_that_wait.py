"""A FIFO that an SSH configuration names is not waited for: ssh itself would wait there without end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.errors import ConfigurationError
from evidencesync.ssh import route
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions


@pytest.fixture
def config(tmp_path: Path, private_home: object, require_program: Callable[[str], str]) -> Path:
    require_program("ssh")
    os.mkfifo(tmp_path / "fifo")
    os.mkfifo(tmp_path / "key-cert.pub")
    return tmp_path / "config"


def _route(config: Path) -> tuple[route.Hop, ...]:
    return route.find_route(Address.parse("ana@vault.lab:/srv/vault"), SshOptions(config=config))


@pytest.mark.parametrize("setting", ["IdentityFile", "CertificateFile", "UserKnownHostsFile", "GlobalKnownHostsFile"])
@pytest.mark.parametrize("others", ["", "/other/"])
def test_a_fifo_among_the_files_of_a_configuration_is_an_error(setting: str, others: str, config: Path) -> None:
    fifo = config.parent / "fifo"
    is_list = setting.endswith("KnownHostsFile")
    config.write_text(f"{setting} {others + 'one ' if others and is_list else ''}{fifo}\n")
    with pytest.raises(ConfigurationError, match=f"{setting.lower()} of vault.lab is {fifo}, where ssh would wait"):
        _route(config)


def test_a_fifo_beside_a_key_is_an_error_for_every_key_that_is_named(config: Path) -> None:
    config.write_text(f"IdentityFile /nowhere/key\nIdentityFile {config.parent}/key\n")
    with pytest.raises(ConfigurationError, match=r"key-cert\.pub, where ssh would wait"):
        _route(config)


def test_files_that_are_not_there_or_are_nothing_are_for_ssh(config: Path) -> None:
    (config.parent / "known").touch()
    config.write_text(f"IdentityFile none\nIdentityFile ~/%h\nGlobalKnownHostsFile /dev/null {config.parent}/known\n")
    assert _route(config)[-1].host == "vault.lab"


def test_a_fifo_that_is_included_is_waited_for_no_longer_than_an_answer_takes(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route, "_ANSWER_SECONDS", 0.2)
    config.write_text(f"Include {config.parent}/fifo\n")
    with pytest.raises(ConfigurationError, match=r"has not read its settings in 0\.2 seconds") as caught:
        _route(config)
    assert "Include" in (caught.value.hint or "")
