"""Escapes text from evidence, documents or peers, so that it is safe to display."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterator
from typing import Final

# Control, format (bidirectional marks, zero-width), surrogate, private use, unassigned, line and paragraph separator.
_UNSAFE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Letters, marks and symbols that nothing is drawn for: fillers, variation selectors, the blank of Braille. Documents may hold
# them, and so may names; shown as they are, two different names would look the same.
_INVISIBLE: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0") | frozenset(
    map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)
# Marks on one letter that are shown as they are: no language has as many, and more cover the lines above and below.
_MOST_MARKS: Final = 16
_PLAIN: Final = re.compile(r"[ -\[\]-~]*")  # printable ASCII without the backslash


# Part of the document format, and so a fixed list: what Unicode assigns tomorrow changes no document of today.
_UNCLEAN: Final = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control
    "\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"  # format
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f"  # zero-width, separators, bidirectional, invisible operators
    "\ud800-\udfff\ue000-\uf8ff\ufeff\ufff0-\ufffb"  # surrogate, private use, byte order mark, annotations
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # format
    "\U000e0000-\U0010ffff"  # tags, private use
    "]"
)


def is_clean(text: str) -> bool:
    """Whether text may be in a document as it is: no character steers a terminal, reorders others, or is a format mark."""
    if text.isascii():
        return text.isprintable()
    return _UNCLEAN.search(text) is None


def is_unsafe(character: str) -> bool:
    """Whether a character could move a cursor, reorder its neighbours, or be a format mark."""
    return unicodedata.category(character) in _UNSAFE_CATEGORIES


def is_invisible(character: str) -> bool:
    """Whether nothing is drawn for a letter, mark or symbol that a document may hold."""
    return character in _INVISIBLE


def safe_text(value: str | bytes, limit: int | None = None) -> str:
    r"""Returns `value` as printable text on one line, without loss.

    Bytes are read as UTF-8; those that are not become `\xNN` (80 and above). Control, format, bidirectional, private,
    unassigned and invisible characters, and marks beyond the 16th on one letter, become `\xNN` (below 80), `\uNNNN` or
    `\UNNNNNNNN`; a backslash is doubled. So no two values are shown as the same characters, none has a part that nobody sees,
    and none covers what stands beside it.
    With a `limit` (in characters), the middle of a longer text is replaced by an ellipsis.
    """
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    shown = text if _PLAIN.fullmatch(text) else "".join(_shown(text))
    if limit is not None and len(shown) > limit:
        keep = max(limit - 1, 2)
        shown = shown[: keep - keep // 2] + "…" + shown[len(shown) - keep // 2 :]
    return shown


def shell_text(*words: str | bytes) -> str:
    r"""Returns words as they are typed into a shell (bash, ksh, zsh), safe for a terminal.

    A word with characters that `safe_text` would escape is written as `$'a\x1bb'`, which the shell reads as that very word.
    """
    return " ".join(map(_shell_word, words))


def _shell_word(word: str | bytes) -> str:
    text = word.decode("utf-8", "surrogateescape") if isinstance(word, bytes) else word
    judged = [*_judged(text)]
    if not any(is_escaped for _, is_escaped in judged):
        return shlex.quote(text)
    quoted = (f"\\{one}" if one in "\\'" else _as_bytes(one) if is_escaped else one for one, is_escaped in judged)
    return f"$'{''.join(quoted)}'"


def _as_bytes(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def person_text(name: str, principal: str, *limits: int) -> str:
    """Returns who somebody is for people: the name, and the principal in brackets unless it is the same. `limits`: of each."""
    shown, known = (safe_text(text, limit) for text, limit in zip((name, principal), limits or (None, None), strict=True))
    return shown if name == principal else f"{shown} ({known})"


def _shown(text: str) -> Iterator[str]:
    for character, is_escaped in _judged(text):
        yield _escape(character) if is_escaped else "\\\\" if character == "\\" else character


def _judged(text: str) -> Iterator[tuple[str, bool]]:
    """Each character, and whether it is escaped."""
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character).startswith("M") else 0
        yield character, marks > _MOST_MARKS or _is_escaped(character)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that surrogateescape carried through
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _is_escaped(character: str) -> bool:
    return is_invisible(character) or is_unsafe(character)


def escape_line(line: str) -> str:
    """A line that is already made for people, with whatever could still steer a terminal escaped.

    Values from evidence and peers go through `safe_text` where a line is put together; this is the second lock.
    """
    if line.isascii() and line.isprintable():
        return line
    return "".join(_escape(character) if is_escaped else character for character, is_escaped in _judged(line))
