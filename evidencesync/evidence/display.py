"""The one way in which text from evidence, documents or peers is shown to a person."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

# Control, format (bidirectional marks, zero-width), surrogate, private use, unassigned, line and paragraph separator.
_UNSAFE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_PLAIN: Final = re.compile(r"[ -\[\]-~]*")  # printable ASCII without the backslash


def is_unsafe(character: str) -> bool:
    """Whether a character could move a cursor, reorder its neighbours, or not be seen at all."""
    return unicodedata.category(character) in _UNSAFE_CATEGORIES


def safe_text(value: str | bytes, limit: int | None = None) -> str:
    r"""`value` as printable text on one line, without loss.

    Bytes are read as UTF-8; those that are not become `\xNN` (80 and above). Control, format, bidirectional, private and
    unassigned characters become `\xNN` (below 80), `\uNNNN` or `\UNNNNNNNN`; a backslash is doubled. So no two values
    look alike.
    With a `limit` (in characters), the middle of a longer text is replaced by an ellipsis.
    """
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    shown = text if _PLAIN.fullmatch(text) else "".join(map(_show, text))
    if limit is not None and len(shown) > limit:
        keep = max(limit - 1, 2)
        shown = shown[: keep - keep // 2] + "…" + shown[len(shown) - keep // 2 :]
    return shown


def _show(character: str) -> str:
    if character == "\\":
        return "\\\\"
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that surrogateescape carried through
        return f"\\x{code - 0xDC00:02x}"
    if not is_unsafe(character):
        return character
    if code <= 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
