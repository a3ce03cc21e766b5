"""Checks what a person types for a document, before anything is read, signed or sent.

A reader of documents refuses the same as broken or hostile; here it is an error of use, and names the limit.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from evidencesync.errors import UsageError
from evidencesync.evidence.display import is_clean, safe_text
from evidencesync.limits import MAX_FREE_TEXT, MAX_PATH, MAX_TYPED, MAX_TYPED_TEXTS


def check_text(text: str, what: str, limit: int = MAX_FREE_TEXT, *, may_be_empty: bool = False) -> str:
    """Checks a text that is to be stored in a document, and returns it. Raises UsageError."""
    if not (text or may_be_empty) or len(text) > limit or not is_clean(text):
        raise UsageError(
            f"{what} cannot be recorded: {safe_text(text, 80)}",
            hint=f"Write {0 if may_be_empty else 1} to {limit} characters on one line, none of which are control characters.",
        )
    return text


def check_header_texts(texts: Iterable[str]) -> None:
    """Checks that the notes, the filters and the command line together have room in a manifest's header. Raises UsageError."""
    given = list(texts)
    longest, size = max(map(len, given), default=0), len(msgspec.json.encode(given))
    if longest > 2 * MAX_PATH:
        said = f"one of them has {longest} characters; the limit is {2 * MAX_PATH}"
    elif size > MAX_TYPED:
        said = f"they take {size} bytes; the limit is {MAX_TYPED}"
    elif len(given) > MAX_TYPED_TEXTS:
        said = f"they are {len(given)} texts; the limit is {MAX_TYPED_TEXTS}"
    else:
        return
    raise UsageError(
        f"the notes, the filters and the command line do not fit into the manifest's header: {said}",
        hint="Name many paths in a file (--files-from), and details in another (--case-file).",
    )
