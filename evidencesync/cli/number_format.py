"""Numbers as people read and write them: sizes, rates, durations, shares, and the fingerprint for a notebook."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from evidencesync.errors import UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import count_text, duration_text, notebook_fingerprint, share_text, size_text

if TYPE_CHECKING:
    from evidencesync.custody.documents import Stored

__all__ = [
    "count_text",
    "duration_text",
    "kinds_text",
    "notebook_fingerprint",
    "parse_rate",
    "parse_size",
    "rate_text",
    "share_text",
    "size_text",
    "stored_text",
]

_AMOUNT: Final = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,3}))?([KMGT]?)", re.IGNORECASE)
_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)", re.IGNORECASE)
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_SECONDS: Final = 30 * 86_400
_PLURALS: Final = {"directory": "directories"}
_FACTORS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def rate_text(size_bytes: float, seconds: float) -> str:
    """How fast that many bytes went; `-` where no time has passed."""
    return f"{size_text(size_bytes / seconds)}/s" if seconds > 0 else "-"


def kinds_text(counts: Mapping[str, int]) -> str:
    """How many entries there are of each type: `1 file, 2 directories`; `none` of no type at all."""
    return ", ".join(count_text(count, safe_text(kind), _PLURALS.get(kind)) for kind, count in counts.items()) or "none"


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
    """Bytes a second: `500K`, `1.5M` (of 1024), or a plain number. Raises UsageError for anything else, and for nothing."""
    rate = _parse_amount(text)
    if not rate:
        raise UsageError(f"not a rate: {safe_text(text, 40)}", hint="Write bytes a second: 500K, 1.5M, or a plain number.")
    return rate


def parse_size(text: str) -> int:
    """Bytes: `500K`, `1.5G` (of 1024), or a plain number, also 0. Raises UsageError for anything else."""
    size = _parse_amount(text)
    if size is None:
        raise UsageError(f"not a size: {safe_text(text, 40)}", hint="Write bytes: 500K, 1.5G, or a plain number.")
    return size


def parse_duration(text: str) -> float:
    """Seconds: `90`, `0.5s`, `15m`, `12h`, `2d`. Raises UsageError for anything else, and for nothing."""
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _SECONDS[match[2].lower()] if match is not None else 0.0
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise UsageError(f"not a duration: {safe_text(text, 40)}", hint="Write 30s, 15m, 12h or 2d, up to 30d; plain: seconds.")
    return seconds


def _parse_amount(text: str) -> int | None:
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        return None
    thousandths = int(match[1]) * 1000 + int((match[2] or "").ljust(3, "0"))
    return thousandths * _FACTORS[match[3].upper()] // 1000
