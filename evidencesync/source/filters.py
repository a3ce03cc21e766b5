"""Which entries the user asked to leave out, and which alone to take."""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

import pathspec
from pathspec.patterns.gitignore import GitIgnorePatternError

from evidencesync.errors import UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.source.listed import ListedNames

# The library's regular expressions are not made for names with line breaks: `.` does not match one and `$` matches before
# one, so `*.tmp` would leave out "a.tmp\n". Names and patterns therefore carry this stand-in, which no decoded name can hold.
_LINE_BREAK: Final = "\udc0a"
_CHARACTER_CLASS: Final = re.compile(r"\[[^\]]*\[[:.=]")  # the library would take `[[:digit:]]` for something else


@dataclass(frozen=True, slots=True)
class FilterRules:
    """What is left out: the patterns of --exclude and --include, in the sense of gitignore; an include wins over every exclude.

    Among the excludes the last match wins, as in a .gitignore file. A pattern names the source's own paths, never the
    machine's. What an include may still keep is looked for below a folder that is left out, and a folder that is
    included is kept with all that is in it: where this differs from git, more is kept.

    `max_size` leaves out files of more bytes, `one_file_system` what lies on another file system than the root (and the folder
    where that is mounted: what one sees of it is the other's). `listed` is all that is wanted, where that is not everything.
    """

    excludes: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    max_size: int | None = None
    one_file_system: bool = False
    listed: ListedNames | None = None
    _spec: pathspec.GitIgnoreSpec | None = field(default=None, compare=False, repr=False)
    _kept: tuple[tuple[str, ...] | None, ...] = field(default=(), compare=False, repr=False)

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
        if not left_out and not kept:
            return cls((), (), max_size, one_file_system, listed)
        for pattern in kept:
            if pattern.startswith("!"):
                raise UsageError(rf"an --include may not begin with '!' (write \! for the character): {safe_text(pattern)}")
        lines = [*left_out, *("!" + pattern for pattern in kept)]
        spec = _compile([line.replace("\n", _LINE_BREAK) for line in lines])
        ways = tuple(_way_down(line[1:]) for line in lines if line.startswith("!"))
        return cls(left_out, kept, max_size, one_file_system, listed, spec, ways)

    @property
    def is_empty(self) -> bool:
        """Whether nothing that is wanted can be left out, so that no entry needs to be asked about."""
        return self._spec is None and self.max_size is None and not self.one_file_system

    def skips(self, path: bytes, status: os.stat_result, device: int) -> bool:
        """Whether an entry is to be listed as skipped; `device` is the st_dev of the root.

        A folder is not, where something below it may be kept.
        """
        if self.one_file_system and status.st_dev != device:
            return True
        if self.max_size is not None and status.st_size > self.max_size and stat.S_ISREG(status.st_mode):
            return True
        is_folder = stat.S_ISDIR(status.st_mode)
        return self.leaves_out(path, is_folder=is_folder) and not (is_folder and self.may_keep_below(path))

    def leaves_out(self, path: bytes, *, is_folder: bool) -> bool:
        """Whether the entry at this path (raw bytes, relative, never the root) is to be left out."""
        if self._spec is None:
            return False
        text = _text(path)
        return self._spec.match_file(text + "/" if is_folder else text)

    def may_keep_below(self, path: bytes) -> bool:
        """Whether an include could match something below this folder. Errs towards yes: looking loses nothing."""
        if not self._kept:
            return False
        names = _text(path).split("/")
        return any(way is None or _leads_through(way, names) for way in self._kept)

    def lines(self) -> list[str]:
        """The rules as the manifest's header states them, escaped for display, in the order in which they apply."""
        return [
            *(f"exclude {safe_text(pattern)}" for pattern in self.excludes),
            *(f"include {safe_text(pattern)}" for pattern in self.includes),
            *([f"max-size {self.max_size}"] if self.max_size is not None else []),
            *(["one-file-system"] if self.one_file_system else []),
            *([f"files-from {self.listed.count} names, sha256 {self.listed.sha256}"] if self.listed is not None else []),
        ]


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape").replace("\n", _LINE_BREAK)


def _compile(lines: list[str]) -> pathspec.GitIgnoreSpec:
    """One pattern after the other first, so that the message can name the one that is wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of `[[]`, which gitignore allows
        for line in lines:
            if _CHARACTER_CLASS.search(line):
                raise UsageError(f"named character classes are not supported in a pattern: {_shown(line)}")
            try:
                single = _spec_of([line])
            except (GitIgnorePatternError, re.error) as error:
                raise UsageError(f"not a valid pattern: {_shown(line)}") from error
            if not single.patterns or any(pattern.include is None for pattern in single.patterns):
                raise UsageError(
                    f"a pattern that matches nothing: {_shown(line)}",
                    hint=r"Blank patterns, '/', an unclosed '[' and comments do nothing; write \# for a name that begins so.",
                )
        return _spec_of(lines)


def _spec_of(lines: list[str]) -> pathspec.GitIgnoreSpec:
    # The plain backend: the others of this library do not take names that are not UTF-8.
    return pathspec.GitIgnoreSpec.from_lines(lines, backend="simple")


def _shown(line: str) -> str:
    return safe_text(line.replace(_LINE_BREAK, "\n"))


def _way_down(pattern: str) -> tuple[str, ...] | None:
    """The folders that lead to what a pattern anchored at the root can match; None where it can match anywhere."""
    names = pattern.rstrip("/").split("/")
    if len(names) == 1:  # no slash but a last one: gitignore matches at every depth
        return None
    return tuple(names[1:] if names[0] == "" else names)


def _leads_through(way: tuple[str, ...], names: list[str]) -> bool:
    for wanted, name in zip(way, names, strict=False):
        if wanted == "**":
            return True
        if "\\" not in wanted and "[" not in wanted and not fnmatchcase(name, wanted):
            return False
    return len(names) < len(way)
