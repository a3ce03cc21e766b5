"""Makes a command of a function: options from dataclasses, the options that all commands share, help in groups, and examples."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Final, get_args, get_type_hints

import typer
import typer.core

from evidencesync.cli.console import Console
from evidencesync.cli.guard import guard, prepare_process
from evidencesync.cli.settings import CONFIG_VARIABLE, LoadedSettings, load_settings
from evidencesync.errors import CommandKind, UsageError
from evidencesync.exit_codes import ExitCode

OTHER_OPTIONS: Final = "Options"
_BOUNDS: Final = re.compile(r"(?P<low>[\d.]+)<=x<=(?P<high>[\d.]+)|x>=(?P<least>[\d.]+)|x<=(?P<most>[\d.]+)")


class GroupedCommand(typer.core.TyperCommand):
    """A command whose help lists options under the title of their group (`rich_help_panel`), which typer does only with rich."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments, the command's own options, then each group in the order of its first option."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], OTHER_OPTIONS: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                is_argument = parameter.param_type_name == "argument"
                title = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or OTHER_OPTIONS
                sections.setdefault(title, []).append((record[0], bounds_in_words(record[1])))
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def bounds_in_words(text: str) -> str:
    """Replaces click's notation of a range (`0<=x<=12`) by words: "0 to 12", "1 or more", "12 or less"."""

    def words(found: re.Match[str]) -> str:
        if found["low"] is not None:
            return f"{found['low']} to {found['high']}"
        return f"{found['least']} or more" if found["least"] is not None else f"{found['most']} or less"

    return _BOUNDS.sub(words, text)


Command = Callable[..., ExitCode]


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """What every command gets as its first argument: the console, and the user's settings."""

    console: Console
    settings: LoadedSettings


@dataclasses.dataclass(frozen=True, slots=True)
class OutputChoice:
    """The options that every command has."""

    GROUP: ClassVar = "Output and settings"

    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, also for an error.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No messages and no progress.")] = False
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Print more details, and a traceback with an error.")] = False
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", envvar=CONFIG_VARIABLE, help="Settings file to use instead of the user's own ('none': no file)."
        ),
    ] = None


def command(app: typer.Typer, name: str, *examples: str, kind: CommandKind = CommandKind.CHECKS) -> Callable[[Command], Command]:
    """Adds a function to a typer app. Its docstring is the help, with `examples` below it. `kind` chooses the hints of errors.

    A parameter annotated with a dataclass stands for its fields: each is an option, which the help lists under the class's
    GROUP. A parameter annotated with Run is filled in. The exit code is the returned one, or that of the raised error.
    """

    def register(function: Command) -> Command:
        text = inspect.getdoc(function) or ""
        app.command(name, cls=GroupedCommand, help=text, short_help=_first_sentence(text), epilog=_epilog(examples))(
            _adapt(function, kind)
        )
        return function

    return register


def group(app: typer.Typer, name: str, text: str) -> typer.Typer:
    """Adds a group of commands to a typer app. `text` is its help."""
    made = typer.Typer(help=text, short_help=_first_sentence(text), no_args_is_help=True)
    app.add_typer(made, name=name)
    return made


def _first_sentence(text: str) -> str:
    """The first sentence of a help text, for the list of commands. It is kept whole; click would cut it to one line."""
    return " ".join(text.split("\n\n", maxsplit=1)[0].split()).partition(". ")[0].removesuffix(".")


def _epilog(examples: tuple[str, ...]) -> str:
    """The examples as an epilog. A backspace character makes click keep the line breaks below it."""
    return "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)


def _adapt(function: Command, kind: CommandKind) -> Callable[..., None]:
    signature = inspect.signature(function, eval_str=True)
    groups = {name: found.annotation for name, found in signature.parameters.items() if _is_group(found.annotation)}
    run_name = next((name for name, found in signature.parameters.items() if found.annotation is Run), None)
    given = [*_expand(signature), *_fields(OutputChoice)]

    def call(**values: Any) -> None:
        choice = _take(OutputChoice, values)
        console = Console(as_json=choice.as_json, quiet=choice.quiet, verbose=choice.verbose, kind=kind)
        prepare_process(verbose=choice.verbose)

        def work() -> ExitCode:
            given_values = dict(values)
            arguments = {name: _take(group, values) for name, group in groups.items()}
            if run_name is not None:
                settings = load_settings(choice.config)
                if settings.notice is not None:
                    console.print_message(f"note: {settings.notice}")
                arguments[run_name] = Run(console, settings)
            _refuse_empty(given, given_values)
            return function(**arguments, **values)

        raise typer.Exit(guard(console, work))

    call.__signature__ = inspect.Signature(given)  # type: ignore[attr-defined]  # what typer reads
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in given}
    call.__name__ = function.__name__
    return call


def _refuse_empty(given: list[inspect.Parameter], values: dict[str, Any]) -> None:
    """Raises UsageError for an option with an empty value, such as an unset shell variable gives.

    The intended value is not known, and the default is not what was asked for. An empty environment variable counts as unset.
    """
    for parameter in given:
        value = values.get(parameter.name)
        if value == parameter.default:
            continue
        if value == "" or (isinstance(value, list) and "" in value):
            for info in get_args(parameter.annotation)[1:]:
                if isinstance(info, typer.models.OptionInfo):
                    names = [name for name in (info.default, *(info.param_decls or ())) if str(name).startswith("--")]
                    option = names[0] if names else "--" + parameter.name.replace("_", "-")
                    raise UsageError(f"{option} is empty", hint="Give it a value, or leave the option out.")


def _is_group(annotation: object) -> bool:
    return dataclasses.is_dataclass(annotation) and annotation is not Run


def _expand(signature: inspect.Signature) -> Iterator[inspect.Parameter]:
    for parameter in signature.parameters.values():
        if _is_group(parameter.annotation):
            yield from _fields(parameter.annotation)
        elif parameter.annotation is not Run:
            yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


def _fields(group: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in dataclasses.fields(group):
        for info in get_args(hints[field.name])[1:]:
            info.rich_help_panel = _title(group, field.name)
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name])


def _title(group: type, field: str) -> str | None:
    """The GROUP of the class that declares a field. A subclass may have another GROUP for its own fields."""
    declared = next(one for one in group.__mro__ if field in one.__annotations__)
    title: str | None = declared.__dict__.get("GROUP")
    return title


def _take(group: Any, values: dict[str, Any]) -> Any:
    return group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
