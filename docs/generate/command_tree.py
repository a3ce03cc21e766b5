"""The commands as the reference and the man pages read them: what each takes, and in which words."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer.main

from evidencesync.cli.command_table import PROGRAM
from evidencesync.cli.commands import make_app
from evidencesync.cli.defaults import takes_default
from evidencesync.cli.help_text import title_of


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument or an option of a command."""

    names: tuple[str, ...]  # of an option, as they are typed; of an argument, its word in capitals
    value: str  # what stands behind an option's name; empty where nothing does
    text: str  # its help, on one line
    title: str  # the group in which `--help` lists it
    variable: str  # the environment variable that stands for it; empty without one
    is_argument: bool


@dataclass(frozen=True, slots=True)
class Command:
    """A command that does something."""

    path: tuple[str, ...]
    short: str
    text: str  # paragraphs, an empty line between two
    synopsis: tuple[str, ...]  # the words behind the command's own: arguments, then options that are required
    parameters: tuple[Parameter, ...]  # arguments first
    examples: str  # one a line


def all_commands() -> Iterator[Command]:
    """Every command, by name; those of a group one after another."""
    for path, found in _walk(typer.main.get_command(make_app()), ()):
        yield _read(path, found)


def _walk(found: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    commands: dict[str, Any] | None = getattr(found, "commands", None)
    if commands is None:
        yield path, found
        return
    for name in sorted(commands):
        yield from _walk(commands[name], (*path, name))


def _read(path: tuple[str, ...], found: Any) -> Command:
    arguments = [parameter for parameter in found.params if parameter.param_type_name == "argument"]
    options = [one for one in found.params if one.param_type_name == "option" and one.name != "help"]
    required = [one for one in options if one.required or takes_default(one.name, one.envvar)]
    return Command(
        path=path,
        short=found.get_short_help_str(limit=200).rstrip("."),
        text=inspect.cleandoc(found.help or ""),
        synopsis=(
            *(_maybe(argument, _word(argument)) for argument in arguments),
            *(_maybe(option, f"{max(option.opts, key=len)} {option.metavar}") for option in required),
        ),
        parameters=tuple(_parameter(one) for one in (*arguments, *options)),
        examples=inspect.cleandoc(inspect.cleandoc(found.epilog or "").replace("\b", "").strip().removeprefix("Examples:")),
    )


def _parameter(found: Any) -> Parameter:
    is_argument = found.param_type_name == "argument"
    return Parameter(
        names=(_word(found),) if is_argument else (*found.opts, *found.secondary_opts),
        value=found.metavar if not is_argument and found.metavar and not found.is_flag else "",
        text=" ".join((found.help or "").split()),
        title=title_of(found),
        variable=getattr(found, "envvar", None) or "",
        is_argument=is_argument,
    )


def _word(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _maybe(parameter: Any, shown: str) -> str:
    return f"[{shown}]" if takes_default(parameter.name, parameter.envvar) else shown


def command_line(command: Command) -> str:
    """How the command is typed: its words, its arguments, its required options."""
    return " ".join((PROGRAM, *command.path, *command.synopsis, "[OPTIONS]"))
