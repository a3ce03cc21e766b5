"""Says which names a pattern with `*` and `?` means, and which patterns for case numbers have one meaning only."""

from __future__ import annotations

import unicodedata
from typing import Final

from evidencesync.evidence.display import is_clean
from evidencesync.limits import MAX_TITLE

_MEANS_ELSEWHERE: Final = frozenset("[]{}\\,!")  # sets, alternatives, escapes, lists and negations in other tools
_LOOKS_LIKE: Final = ("ASTERISK", "QUESTION MARK", "SOLIDUS")
_STAR_ALONE: Final = "`*` alone may mean every case, or every case without a slash in its number: leave the pattern out for all"


def fits(name: str, pattern: str) -> bool:
    """Whether a pattern matches the whole name: `*` any number of characters, `?` one, everything else itself.

    Backtracks to the last `*` only: the time stays quadratic.
    """
    if "*" not in pattern and "?" not in pattern:
        return name == pattern
    at = sign_at = 0
    retry_at, retry_sign_at = 0, -1  # where to continue after the last `*` when what follows it does not match
    while at < len(name):
        sign = pattern[sign_at : sign_at + 1]
        if sign == "*":
            sign_at += 1
            retry_at, retry_sign_at = at, sign_at
        elif sign and sign in ("?", name[at : at + 1]):
            at, sign_at = at + 1, sign_at + 1
        elif retry_sign_at >= 0:
            retry_at += 1
            at, sign_at = retry_at, retry_sign_at
        else:
            return False
    return not pattern[sign_at:].strip("*")


def case_fits(case: str, pattern: str) -> bool:
    """Whether a case number is one of those that a pattern means.

    Letters' case counts. Both are compared in NFC, and no `*` or `?` stands for a slash.
    """
    names, patterns = (unicodedata.normalize("NFC", text).split("/") for text in (case, pattern))
    return len(names) == len(patterns) and all(map(fits, names, patterns))


def case_pattern_problem(pattern: str) -> str | None:
    """Returns why a pattern for case numbers is not taken: it could be read in two ways. None where it is."""
    if not pattern.strip() or len(pattern) > MAX_TITLE or pattern != pattern.strip() or not is_clean(pattern):
        return f"it needs 1 to {MAX_TITLE} characters, none of them a control character, and no outer spaces"
    if unicodedata.normalize("NFC", pattern) != pattern:
        return "its accents are written apart from their letters (it is not in NFC)"
    if pattern == "*":
        return _STAR_ALONE
    if "**" in pattern:
        return "`**` means more than `*` in other tools"
    for character in pattern:
        if character in _MEANS_ELSEWHERE:
            return f"`{character}` has a meaning of its own in other tools: write `?` for it"
        if not character.isascii() and any(word in unicodedata.name(character, "") for word in _LOOKS_LIKE):
            return f"`{character}` looks like a character of patterns, and is none: write `?` for it"
    return None
