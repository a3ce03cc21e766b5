"""Says what is wrong with a command line that cannot be parsed, and how it should have been typed."""

from __future__ import annotations

import itertools
import re
import shlex
from typing import Any, Final, NamedTuple

from evidencesync.cli.console import Console
from evidencesync.cli.defaults import has_default, is_vault_here, means_vault, takes_default
from evidencesync.cli.habits import FROM_OTHERS, HELP_WORDS, OTHER_UNITS, OTHERWISE
from evidencesync.cli.help_text import bounds_in_words, first_example
from evidencesync.cli.meant_commands import meant_commands, near_names
from evidencesync.errors import UsageError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.exit_codes import ExitCode

_INVALID: Final = r"invalid value for '?(?:-\w' / ')?([^']+?)'?(?: \(env var: '\w+'\))?: "
_NO_NUMBER: Final = re.compile(_INVALID + r"'?(.*?)'? is not a valid (int|float)(?:eger)?(?: range)?\.?")
_OUT_OF_RANGE: Final = re.compile(_INVALID + r"(\S+) is not in the range ([0-9.]+)<=x<=([0-9.]*[0-9])\.?")
_UNKNOWN: Final = re.compile(
    r"(No such (?:option|command)):? '?(\S+?|.+?(?='))'?(?:[.:]? ?(?:\(Possible|Did you mean).*|\.)?$", re.IGNORECASE
)
"""What typer says of an unknown name; some versions add names that they think are meant."""
_TOO_MANY: Final = re.compile(r"got unexpected extra arguments?\b.*")
_NEEDS_VALUE: Final = re.compile(r"option '?(--?[\w-]+)'? requires an argument\.?")
_TWO_NUMBERS: Final = re.compile(r"([0-9]+)(?:\.{2,3}|[:,-])([0-9]+)")
"""How git and others write the first and the last of two."""
_ACQUISITION: Final = re.compile("[0-9]{1,4}")
"""A number that is no case's, where one may be an acquisition's."""
_TEXTS: Final = ("TEXT", "NAME", "NAME=VALUE")
"""What the value of an option is called that may have several words."""
_TYPICAL: Final = ("form", "output")
"""The options for which the value of an example stands where nothing was typed."""
_BARE: Final = ("case", "item", "text", "acquisition")
"""The options whose values are typed without their names, in this order."""


class _Line(NamedTuple):
    """A command line as far as it could be parsed: its words behind the command's name, and what they were taken for."""

    words: list[str]
    command: Any
    path: str
    values: dict[str, Any]
    extra: list[str]

    @classmethod
    def of(cls, context: Any, given: list[str]) -> _Line:
        """Parses once more, without an error: the parser itself stops at the first one."""
        words = given[len(context.command_path.split()) - 1 :]
        try:
            with context.command.make_context(
                context.info_name, list(words), parent=context.parent, resilient_parsing=True
            ) as found:
                return cls(words, context.command, context.command_path, found.params, list(found.args))
        except Exception:  # noqa: BLE001 - of a line that is reported anyway
            return cls(words, context.command, context.command_path, {}, [])

    @property
    def lost_source(self) -> bool:
        """Whether the one place that was typed is a vault: then SOURCE is missing, and not VAULT."""
        source = self.values.get("source")
        return (
            self.values.get("vault") is None
            and isinstance(source, str)
            and means_vault(source, elsewhere=self.command.name != "pull")
        )

    @property
    def place_of_vault(self) -> str | None:
        """The argument in whose place a vault stands while VAULT is none; None if no argument is so."""
        if self.command.name == "pull" or not isinstance(vault := self.values.get("vault"), str) or is_vault_here(vault):
            return None
        others = (one.name for one in self.command.params if one.param_type_name == "argument" and one.name != "vault")
        return next((name for name in others if is_vault_here(str(self.values.get(name)))), None)

    def in_order(self, other: str) -> _Line:
        """The same line with VAULT and another argument in each other's place."""
        here, there = self.values["vault"], self.values[other]
        swapped = {here: there, there: here}
        return self._replace(
            words=[swapped.get(word, word) for word in self.words], values={**self.values, "vault": there, other: here}
        )

    @property
    def late_vault(self) -> str | None:
        """What is said where a vault stands among words that nothing takes, and something else stands in its place."""
        vault = next((word for word in self.extra if is_vault_here(word)), None)
        if vault is None or "source" in self.values or is_vault_here(str(self.values.get("vault"))):
            return None
        others = [word for word in self.extra if word != vault]
        others += [self.values["vault"]] if isinstance(self.values.get("vault"), str) else []
        right = self.with_vault(vault, others)
        return f"{safe_text(vault, 200)} is a vault, and VAULT comes first: {right.completed(right.missing(), right.meant())}. "

    def with_vault(self, vault: str, extra: list[str]) -> _Line:
        """The same line with a vault in its place, and with these words that nothing takes."""
        words = [*self.words]
        for word in (vault, *extra):
            words.remove(word)
        free = [word for word in extra if word not in words]  # else it is an option's value, too
        return self._replace(words=[vault, *words], values={**self.values, "vault": vault}, extra=free)

    def missing(self) -> list[Any]:
        """All arguments and options that the command needs and was not given."""
        lost = "vault" if self.lost_source else None
        return [
            one
            for one in self.command.params
            if one.name != lost
            and (one.required or takes_default(one.name, one.envvar))
            and (self.values.get(one.name) in (None, (), []) or (lost and one.name == "source"))
            and not has_default(one.name, self.values.get("config"))
        ]

    def meant(self) -> dict[str, str]:
        """The options that words without one may belong to, by the options' names; empty if nobody knows."""
        known = {one.name for one in self.command.params if self.values.get(one.name) is None}
        numbered = next((name for name in ("record", "acquisition") if name in known), None)
        if len(self.extra) == 1 and _ACQUISITION.fullmatch(self.extra[0]) and numbered is not None:
            return {numbered: self.extra[0]}
        if len(self.extra) == 1 and "output" in known and "." in self.extra[0]:
            return {"output": self.extra[0]}
        free = [one.name for name in _BARE for one in self.command.params if one.name == name and self.values.get(name) is None]
        is_known = len(self.extra) <= len(free) and not any("/" in word for word in self.extra)
        return dict(zip(free, self.extra, strict=False)) if is_known else {}

    def completed(self, missing: list[Any], meant: dict[str, str]) -> str:
        """The command line with the names of what is missing in their places, and with options for the words that are `meant`."""
        if (other := self.place_of_vault) is not None:
            return self.in_order(other).completed(missing, meant)
        words: list[str] = []
        rest = [shell_text(word) for word in self.words if word not in self.extra]
        for one in (one for one in self.command.params if one.param_type_name == "argument"):
            value = self.values.get("source" if self.lost_source and one.name == "vault" else one.name)
            if one in missing:
                words.append(name_of(one))
            elif isinstance(value, str | int) and shell_text(str(value)) in rest:
                at = rest.index(shell_text(str(value)))
                words, rest = [*words, *rest[: at + 1]], rest[at + 1 :]
        options = [one for one in self.command.params if one.param_type_name == "option"]
        needed = {"case", "item"} if "acquisition" in meant else set()
        named = [
            f"{name_of(one)} {self._value(one, meant)}"
            for one in options
            if one in missing or one.name in meant or (one.name in needed and self.values.get(one.name) is None)
        ]
        return " ".join([self.path, *words, *rest, *named, *self._needed_too()])

    def _needed_too(self) -> list[str]:
        """An option that the command needs where none of some others is given: a correction says what is right."""
        others = ("text", "detail", "case_file")
        is_lost = self.command.name == "correct" and not any(self.values.get(name) for name in others)
        return ["--text TEXT"] if is_lost else []

    def _value(self, option: Any, meant: dict[str, str]) -> str:
        """The value of an option that is missing: the one that is meant, else a name for it, or for a file that of an example.

        What is pasted may become a signed record: it states no person and no number that nobody has typed.
        """
        if option.name in meant:
            return shell_text(meant[option.name])
        example = itertools.pairwise(shlex.split(first_example(self.command.epilog)))
        typical = (value for name, value in example if name in option.opts and option.name in _TYPICAL)
        return next(typical, option.metavar)


def refuse(error: Exception, given: list[str], console: Console) -> ExitCode:
    """Prints what is wrong with a malformed command line; or the whole help, if there are no arguments."""
    context = getattr(error, "ctx", None)
    if context is not None and type(error).__name__ == "NoArgsIsHelpError" and not console.as_json:
        for line in context.get_help().splitlines():
            console.print_notice(line)
        return ExitCode.USAGE
    format_message = getattr(error, "format_message", None)
    said = " ".join(str(format_message() if format_message else error).split()) or "no command was given"
    said = _in_plain_words(said[:1].lower() + said[1:])
    message, hint = (said, "See: evidencesync --help") if context is None else _explain(error, said, context, given)
    console.verbose = False  # a traceback of the parser would say the same once more
    console.print_error(UsageError(message, hint=hint))
    return ExitCode.USAGE


def _explain(error: Exception, said: str, context: Any, given: list[str]) -> tuple[str, str]:
    """What is wrong, and the hint."""
    see = f"See: {context.command_path} --help"
    line = _Line.of(context, given)
    if line.words in ([one] for one in HELP_WORDS) and not hasattr(line.command, "commands"):
        return f"{line.command.name} has no {line.words[0]}", f"The help of this command: {line.path} --help"
    return _of_value(said, line, context, given, see) or _of_names(error, said, line, see)


def _of_value(said: str, line: _Line, context: Any, given: list[str], see: str) -> tuple[str, str] | None:
    """What is wrong with the value of an option or of an argument, and the hint; None if it is something else."""
    if (bare := _NEEDS_VALUE.fullmatch(said)) is not None:
        return f"{bare[1]} needs a value", f"{_value_of(bare[1], line.command)}{see}"
    if said.startswith(("N needs", "M needs")) and (separate := _two_numbers(line, context, given)) is not None:
        return said, f"The numbers stand apart: {separate}"
    return None


def _of_names(error: Exception, said: str, line: _Line, see: str) -> tuple[str, str]:
    """What is unknown, missing or too much, and the hint."""
    if (slip := _one_dash(line)) is not None:
        name, meant = slip
        return f"no such option {name}", f"Did you mean {meant}? A name of more than one letter has two dashes. {see}"
    if (unknown := _UNKNOWN.match(said)) is not None:
        return f"{unknown[1]} {unknown[2]}", f"{_advice(unknown[2], line)}{see}"
    if type(error).__name__ == "MissingParameter":
        missing, late = line.missing(), line.late_vault
        if late is not None:
            return f"missing: {', '.join(map(name_of, missing))}", f"{late}{see}"
        return f"missing: {', '.join(map(name_of, missing))}", f"{_what_it_is(missing)}{see}, or: {_example(line, missing)}"
    if _TOO_MANY.fullmatch(said) and line.extra:
        more = f"more than was expected: {safe_text(' '.join(line.extra), 200)}"
        return more, f"{line.late_vault}{see}" if line.late_vault else _of_extra(line, see)
    return said, f"{_value_of(said.partition(' ')[0], line.command)}{see}"


def name_of(parameter: Any) -> str:
    """What a person types for an option, and what the help calls an argument."""
    return str(parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar or parameter.name.upper())


def _one_dash(line: _Line) -> tuple[str, str] | None:
    """An option of several letters that was typed with one dash, and what it is."""
    known = _option_names(line.command)
    for word in itertools.takewhile(lambda one: one != "--", line.words):
        name = word.partition("=")[0]
        if len(name) > 2 and not name.startswith("--") and f"-{name}" in known:
            return name, f"-{name}"
    return None


def _two_numbers(line: _Line, context: Any, given: list[str]) -> str | None:
    """The line with two numbers apart that were typed as one word, such as 1..2."""
    at = next((at for at, word in enumerate(given) if _TWO_NUMBERS.fullmatch(word)), None)
    if at is None or not {"before", "after"} <= {one.name for one in line.command.params}:
        return None
    right = _Line.of(context, [*given[:at], *re.split("[^0-9]+", given[at]), *given[at + 1 :]])
    return right.completed(right.missing(), right.meant())


def _option_names(command: Any) -> list[str]:
    return [name for parameter in command.params for name in parameter.opts if name.startswith("--")]


def _what_it_is(missing: list[Any]) -> str:
    """What an option is, where nothing but that one is missing."""
    if len(missing) != 1 or missing[0].param_type_name != "option":
        return ""
    return f"{name_of(missing[0])}: {bounds_in_words(missing[0].help or '')} "


def _value_of(name: str, command: Any) -> str:
    for one in command.params:
        if name in one.opts:
            return f"{name} {one.metavar or 'VALUE'}: {bounds_in_words(one.help or '')} "
    return ""


def _example(line: _Line, missing: list[Any]) -> str:
    """The command as it may have been meant; one of the help's, where nothing was typed."""
    if not line.words:
        return first_example(line.command.epilog)
    # a person who compares two acquisitions without their numbers has two, as a rule
    return line.completed(missing, line.meant()).replace(" N M ", " 1 2 ")


def _of_extra(line: _Line, see: str) -> str:
    """What may have been meant by words that no argument takes."""
    if (quoted := _unquoted(line, _TEXTS)) is not None:
        return f"A text of several words needs quotes: {quoted}"
    if meant := line.meant():
        return f"{see}, or: {line.completed([], meant)}"
    if (quoted := _unquoted(line)) is not None:
        return f"A value of several words needs quotes: {quoted}"
    if any(one.name == "source" and one.param_type_name == "argument" for one in line.command.params):
        return f"SOURCE is one folder, file or device; --include, --exclude and --files-from choose in a folder. {see}"
    return see


def _unquoted(line: _Line, metavars: tuple[str, ...] = ()) -> str | None:
    """The option whose value of several words had no quotes, with them; None if there is none.

    `metavars`: only options whose values are called so.
    """
    for one in line.command.params:
        if one.param_type_name != "option" or one.is_flag or (metavars and one.metavar not in metavars):
            continue
        for at, word in enumerate(line.words[:-2]):
            if word in one.opts and line.words[at + 2] == line.extra[0]:
                until = next((n for n in range(at + 2, len(line.words)) if line.words[n].startswith("-")), len(line.words))
                return f"{word} {shell_text(' '.join(line.words[at + 1 : until]))}"
    return None


def _advice(unknown: str, line: _Line) -> str:
    """What may have been meant by an unknown option or command; empty if nobody knows."""
    command = line.command
    names = [*getattr(command, "commands", ())]
    rest = [word for word in line.words if word != unknown]
    if names and is_vault_here(unknown):
        name = next((one for one in ("list", "show") if one in names), names[0])
        return f"A command comes first, as in: {shell_text(*line.path.split(), name, unknown)}. "
    if unknown in HELP_WORDS and names:
        asked = [word for word in rest if not word.startswith("-")] or ["COMMAND"]
        return f"The help of a command: {shell_text(*line.path.split(), *asked)} --help. "
    if names and not unknown.startswith("-"):
        close = [shell_text("evidencesync", *name.split(), *rest) for name in meant_commands(unknown, command, line.path)]
    else:
        close = [_with_value(name, unknown, line) for name in _close_to(unknown, command)]
    meant = f"Did you mean {' or '.join(close)}? " if close else ""
    if (otherwise := OTHERWISE.get((command.name, unknown))) is not None:
        said = otherwise.replace("{bare}", shell_text(*line.path.split(), *rest)).replace("{rest}", shell_text(*rest) or "VAULT")
        return f"{meant if unknown in FROM_OTHERS else ''}{said} "
    if meant:
        return meant
    if unknown.startswith("-") and names:
        return "An option stands behind the command and its name, as in: evidencesync verify -v VAULT. "
    return ""


def _with_value(name: str, unknown: str, line: _Line) -> str:
    """A known option, with the value that was typed behind the unknown one, if it takes one."""
    takes_value = any(name in one.opts and one.param_type_name == "option" and not one.is_flag for one in line.command.params)
    behind = line.words[line.words.index(unknown) + 1 :] if unknown in line.words else []
    fits = takes_value and name not in OTHER_UNITS and behind and not behind[0].startswith("-")
    return f"{name} {shell_text(behind[0])}" if fits else name


def _in_plain_words(message: str) -> str:
    """What the parser says of a number, in words that are no programmer's."""
    if (found := _NO_NUMBER.fullmatch(message)) is not None:
        kind = "a whole number" if found[3] == "int" else "a number"
        return f"{found[1]} needs {kind}, not {found[2]}"
    if (found := _OUT_OF_RANGE.fullmatch(message)) is not None:
        return f"{found[1]} takes {found[3]} to {found[4]}, not {found[2]}"
    return message


def _close_to(given: str, command: Any) -> list[str]:
    """The names of options, two at most, for which `given` may be a slip."""
    known = _option_names(command)
    if given in FROM_OTHERS:
        return [FROM_OTHERS[given]] if FROM_OTHERS[given] in known else []
    return near_names(given, known)
