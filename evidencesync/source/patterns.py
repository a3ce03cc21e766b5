"""One pattern of --exclude or --include: what it may look like, and what it matches. The language is that of gitignore(5).

A pattern is asked about one path at a time. That a folder's answer holds for what lies in it is not known here: see
`evidencesync.source.filters`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from evidencesync.errors import UsageError
from evidencesync.evidence.display import safe_text

_ANY: Final = "**"
_CHARACTER_CLASS: Final = re.compile(r"\[[^\]]*\[[:.=]")  # `[[:digit:]]`: nobody has needed it yet, so it is refused
_NOTHING: Final = r"Blank patterns, '/', an unclosed '[' and comments do nothing; write \# for a name that begins so."


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that was read. `keeps`: it began with `!`. `folders_only`: it ended with `/`.

    `steps` are its parts between slashes, from the root on, `**` as None; a pattern without a slash but a last one begins with
    `**`, for it matches at every depth.
    """

    keeps: bool
    folders_only: bool
    steps: tuple[re.Pattern[str] | None, ...]
    whole: re.Pattern[str]

    def matches(self, path: str, *, is_folder: bool) -> bool:
        """Whether it matches this very path, relative to the root; a folder above it does not count here."""
        return (is_folder or not self.folders_only) and self.whole.fullmatch(path) is not None

    def may_match_below(self, folder: str) -> bool:
        """Whether it could match something in this folder, at any depth. Errs towards yes."""
        names = folder.split("/")
        for step, name in zip(self.steps, names, strict=False):
            if step is None:
                return True
            if step.fullmatch(name) is None:
                return False
        return len(names) < len(self.steps)

    @property
    def names_every_folder(self) -> bool:
        """Whether it is `*/` or `**/`: these name no folder in particular."""
        return self.folders_only and self.steps[0] is None and all(step is None or step.pattern == "[^/]*" for step in self.steps)


def parse_pattern(text: str) -> Pattern:
    """Reads a pattern. Raises UsageError for one that is malformed, or that could never match anything."""
    if _CHARACTER_CLASS.search(text):
        raise UsageError(f"named character classes are not supported in a pattern: {safe_text(text)}")
    bare = _without_last_spaces(text)
    keeps = bare.startswith("!")
    body = bare[1:] if keeps else bare
    folders_only = body.endswith("/")
    steps = body.removesuffix("/").split("/")
    if bare.startswith("#") or not any(steps):
        raise UsageError(f"a pattern that matches nothing: {safe_text(text)}", hint=_NOTHING)
    if steps[0] == "":
        del steps[0]
    elif len(steps) == 1:
        steps.insert(0, _ANY)
    if "" in steps:
        raise UsageError(f"a pattern that matches nothing: {safe_text(text)}", hint="No name is empty: write one slash only.")
    if "." in steps or ".." in steps:
        raise UsageError(
            f"a pattern that matches nothing: {safe_text(text)}", hint="No name is '.' or '..': write a path from the source on."
        )
    try:
        translated = [None if step == _ANY else _translate(step) for step in steps]
        return Pattern(
            keeps,
            folders_only,
            tuple(None if step is None else re.compile(step, re.DOTALL) for step in translated),
            re.compile(_join(translated), re.DOTALL),
        )
    except (ValueError, re.error) as error:
        raise UsageError(f"not a valid pattern: {safe_text(text)}", hint=_NOTHING) from error


def _without_last_spaces(text: str) -> str:
    """Without the blanks at the end, as git takes them off. One with a backslash before it stays."""
    kept = text.rstrip(" ")
    backslashes = len(kept) - len(kept.rstrip("\\"))
    return kept + " " if backslashes % 2 and len(kept) < len(text) else kept


def _join(steps: list[str | None]) -> str:
    """One expression for the whole path. `**` stands for any number of folders, but at the end for what lies in the last one.

    What stands between two `**` is looked for once, as near to the root as it is there, and never again (an atomic group). That
    loses nothing, and a pattern with many of them costs no more time than one with few, whatever a path looks like.
    """
    runs: list[list[str]] = [[]]
    for step in steps:
        if step is None:
            runs.append([])
        else:
            runs[-1].append(step)
    first, *others = ["/".join(run) for run in runs]
    if not others:
        return first
    *between, last = others
    parts = [f"{first}/"] if first else []
    parts += [f"(?>(?:[^/]+/)*?{run}/)" for run in between if run]
    parts.append(f"(?:[^/]+/)*{last}" if last else ".+")
    return "".join(parts)


def _translate(step: str) -> str:
    """The expression for one name. Raises ValueError where the pattern is cut off in its middle.

    The same holds for what stands between two stars: it has one length, so the first place where it fits will do.
    """
    pieces = [""]
    at = 0
    while at < len(step):
        character = step[at]
        at += 1
        if character == "*":
            if pieces[-1] or len(pieces) == 1:  # two in a row mean the same
                pieces.append("")
        elif character == "?":
            pieces[-1] += "[^/]"
        elif character == "[":
            expression, at = _translate_set(step, at)
            pieces[-1] += expression
        else:
            if character == "\\":
                if at == len(step):
                    raise ValueError("nothing follows the backslash")
                character = step[at]
                at += 1
            pieces[-1] += re.escape(character)
    first, *others = pieces
    if not others:
        return first
    *between, last = others
    return "".join([first, *(f"(?>[^/]*?{piece})" for piece in between), f"[^/]*{last}"])


def _translate_set(step: str, at: int) -> tuple[str, int]:
    """The expression for `[...]`, whose inside begins at `at`, and where it ends."""
    negated = step[at : at + 1] in ("!", "^")
    at += negated
    members: list[str] = []
    first = True
    while first or step[at : at + 1] != "]":
        low, at = _member(step, at)
        if step[at : at + 1] == "-" and step[at + 1 : at + 2] not in ("", "]"):
            high, at = _member(step, at + 1)
            if high < low:
                raise ValueError("a range that is empty")
            members.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            members.append(re.escape(low))
        first = False
    return f"(?!/)[{'^' if negated else ''}{''.join(members)}]", at + 1


def _member(step: str, at: int) -> tuple[str, int]:
    if step[at : at + 1] == "\\":
        at += 1
    if at >= len(step):
        raise ValueError("the bracket is not closed")
    return step[at], at + 1
