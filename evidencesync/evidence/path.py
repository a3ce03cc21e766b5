"""Checks and sorts evidence paths: raw bytes, relative to the source's root, which never lead out of it."""

from __future__ import annotations

import base64
import binascii
import heapq
import re
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Final, TypeVar

import msgspec

from evidencesync.errors import PathEscapeError
from evidencesync.evidence.display import is_clean, safe_text
from evidencesync.limits import MAX_DEPTH, MAX_NAME, MAX_PATH

# Matches the usual plain paths: no control bytes, no backslash, no component that starts with a dot.
_PLAIN: Final = re.compile(rb"(?:[!-\-0-~][ -.0-~]{0,254})(?:/[!-\-0-~][ -.0-~]{0,254})*")
_FORBIDDEN_PARTS: Final = frozenset({b"", b".", b".."})
_Left = TypeVar("_Left")
_Right = TypeVar("_Right")
RUN: Final = 1 << 16
"""Names that are sorted at once: about 6 MiB as objects. More names are kept packed, in about as many bytes as they have."""
_SEPARATOR: Final = b"/"  # no name contains it


class EvidencePath(msgspec.Struct, frozen=True):
    """A path relative to the source's root, as the exact bytes the file system gave. The root itself is `b""`.

    Raises PathEscapeError for anything absolute, empty in the middle, `.` or `..`, with a NUL, or beyond limits.
    """

    raw: bytes

    def __post_init__(self) -> None:
        raw = self.raw
        if not raw:
            return
        if len(raw) > MAX_PATH:
            raise PathEscapeError(f"a path is {len(raw)} bytes long; the limit is {MAX_PATH}")
        if _PLAIN.fullmatch(raw) and raw.count(b"/") < MAX_DEPTH:
            return
        if b"\0" in raw:
            raise PathEscapeError(f"a path holds a NUL byte: {safe_text(raw, 100)}")
        parts = raw.split(b"/")
        if not _FORBIDDEN_PARTS.isdisjoint(parts):
            raise PathEscapeError(f"a path is not plain and relative: {safe_text(raw, 100)}")
        if len(parts) > MAX_DEPTH or max(map(len, parts)) > MAX_NAME:
            raise PathEscapeError(f"a path is too deep or has too long a name: {safe_text(raw, 100)}")

    @property
    def parts(self) -> tuple[bytes, ...]:
        """The names from the root down; empty for the root. The order of a manifest is the order of these tuples."""
        return tuple(self.raw.split(b"/")) if self.raw else ()

    @property
    def name(self) -> bytes:
        """The last name; `b""` for the root."""
        return self.raw.rpartition(b"/")[2]

    @property
    def parent(self) -> EvidencePath:
        """The folder that contains this entry. The root is its own parent."""
        return EvidencePath(self.raw.rpartition(b"/")[0])

    def joined(self, name: bytes) -> EvidencePath:
        """Returns the path of the entry `name` in this folder."""
        return EvidencePath(self.raw + b"/" + name if self.raw else name)

    def display(self) -> str:
        """The path for people: safe on a terminal and in a report."""
        return safe_text(self.raw) if self.raw else "."

    def __str__(self) -> str:
        return self.display()


def walk_order(raw: bytes) -> bytes:
    """A key that sorts raw paths as a walk meets them: names by their bytes, a folder before what is in it."""
    return raw.replace(b"/", b"\0")


def pair_in_order(
    left: Iterator[_Left], right: Iterator[_Right], left_order: Callable[[_Left], bytes], right_order: Callable[[_Right], bytes]
) -> Iterator[tuple[_Left | None, _Right | None]]:
    """Goes through two listings in walk order side by side: pairs of the same path, and with None what one side alone has.

    The orders are keys as `walk_order` makes them. A pair is given before anything that comes after it is asked for.
    """
    lefts = ((left_order(one), one) for one in left)
    rights = ((right_order(other), other) for other in right)
    one, other = next(lefts, None), next(rights, None)
    while one is not None or other is not None:
        if one is not None and (other is None or one[0] < other[0]):
            yield one[1], None
            one = next(lefts, None)
        elif other is not None and (one is None or other[0] < one[0]):
            yield None, other[1]
            other = next(rights, None)
        elif one is not None and other is not None:
            yield one[1], other[1]
            one, other = next(lefts, None), next(rights, None)


def to_json_fields(raw: bytes) -> tuple[str | None, str | None]:
    """Encodes raw bytes as the pair (`path`, `path_b64`), exactly one of which is set.

    The first is set where the bytes are UTF-8 and `evidence.display.is_clean`; else the second, in base64.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None, base64.b64encode(raw).decode("ascii")
    if not is_clean(text):
        return None, base64.b64encode(raw).decode("ascii")
    return text, None


def from_json_fields(text: str | None, encoded: str | None) -> bytes:
    """Decodes a pair that `to_json_fields` made; it must be exactly the pair that `to_json_fields` makes.

    Raises PathEscapeError when both or neither is set, or when the other form should have been used.
    """
    if (text is None) == (encoded is None):
        raise PathEscapeError("a path must be given either as text or as base64")
    try:
        raw = text.encode("utf-8") if text is not None else base64.b64decode(encoded or "", validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError) as error:
        raise PathEscapeError("a path is neither UTF-8 nor base64") from error
    if to_json_fields(raw) != (text, encoded):
        raise PathEscapeError(f"a path is not in its one correct form: {safe_text(raw, 100)}")
    return raw


class SortedNames:
    """Takes names in any order, in runs of about `RUN`; iterating gives them sorted, each once."""

    def __init__(self) -> None:
        self._packed: list[bytes] = []
        self._last: list[bytes] = []

    def add(self, names: list[bytes]) -> None:
        """Adds the next run and takes the list over. No name is empty or contains a slash."""
        if self._last:
            self._packed.append(_SEPARATOR.join(self._last))
        names.sort()
        if any(map(bytes.__eq__, names, names[1:])):  # some file systems list a name twice while it is being renamed
            names = list(dict.fromkeys(names))
        self._last = names

    def __iter__(self) -> Iterator[bytes]:
        if not self._packed:
            return iter(self._last)
        return (name for name, _ in groupby(heapq.merge(*map(_unpacked, self._packed), self._last)))


def _unpacked(packed: bytes) -> Iterator[bytes]:
    start = 0
    while (end := packed.find(_SEPARATOR, start)) >= 0:
        yield packed[start:end]
        start = end + 1
    yield packed[start:]
