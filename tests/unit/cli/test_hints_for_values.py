"""A value that an option does not take, and a name that nobody has, come with a hint."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from evidencesync.cli.acquire import parse_compress
from evidencesync.cli.app import main
from evidencesync.cli.export_command import _parse_format
from evidencesync.errors import NotThereError, StorageError, UsageError
from evidencesync.exit_codes import ExitCode
from evidencesync.vault import create
from evidencesync.vault.create import create_vault
from tests.support.every_command import run_in_process


@pytest.mark.parametrize("parse", [parse_compress, _parse_format])
def test_a_value_that_is_none_of_the_words_has_a_hint(parse: object) -> None:
    assert callable(parse)
    with pytest.raises(UsageError, match="not zip") as refused:
        parse("zip")
    assert refused.value.hint


@pytest.mark.parametrize("command", ["retire", "revoke"])
def test_a_signer_that_nobody_is_leads_to_the_list(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vault = str(tmp_path / "vault")
    assert run_in_process(["init", vault]) == 0
    capsys.readouterr()
    assert run_in_process(["trust", command, vault, "nosuch"]) == NotThereError.exit_code
    assert capsys.readouterr().err.splitlines()[-1] == f"hint: Who is trusted is listed by: evidencesync trust list {vault}"


def test_a_report_that_is_there_already_is_refused_in_words_that_are_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vault, report = str(tmp_path / "vault"), tmp_path / "report.html"
    assert run_in_process(["init", vault]) == 0
    report.touch()
    capsys.readouterr()
    assert run_in_process(["report", vault, "--case", "1", "-o", str(report)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: {report} is there already: nothing is ever replaced",
        "hint: Choose another place, which may not lie in a vault: -o FILE",
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["push", "a", "b", "--case", "C", "--item", "I", "--retries", "many"], "--retries needs a whole number, not many"),
        (["push", "a", "b", "--case", "C", "--item", "I", "-p", "70000"], "takes 1 to 65535, not 70000"),
        (["push", "a", "b", "--case", "C", "--item", "I", "--timeout", "long"], "--timeout needs a number, not long"),
        (["diff", "v", "one", "2", "--case", "C", "--item", "I"], "N needs a whole number, not one"),
    ],
)
def test_a_number_that_is_none_is_said_in_plain_words(line: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line) == ExitCode.USAGE
    assert said in capsys.readouterr().err.splitlines()[0]


@pytest.mark.parametrize("command", [["clean"], ["vault", "writer"], ["trust", "list"]])
def test_who_names_no_vault_is_not_told_to_make_one_for_a_command_that_needs_what_is_in_it(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_in_process([*command, str(tmp_path)]) == NotThereError.exit_code
    assert capsys.readouterr().err.splitlines()[-1] == "hint: Look at the path: a vault is a folder with vault.toml in it."


def test_a_public_key_in_place_of_a_list_of_signers_leads_to_its_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ana.pub").write_text(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ana@lab\n"
    )
    assert run_in_process(["verify", str(tmp_path), "--trusted", str(tmp_path / "ana.pub")]) == ExitCode.USAGE
    assert capsys.readouterr().err.splitlines()[-1].endswith("follows: ana@lab ssh-ed25519 AAAA...")


def test_a_key_that_is_known_comes_with_its_line_for_authorized_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vault, key = str(tmp_path / "vault"), tmp_path / "ana.pub"
    key.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ana@lab\n")
    assert run_in_process(["init", vault, "--trust", str(key)]) == 0
    line = next(one for one in capsys.readouterr().out.splitlines() if one.startswith("restrict,"))
    assert run_in_process(["trust", "add", vault, str(key)]) == 0
    said = capsys.readouterr()
    assert line in said.out.splitlines()
    assert said.err == "note: the vault trusts this key already, and nothing is changed.\n"
    for other in (["--principal", "ben@lab"], ["--may", "read"]):
        assert run_in_process(["trust", "add", vault, str(key), *other]) == ExitCode.USAGE
        said = capsys.readouterr()
        assert said.err.splitlines()[-2].endswith("is known already, as ana@lab")
        assert "restrict," not in said.out + said.err
    assert run_in_process(["trust", "retire", vault, "ana@lab"]) == 0
    capsys.readouterr()
    assert run_in_process(["trust", "revoke", vault, str(key), "--yes"]) == 0
    capsys.readouterr()
    assert run_in_process(["trust", "add", vault, str(key)]) == ExitCode.USAGE
    assert "restrict," not in capsys.readouterr().err


def test_who_may_not_make_a_vault_there_is_told_how_to_get_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(create, "account_name", lambda: "ana")
    monkeypatch.setattr(Path, "mkdir", refuse)
    place = tmp_path / "my vault"
    with pytest.raises(StorageError, match="could not make the folder") as refused:
        create_vault(place, "v")
    made = f"sudo install -d -m 700 -o ana '{place}'; then: evidencesync init '{place}'"
    assert refused.value.hint == f"ana may not write there: name a folder of your own, or have one made: {made}"
    monkeypatch.undo()
    monkeypatch.setattr(create, "account_name", lambda: "ana")
    monkeypatch.setattr(create, "store_new_file", refuse)
    with pytest.raises(StorageError) as refused:
        create_vault(tmp_path, "v")
    assert str(refused.value.hint).endswith(f"evidencesync init {tmp_path}/vault")


def test_a_draft_without_its_format_is_told_which_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in_process(["init", str(tmp_path / "v")]) == 0
    for name, is_draft in (("c.rtf", True), ("c.txt", False)):
        assert run_in_process(["report", str(tmp_path / "v"), "--case", "C", "-o", str(tmp_path / name)]) == ExitCode.USAGE
        assert ("--format certificate" in capsys.readouterr().err) == is_draft


def test_what_is_hidden_is_not_taken_for_a_slip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".profile").touch()
    assert run_in_process(["init", "v"]) == 0
    assert run_in_process(["verify", "v", "--trusted", "profile"]) == ExitCode.USAGE
    assert "Did you mean" not in capsys.readouterr().err


def test_a_vault_of_which_nothing_is_remembered_is_not_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "heads" / ("348ba87b" * 4)).mkdir(parents=True)
    monkeypatch.setenv("EVIDENCESYNC_STATE", str(tmp_path))
    assert run_in_process(["receipts", "forget-head", "348b"]) == 10
    assert f"Did you mean {'348ba87b' * 4}? " in capsys.readouterr().err
