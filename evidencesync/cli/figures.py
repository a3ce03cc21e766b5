"""Numbers as people read and write them: sizes, rates, durations, shares, and the fingerprint for a notebook."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from evidencesync.errors import UsageError
from evidencesync.evidence.display import safe_text

if TYPE_CHECKING:
    from evidencesync.custody.documents import Stored

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_AMOUNT: Final = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,3}))?([KMGT]?)", re.IGNORECASE)
_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)", re.IGNORECASE)
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_SECONDS: Final = 30 * 86_400
_FACTORS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_FINGERPRINT_DIGITS: Final = 20
_PLURALS: Final = {"directory": "directories"}


def size_text(size_bytes: float) -> str:
    """A size in decimal units, as disks are sold: `512 B`, `1.4 MB`."""
    size = float(size_bytes)
    for unit in _UNITS[:-1]:
        if abs(size) < 999.95:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {_UNITS[-1]}"


def rate_text(size_bytes: float, seconds: float) -> str:
    """How fast that many bytes went; `-` where no time has passed."""
    return f"{size_text(size_bytes / seconds)}/s" if seconds > 0 else "-"


def duration_text(seconds: float) -> str:
    """A duration in the two units that matter: `0.4 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = whole // 60
    return f"{minutes // 60} h {minutes % 60:02} min"


def count_text(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun: `1 file`, `12,345 files`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def kinds_text(counts: Mapping[str, int]) -> str:
    """How many entries there are of each type: `1 file, 2 directories`; `none` of no type at all."""
    return ", ".join(count_text(count, safe_text(kind), _PLURALS.get(kind)) for kind, count in counts.items()) or "none"


def share_text(part: int, whole: int) -> str:
    """A share in percent, never rounded up to all or down to nothing; `0 %` of nothing."""
    if whole <= 0 or part <= 0:
        return "0 %"
    percent = 100 * part / whole
    if part < whole:
        percent = min(percent, 99.9)
    return f"{percent:.1f} %" if percent >= 0.1 else "under 0.1 %"


def stored_text(stored: Stored) -> str:
    """How contents came to lie in the vault: `81.9 kB written, 104.8 MB reflinked (1 file)`. A file counts in one way only."""
    ways = (("written", stored.written), ("linked", stored.linked), ("reflinked", stored.reflinked), ("copied", stored.copied))
    shown = [
        f"{size_text(tally.bytes)} {way}" + (f" ({count_text(tally.files, 'file')})" if tally.files else "")
        for way, tally in ways
        if tally.files or tally.bytes
    ]
    return ", ".join(shown) or "nothing"


def notebook_fingerprint(manifest_sha256: str) -> str:
    """What an examiner writes into a notebook: the first 20 hex digits of the manifest's SHA-256, in groups of four."""
    digits = manifest_sha256[:_FINGERPRINT_DIGITS]
    return " ".join(digits[at : at + 4] for at in range(0, len(digits), 4))


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
