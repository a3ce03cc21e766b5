"""The rules that leave out entries of a source: patterns, a largest size, one file system, and a list of wanted names.

`Pattern` matches one path at a time. `FilterRules` applies the result for a folder to everything in it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from evidencesync.errors import UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.source.listed import ListedNames
from evidencesync.source.root import OwnFolder

_ANY: Final = "**"
_CHARACTER_CLASS: Final = re.compile(r"\[[^\]]*\[[:.=]")  # `[[:digit:]]` is not supported, and refused
_NOTHING: Final = r"Blank patterns, '/', an unclosed '[' and comments do nothing; write \# for a name that begins so."


class Pattern(msgspec.Struct, frozen=True):
    """A parsed pattern. `keeps`: it began with `!`. `folders_only`: it ended with `/`.

    `steps` are its parts between slashes, from the root on, with None for `**`. A pattern whose only slash is at its end begins
    with `**`, since it matches at every depth.
    """

    keeps: bool
    folders_only: bool
    steps: tuple[re.Pattern[str] | None, ...]
    whole: re.Pattern[str]

    def matches(self, path: str, *, is_folder: bool) -> bool:
        """Whether it matches this path itself, relative to the root. Matches of folders above it do not count here."""
        return (is_folder or not self.folders_only) and self.whole.fullmatch(path) is not None

    def may_match_below(self, folder: str) -> bool:
        """Whether it could match something in this folder, at any depth. If in doubt, True."""
        names = folder.split("/")
        for step, name in zip(self.steps, names, strict=False):
            if step is None:
                return True
            if step.fullmatch(name) is None:
                return False
        return len(names) < len(self.steps)

    @property
    def names_every_folder(self) -> bool:
        """Whether it is `*/` or `**/`, which match every folder."""
        return self.folders_only and self.steps[0] is None and all(step is None or step.pattern == "[^/]*" for step in self.steps)


def parse_pattern(text: str) -> Pattern:
    """Parses a pattern. Raises UsageError for one that is malformed, or that could never match anything."""
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
    """The pattern without trailing blanks, as in git. A blank after a backslash stays."""
    kept = text.rstrip(" ")
    backslashes = len(kept) - len(kept.rstrip("\\"))
    return kept + " " if backslashes % 2 and len(kept) < len(text) else kept


def _join(steps: list[str | None]) -> str:
    """One expression for the whole path. `**` matches any number of folders; at the end, everything in the last folder.

    The part between two `**` is matched at the first place from the root where it fits, without backtracking (an atomic group).
    The result is the same, and a pattern with many `**` takes no more time than one with few, for any path.
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
    """The expression for one name. Raises ValueError for a pattern that is cut off.

    The part between two stars has a fixed length, so the first place where it fits is enough: no backtracking here either.
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
    """The expression for `[...]`, whose inside begins at `at`, and the position after it."""
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


# The words by which a manifest states rules (docs/formats.md).
_EXCLUDE: Final = "exclude"
_MAX_SIZE: Final = "max-size"
_ONE_FILE_SYSTEM: Final = "one-file-system"
_OWN: Final = "own-folder"
_NOT_LISTED: Final = "files-from"

_REMEMBERED: Final = 256  # folders whose result is cached: a walk asks about all names of one folder in a row


class _Answer(NamedTuple):
    """The result of the patterns for a path: whether includes keep it, and all that is in it; whether excludes leave it out."""

    included: bool
    keeps_all: bool
    left_out: bool


_ROOT: Final = _Answer(included=False, keeps_all=False, left_out=False)


class FilterRules(msgspec.Struct, frozen=True, eq=False):
    """The rules of one source: the patterns of --exclude and --include, in gitignore syntax, and other limits.

    The rule for an entry: what an include matches is kept, with all that is in it, whatever the excludes say. For the rest, the
    last exclude that matches the entry itself decides (one that begins with `!` keeps). If none matches, the result for its
    folder holds. Below a folder that is left out, the walk still searches for entries that an include or a `!` may keep. An
    include of every folder (`*/`) keeps folders without what is in them. Where this differs from git, more is kept. Patterns
    are relative to the source.

    `max_size` leaves out files of more bytes. `one_file_system` leaves out folders of another file system than the root's, with
    all that is in them (see `is_on_another_file_system`). `listed` is what is wanted, if that is not everything. `own` are the
    folders in which this run keeps its own state: they are no evidence, and are left out.
    """

    excludes: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    max_size: int | None = None
    one_file_system: bool = False
    listed: ListedNames | None = None
    own: tuple[OwnFolder, ...] = ()
    _excluding: tuple[Pattern, ...] = ()
    _including: tuple[Pattern, ...] = ()
    _answers: dict[str, _Answer] = msgspec.field(default_factory=dict)

    @classmethod
    def none(cls) -> FilterRules:
        """The rules that leave nothing out."""
        return cls()

    @classmethod
    def from_patterns(
        cls,
        excludes: Iterable[str] = (),
        includes: Iterable[str] = (),
        *,
        max_size: int | None = None,
        one_file_system: bool = False,
        listed: ListedNames | None = None,
    ) -> FilterRules:
        """The rules for patterns as the command line gives them (undecodable bytes as surrogates).

        Raises UsageError for a pattern that is malformed, or that could never leave out or keep anything.
        """
        left_out, kept = tuple(excludes), tuple(includes)
        for pattern in kept:
            if pattern.startswith("!"):
                raise UsageError(rf"an --include may not begin with '!' (write \! for the character): {safe_text(pattern)}")
        excluding, including = tuple(map(parse_pattern, left_out)), tuple(map(parse_pattern, kept))
        return cls(left_out, kept, max_size, one_file_system, listed, _excluding=excluding, _including=including)

    @property
    def is_empty(self) -> bool:
        """Whether these rules leave out nothing of what is wanted, so that no entry needs to be checked."""
        return not self._excluding and self.max_size is None and not self.one_file_system

    def names_folder(self, path: bytes) -> bool:
        """Whether a list names this folder itself (`b""`: the root)."""
        return self.listed is not None and self.listed.names(path)

    def skips(self, path: bytes, status: os.stat_result, device: int) -> bool:
        """Whether an entry is recorded as skipped; `device` is the st_dev of the root.

        A folder is not skipped if something below it may be kept.
        """
        if self.is_on_another_file_system(status, device):
            return True
        if self.max_size is not None and status.st_size > self.max_size and stat.S_ISREG(status.st_mode):
            return True
        return self.passes_over(path, is_folder=stat.S_ISDIR(status.st_mode))

    def why_skipped(self, path: bytes, status: os.stat_result, device: int, *, own: bool = False) -> str:
        """The rule by which an entry is recorded as skipped, as `lines` writes it; of `own` state and a list the first word.

        Of patterns it is the one that decides: the last that matches the entry, else the last that matches the nearest folder.
        """
        if own:
            return _OWN
        if self.is_on_another_file_system(status, device):
            return _ONE_FILE_SYSTEM
        size = status.st_size if stat.S_ISREG(status.st_mode) else None
        return self.why_left_out(path, size, is_folder=stat.S_ISDIR(status.st_mode))

    def why_left_out(self, path: bytes, size: int | None, *, is_folder: bool) -> str:
        """The same where size and patterns alone decide; `size`: of a regular file."""
        if self.max_size is not None and size is not None and size > self.max_size:
            return f"{_MAX_SIZE} {self.max_size}"
        at = _text(path)
        while at:
            for text, pattern in zip(reversed(self.excludes), reversed(self._excluding), strict=True):
                if pattern.matches(at, is_folder=is_folder):
                    return f"{_EXCLUDE} {safe_text(text)}"
            at, is_folder = at.rpartition("/")[0], True
        return _NOT_LISTED

    def is_on_another_file_system(self, status: os.stat_result, device: int) -> bool:
        """Whether this is a folder of another file system than the root's, and the rules leave such folders out.

        Only folders are checked, by the device number: in an overlay or another layered file system, a file has the device
        number of its layer. So a single file that is mounted over another one is acquired.
        """
        return self.one_file_system and status.st_dev != device and stat.S_ISDIR(status.st_mode)

    def is_own(self, above: tuple[int, int], name: bytes) -> bool:
        """Whether a folder holds this run's own state. `above` is the device and inode of its parent folder."""
        return any(folder.above == above and folder.name == name for folder in self.own)

    def passes_over(self, path: bytes, *, is_folder: bool) -> bool:
        """Whether the patterns leave an entry out, and nothing below it may be kept."""
        return self.leaves_out(path, is_folder=is_folder) and not (is_folder and self.may_keep_below(path))

    def leaves_out(self, path: bytes, *, is_folder: bool) -> bool:
        """Whether the patterns leave out the entry at this path (raw bytes, relative, never the root)."""
        if not self._excluding:
            return False
        answer = self._answer(_text(path), is_folder=is_folder)
        return answer.left_out and not answer.included

    def may_keep_below(self, path: bytes) -> bool:
        """Whether something below this folder could be kept though the folder is left out. If in doubt, True."""
        text = _text(path)
        kept = (*self._including, *(pattern for pattern in self._excluding if pattern.keeps))
        return any(pattern.may_match_below(text) for pattern in kept)

    def _answer(self, path: str, *, is_folder: bool) -> _Answer:
        """The result for a path. Folders above it are evaluated from the root on, or from the deepest cached one."""
        folder, _, _ = path.rpartition("/")
        unknown: list[str] = []
        above = _ROOT
        while folder:
            known = self._answers.get(folder)  # another thread, which counts ahead, may clear it at any time
            if known is not None:
                above = known
                break
            unknown.append(folder)
            folder, _, _ = folder.rpartition("/")
        for deeper in reversed(unknown):
            above = self._ask(deeper, above, is_folder=True)
            if len(self._answers) >= _REMEMBERED:
                self._answers.clear()
            self._answers[deeper] = above
        return self._ask(path, above, is_folder=is_folder)

    def _ask(self, path: str, above: _Answer, *, is_folder: bool) -> _Answer:
        """The result for a path, given the result for its folder."""
        if above.keeps_all:
            return above
        including = [pattern for pattern in self._including if pattern.matches(path, is_folder=is_folder)]
        keeps_all = any(not pattern.names_every_folder for pattern in including)
        for pattern in reversed(self._excluding):
            if pattern.matches(path, is_folder=is_folder):
                return _Answer(bool(including), keeps_all, not pattern.keeps)
        return _Answer(bool(including), keeps_all, above.left_out)

    def lines(self) -> list[str]:
        """The rules as the manifest's header states them, escaped for display, in the order in which they apply."""
        return [
            *(f"{_EXCLUDE} {safe_text(pattern)}" for pattern in self.excludes),
            *(f"include {safe_text(pattern)}" for pattern in self.includes),
            *([f"{_MAX_SIZE} {self.max_size}"] if self.max_size is not None else []),
            *([_ONE_FILE_SYSTEM] if self.one_file_system else []),
            *(f"{_OWN} {safe_text(folder.path)}" for folder in self.own),
            *([f"{_NOT_LISTED} {self.listed.count} names, sha256 {self.listed.sha256}"] if self.listed is not None else []),
        ]


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
