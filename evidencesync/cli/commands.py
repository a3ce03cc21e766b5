"""Assembles all commands into one typer app, and runs a command line. Imports nothing slow: `--help` must answer at once."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Final

import typer
import typer.main

import evidencesync
from evidencesync.cli.command_table import COMPLETE, GROUPS, MODULES, PROGRAM
from evidencesync.cli.console import Console, mute
from evidencesync.cli.help_text import HELP_NAMES, HelpfulGroup
from evidencesync.exit_codes import ExitCode

_HELP: Final = "Moves forensic evidence over SSH into a vault, sends only what is missing, and proves what arrived."
_EPILOG: Final = """Examples:
  evidencesync init /srv/vault --trust ana.pub --principal ana@lab
  evidencesync push /mnt/evidence ana@vault.lab:/srv/vault --case 2024-017 --item LAPTOP-1
  evidencesync verify /srv/vault

The options of a command, with more examples: evidencesync COMMAND --help

Exit codes: 0 is complete and verified; any other is a failure, which is in
docs/exit-codes.md"""

# Depending on its version, typer has a copy of click or uses click itself. This is the base class of the errors that either of
# them raises for a malformed command line.
_PARSER_ERROR: Final[type[Exception]] = typer.BadParameter.__mro__[2]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {evidencesync.__version__}")
        raise typer.Exit


def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


class _Program(HelpfulGroup):
    """All commands."""

    titles: ClassVar[Mapping[str, str]] = {name: title for title, commands in GROUPS.items() for name in commands}


def make_app(names: Iterable[str] = MODULES) -> typer.Typer:
    """An app with the commands of these names, and all others that the same modules add."""
    app = typer.Typer(
        name=PROGRAM,
        cls=_Program,
        help=_HELP,
        epilog=_EPILOG,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=dict(HELP_NAMES),
    )
    app.callback()(_top)
    for module in dict.fromkeys(MODULES[name] for name in names):
        importlib.import_module(f"evidencesync.cli.{module}").add_commands(app)
    return app


def run(given: list[str], console: Console) -> int:
    """Runs one command line, and returns its exit code. Raises nothing but KeyboardInterrupt.

    Making the parsers of all commands takes a tenth of a second. If the line begins with a command's name, only that one is made.
    """
    if os.environ.get(COMPLETE):
        return _complete()
    names = given[:1] if given and given[0] in MODULES else MODULES
    try:
        code = typer.main.get_command(make_app(names)).main(args=given, prog_name=PROGRAM, standalone_mode=False)
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except _PARSER_ERROR as error:
        from evidencesync.cli.malformed import refuse  # only for an error

        code = refuse(error, given, console)
    except OSError as error:  # stdout refuses help or version; for commands, `guard` handles this
        if sys.stdout is not None:
            mute(sys.stdout)
        console.record_unprinted(error)
        code = console.exit_code_of(ExitCode.COMPLETE)
    except SystemExit:  # typer raises it when the reader of --help closes the pipe; our commands never raise it
        code = ExitCode.COMPLETE
    return int(code or 0)


def _complete() -> int:
    """Prints how the line may go on that a shell has put into the environment. Returns the code that the shell expects."""
    from typer import completion  # only for a shell that completes

    init: Any = completion.completion_init  # type: ignore[attr-defined]  # typer has it from a room of its own
    init()
    words = (os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")).split()
    names = words[1:2] if words[1:2] and words[1] in MODULES else MODULES
    try:
        typer.main.get_command(make_app(names)).main(args=[], prog_name=PROGRAM, complete_var=COMPLETE, standalone_mode=False)
    except SystemExit as end:
        return int(end.code or 0)
    return int(ExitCode.USAGE)
