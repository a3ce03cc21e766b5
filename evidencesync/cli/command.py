"""Makes a command of a function: options from dataclasses, the options that all commands share, and examples."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, get_args, get_type_hints

import typer

from evidencesync.cli.console import Console
from evidencesync.cli.defaults import fill_in, leave_out_vault, takes_default
from evidencesync.cli.guard import guard, prepare_process
from evidencesync.cli.help_text import COMMON, HELP_NAMES, HelpfulCommand, HelpfulGroup, epilog_of
from evidencesync.cli.pasted_hints import REACHING, filling_in_hints
from evidencesync.cli.settings import CONFIG_VARIABLE, LoadedSettings, load_settings
from evidencesync.errors import CommandKind, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.exit_codes import ExitCode

if TYPE_CHECKING:
    from evidencesync.connection.event_log import Events

_REPEATED: Final = "evidencesync.repeated"  # where a parser keeps what it has met more than once


class ParsedCommand(HelpfulCommand):
    """A command whose VAULT may be left out in front of other arguments, which click's parser does not know.

    `prepare` is given the words behind the command's name first, and returns those that are parsed.
    """

    @staticmethod
    def prepare(args: list[str]) -> list[str]:
        """Returns the words as they are."""
        return args

    def make_parser(self, ctx: Any) -> Any:
        """The parser of click, and behind it the rule for VAULT."""
        parser = super().make_parser(ctx)
        arguments = [one for one in self.get_params(ctx) if one.param_type_name == "argument"]
        parse = parser.parse_args

        def parse_args(args: list[str]) -> Any:
            try:
                given, rest, order = parse(self.prepare(args))
            except Exception as error:
                if getattr(error, "ctx", ctx) is None:  # of an option without its value: the hint is this command's
                    error.ctx = ctx  # type: ignore[attr-defined]
                raise
            ctx.meta[_REPEATED] = _repeated(order)
            leave_out_vault(arguments, given)
            return given, rest, order

        parser.parse_args = parse_args  # type: ignore[method-assign]  # of this parser alone
        return parser


def _repeated(order: list[Any]) -> list[str]:
    """Returns the options with one value that were given more than once, from what the parser met in turn."""
    single = [one for one in order if one.param_type_name == "option" and not (one.multiple or one.is_flag or one.count)]
    return sorted({one.opts[0] for one in single if single.count(one) > 1})


Command = Callable[..., ExitCode]


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """What every command gets as its first argument: the console, the user's settings, and what keeps its log."""

    console: Console
    settings: LoadedSettings
    told: Events | None = None

    @property
    def events(self) -> Events:
        """Where it is told what happens, for a log for machines."""
        from evidencesync.connection.event_log import NO_EVENTS

        return self.told or NO_EVENTS


@dataclasses.dataclass(frozen=True, slots=True)
class OutputChoice:
    """The options that every command has."""

    GROUP: ClassVar = COMMON

    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, also for an error.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No messages, no progress.")] = False
    verbose: Annotated[
        int,
        typer.Option(
            "-v",
            "--verbose",
            count=True,
            show_default=False,
            help="Say what is done, and show tracebacks; -vv: and ssh's log.",
        ),
    ] = 0
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE", envvar=CONFIG_VARIABLE, help="Settings file, or 'none'."),
    ] = None


def command(
    app: typer.Typer,
    name: str,
    *examples: str,
    kind: CommandKind = CommandKind.CHECKS,
    reads_settings: bool = True,
    prepare: Callable[[list[str]], list[str]] = ParsedCommand.prepare,
) -> Callable[[Command], Command]:
    """Adds a function to a typer app. Its docstring is the help, with `examples` below it. `kind` chooses the hints of errors.

    A parameter annotated with a dataclass stands for its fields: each is an option, which the help lists under the class's
    GROUP. A parameter annotated with Run is filled in. The exit code is the returned one, or that of the raised error.
    Without `reads_settings`, the file of the settings is only named: a command about the file itself must work if it is broken.
    `prepare`: see ParsedCommand.
    """

    def register(function: Command) -> Command:
        text = inspect.getdoc(function) or ""
        register_as = app.command(
            name,
            cls=type("PreparedCommand", (ParsedCommand,), {"prepare": staticmethod(prepare)}),
            context_settings=dict(HELP_NAMES),
            help=text,
            short_help=_first_sentence(text),
            epilog=epilog_of(examples),
        )
        register_as(_adapt(function, kind, reads_settings=reads_settings))
        return function

    return register


def group(app: typer.Typer, name: str, text: str) -> typer.Typer:
    """Adds a group of commands to a typer app. `text` is its help."""
    more = f"The options of a command, with examples: evidencesync {name} COMMAND --help"
    made = typer.Typer(cls=HelpfulGroup, help=text, short_help=_first_sentence(text), epilog=more, no_args_is_help=True)
    app.add_typer(made, name=name)
    return made


def _first_sentence(text: str) -> str:
    """The first sentence of a help text, for the list of commands. It is kept whole; click would cut it to one line."""
    return " ".join(text.split("\n\n", maxsplit=1)[0].split()).partition(". ")[0].removesuffix(".")


def _adapt(function: Command, kind: CommandKind, *, reads_settings: bool) -> Callable[..., None]:
    signature = inspect.signature(function, eval_str=True)
    groups = {name: found.annotation for name, found in signature.parameters.items() if _is_group(found.annotation)}
    run_name = next((name for name, found in signature.parameters.items() if found.annotation is Run), None)
    given = [*map(_with_default, _expand(signature)), *_fields(OutputChoice)]
    defaulted = [one.name for one in given if _is_defaulted(one)]

    def call(context: typer.Context, **values: Any) -> None:
        choice = _take(OutputChoice, values)
        console = Console(as_json=choice.as_json, quiet=choice.quiet, verbose=choice.verbose > 0, kind=kind)
        prepare_process(verbose=choice.verbose)

        def work() -> ExitCode:
            settings = load_settings(choice.config, read=reads_settings)
            console.print_detail(f"settings file: {safe_text(str(settings.file)) if settings.file is not None else 'none'}")
            if settings.notice is not None:
                console.print_message(f"note: {settings.notice}")
            for option in context.meta[_REPEATED]:
                console.warn(f"{option} was given more than once: the last one counts")
            _refuse_empty(given, values)
            fill_in(values, {name: _was_typed(context, name) for name in defaulted}, settings, console)
            typed = dict(values)
            arguments = {name: _take(group, values) for name, group in groups.items()}
            if run_name is not None:
                arguments[run_name] = Run(console, settings)
            with filling_in_hints(typed, kind, settings, _typed_options(context, REACHING)) as console.fill_hint:
                return function(**arguments, **values)

        raise typer.Exit(guard(console, work))

    read = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context), *given]
    call.__signature__ = inspect.Signature(read)  # type: ignore[attr-defined]  # what typer reads
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in read}
    call.__name__ = function.__name__
    return call


def _is_defaulted(parameter: inspect.Parameter) -> bool:
    """Whether a parameter may be left out by the rule of `evidencesync.cli.defaults`."""
    return any(takes_default(parameter.name, getattr(info, "envvar", None)) for info in get_args(parameter.annotation)[1:])


def _with_default(parameter: inspect.Parameter) -> inspect.Parameter:
    """What typer is told of a parameter that may be left out: that it is not required. The command gets a text always."""
    if not _is_defaulted(parameter):
        return parameter
    kind, *infos = get_args(parameter.annotation)
    return parameter.replace(default=None, annotation=Annotated[kind | None, *infos])


def _was_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _typed_options(context: typer.Context, names: Collection[str]) -> list[str]:
    """The options of these parameters that were typed, with their values, as words of a command line."""
    options = [(one.name or "", one.opts[0]) for one in context.command.params if one.name in names]
    return [word for name, option in options if _was_typed(context, name) for word in (option, str(context.params[name]))]


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
