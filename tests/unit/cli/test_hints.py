"""A hint fits the command that it is shown with: who only reads has published nothing, and has nothing to go on with."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Final, TypeGuard

import pytest

import evidencesync
from evidencesync.cli import command
from evidencesync.cli.console import Console
from evidencesync.errors import CommandKind, EvidenceSyncError, NoSpaceError, StorageError
from evidencesync.protocol.failures import all_errors
from tests.support.every_command import KINDS, command_lines, every_command, run_in_process

_READERS: Final = (CommandKind.CHECKS, CommandKind.SHOWS)
# What is true of an acquisition alone.
_OF_AN_ACQUISITION: Final = re.compile(r"publish|has arrived|the rest is sent|staged|other transfer|more acquisitions|read-error")

_SAME: Final = object()
# What each error says with each kind of command, where it does not say to all what it says to whoever acquires.
_CHANGES: Final = {
    "vault-not-found": "Look at the path: a vault is a folder with vault.toml in it.",
    "locked": "Wait until the other writer has ended, then run the same command again.",
    "sealed": None,
    "busy": "Run the same command again later.",
    "no-space": "Free space on the vault's disk (df -h, df -i; evidencesync clean VAULT helps), then run the same command again.",
    "storage": "Check the vault's disk and its permissions.",
    "link-lost": "See first whether it was done, then run the same command again.",
    "peer-error": "What was read is broken, hostile, or of an incompatible version.",
    "interrupted": "See first whether it was done, then run the same command again.",
}
_READS: Final = {
    "vault-not-found": "Look at the path: a vault is a folder with vault.toml in it.",
    "locked": "Wait until the other writer has ended, then run the same command again.",
    "sealed": None,
    "busy": "Run the same command again later.",
    "no-space": "Free space on the disk that is full (df -h, df -i), then run the same command again.",
    "storage": "Check the disk and the permissions of what was to be read.",
    "link-lost": "Run the same command again.",
    "untrusted-signer": "Find out by another way whose key it is, before you trust it.",
    "peer-error": "What was read is broken, hostile, or of an incompatible version.",
    "interrupted": "Run the same command again.",
}
_SERVES: Final[dict[str, str | None]] = {"busy": None, "link-lost": None, "interrupted": None}
_OTHERS: Final = {
    CommandKind.ACQUIRES: {},
    CommandKind.SERVES: _SERVES,
    CommandKind.CHANGES: _CHANGES,
    CommandKind.CHECKS: _READS,
    CommandKind.SHOWS: _READS,
}
# Errors that no command but an acquiring one, or its other end, can meet.
_ACQUIRING_ALONE: Final = {"source-gaps", "receipt-not-kept", "vault-key-changed"}


def _errors() -> list[type[EvidenceSyncError]]:
    return [error for error in all_errors() if error.__module__ == "evidencesync.errors"]


def _expected(error: type[EvidenceSyncError], kind: CommandKind) -> object:
    for base in error.__mro__:
        slug = base.__dict__.get("slug")
        if slug in _OTHERS[kind]:
            return _OTHERS[kind][slug]
        if "default_hint" in base.__dict__:
            break
    return _SAME


@pytest.mark.parametrize("kind", CommandKind)
def test_each_error_says_to_each_kind_of_command_what_it_can_do(kind: CommandKind) -> None:
    assert len(_errors()) > 30
    for error in _errors():
        expected = _expected(error, kind)
        assert error("it happened").hint_for(kind) == (error.default_hint if expected is _SAME else expected), error


@pytest.mark.parametrize("kind", [CommandKind.CHANGES, *_READERS])
def test_who_acquires_nothing_hears_nothing_of_acquisitions(kind: CommandKind) -> None:
    for error in _errors():
        if error.slug not in _ACQUIRING_ALONE:
            assert not _OF_AN_ACQUISITION.search(error("it happened").hint_for(kind) or ""), error


def test_a_hint_that_was_given_for_this_very_error_stays() -> None:
    for kind in CommandKind:
        assert StorageError("x", hint="Look at the cable.").hint_for(kind) == "Look at the cable."
        assert StorageError("x", hint="").hint_for(kind) == ""


def test_every_command_is_of_the_kind_that_it_is(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is run until it has a console, and fails there."""

    def fail(_chosen: object, **_: object) -> None:
        raise NoSpaceError("full")

    monkeypatch.setattr(command, "load_settings", fail)
    lines = command_lines()
    assert {name for name, _ in every_command()} == set(KINDS) == set(lines)
    for name, line in lines.items():
        assert run_in_process([*line, "--json"]) == 13, name
        said = json.loads(capfd.readouterr().out)["error"]["hint"]
        assert said == NoSpaceError("full").hint_for(KINDS[name]), name


@pytest.mark.parametrize("as_json", [False, True])
def test_the_hint_is_shown_as_it_fits(as_json: bool, capfd: pytest.CaptureFixture[str]) -> None:
    for kind in CommandKind:
        Console(as_json=as_json, kind=kind).print_error(StorageError("it happened"))
        out, err = capfd.readouterr()
        said = json.loads(out)["error"]["hint"] if as_json else err.splitlines()[1].removeprefix("hint: ")
        assert said == StorageError("x").hint_for(kind)


def test_no_room_that_reads_gives_a_hint_about_an_acquisition() -> None:
    """Hints that stand where an error is raised, in the rooms that reading commands are made of."""
    package = Path(evidencesync.__file__).parent
    rooms = ("verify", "report", "export", "evidence", "custody", "delta", "restore", "compare")
    files = [file for room in rooms for file in (package / room).rglob("*.py")]
    files += [file for file in (package / "vault").rglob("*.py") if file.name != "publish.py"]
    files += [file for file in (package / "cli").rglob("*.py") if file.name not in {"acquire.py", "watch_command.py"}]
    given = [text for file in files for text in _hints_in(file)]
    assert len(given) > 80
    assert [text for text in given if _OF_AN_ACQUISITION.search(text)] == []


def test_every_refusal_of_the_command_line_comes_with_a_hint() -> None:
    """Whoever typed something wrong is told what to type."""
    files = (Path(evidencesync.__file__).parent / "cli").rglob("*.py")
    made = [(file, node) for file in files for node in ast.walk(ast.parse(file.read_text("utf-8"))) if _is_refusal(node)]
    assert len(made) > 40
    assert [f"{file.name}:{node.lineno}" for file, node in made if all(one.arg != "hint" for one in node.keywords)] == []


def _is_refusal(node: ast.AST) -> TypeGuard[ast.Call]:
    refusals = {"UsageError", "ConfigurationError", "NotThereError"}
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in refusals


def _hints_in(file: Path) -> list[str]:
    tree = ast.parse(file.read_text("utf-8"))
    values = [one.value for node in ast.walk(tree) if isinstance(node, ast.Call) for one in node.keywords if one.arg == "hint"]
    return ["".join(part.value for part in ast.walk(value) if _is_text(part)) for value in values]  # type: ignore[attr-defined]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
