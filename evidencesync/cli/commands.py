"""Assembles all commands into one typer app, and runs a command line. Imports nothing slow: `--help` must answer at once."""

from __future__ import annotations

import importlib
import itertools
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Final

import typer
import typer.main

import evidencesync
from evidencesync.cli.console import Console, mute
from evidencesync.cli.defaults import has_default, takes_default
from evidencesync.cli.help_text import HELP_NAMES, HelpfulGroup, bounds_in_words, first_example
from evidencesync.errors import UsageError
from evidencesync.exit_codes import ExitCode

PROGRAM: Final = "evidencesync"
_HELP: Final = "Moves forensic evidence over SSH into a vault, sends only what is missing, and proves what arrived."
_EPILOG: Final = """Examples:
  evidencesync init /srv/vault --trust ana.pub --principal ana@lab
  evidencesync push /mnt/evidence ana@vault.lab:/srv/vault --case 2024-017 --item LAPTOP-1
  evidencesync verify /srv/vault

The options of a command, with more examples: evidencesync COMMAND --help

Exit codes: 0 is complete and verified; any other is a failure, which is in
docs/exit-codes.md"""

_GROUPS: Final[Mapping[str, Mapping[str, str]]] = {
    "Set up": {
        "init": "vault_commands",
        "trust": "vault_commands",
        "host": "host_commands",
        "settings": "settings_commands",
    },
    "Acquire": {"push": "push_command", "pull": "pull_command", "watch": "watch_command", "serve": "serve_command"},
    "Check": {
        "verify": "verify_command",
        "compare": "compare_command",
        "receipts": "receipts_commands",
        "timestamp": "timestamp_commands",
    },
    "Look": {"list": "catalog_commands", "show": "catalog_commands", "diff": "diff_command"},
    "Hand over": {
        "report": "report_command",
        "custody": "custody_commands",
        "export": "export_command",
        "restore": "restore_command",
    },
    "Keep": {"reindex": "upkeep_commands", "clean": "upkeep_commands", "vault": "vault_commands"},
}
"""The commands as the help groups them, each with the module that adds it."""
_MODULES: Final = {name: module for commands in _GROUPS.values() for name, module in commands.items()}

_INVALID: Final = r"invalid value for '?(?:-\w' / ')?([^']+?)'?(?: \(env var: '\w+'\))?: "
_NO_NUMBER: Final = re.compile(_INVALID + r"'?(.*?)'? is not a valid (int|float)(?:eger)?(?: range)?\.?")
_OUT_OF_RANGE: Final = re.compile(_INVALID + r"(\S+) is not in the range ([0-9.]+)<=x<=([0-9.]*[0-9])\.?")
_UNKNOWN: Final = re.compile(
    r"(No such (?:option|command)):? '?(\S+?)'?(?:[.:]? ?(?:\(Possible|Did you mean).*|\.)?$", re.IGNORECASE
)
"""What typer says of an unknown name; some versions add names that they think are meant."""
_FROM_OTHERS: Final = {
    "check": "verify",
    "ls": "list",
    "copy": "restore",
    "sync": "push",
    "backup": "push",
    "log": "show",
    "create": "push",
    "snapshots": "list",
    "--note": "--text",
    "--bwlimit": "--limit-rate",
    "-n": "--dry-run",
}
"""What other programs, or other commands, call it."""
_NOT_NEEDED: Final = (
    "Options of rsync such as -a and -z are not needed: all that a file has is recorded, and compressed on its way."
)
_OTHERWISE: Final[Mapping[tuple[str, str], str]] = {
    ("init", "-r"): "The vault stands without an option: evidencesync init VAULT.",
    ("push", "--exclude-from"): "Give an --exclude PATTERN for each line of that file.",
    **dict.fromkeys(itertools.product(("push", "pull", "watch"), ("-a", "-z", "-r", "--archive")), _NOT_NEEDED),
}
"""What is done otherwise than in rsync, borg and restic, by command and option."""

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

    titles: ClassVar[Mapping[str, str]] = {name: title for title, commands in _GROUPS.items() for name in commands}


def make_app(names: Iterable[str] = _MODULES) -> typer.Typer:
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
    for module in dict.fromkeys(_MODULES[name] for name in names):
        importlib.import_module(f"evidencesync.cli.{module}").add_commands(app)
    return app


def run(given: list[str], console: Console) -> int:
    """Runs one command line, and returns its exit code. Raises nothing but KeyboardInterrupt.

    Making the parsers of all commands takes a tenth of a second. If the line begins with a command's name, only that one is made.
    """
    names = given[:1] if given and given[0] in _MODULES else _MODULES
    try:
        code = typer.main.get_command(make_app(names)).main(args=given, prog_name=PROGRAM, standalone_mode=False)
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except _PARSER_ERROR as error:
        code = _refuse(error, given, console)
    except OSError as error:  # stdout refuses help or version; for commands, `guard` handles this
        if sys.stdout is not None:
            mute(sys.stdout)
        console.record_unprinted(error)
        code = console.exit_code_of(ExitCode.COMPLETE)
    except SystemExit:  # typer raises it when the reader of --help closes the pipe; our commands never raise it
        code = ExitCode.COMPLETE
    return int(code or 0)


def _refuse(error: Exception, given: list[str], console: Console) -> ExitCode:
    """Prints what is wrong with a malformed command line; or the whole help, if there are no arguments."""
    context = getattr(error, "ctx", None)
    if context is not None and type(error).__name__ == "NoArgsIsHelpError" and not console.as_json:
        for line in context.get_help().splitlines():
            console.print_notice(line)
        return ExitCode.USAGE
    format_message = getattr(error, "format_message", None)
    message = " ".join(str(format_message() if format_message else error).split()) or "no command was given"
    advice = example = ""
    if context is not None and type(error).__name__ == "MissingParameter":
        missing = _all_missing(context, given)
        message = f"missing: {', '.join(missing)}"
        advice, example = _what_to_give(missing, context.command)
    message = _in_plain_words(message[:1].lower() + message[1:])
    path = context.command_path if context is not None else PROGRAM
    unknown = _UNKNOWN.match(message)
    if unknown is not None and context is not None:
        message = f"{unknown[1]} {unknown[2]}"
        advice = _advice(unknown[2], context.command)
    console.verbose = False  # a traceback of the parser would say the same once more
    console.print_error(UsageError(message, hint=f"{advice}See: {path} --help{example}"))
    return ExitCode.USAGE


def _what_to_give(missing: list[str], command: Any) -> tuple[str, str]:
    """What an option is, and an example, where nothing but one option is missing; else both are empty."""
    for one in command.params:
        if one.param_type_name == "option" and [one.opts[0]] == missing:
            return f"{one.opts[0]}: {bounds_in_words(one.help or '')} ", f", or: {first_example(command.epilog)}"
    return "", ""


def _advice(unknown: str, command: Any) -> str:
    """What may have been meant by an unknown option or command; empty if nobody knows."""
    if (otherwise := _OTHERWISE.get((command.name, unknown))) is not None:
        return f"{otherwise} "
    if close := _close_to(unknown, command):
        return f"Did you mean {' or '.join(close)}? "
    if unknown.startswith("-") and hasattr(command, "commands"):
        return "An option stands behind the command and its name, as in: evidencesync verify -v VAULT. "
    return ""


def _in_plain_words(message: str) -> str:
    """What the parser says of a number, in words that are no programmer's."""
    if (found := _NO_NUMBER.fullmatch(message)) is not None:
        kind = "a whole number" if found[3] == "int" else "a number"
        return f"{found[1]} needs {kind}, not {found[2]}"
    if (found := _OUT_OF_RANGE.fullmatch(message)) is not None:
        return f"{found[1]} takes {found[3]} to {found[4]}, not {found[2]}"
    return message


def _close_to(given: str, command: Any) -> list[str]:
    """The names of options or commands, two at most, for which `given` may be a slip."""
    import difflib  # only for an error

    if given.startswith("-"):
        known = [name for parameter in command.params for name in parameter.opts if name.startswith("--")]
    else:
        known = list(getattr(command, "commands", ()))
    if given in _FROM_OTHERS:
        return [_FROM_OTHERS[given]] if _FROM_OTHERS[given] in known else []
    begin_so = [name for name in known if name.startswith(given) and len(given) > 3]
    bare = {name.removeprefix("--"): name for name in known}  # dashes, which all of them have, are no likeness
    near = difflib.get_close_matches(given.removeprefix("--"), bare, n=2, cutoff=0.7)
    return (begin_so or [bare[name] for name in near])[:2]


def _all_missing(context: Any, given: list[str]) -> list[str]:
    """All arguments and options that a command needs and was not given; the parser itself stops at the first of them."""
    arguments = given[len(context.command_path.split()) - 1 :]
    with context.command.make_context(context.info_name, arguments, parent=context.parent, resilient_parsing=True) as found:
        return [
            parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar or parameter.name.upper()
            for parameter in context.command.params
            if (parameter.required or takes_default(parameter.name, parameter.envvar))
            and found.params.get(parameter.name) in (None, (), [])
            and not has_default(parameter.name, found.params.get("config"))
        ]
