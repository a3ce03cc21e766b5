"""VAULT and --case may be left out where the environment or the settings have them; what was taken is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evidencesync.cli.app import main
from evidencesync.cli.defaults import CASE_VARIABLE, VAULT_VARIABLE
from evidencesync.errors import CommandKind
from tests.support.every_command import KINDS, command_lines, every_command, run_in_process

TAKES_A_VAULT = sorted(
    name for name, found in every_command() if any(one.name == "vault" and one.envvar == VAULT_VARIABLE for one in found.params)
)


def parsed(name: str, line: list[str]) -> dict[str, Any]:
    """What the parser makes of a command line."""
    found = dict(every_command())[name]
    with found.make_context(name, line[len(name.split()) :]) as context:
        return dict(context.params)


@pytest.fixture
def vaults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder with the empty vaults `one`, `two` and `three`."""
    for name in ("one", "two", "three"):
        assert run_in_process(["init", str(tmp_path / name), "-q"]) == 0
    capsys.readouterr()
    return tmp_path


def test_every_command_about_a_vault_may_leave_it_out_but_those_that_make_serve_or_prove_one() -> None:
    with_vault = {name for name, found in every_command() if any(one.name == "vault" for one in found.params)}
    assert with_vault - set(TAKES_A_VAULT) == {"init", "serve", "receipts check"}


@pytest.mark.parametrize("name", TAKES_A_VAULT)
def test_a_line_without_its_vault_means_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line = command_lines()[name]
    whole = parsed(name, line)
    monkeypatch.setenv(VAULT_VARIABLE, "vault")
    assert parsed(name, line) == whole
    line.remove("vault")
    assert parsed(name, line) == whole


@pytest.mark.parametrize("name", ["init", "serve", "receipts check"])
def test_what_makes_serves_or_proves_a_vault_means_the_one_that_is_typed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VAULT_VARIABLE, "/elsewhere")
    assert "/elsewhere" not in parsed(name, command_lines()[name]).values()


def _in_turn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[str], str, str]]:
    """A command line, the vault that it means, and what is said of it: each time one more place says another vault."""
    (folder / "mine.toml").write_text('vault = "one"\n')
    config = ["--config", str(folder / "mine.toml")]
    yield ["list", *config], "one", f"note: vault {folder}/one ({folder}/mine.toml)\n"
    monkeypatch.setenv(VAULT_VARIABLE, f"{folder}/two")
    yield ["list", *config], "two", f"note: vault {folder}/two ({VAULT_VARIABLE})\n"
    yield ["list", f"{folder}/three", *config], "three", ""
    monkeypatch.setenv(VAULT_VARIABLE, "")
    yield ["list", *config], "one", f"note: vault {folder}/one ({folder}/mine.toml)\n"


def test_what_is_typed_wins_over_the_environment_and_that_over_the_settings(
    vaults: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for line, vault, said in _in_turn(vaults, monkeypatch):
        assert run_in_process(line) == 0
        out, err = capsys.readouterr()
        assert (out.split()[0], err) == (vault, said)


@pytest.mark.parametrize("name", ["trust list", "verify", "reindex", "clean"])
def test_which_vault_was_taken_is_said_even_quietly_by_what_states_or_changes_something(
    name: str, vaults: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VAULT_VARIABLE, f"{vaults}/one")
    assert run_in_process([*name.split(), "--quiet"]) in (0, 3)  # 3: an empty vault has nothing to verify
    expected = "" if KINDS[name] is CommandKind.SHOWS else f"note: vault {vaults}/one ({VAULT_VARIABLE})\n"
    assert capsys.readouterr().err.startswith(expected)
    run_in_process(name.split())
    assert f"note: vault {vaults}/one" in capsys.readouterr().err


def test_a_case_narrows_no_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CASE_VARIABLE, "2024-017")
    assert parsed("verify", ["verify", "vault"])["case"] is None
    assert parsed("show", ["show", "vault", "--item", "LAPTOP-1"])["case"] == "2024-017"


def test_a_case_of_the_settings_is_taken_and_said(vaults: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (vaults / "mine.toml").write_text('case = "2024-017"\n')
    assert main(["show", f"{vaults}/one", "--item", "X", "--config", f"{vaults}/mine.toml"]) == 10
    err = capsys.readouterr().err
    assert f"note: case 2024-017 ({vaults}/mine.toml)\n" in err
    assert "2024-017 / X" in err


def test_an_unset_variable_in_a_line_is_refused_and_not_replaced(
    vaults: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VAULT_VARIABLE, f"{vaults}/one")
    monkeypatch.setenv(CASE_VARIABLE, "2024-017")
    assert main(["verify", ""]) == 2
    assert main(["show", f"{vaults}/one", "--case", "", "--item", "X"]) == 2
    assert "note:" not in capsys.readouterr().err


def test_a_vault_that_depends_on_the_folder_is_refused(
    vaults: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(vaults)
    monkeypatch.setenv(VAULT_VARIABLE, "one")
    assert main(["list"]) == 2
    assert "EVIDENCESYNC_VAULT is a relative path: one" in capsys.readouterr().err
    monkeypatch.setenv("HOME", str(vaults))
    (vaults / "~").mkdir()
    monkeypatch.setenv(VAULT_VARIABLE, "~/one")
    assert main(["list"]) == 0


@pytest.mark.parametrize("name", ["push", "watch"])
def test_a_vault_is_no_source_where_the_vault_is_left_out(
    name: str, vaults: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VAULT_VARIABLE, f"{vaults}/one")
    assert main([name, f"{vaults}/two", "--case", "c", "--item", "i"]) == 2
    assert f"{vaults}/two is itself a vault, and no other was named" in capsys.readouterr().err


def test_a_vault_of_another_machine_is_taken_where_it_may_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VAULT_VARIABLE, "ana@vault.lab:/srv/vault")
    assert parsed("push", ["push", "evidence", "--case", "c", "--item", "i"])["vault"] == "ana@vault.lab:/srv/vault"
    assert main(["clean"]) == 2


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        (["list"], "VAULT"),
        (["show", "--item", "X"], "VAULT, --case"),
        (["trust", "add", "vault"], "KEY.pub"),
        (["restore", "vault"], "DEST, --case, --item"),
    ],
)
def test_without_any_default_it_is_missing(line: list[str], missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"error: missing: {missing}"


def test_what_has_a_default_is_not_called_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(VAULT_VARIABLE, "/srv/vault")
    monkeypatch.setenv(CASE_VARIABLE, "2024-017")
    assert main(["push"]) == 2
    assert capsys.readouterr().err.splitlines()[0] == "error: missing: SOURCE, --item"
