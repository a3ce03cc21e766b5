"""Finds what may have been meant by a name or a number that nobody has: for the hint of an error, and for nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Final

from evidencesync.evidence.display import shell_text
from evidencesync.evidence.identity import likeness

_MOST_COMPARED: Final = 4096  # names: it is a hint
_SHORTEST_BEGINNING: Final = 3  # characters of a name that is taken for the beginning of another


def nearest(wanted: str, known: Iterable[str]) -> list[str]:
    """The names, two at most, that may have been meant by one that is not there.

    1. Other spellings of it.  2. What begins with it, where that is one name or two: `ana` for `ana@lab`.  3. Slips of the hand,
    which seldom change the first letter.
    """
    import difflib  # only for an error

    form, forms = likeness(wanted), {name: likeness(name) for name in itertools.islice(known, _MOST_COMPARED)}
    if not form:
        return []
    if spelt := [name for name in forms if forms[name] == form]:
        return spelt[:2]
    if begun := [name for name in forms if len(form) >= _SHORTEST_BEGINNING and forms[name].startswith(form)]:
        return begun if len(begun) <= 2 else []
    same_beginning = {one for one in forms.values() if one[:1] == form[:1]}
    close = difflib.get_close_matches(form, same_beginning, n=2, cutoff=0.7)
    close = close or difflib.get_close_matches(form, {*forms.values()}, n=2, cutoff=0.85)
    return [name for near in close for name in forms if forms[name] == near][:2]


def did_you_mean(names: Iterable[str], option: str | None = None) -> str:
    """The beginning of a hint that names what may have been meant, as it is typed; empty if nothing may."""
    typed = [shell_text(*(() if option is None else (option,)), name) for name in names]
    return f"Did you mean {' or '.join(typed)}? " if typed else ""


def numbers_text(numbers: Sequence[int], what: str) -> str:
    """What there is of things that are numbered from 1 on, as a sentence, with a space behind it; empty where there is none."""
    if not numbers:
        return ""
    first, last = min(numbers), max(numbers)
    return f"It has {what} {first} alone. " if first == last else f"It has {what}s {first} to {last}. "
