"""One sensible command line for every command there is, for tests of what all of them have in common."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Final

import typer.main

from evidencesync.cli.command_table import PROGRAM
from evidencesync.cli.commands import make_app
from evidencesync.errors import CommandKind

ITEM: Final = ("--case", "2024-017", "--item", "LAPTOP-1")

KINDS: Final = {
    "init": CommandKind.CHANGES,
    "trust add": CommandKind.CHANGES,
    "trust change": CommandKind.CHANGES,
    "trust list": CommandKind.SHOWS,
    "trust retire": CommandKind.CHANGES,
    "trust revoke": CommandKind.CHANGES,
    "trust rotate-vault-key": CommandKind.CHANGES,
    "trust two-person": CommandKind.CHANGES,
    "trust consent": CommandKind.CHANGES,
    "trust withdraw": CommandKind.CHANGES,
    "host trust": CommandKind.CHANGES,
    "settings show": CommandKind.SHOWS,
    "settings path": CommandKind.SHOWS,
    "settings edit": CommandKind.CHANGES,
    "completion install": CommandKind.CHANGES,
    "completion show": CommandKind.SHOWS,
    "push": CommandKind.ACQUIRES,
    "pull": CommandKind.ACQUIRES,
    "watch": CommandKind.ACQUIRES,
    "serve": CommandKind.SERVES,
    "verify": CommandKind.CHECKS,
    "list": CommandKind.SHOWS,
    "show": CommandKind.SHOWS,
    "report": CommandKind.CHECKS,
    "diff": CommandKind.SHOWS,
    "restore": CommandKind.CHECKS,
    "compare": CommandKind.CHECKS,
    "export": CommandKind.CHECKS,
    "timestamp request": CommandKind.CHECKS,
    "timestamp attach": CommandKind.CHANGES,
    "timestamp fetch": CommandKind.CHANGES,
    "timestamp show": CommandKind.SHOWS,
    "custody show": CommandKind.SHOWS,
    "custody note": CommandKind.CHANGES,
    "custody correct": CommandKind.CHANGES,
    "custody hand-over": CommandKind.CHANGES,
    "custody accept": CommandKind.CHANGES,
    "custody seal": CommandKind.CHANGES,
    "custody consent": CommandKind.CHANGES,
    "custody withdraw": CommandKind.CHANGES,
    "receipts list": CommandKind.SHOWS,
    "receipts check": CommandKind.CHECKS,
    "receipts forget-head": CommandKind.CHANGES,
    "reindex": CommandKind.CHANGES,
    "clean": CommandKind.CHANGES,
    "vault writer": CommandKind.CHANGES,
}


def command_lines(here: str = "") -> dict[str, list[str]]:
    """By name, for a laboratory (`Lab`) with an acquisition; its folder, with a slash, goes before every path.

    Commands that need another machine name one that does not answer. None of them makes another one of these fail.
    """
    vault, key, evidence = f"{here}vault", f"{here}ana", f"{here}evidence"
    sign = ("--sign-key", key, "--examiner", "Ana")
    nobody = "127.0.0.1:1"  # tcpmux: nobody listens there
    lines: dict[str, list[str]] = {
        "init": [f"{here}another-vault"],
        "trust add": [vault, f"{here}ben.pub", "--principal", "ben@lab"],
        "trust change": [vault, "ben@lab", "--may", "read"],
        "trust list": [vault],
        "host trust": [f"ssh://ana@{nobody}", "--yes"],
        "settings show": [],
        "settings path": [],
        "settings edit": [],
        "completion install": ["bash"],
        "completion show": ["bash"],
        "push": [evidence, vault, *ITEM, *sign],
        "pull": [f"ssh://ana@{nobody}/evidence", vault, *ITEM, *sign, "-i", key],
        "watch": [evidence, vault, *ITEM, *sign],
        "serve": ["--vault", vault],
        "verify": [vault],
        "list": [vault],
        "show": [vault, *ITEM],
        "report": [vault, "--case", "2024-017", "-o", f"{here}report.html"],
        "diff": [vault, "1", "1", *ITEM],
        "restore": [vault, f"{here}copy", *ITEM],
        "compare": [f"{vault}/cases/2024-017/LAPTOP-1/acquisitions/0001/manifest.jsonl", evidence],
        "export": [vault, f"{here}bag", *ITEM, "--format", "bagit"],
        "timestamp request": [vault, *ITEM, "-o", f"{here}asked.tsq"],
        "timestamp attach": [vault, f"{here}ana.pub", *ITEM, *sign],
        "timestamp fetch": [vault, *ITEM, *sign, "--tsa", f"http://{nobody}"],
        "timestamp show": [vault, *ITEM],
        "custody show": [vault, *ITEM],
        "custody note": [vault, *ITEM, *sign, "--text", "noted"],
        "custody correct": [vault, *ITEM, *sign, "--record", "1", "--text", "misread"],
        "custody hand-over": [vault, *ITEM, *sign, "--to", "ben@lab"],
        "custody accept": [vault, *ITEM, *sign],
        "custody seal": [vault, "--case", "2024-017", "--item", "NOBODY", *sign, "--yes"],
        "custody consent": [vault, *ITEM, *sign],
        "custody withdraw": [vault, *ITEM, *sign],
        "trust retire": [vault, "ben@lab"],
        "trust revoke": [vault, "ben@lab", "--yes"],
        "trust rotate-vault-key": [vault, "--yes"],
        "trust two-person": [vault, "--for", "trust", *sign],
        "trust consent": [vault, "--record", "1", *sign],
        "trust withdraw": [vault, "--record", "1", *sign],
        "receipts list": [],
        "receipts check": [],
        "receipts forget-head": ["0" * 32, "--yes"],
        "reindex": [vault],
        "clean": [vault, "--yes"],
        "vault writer": [vault],
    }
    known = {option for _, found in every_command() for option in _long_options(found)}
    return {
        name: [*name.split(), *(word for word in words if word != "--yes" or _takes(name, "--yes", known))]
        for name, words in lines.items()
    }


@functools.cache
def whole_program() -> Any:
    """All commands together, made once."""
    return typer.main.get_command(make_app())


def run_in_process(line: list[str]) -> int:
    """Runs one command line as `main` does, without making the program anew each time."""
    return int(whole_program().main(args=line, prog_name=PROGRAM, standalone_mode=False) or 0)


def every_command() -> Iterator[tuple[str, Any]]:
    """Every command of the program, by name, as typer knows it."""
    yield from _walk(whole_program(), ())


def _walk(found: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    commands: dict[str, Any] | None = getattr(found, "commands", None)
    if commands is None:
        yield " ".join(path), found
        return
    for name in commands:
        yield from _walk(commands[name], (*path, name))


def _long_options(found: Any) -> Iterator[tuple[str, str]]:
    for parameter in found.params:
        for name in parameter.opts:
            yield found.name, name


def _takes(name: str, option: str, known: set[tuple[str, str]]) -> bool:
    """Whether a command has an option already, or not yet."""
    return (name.rsplit(maxsplit=1)[-1], option) in known
