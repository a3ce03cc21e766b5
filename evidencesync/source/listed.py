"""Parses the list of --files-from: the only names of the source that are wanted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from evidencesync.errors import PathEscapeError, UsageError
from evidencesync.evidence.digest import sha256_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.path import EvidencePath

_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_RELATIVE: Final = (
    "Names are relative to the source, not to the current folder. One with a line break in it needs --files-from0 (find -print0)."
)


class ListedPaths:
    """What is wanted at one path. `whole`: the path itself was listed, and so everything below it is wanted, too.

    `names` are the names below it that were listed or lead to a listed path. They are looked up, even if the folder does not
    list them.
    """

    __slots__ = ("names", "whole")

    def __init__(self, *, whole: bool = False) -> None:
        self.whole = whole
        self.names: dict[bytes, ListedPaths] = {}


EVERYTHING: Final = ListedPaths(whole=True)
"""For a source without a list. Never changed."""


class ListedNames(msgspec.Struct, frozen=True):
    """A list of paths below the source's root. A listed folder is wanted with all that is in it.

    `count` is the number of names in the list, `sha256` the digest of the list's exact bytes, in hexadecimal. `hint` names what
    may be wrong with the list if its names do not exist.
    """

    wanted: ListedPaths
    count: int
    sha256: str
    hint: str = _RELATIVE

    @classmethod
    def parse(cls, content: bytes, separator: bytes) -> ListedNames:
        """Parses a list whose names are terminated or separated by a newline or NUL; empty names do not count.

        A leading `./` and a trailing `/`, as find(1) and ls(1) print them, are removed from a name, and nothing else: a file's
        name may end with a carriage return, or begin with a byte order mark. `hint` mentions these. Raises UsageError for a
        path that is absolute or leads upwards, and for a list without names.
        """
        if content.startswith(_UTF16):
            raise UsageError("the list of files is written in UTF-16", hint="Write the names as the bytes that they are (UTF-8).")
        wanted = ListedPaths()
        count = 0
        for number, line in enumerate(content.split(separator), 1):
            if not line:
                continue
            count += 1
            place = wanted
            for part in _parts(line, number):
                place = place.names.setdefault(part, ListedPaths())
            place.whole = True
        if not count:
            raise UsageError("the list of files names nothing", hint="Name at least one path, relative to the source.")
        return cls(wanted, count, sha256_of(content).hex(), _hint(content, separator))

    def names(self, path: bytes) -> bool:
        """Whether this path itself is listed; `b""` is the source's root."""
        place: ListedPaths | None = self.wanted
        for part in path.split(b"/") if path else ():
            place = place.names.get(part) if place is not None else None
        return place is not None and place.whole

    def wants(self, path: bytes) -> bool:
        """Whether this path, or a folder above it, is listed."""
        place: ListedPaths | None = self.wanted
        for part in path.split(b"/") if path else ():
            if place is None or place.whole:
                break
            place = place.names.get(part)
        return place is not None and place.whole


def below(path: bytes, wanted: ListedPaths) -> Iterator[tuple[bytes, bool]]:
    """All paths below a path that are listed or lead to a listed one, in the manifest's order, and whether each is listed."""
    pending = [(path, name, wanted.names[name]) for name in sorted(wanted.names, reverse=True)]
    while pending:
        above, name, inner = pending.pop()
        full = above + b"/" + name if above else name
        yield full, inner.whole
        pending += [(full, deeper, inner.names[deeper]) for deeper in sorted(inner.names, reverse=True)]


def _parts(line: bytes, number: int) -> tuple[bytes, ...]:
    if line.startswith(b"/"):
        raise UsageError(
            f"line {number} of the list of files is an absolute path: {safe_text(line, 200)}",
            hint="Names are relative to the source, as find SOURCE -printf '%P\\n' prints them.",
        )
    kept = [part for part in line.split(b"/") if part not in (b"", b".")]
    try:
        return EvidencePath(b"/".join(kept)).parts
    except PathEscapeError as error:
        hint = "A list with a NUL after each name is for --files-from0." if b"\0" in line else None
        raise UsageError(f"line {number} of the list of files: {error.message}", hint=hint) from error


def _hint(content: bytes, separator: bytes) -> str:
    """What may be wrong with a list whose names do not exist."""
    if separator == b"\0" and b"\0" not in content and content.count(b"\n") > 1:
        return "This list has no NUL, and line breaks: --files-from takes one name a line."
    if separator == b"\n" and b"\r\n" in content:
        return "Lines of this list end with CR LF, as on Windows, so names in it end with \\x0d. Take it off: tr -d '\\r'."
    if content.startswith(_BYTE_ORDER_MARK):
        return "This list begins with a byte order mark, and so its first name does. Take it off: tail -c +4."
    return _RELATIVE
