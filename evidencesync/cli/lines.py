"""Lays out lines for people: as wide as the terminal, 100 columns at most, with commands that can be pasted."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Final, TextIO

_WIDEST: Final = 100
_NARROWEST: Final = 60
"""Columns. On a terminal that is narrower, lines are broken by it."""


_WORD: Final = re.compile(r"(?:--?[\w-]+ (?=[^-|\s]))?(?:'[^']*'|[^\s'])+")
"""A word of a command line; an option together with its value."""
_COMMAND: Final = re.compile(r"(?<!\S)evidencesync [a-z]")
_BEHIND: Final = re.compile(r"[.;,?)]$")
"""How a word ends behind which a sentence that names a command goes on."""
_BEGINNING: Final = re.compile(r"(?:error|hint|warning|note|next): | *\S.{0,12}? {2,}(?=\S)| *")
"""What a line begins with that has a text behind it."""
_INDENT: Final = "    "


def width_of(stream: TextIO | None) -> int:
    """How wide a line for people may be: as a terminal, and 100 columns elsewhere, or where a terminal does not say."""
    if stream is None or not stream.isatty():
        return _WIDEST
    try:
        return min(max(os.get_terminal_size(stream.fileno()).columns or _WIDEST, _NARROWEST), _WIDEST)
    except OSError:
        return _WIDEST


def wrapped(before: str, text: str) -> Iterator[str]:
    """The text in lines, no wider than the terminal. `before` begins the first, and the others begin below the text."""
    indent = " " * len(before)
    lines = textwrap.wrap(
        text,
        width_of(sys.stdout),
        initial_indent=before,
        subsequent_indent=indent,
        replace_whitespace=False,
        expand_tabs=False,
        break_on_hyphens=False,
    )
    yield from lines or [before.rstrip()]


def command_lines(command: str, width: int) -> Iterator[str]:
    """The lines of a command, which a shell reads as one: each but the last ends with a backslash."""
    line = ""
    words = _WORD.findall(command)
    for at, word in enumerate(words):
        if line and len(f"{line} {word}") + (len(" \\") if at < len(words) - 1 else 0) > width:
            yield f"{line} \\"
            line = _INDENT + word
        else:
            line = f"{line} {word}" if line else word
    yield line


def fitted(line: str, width: int) -> Iterator[str]:
    """A line of text for a terminal: broken between words, with the rest below the text; and no command is broken in two.

    A command that does not fit behind what stands before it begins a line; one that is longer than a line is written as a shell
    reads it. A single word is never broken.
    """
    if len(line) <= width:
        yield line
        return
    before = _BEGINNING.match(line)
    begun = before[0] if before is not None else ""
    indent = "  " if begun.endswith(": ") else " " * len(begun) if len(begun) > 2 else "    "
    shown = begun
    for part in _parts(line[len(begun) :]):
        space = " " if shown.strip() and not shown.endswith(" ") else ""
        fits = len(f"{shown}{space}{part}") <= width
        if fits or not shown.strip() or (shown == begun and not _COMMAND.match(part) and len(indent + part) > width):
            shown += space + part
        elif _COMMAND.match(part):
            yield shown.rstrip()
            *above, shown = (f"  {one}" for one in command_lines(part, width - len("  ")))
            yield from above
        else:
            yield shown.rstrip()
            shown = indent + part
    yield shown


def _parts(text: str) -> Iterator[str]:
    """The words of a text, and each command in it as one."""
    at = 0
    for found in _COMMAND.finditer(text):
        if found.start() < at:
            continue
        yield from text[at : found.start()].split()
        at = found.end()
        for word in _WORD.finditer(text, found.start()):
            if word[0].startswith("("):
                break
            at = word.end()
            if _BEHIND.search(word[0]):
                break
        yield text[found.start() : at].rstrip()
    yield from text[at:].split()


def time_text(utc_time: str) -> str:
    """A time of a document: `2026-11-23 09:30:00 UTC`."""
    return f"{utc_time[:19].replace('T', ' ')} UTC"
