"""Reads and formats numbers of the command line: sizes, rates, durations, and counts of kinds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from evidencesync.custody.labels import entries_text
from evidencesync.errors import UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import count_text, size_text

if TYPE_CHECKING:
    from evidencesync.custody.documents import Stored

_AMOUNT: Final = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,3}))? ?([KMGT]?)(B|iB)?(/s)?", re.IGNORECASE)
_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)", re.IGNORECASE)
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_SECONDS: Final = 30 * 86_400
_HOW: Final = "5MB (1000 x 1000), 5MiB or 5M (1024 x 1024), or a plain number."
_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def rate_text(size_bytes: float, seconds: float) -> str:
    """How fast that many bytes went; `-` where no time has passed."""
    return f"{size_text(size_bytes / seconds)}/s" if seconds > 0 else "-"


def kinds_text(counts: Mapping[str, int], flags: Mapping[str, int] | None = None) -> str:
    """How many entries there are of each type: `1 file, 2 folders`; `none` of no type at all. `flags`: see `entries_text`."""
    return safe_text(entries_text(counts, flags or {})) or "none"


def stored_text(stored: Stored) -> str:
    """How contents came to lie in the vault: `81.9 kB written, 104.8 MB reflinked (1 file)`. A file counts in one way only."""
    ways = (("written", stored.written), ("linked", stored.linked), ("reflinked", stored.reflinked), ("copied", stored.copied))
    shown = [
        f"{size_text(tally.bytes)} {way}" + (f" ({count_text(tally.files, 'file')})" if tally.files else "")
        for way, tally in ways
        if tally.files or tally.bytes
    ]
    return ", ".join(shown) or "nothing"


def parse_rate(text: str) -> int:
    """Bytes a second: `2MB` (of 1000), `2MiB`, `500K` (of 1024), or a plain number; `/s` may follow.

    Raises UsageError for anything else, and for nothing.
    """
    rate = _parse_amount(text, a_second=True)
    if rate == 0:
        raise UsageError("a rate of 0 would send nothing", hint="For no limit, leave it out.")
    if rate is None:
        raise UsageError(f"not a rate: {safe_text(text, 40)}", hint=f"Write bytes a second: {_HOW}")
    return rate


def parse_size(text: str) -> int:
    """Bytes: `2MB` (of 1000), `2MiB`, `500K` (of 1024), or a plain number, also 0. Raises UsageError for anything else."""
    size = _parse_amount(text, a_second=False)
    if size is None:
        raise UsageError(f"not a size: {safe_text(text, 40)}", hint=f"Write bytes: {_HOW}")
    return size


def parse_duration(text: str) -> float:
    """Seconds: `90`, `0.5s`, `15m`, `12h`, `2d`. Raises UsageError for anything else, and for nothing."""
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _SECONDS[match[2].lower()] if match is not None else 0.0
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise UsageError(f"not a duration: {safe_text(text, 40)}", hint="Write 30s, 15m, 12h or 2d, up to 30d; plain: seconds.")
    return seconds


def _parse_amount(text: str, *, a_second: bool) -> int | None:
    match = _AMOUNT.fullmatch(text.strip())
    if match is None or (match[5] and not a_second) or (match[4] and match[4].lower() == "ib" and not match[3]):
        return None
    if a_second and match[3].isupper() and match[4] == "b":
        raise UsageError(f"{safe_text(text, 40)} may mean bits or bytes", hint=f"Write bytes a second, with a large B: {_HOW}")
    thousandths = int(match[1]) * 1000 + int((match[2] or "").ljust(3, "0"))
    step = 1000 if match[4] and match[4].lower() == "b" else 1024
    return thousandths * int(step ** _POWERS[match[3].upper()]) // 1000
