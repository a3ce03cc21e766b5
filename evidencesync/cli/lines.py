"""Lays out lines for people: 100 columns wide, and times to the second, in UTC."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

WIDTH: Final = 100


def wrapped(before: str, text: str) -> Iterator[str]:
    """The text in lines of at most 100 columns. `before` begins the first, and the others begin below the text."""
    indent = " " * len(before)
    lines = textwrap.wrap(
        text,
        WIDTH,
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
