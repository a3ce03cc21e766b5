"""A place that is no vault, or does not answer, comes with the place that may have been meant."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from evidencesync.cli import command
from evidencesync.cli.app import main
from evidencesync.cli.console import Console
from evidencesync.cli.meant_places import _meant_server
from evidencesync.cli.pasted_hints import filling_in_hints, pasted, takes_address
from evidencesync.cli.settings import load_settings
from evidencesync.errors import CommandKind, ConnectError, NotThereError, StorageError, VaultNotFoundError
from evidencesync.home import account_name
from tests.support.every_command import every_command, run_in_process


@pytest.fixture(autouse=True)
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A vault, beside a folder, in the folder that the test runs in."""
    monkeypatch.chdir(tmp_path)
    assert run_in_process(["init", "vault"]) == 0
    (tmp_path / "vault" / "cases" / "C 1" / "I").mkdir(parents=True)
    (tmp_path / "folder").mkdir()
    capsys.readouterr()
    return tmp_path / "vault"


@pytest.mark.parametrize("command", ["verify", "list", "clean"])
def test_a_place_in_a_vault_leads_to_the_vault(command: str, vault: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place, part in (("cases/C 1/I", ", with --case 'C 1' --item I"), ("cases/C 1", ", with --case 'C 1'"), ("custody", "")):
        assert run_in_process([command, f"vault/{place}"]) != 0
        said = "".join(capsys.readouterr())
        assert f"hint: It lies in a vault: name that, {vault}{part}.\n" in said


def test_arguments_in_the_wrong_order_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    for line in (["restore", "copy", "vault", "--case", "C", "--item", "I"], ["trust", "add", "ana.pub", "vault"]):
        assert run_in_process(line) == 10
        assert capsys.readouterr().err.splitlines()[-1] == "hint: vault is a vault, and VAULT comes first: change the order."


@pytest.mark.parametrize(
    ("typed", "server"), [("lab", "lab:/path"), ("10.0.0.7", "10.0.0.7:/path"), ("ana@vault.lab/srv/v", "ana@vault.lab:/srv/v")]
)
def test_a_place_that_may_be_a_server_is_shown_as_one(typed: str, server: str) -> None:
    hint = f"If {server.partition(':')[0]} is a server: {server}. A vault on this machine is made with: evidencesync init {typed}"
    assert _meant_server(typed) == hint


@pytest.mark.parametrize("typed", ["folder", "/nowhere/at/all", "./vaul", "../v", "~/v", "lab:/v"])
def test_no_server_is_guessed_of_another_place(typed: str) -> None:
    assert _meant_server(typed) is None


@pytest.mark.parametrize("name", ["vault", "source"])
def test_a_port_in_front_of_the_path_is_shown_as_a_port(name: str) -> None:
    with (
        pytest.raises(ConnectError) as failed,
        filling_in_hints({name: "ana@lab:2222/srv/v"}, CommandKind.ACQUIRES, load_settings("none")),
    ):
        raise ConnectError("refused", hint="Check the port.")
    assert failed.value.hint == "Check the port. If 2222 is the port: ssh://ana@lab:2222/srv/v"


@pytest.mark.parametrize(
    ("hint", "filled"),
    [
        ("See: evidencesync list VAULT", "See: evidencesync list 'ana@lab:/srv/my v' -i ana -p 2222"),
        ("`evidencesync diff VAULT`", "`evidencesync diff 'ana@lab:/srv/my v' -i ana -p 2222`"),
        (
            "See: evidencesync custody show VAULT --case CASE --item ITEM",
            "See: evidencesync custody show 'ana@lab:/srv/my v' -i ana -p 2222 --case 'C 1' --item I",
        ),
        (
            "Run: evidencesync reindex VAULT. Or not.",
            "Run: evidencesync reindex '/srv/my v' (on the vault's machine). Or not.",
        ),
        (
            "On the vault's machine: evidencesync trust add VAULT KEY.pub --principal NAME",
            "On the vault's machine: evidencesync trust add '/srv/my v' KEY.pub --principal NAME",
        ),
    ],
)
def test_a_command_about_a_far_vault_is_said_as_it_is_typed_where_it_runs(hint: str, filled: str) -> None:
    values = {"vault": "ana@lab:/srv/my v", "case": "C 1", "item": "I"}
    with (
        pytest.raises(NotThereError) as failed,
        filling_in_hints(values, CommandKind.SHOWS, load_settings("none"), ["-i", "ana", "-p", "2222"]),
    ):
        raise NotThereError("gone", hint=hint)
    assert failed.value.hint == filled


@pytest.mark.parametrize(
    ("vault", "meant"), [("ana@lab:/srv/w", "ana@lab:/"), ("ssh://ana@lab:22022/srv/w", "ana@lab:/ -p 22022")]
)
def test_the_one_vault_that_a_server_serves_is_named_without_its_path(vault: str, meant: str) -> None:
    error = VaultNotFoundError("another one", hint="HOST:/ means the one vault that is served.")
    with filling_in_hints({"vault": vault}, CommandKind.SHOWS, load_settings("none")) as fill:
        fill(error)
    assert error.hint == f"{meant} means the one vault that is served."


def test_the_commands_that_are_named_with_an_address_are_those_that_take_one() -> None:
    takes = {
        name
        for name, command in every_command()
        for one in command.params
        if one.name == "vault" and one.metavar == "VAULT" and "host" in (one.help or "")
    }
    assert takes == {name for name, _ in every_command() if takes_address(name)}


def test_the_options_that_were_typed_to_reach_a_vault_come_along(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    @contextlib.contextmanager
    def see(_values: object, _kind: object, _settings: object, reached_by: list[str]) -> Iterator[None]:
        seen.append(reached_by)
        yield

    monkeypatch.setattr(command, "filling_in_hints", see)
    monkeypatch.setenv("EVIDENCESYNC_IDENTITY", "key")
    line = ["list", "vault", "-p", "22022", "--known-hosts", "my hosts", "--case", "C 1"]
    run_in_process(line)
    assert seen == [["-p", "22022", "--known-hosts", "my hosts"]]  # a variable is set for the next command, too


def test_receipts_are_taken_to_a_vault_on_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "my receipts" / "C-I-0001"
    kept.mkdir(parents=True)
    assert run_in_process(["receipts", "check", str(kept), "--vault", "ssh://ana@lab:22022/srv/v"]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error == "error: the receipts are here, and the vault is on another machine: ssh://ana@lab:22022/srv/v"
    taken, there = hint.removeprefix("hint: Take the receipts to it, as somebody who has a shell there: ").split(
        "; then, there: "
    )
    assert shlex.split(taken) == ["scp", "-r", "-P", "22022", str(kept.parent), "ana@lab:receipts"]
    assert there == "evidencesync receipts check --receipts receipts --vault /srv/v"


def test_an_item_without_its_case_leads_to_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in_process(["verify", "vault", "--item", "I"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: --item needs --case",
        "hint: Name all of it: --case CASE --item ITEM. What there is, is listed by: evidencesync list vault",
    ]


def test_a_vault_with_nearly_this_name_or_in_this_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, typed, near in (
        ("list", "vualt", "vault"),
        ("list", f"{tmp_path}/valt/", f"{tmp_path}/vault"),
        ("clean", ".", "./vault"),
        ("verify", "vualt", "vault"),
    ):
        assert run_in_process([name, typed]) == NotThereError.exit_code
        assert f"hint: Did you mean {near}? Look at the path: " in "".join(capsys.readouterr())
    error = VaultNotFoundError("there is none")
    with filling_in_hints({"vault": "vualt"}, CommandKind.ACQUIRES, load_settings("none")) as fill:
        fill(error)
    assert str(error.hint).startswith("Did you mean vault? If vualt is a server: vualt:/path. ")


def test_a_file_with_nearly_this_name_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder" / "case.toml").touch()
    for line, near in (
        (["push", "foldr", "vault", "--case", "C", "--item", "I"], "folder"),
        (["push", "folder", "vault", "--case", "C", "--item", "I", "--case-file", "folder/cse.toml"], "folder/case.toml"),
        (["push", "folder", "vault", "--case", "C", "--item", "I", "--files-from", "folder/csae.toml"], "folder/case.toml"),
        (["verify", "vault", "--trusted", "folder/case.tml"], "folder/case.toml"),
        (["compare", "folder/case.tom", "folder"], "folder/case.toml"),
    ):
        assert run_in_process(line) != 0
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"hint: Did you mean {near}?"), line


def test_a_vault_behind_what_is_none_is_said_to_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    for line in (
        ["report", "r.html", "--case", "C", "vault"],
        ["report", "r.html", "--case", "C", "vault", "-o", "r.html"],
    ):
        assert main(line) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(
            "hint: vault is a vault, and VAULT comes first: evidencesync report vault --case C -o r.html. See: "
        )


def test_a_vault_in_the_place_of_a_command_leads_to_one(capsys: pytest.CaptureFixture[str]) -> None:
    for group, first in (([], "list"), (["trust"], "trust list"), (["custody"], "custody show"), (["vault"], "vault writer")):
        assert main([*group, "./vault"]) == 2
        assert f"hint: A command comes first, as in: evidencesync {first} ./vault. " in capsys.readouterr().err


def test_a_vault_that_is_mounted_read_only_and_one_of_another_account_say_so(
    vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_only, denied = (f"could not write .new-1: {os.strerror(one)}" for one in (errno.EROFS, errno.EACCES))
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    monkeypatch.setattr(os, "geteuid", lambda: vault.stat().st_uid + 1)
    for message, given, said in (
        (read_only, None, f"The vault is mounted read-only here (see: findmnt -T {vault}), and nothing can be added to it."),
        (read_only, "Nothing was exported.", f"(see: findmnt -T {vault}), and nothing can be added to it. Nothing was exported."),
        (denied, None, f"only that account can do (sudo -u {account_name(vault.stat().st_uid)})."),
        ("could not write: Input/output error", None, "Check the vault's disk and its permissions."),
    ):
        error = StorageError(message, hint=given)
        with filling_in_hints({"vault": "vault"}, CommandKind.CHANGES, load_settings("none")) as fill:
            fill(error)
        assert str(error.hint_for(CommandKind.CHANGES)).endswith(said)


def test_a_hint_of_what_a_result_states_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    for _ in range(2):
        console.print_hint(StorageError("it happened"))
    assert capsys.readouterr().err == f"hint: {StorageError('').hint_for(CommandKind.CHECKS)}\n"
    Console(as_json=True).print_hint(StorageError("it happened"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("vault", "shown"), [("ana@lab:/srv/v", "ana@lab:/srv/v -i ana"), ("v 1", "'v 1'")])
def test_the_command_that_comes_next_works_from_here(vault: str, shown: str) -> None:
    values = {"vault": vault, "case": "C 1", "item": "I"}
    with filling_in_hints(values, CommandKind.ACQUIRES, load_settings("none"), ["-i", "ana"]) as fill:
        said = pasted(fill, "evidencesync verify VAULT --case CASE --item ITEM")
    assert said == f"evidencesync verify {shown} --case 'C 1' --item I"
