"""A command line loads the parser of its own command alone, and means what it means beside all others."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer.main

from evidencesync.cli import commands
from evidencesync.cli.command_table import MODULES


@pytest.mark.parametrize("module", sorted(set(MODULES.values())))
def test_a_module_adds_the_commands_that_the_table_says(module: str) -> None:
    names = [name for name, named in MODULES.items() if named == module]
    made = typer.main.get_command(commands.make_app(names[:1]))
    assert list(made.commands) == names  # type: ignore[attr-defined]


def test_one_command_loads_no_other() -> None:
    code = (
        "import sys; from evidencesync.cli.app import main; code = main(['list', '/nowhere/at/all']); "
        "sys.exit(code if 'evidencesync.cli.catalog_commands' in sys.modules else 99); "
    )
    other = code.replace("catalog_commands' in", "push_command' not in")
    for text in (code, other):
        assert subprocess.run([sys.executable, "-c", text], capture_output=True, check=False).returncode == 10


def test_a_mistyped_command_is_held_against_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    from evidencesync.cli.app import main

    assert main(["verfy", "/vault"]) == 2
    assert (
        capsys.readouterr().err
        == "error: no such command verfy\nhint: Did you mean evidencesync verify /vault? See: evidencesync --help\n"
    )


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (["push", "a", "v", "--cas", "1"], "Did you mean --case 1? See: evidencesync push --help"),
        (["push", "a", "v", "--exmaniner", "1"], "Did you mean --examiner 1? See: evidencesync push --help"),
        (["custody", "shwo"], "Did you mean evidencesync custody show? See: evidencesync custody --help"),
        (["check", "v"], "Did you mean evidencesync verify v? See: evidencesync --help"),
        (["custody", "note", "v", "--note", "x"], "Did you mean --text x? See: evidencesync custody note --help"),
        (["verify", "v", "-z"], "See: evidencesync verify --help"),
        (["trust", "add", "v", "k", "--reason", "x"], "See: evidencesync trust add --help"),
        (["push", "-n", "a", "v"], "Did you mean --dry-run? See: evidencesync push --help"),
        (["push", "--bwlimit", "500", "a", "v"], "Did you mean --limit-rate? See: evidencesync push --help"),
        (["push", "--bwlimit=500", "a", "v"], "Did you mean --limit-rate? See: evidencesync push --help"),
        (["create", "v"], "Did you mean evidencesync push v? See: evidencesync --help"),
        (["snapshots"], "Did you mean evidencesync list? See: evidencesync --help"),
    ],
)
def test_a_name_that_is_close_is_suggested(given: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    from evidencesync.cli.app import main

    assert main(given) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: no such ")
    assert second.removeprefix("hint: ").replace(" or --case-file 1", "") == hint


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (["push"], "SOURCE, VAULT, --case, --item"),
        (["push", "source", "--item", "E1"], "VAULT, --case"),
        (["trust", "add", "vault"], "KEY.pub"),
        (["report", "vault", "--case", "C"], "-o"),
    ],
)
def test_everything_that_is_missing_is_named_at_once(given: list[str], missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    from evidencesync.cli.app import main

    assert main(given) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"error: missing: {missing}"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["push", "-avz", "a", "v"], "rsync such as -a and -z are not needed"),
        (["push", "--exclude-from", "x", "a", "v"], "Give an --exclude PATTERN for each line of that file."),
        (["init", "-r", "v"], "The vault stands without an option: evidencesync init v."),
        (["-v", "push", "a", "v"], "An option stands behind the command"),
        (["trust", "--json", "list", "v"], "An option stands behind the command"),
    ],
)
def test_habits_of_other_programs_are_answered_once_and_without_a_class_of_ours(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from evidencesync.cli.app import main

    assert main(given) == 2
    printed = capsys.readouterr()
    lines = (printed.err or printed.out).splitlines()
    assert said in lines[-1]
    assert not any("UsageError" in line for line in lines)
    assert len(lines) <= 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["export", "v", "d", "--case", "C", "--item", "I"], "bagit (a folder), hashdeep or case-uco (a file)"),
        (["report", "v", "--case", "C"], "FILE.html, FILE.pdf or FILE.json"),
        (["custody", "hand-over", "v", "--case", "C", "--item", "I"], "Name of the receiver"),
    ],
)
def test_one_option_that_is_missing_is_explained_and_shown_in_the_line_that_was_typed(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from evidencesync.cli.app import main

    assert main(given) == 2
    hint = capsys.readouterr().err.splitlines()[1]
    assert said in hint
    value = {"export": "--format bagit", "report": "-o report.pdf", "custody": "--to PRINCIPAL"}[given[0]]
    assert hint.endswith(f", or: evidencesync {' '.join(given)} {value}")
