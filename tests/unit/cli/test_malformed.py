"""A command line that cannot be parsed is answered with what is wrong, and with the line as it should have been typed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from evidencesync.cli.app import main
from evidencesync.cli.habits import FROM_OTHERS, IN_GROUPS, OTHERWISE
from tests.support.every_command import every_command, run_in_process

_ITEM = ["--case", "C", "--item", "I"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("EVIDENCESYNC_VAULT", "EVIDENCESYNC_CASE"):
        monkeypatch.delenv(name, raising=False)


def said(given: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """The error and the hint."""
    assert main(given) == 2
    error, hint = capsys.readouterr().err.splitlines()
    return error.removeprefix("error: "), hint.removeprefix("hint: ")


@pytest.mark.parametrize(
    ("typed", "name", "meant"),
    [
        (["push", "a", "v", "--case", "C", "-item", "I"], "-item", "--item"),
        (["push", "a", "v", "-case=C", "--item", "I"], "-case", "--case"),
        (["verify", "v", "-case", "C"], "-case", "--case"),
        (["init", "v", "-trust", "a.pub"], "-trust", "--trust"),
    ],
)
def test_a_long_name_with_one_dash_is_told_to_have_two(
    typed: list[str], name: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error, hint = said(typed, capsys)
    assert error == f"no such option {name}"
    assert hint.startswith(f"Did you mean {meant}? A name of more than one letter has two dashes. ")


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["push", "lab:/v", "--case", "C"], "push SOURCE lab:/v --case C --item ITEM"),
        (["push", "--case", "C", "a"], "push --case C a VAULT --item ITEM"),
        (["restore", "v", *_ITEM], "restore v DEST --case C --item I"),
        (["trust", "add", "my vault"], "trust add 'my vault' KEY.pub"),
        (["push", "a", "v", "2024-017", "DISK-1"], "push a v --case 2024-017 --item DISK-1"),
        (["show", "v", "--case", "C", "DISK-1"], "show v --case C --item DISK-1"),
        (["custody", "note", "v", *_ITEM, "two screws missing"], "custody note v --case C --item I --text 'two screws missing'"),
        (["verify", "v", "C"], "verify v --case C"),
        (["custody", "correct", "v", *_ITEM], "custody correct v --case C --item I --record N --text TEXT"),
        (["custody", "correct", "v", *_ITEM, "--text", "x", "11"], "custody correct v --case C --item I --text x --record 11"),
        (["custody", "hand-over", "v", *_ITEM], "custody hand-over v --case C --item I --to PRINCIPAL"),
        (["verify", "v", "2"], "verify v --case CASE --item ITEM --acquisition 2"),
    ],
)
def test_what_is_missing_or_stands_without_its_option_is_shown_in_the_line_as_it_is_typed(
    typed: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, hint = said(typed, capsys)
    assert hint.endswith(f"--help, or: evidencesync {line}")


def test_a_lost_source_is_named_where_the_vault_stands_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_in_process(["init", "v"]) == 0
    capsys.readouterr()
    assert said(["push", "v", "--case", "C"], capsys)[0] == "missing: SOURCE, --item"
    for vault in ("v", "ana@lab:/srv/v"):
        monkeypatch.setattr(sys, "argv", ["evidencesync", "push", vault, *_ITEM])
        error, hint = said(["push", vault, *_ITEM], capsys)
        assert error == f"missing: SOURCE, in front of {vault}"
        assert hint.endswith(f": evidencesync push SOURCE {vault} --case C --item I")


def test_a_lost_vault_is_shown_in_its_place(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, source in (("push", "evidence"), ("pull", "ana@lab:/evidence")):
        monkeypatch.setattr(sys, "argv", ["evidencesync", name, source, *_ITEM])
        error, hint = said([name, source, *_ITEM], capsys)
        assert error == "missing: VAULT"
        assert hint.endswith(f"or type it: evidencesync {name} {source} VAULT --case C --item I")


@pytest.mark.parametrize(
    ("typed", "quoted"),
    [
        (["watch", "a", "v", *_ITEM, "--settle", "10", "min"], "--settle '10 min'"),
        (["push", "a", "v", "--case", "C", "--item", "DISK", "1"], "--item 'DISK 1'"),
    ],
)
def test_a_value_without_quotes_is_shown_with_them(typed: list[str], quoted: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(typed, capsys)[1] == f"A value of several words needs quotes: {quoted}"


@pytest.mark.parametrize("option", ["--note", "--examiner"])
def test_a_text_without_quotes_is_shown_with_them(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    error, hint = said(["push", "a", "v", option, "seized", "at", "nine", *_ITEM], capsys)
    assert error == "more than was expected: at nine"
    assert hint == f"A text of several words needs quotes: {option} 'seized at nine'"


def test_an_option_without_its_value_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    error, hint = said(["push", "a", "v", "--case", "C", "--item"], capsys)
    assert error == "--item needs a value"
    assert hint == "--item ITEM: Exhibit (evidence item) number. See: evidencesync push --help"


@pytest.mark.parametrize(
    ("typed", "what"),
    [
        (["push", "--progress", "a", "v"], "Progress is shown by itself on a terminal; -q silences it."),
        (["restore", "--info=progress2", "v"], "Progress is shown by itself on a terminal; -q silences it."),
        (["push", "-P", "2222", "a", "v"], "-p N (or --port N) is the port"),
        (["push", "--partial", "a", "v"], "the same command again sends only the rest"),
        (["push", "--delete", "a", "v"], "Nothing is deleted or replaced in a vault"),
        (["push", "-c", "2026-001", "a", "v"], "Did you mean --case 2026-001? A checksum needs no option: "),
        (["list", "v", "-c", "2026-001"], "Did you mean --case 2026-001? See: "),
        (["list", "v", "-c"], "Did you mean --case? See: "),
        (["help", "push"], "The help of a command: evidencesync push --help. "),
        (["help"], "The help of a command: evidencesync COMMAND --help. "),
        (["custody", "help", "show"], "The help of a command: evidencesync custody show --help. "),
        (["push", "-c", "sha256", "a", "v"], "BLAKE3 and SHA-256 of every file are always taken"),
        (["pull", "-o", "Port=2", "a", "v"], "--ssh 'ssh -J JUMPHOST'"),
        (["push", "-e", "ssh -p 2", "a", "v"], "Did you mean --ssh 'ssh -p 2'?"),
        (["push", "--case-number", "1", "a", "v"], "Did you mean --case 1?"),
        (["push", "--evidence-number", "1", "a", "v"], "Did you mean --item 1?"),
        (["custody", "note", "v", "-m", "x"], "Did you mean --text x?"),
        (["push", "--tag", "x", "a", "v"], "Did you mean --note x?"),
        (["verify", "--repo", "my v", "-q"], "The vault stands without an option: evidencesync verify 'my v' -q. "),
        (["restore", "-f", "v"], "Nothing can be forced"),
        (["push", "help"], "The help of this command: evidencesync push --help"),
        (["version"], "The version is shown with: evidencesync --version."),
        (["-V"], "The version is shown with: evidencesync --version."),
        (["-v"], "An option stands behind the command: list -v."),
        (["status", "my v"], "evidencesync list 'my v'. Whether all is as it was: evidencesync verify 'my v'."),
        (["rm", "v"], "never removed from a vault"),
        (["mv", "v"], "keeps its place"),
        (["repair", "v"], "Nothing is repaired in a vault: it is evidence. What is damaged says: evidencesync verify v."),
        (["hash", "v"], "evidencesync show v --files"),
        (["keygen"], "ssh-keygen -t ed25519"),
        (["ls", "v"], "Did you mean evidencesync list v? "),
        (["log", "v"], "Did you mean evidencesync show v? "),
        (["check", "v"], "Did you mean evidencesync verify v? "),
        (["backup", "a", "v"], "Did you mean evidencesync push a v? "),
        (["mount", "v", "out"], "Did you mean evidencesync restore v out? "),
        (["snapshots"], "Did you mean evidencesync list? "),
        (["users", "v"], "Did you mean evidencesync trust list v? "),
        (["seal", "v"], "Did you mean evidencesync custody seal v? "),
        (["vreify", "v"], "Did you mean evidencesync verify v? "),
        (["vault", "list", "v"], "Did you mean evidencesync list v? "),
        (["vault", "verify", "v"], "Did you mean evidencesync verify v? "),
        (["custody", "list", "v"], "Did you mean evidencesync custody show v? "),
        (["custody", "edit", "v"], "evidencesync custody correct v --record N."),
        (["trust", "remove", "v"], "Did you mean evidencesync trust retire v? "),
        (["host", "list"], "less ~/.ssh/known_hosts"),
        (["host", "rm", "lab"], "ssh-keygen -R HOST"),
    ],
)
def test_a_habit_of_another_program_is_answered(typed: list[str], what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert what in said(typed, capsys)[1]


def test_a_number_that_does_not_fit_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    error, hint = said(["push", "a", "v", *_ITEM, "--retries", "-1"], capsys)
    assert error == "--retries takes 0 to 10000, not -1"
    assert hint.startswith("--retries N: How often to try again when the connection fails or is lost. ")


@pytest.mark.parametrize("two", ["1..2", "1...2", "1-2", "1:2"])
def test_two_numbers_in_one_word_are_shown_apart(two: str, capsys: pytest.CaptureFixture[str]) -> None:
    for given in ([], _ITEM):
        shown = " ".join(given or ["--case", "CASE", "--item", "ITEM"])
        assert said(["diff", "v", two, *given], capsys)[1] == f"The numbers stand apart: evidencesync diff v 1 2 {shown}"


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["push", "v", "ev"], "push ev v --case CASE --item ITEM"),
        (["push", "v", "ev", *_ITEM], "push ev v --case C --item I"),
        (["restore", "out", "v", "--case", "C"], "restore v out --case C --item ITEM"),
        (["restore", "out", "v", *_ITEM], "restore v out --case C --item I"),
        (["trust", "add", "a.pub", "v"], "trust add v a.pub"),
        (["verify", "2", "v", *_ITEM], "verify v --case C --item I --acquisition 2"),
        (["report", "r.html", "v", "--case", "C"], "report v --case C -o r.html"),
        (["push", "ana@lab:/v", "ev", *_ITEM], "push ev ana@lab:/v --case C --item I"),
        (["pull", "ev", "ana@lab:/v", *_ITEM], "push ev ana@lab:/v --case C --item I"),
        (["pull", "v", "ana@lab:/ev", *_ITEM], "pull ana@lab:/ev v --case C --item I"),
    ],
)
def test_two_places_in_the_wrong_order_are_shown_in_the_right_one(
    typed: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_in_process(["init", "v"]) == 0
    (tmp_path / "ev").mkdir()
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["evidencesync", *typed])
    assert main(typed) in (2, 10)
    assert f"evidencesync {line}" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["/srv/v", "ana@lab:/evidence"], "If /srv/v is the vault: evidencesync pull ana@lab:/evidence /srv/v "),
        (["/evidence", "/srv/v", "--agentless"], "Acquire it with: evidencesync push /evidence /srv/v "),
    ],
)
def test_a_pull_in_the_wrong_order_or_from_here_is_shown_in_the_right_way(
    typed: list[str], meant: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["pull", *typed, *_ITEM]
    monkeypatch.setattr(sys, "argv", ["evidencesync", *line])
    assert run_in_process(line) == 2
    assert capsys.readouterr().err.splitlines()[1].endswith(f"{meant}{' '.join(_ITEM)}")


def test_a_number_that_was_typed_stays_in_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(["diff", "v", "1", *_ITEM], capsys)[1].endswith(f"evidencesync diff v 1 M {' '.join(_ITEM)}")


def test_no_habit_stands_in_the_way_of_a_real_option() -> None:
    """And each says of which command it is, by a name that there is."""
    real = {name.split()[-1]: {option for one in found.params for option in one.opts} for name, found in every_command()}
    names = [("evidencesync", name.split()[0]) for name, _ in every_command()]
    names += [(name.split()[0], name.split()[1]) for name, _ in every_command() if " " in name]
    for group, word in names:
        real.setdefault(group, set()).add(word)
    assert all(command in real and word not in real[command] for command, word in [*OTHERWISE, *IN_GROUPS])
    assert set(IN_GROUPS.values()) <= {name for name, _ in every_command()}
    options = set[str]().union(*real.values())
    assert {name for name in FROM_OTHERS.values() if name.startswith("--")} <= options


@pytest.mark.parametrize("command", ["list", "clean", "verify"])
def test_help_in_the_place_of_a_vault_leads_to_the_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in_process([command, "help"]) == 10
    assert "hint: The help of a command is shown by its option --help." in "".join(capsys.readouterr()).splitlines()
