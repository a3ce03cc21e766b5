"""Lays out `--help`: commands and options in groups, and examples that fit a terminal of 80 columns.

A long help begins with what most people look for, on one screen: what the command does, an example, and its most used options.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import typer.core

from evidencesync.cli.lines import command_lines

WHAT: Final = "Case and item"
SIGNING: Final = "Who signs"
RECORDED: Final = "What is recorded"
GRANTED: Final = "What the key may do"
COMMON: Final = "Common options"
_ARGUMENTS: Final = "Arguments"
_MOST_USED: Final = "Most used"
_HOW: Final = "How it is done"
CAPTURED: Final = "What is read once, out of a pipe"
_TRUSTED: Final = "What is trusted"
_OUTPUT: Final = "Output"
TITLES: Final = (
    _ARGUMENTS,
    _MOST_USED,
    WHAT,
    "What is read",
    CAPTURED,
    _HOW,
    _OUTPUT,
    RECORDED,
    _TRUSTED,
    GRANTED,
    SIGNING,
    "SSH",
    COMMON,
)

_OWN: Final[Mapping[str, str]] = {
    **dict.fromkeys(("case", "item", "acquisition"), WHAT),
    **dict.fromkeys(("output", "files", "below", "after", "limit", "heads", "time"), _OUTPUT),
    **dict.fromkeys(("name", "note", "text", "reason", "record", "mechanism", "condition", "storage"), RECORDED),
    **dict.fromkeys(("seal_number", "location", "to", "outside"), RECORDED),
    **dict.fromkeys(("trusted", "tsa_root", "require_timestamp", "expect_head", "trust", "principal", "fingerprint"), _TRUSTED),
    "help": COMMON,
}
"""The groups of options that stand in a command itself, by their names. All others say how it is done."""

_FIRST: Final[Mapping[str, tuple[str, ...]]] = {
    "push": ("case", "item", "identity", "exclude", "note", "dry_run"),
    "pull": ("case", "item", "identity", "exclude", "note", "agentless"),
    "watch": ("case", "item", "identity", "exclude", "settle", "every"),
    "verify": ("case", "item", "acquisition", "record", "trusted"),
    "restore": ("case", "item", "acquisition", "on_damage", "record"),
    "report": ("case", "item", "output", "files", "sign"),
    "export": ("case", "item", "form", "acquisition", "encrypt_to"),
}
"""The options of commands with a long help that most people need, by the commands' and the options' names."""

_BOUNDS: Final = re.compile(r"(?P<low>[\d.]+)<=x<=(?P<high>[\d.]+)|x>=(?P<least>[\d.]+)|x<=(?P<most>[\d.]+)")
_EXAMPLES: Final = "Examples:\n"
HELP_NAMES: Final[Mapping[str, Any]] = {"help_option_names": ["-h", "--help"]}
"""The settings of every command and of the program: a command that is parsed by itself must not learn other names of its help."""


class HelpfulCommand(typer.core.TyperCommand):
    """A command whose help lists options under the title of their group, and ends with examples.

    A command that is in `_FIRST` has an example at the beginning, too, and what else there is to say below its most used options.
    """

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The parts of the line `Usage`; arguments without the braces that typer may put around them."""
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes arguments and options, group by group; what all commands have comes last."""
        first = _FIRST.get(self.name or "", ())
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in TITLES}
        for parameter in sorted(self.get_params(ctx), key=lambda one: first.index(one.name) if one.name in first else 0):
            record = parameter.get_help_record(ctx)
            if record is not None:
                title = _MOST_USED if parameter.name in first else title_of(parameter)
                sections[title].append((record[0], bounds_in_words(record[1])))
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
            if title == _MOST_USED and first:
                self._write_details(formatter)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Writes what the command does; of a long help, the first paragraph and an example."""
        if self.name not in _FIRST:
            super().format_help_text(ctx, formatter)
            return
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text((self.help or "").partition("\n\n")[0])
        _write_examples("Example:\n", first_example(self.epilog), formatter)

    def _write_details(self, formatter: Any) -> None:
        """Writes the paragraphs that `format_help_text` has left."""
        rest = (self.help or "").partition("\n\n")[2]
        if rest:
            with formatter.section("In detail"):
                formatter.write_text(rest)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes the examples."""
        _write_epilog(self.epilog, formatter)


class HelpfulGroup(typer.core.TyperGroup):
    """A group of commands, listed under titles: those in `titles` by name, or one for all."""

    titles: ClassVar[Mapping[str, str]] = {}

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the commands, then the options."""
        rows: dict[str, list[tuple[str, str]]] = {}
        width = max(map(len, self.commands), default=0)
        for name, found in self.commands.items():
            rows.setdefault(self.titles.get(name, "Commands"), []).append((name.ljust(width), found.short_help or ""))
        options = [record for one in self.get_params(ctx) if (record := one.get_help_record(ctx)) is not None]
        for title, records in (*rows.items(), ("Options", options)):
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes the examples, and what follows them."""
        _write_epilog(self.epilog, formatter)


def epilog_of(examples: tuple[str, ...]) -> str:
    """The examples as a command keeps them, each on one line. One that begins with # explains the next."""
    return _EXAMPLES + "\n".join(f"  {example}" for example in examples)


def first_example(epilog: str | None) -> str:
    """The first of the examples that `epilog_of` has joined; empty if there is none."""
    return (epilog or "").removeprefix(_EXAMPLES).partition("\n")[0].strip()


def bounds_in_words(text: str) -> str:
    """Replaces click's notation of a range (`0<=x<=12`) by words: "0 to 12", "1 or more", "12 or less"."""

    def words(found: re.Match[str]) -> str:
        if found["low"] is not None:
            return f"{found['low']} to {found['high']}"
        return f"{found['least']} or more" if found["least"] is not None else f"{found['most']} or less"

    return _BOUNDS.sub(words, text)


def title_of(parameter: Any) -> str:
    """The group under which `--help` lists a parameter, where it is not among the most used."""
    if parameter.param_type_name == "argument":
        return _ARGUMENTS
    return getattr(parameter, "rich_help_panel", None) or _OWN.get(parameter.name, _HOW)


def _write_epilog(epilog: str | None, formatter: Any) -> None:
    for paragraph in (epilog or "").split("\n\n"):
        if paragraph.startswith(_EXAMPLES):
            _write_examples(_EXAMPLES, paragraph.removeprefix(_EXAMPLES), formatter)
        elif paragraph:
            formatter.write_paragraph()
            formatter.write_text(paragraph)


def _write_examples(title: str, examples: str, formatter: Any) -> None:
    formatter.write_paragraph()
    formatter.write(title)
    for example in examples.splitlines():
        width = formatter.width - len("  ")
        explains = example.strip().startswith("# ")
        lines = (
            textwrap.wrap(example.strip(), width, subsequent_indent="# ") if explains else command_lines(example.strip(), width)
        )
        for line in lines:
            formatter.write(f"  {line}\n")
