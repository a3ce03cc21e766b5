"""`python -m docs.generate.manual DIR` writes the man pages: evidencesync(1), and one for each command, from what its help says.

The pages use the macros of man(7). A test fails when the committed pages say something else than the code.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import evidencesync
from docs.generate.command_tree import Command, Parameter, all_commands, command_line
from docs.generate.reference import CODE_TEXTS
from evidencesync.cli.command_table import GROUPS, PROGRAM
from evidencesync.cli.help_text import TITLES
from evidencesync.exit_codes import ExitCode

_HEAD: Final = '.\\" Generated from the code by `make docs`. Do not edit.'
_WHAT: Final = "moves forensic evidence over SSH into a vault, and proves what arrived"
_ADDRESS: Final = (
    "An ADDRESS is a local path, [user@]host:path, or ssh://[user@]host[:port]/path. Results go to standard output, progress "
    "and messages to standard error."
)
_FILES: Final = (
    ("~/.config/evidencesync/config.toml", "Defaults of options and arguments: see evidencesync settings show."),
    ("~/.local/share/evidencesync/receipts/", "The receipts of what this user has acquired."),
    ("~/.local/state/evidencesync/", "The heads of vaults that this user has seen."),
)
_VARIABLES: Final = (
    ("EVIDENCESYNC_VAULT, EVIDENCESYNC_CASE", "The vault and the case, where they are left out on the command line."),
    ("EVIDENCESYNC_CONFIG", "The settings file, or none."),
    ("NO_COLOR", "No colours."),
)


def page_name(command: Command) -> str:
    """The name of a command's page, as `man` takes it."""
    return "-".join((PROGRAM, *command.path))


def manual_pages() -> dict[str, str]:
    """Every page, by the name of its file."""
    commands = list(all_commands())
    pages = {f"{PROGRAM}.1": _program_page(commands)}
    pages |= {f"{page_name(command)}.1": _command_page(command) for command in commands}
    return {name: text + "\n" for name, text in pages.items()}


def _program_page(commands: list[Command]) -> str:
    lines = [*_heading(PROGRAM, _WHAT), ".SH SYNOPSIS", f".B {PROGRAM}", "COMMAND [OPTIONS]", ".SH DESCRIPTION"]
    lines += [_roff(_ADDRESS), ".PP", "Every command has a page of its own:", f".B man {PROGRAM}\\-push"]
    for title, names in GROUPS.items():
        lines += [f".SS {title}"]
        for command in commands:
            if command.path[0] in names:
                lines += [".TP", f".BR {_roff(page_name(command))} (1)", _roff(command.short)]
    lines += [".SH EXIT STATUS", "Any other code than 0 is a failure. Of several that apply, the most severe is given."]
    lines += _terms((str(int(code)), CODE_TEXTS[code]) for code in ExitCode)
    lines += [".SH ENVIRONMENT", *_terms(_VARIABLES), ".SH FILES", *_terms(_FILES)]
    lines += [".SH SEE ALSO", ".BR ssh (1),", ".BR ssh\\-keygen (1),", ".BR rsync (1)"]
    return "\n".join(lines)


def _command_page(command: Command) -> str:
    name = page_name(command)
    lines = [*_heading(name, command.short), ".SH SYNOPSIS", f".B {_roff(command_line(command))}", ".SH DESCRIPTION"]
    lines += _paragraphs(command.text)
    for title in TITLES:
        found = [parameter for parameter in command.parameters if parameter.title == title]
        if found:
            lines += [f".SH {title.upper()}", *_parameters(found)]
    lines += [".SH EXAMPLES", ".nf", *(_roff(line) for line in command.examples.splitlines()), ".fi"]
    lines += [".SH SEE ALSO", f".BR {PROGRAM} (1)"]
    return "\n".join(lines)


def _heading(name: str, what: str) -> Iterator[str]:
    yield _HEAD
    yield f'.TH {_roff(name).upper()} 1 "" "{PROGRAM} {evidencesync.__version__}" "User commands"'
    yield from (".ad l", ".nh")  # narrow terminals: no gaps between words, and no name of an option broken
    yield ".SH NAME"
    yield f"{_roff(name)} \\- {_roff(what)}"


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ".PP"
        yield _roff(" ".join(paragraph.split()))


def _parameters(found: list[Parameter]) -> Iterator[str]:
    for parameter in found:
        names = ", ".join(rf"\fB{_roff(name)}\fR" for name in parameter.names)
        yield ".TP"
        yield f"{names} {_roff(parameter.value)}".rstrip()
        yield _roff(parameter.text) + (f" (${parameter.variable})" if parameter.variable else "")


def _terms(rows: Iterator[tuple[str, str]] | tuple[tuple[str, str], ...]) -> Iterator[str]:
    for term, text in rows:
        yield from (".TP", f".B {_roff(term)}", _roff(text))


def _roff(text: str) -> str:
    """Text as troff shows it unchanged: no escape, no request, and hyphens that can be copied into a shell."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga").replace("~", r"\(ti")
    return re.sub(r"^\.", r"\\&.", escaped.replace("^", r"\(ha"))


def write_manual(folder: Path) -> None:
    """Writes all pages, and removes those of commands that are no more."""
    folder.mkdir(exist_ok=True)
    pages = manual_pages()
    for stale in folder.glob("*.1"):
        if stale.name not in pages:
            stale.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m docs.generate.manual DIR")
    write_manual(Path(sys.argv[1]))
