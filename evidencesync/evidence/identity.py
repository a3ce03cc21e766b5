"""Checks case and item numbers, and derives folder names from them."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Final

import msgspec

from evidencesync.errors import InvalidNameError
from evidencesync.evidence.display import is_clean, safe_text
from evidencesync.limits import MAX_FOLDER_NAME, MAX_TITLE

_FOLDER: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_MARKS: Final = re.compile(r"[\W_]+")
_NOT_BETWEEN_DIGITS: Final = re.compile(r"(?<!\d) | (?!\d)")
_ZERO_LIKE: Final = re.compile(r"(?<=\d)o|o(?=\d)")
_ONE_LIKE: Final = re.compile(r"(?<=\d)[il](?![a-z])|(?<![a-z])[il](?=\d)")
_LEADING_ZEROS: Final = re.compile(r"(?<!\d)0+(?=\d)")
_DERIVED: Final = re.compile(r".*-[0-9a-f]{8}")
_NOT_SAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


def is_folder_name(name: str) -> bool:
    """Whether a name can be a CASE or ITEM folder: `[A-Za-z0-9._-]`, at most 64, no leading dot."""
    return _FOLDER.fullmatch(name) is not None


def folder_name(title: str) -> str:
    """Derives a folder name from a title: the title itself where it is a safe name, else a readable form with a short digest.

    The digest (of the exact title) keeps `A/1` and `A 1` apart.
    """
    if is_folder_name(title):
        return title
    digest = hashlib.sha256(title.encode("utf-8")).hexdigest()[:8]
    readable = _NOT_SAFE.sub("-", title).strip(".-") or "x"
    return f"{readable[: MAX_FOLDER_NAME - 9]}-{digest}"


def is_derived(folder: str) -> bool:
    """Whether a folder's name may be derived from a number that is no safe name: then it does not tell the number."""
    return _DERIVED.fullmatch(folder) is not None


def likeness(title: str) -> str:
    """Returns what a number has in common with other spellings of it: `LAPTOP-1`, `Laptop_01` and `laptop 1` have the same.

    Compatible characters (NFKC), letters' case, leading zeros, and marks and spaces do not count, but between two digits:
    `1-11` is not `11-1`. A letter that looks like a digit, and stands beside one, counts as that digit: `2024-O17`. It is empty
    for a number without letters and digits, which is like no other.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", title).casefold())
    spaced = _MARKS.sub(" ", _ONE_LIKE.sub("1", _ZERO_LIKE.sub("0", folded))).strip()
    return _LEADING_ZEROS.sub("", _NOT_BETWEEN_DIGITS.sub("", spaced))


class Title(msgspec.Struct, frozen=True):
    """The exact number of a case or an exhibit, as the laboratory writes it.

    Any script, spaces and slashes are allowed; control and bidirectional characters are not, nor is a title that is
    nothing but dots and slashes. Raises InvalidNameError.
    """

    text: str

    def __post_init__(self) -> None:
        if not self.text.strip() or len(self.text) > MAX_TITLE:
            hint = "What else there is to say goes into --note, or into --detail."
            raise InvalidNameError(f"a case or item number needs 1 to {MAX_TITLE} characters", hint=hint)
        if self.text != self.text.strip() or not is_clean(self.text):
            raise InvalidNameError(
                f"a case or item number may not hold control characters or outer spaces: '{safe_text(self.text, 80)}'",
                hint="Type it without them, in quotes if there is a space inside: --item 'DISK 1'",
            )
        if ".." in self.text.split("/") or self.text.startswith("/") or not self.text.strip("./\\"):
            raise InvalidNameError(
                f"not usable as a case or item number: {safe_text(self.text, 80)}",
                hint="Slashes and dots are allowed inside, but no slash at the beginning, and no part that is '..'.",
            )

    @property
    def folder(self) -> str:
        """The name of its folder in a vault."""
        return folder_name(self.text)


class ItemName(msgspec.Struct, frozen=True):
    """The case and item number of an exhibit."""

    case: Title
    item: Title

    def __str__(self) -> str:
        return f"{safe_text(self.case.text)} / {safe_text(self.item.text)}"

    @property
    def place(self) -> str:
        """The folder below `cases/`, `CASE/ITEM`: by it a vault's own chain names an item."""
        return f"{self.case.folder}/{self.item.folder}"
