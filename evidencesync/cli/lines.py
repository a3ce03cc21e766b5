"""Lays out lines for people: as wide as the terminal, 100 columns at most, and times to the second, in UTC."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator
from typing import Final

_WIDEST: Final = 100
_NARROWEST: Final = 60
"""Columns. On a terminal that is narrower, lines are broken by it."""


def _width() -> int:
    if sys.stdout is None or not sys.stdout.isatty():
        return _WIDEST
    try:
        return min(max(os.get_terminal_size(sys.stdout.fileno()).columns, _NARROWEST), _WIDEST)
    except OSError:
        return _WIDEST


def wrapped(before: str, text: str) -> Iterator[str]:
    """The text in lines, no wider than the terminal. `before` begins the first, and the others begin below the text."""
    indent = " " * len(before)
    lines = textwrap.wrap(
        text,
        _width(),
        initial_indent=before,
        subsequent_indent=indent,
        replace_whitespace=False,
        expand_tabs=False,
        break_on_hyphens=False,
    )
    yield from lines or [before.rstrip()]


def time_text(utc_time: str) -> str:
    """A time of a document: `2026-11-23 09:30:00 UTC`."""
    return f"{utc_time[:19].replace('T', ' ')} UTC"
