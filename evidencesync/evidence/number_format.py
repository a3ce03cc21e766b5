"""Formats numbers for people: sizes, ranges, times, durations, counts, shares, and the fingerprint for a notebook."""

from __future__ import annotations

from typing import Final

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_FINGERPRINT_DIGITS: Final = 20


def size_text(size_bytes: float) -> str:
    """Formats a size in decimal units, as for disks: `512 B`, `1.4 MB`."""
    size = float(size_bytes)
    for unit in _UNITS[:-1]:
        if abs(size) < 999.95:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {_UNITS[-1]}"


def bytes_text(size_bytes: int) -> str:
    """Formats an exact size, and beside it what it is about: `512 bytes`, `1,412,000 bytes (1.4 MB)`."""
    exact = count_text(size_bytes, "byte")
    return exact if size_bytes < 1000 else f"{exact} ({size_text(size_bytes)})"


def extent_text(offset: int, length: int) -> str:
    """Names a range by its first and its last byte: `bytes 4,096 to 4,607`. Nobody knows more than that it lies within them."""
    return f"bytes {offset:,} to {offset + max(length, 1) - 1:,}"


_MANY_DAYS: Final = 30  # a clock that is wrong, and no work that takes long


def duration_text(seconds: float) -> str:
    """Formats a duration in its two largest units: `under 0.1 s`, `0.4 s`, `3 min 05 s`, `2 h 10 min`; a long one: `400 days`."""
    if 0 <= seconds < 0.1:
        return "under 0.1 s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = whole // 60
    if minutes >= _MANY_DAYS * 1440:
        return f"{minutes // 1440:,} days"
    return f"{minutes // 60} h {minutes % 60:02} min"


def time_text(moment: str) -> str:
    """A document's time for people, to the second and never without its zone: `2026-11-23 09:30:00 UTC`."""
    return f"{moment[:10]} {moment[11:19]} UTC"


def exact_time_text(moment: str) -> str:
    """The same to the microsecond, without a fraction that is zero."""
    fraction = moment[19:26].rstrip("0").rstrip(".")
    return f"{moment[:10]} {moment[11:19]}{fraction} UTC"


def seconds_text(seconds: float) -> str:
    """Formats a number of seconds as a person sets it: `1 second`, `0.5 seconds`."""
    return f"{seconds:g} second{'' if seconds == 1 else 's'}"


def count_text(count: int, one: str, many: str | None = None) -> str:
    """Formats a count with its noun: `1 file`, `12,345 files`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def share_text(part: int, whole: int) -> str:
    """Formats a share in percent, never rounded up to all or down to nothing; `0 %` of nothing."""
    if whole <= 0 or part <= 0:
        return "0 %"
    percent = 100 * part / whole
    if part < whole:
        percent = min(percent, 99.9)
    return f"{percent:.1f} %" if percent >= 0.1 else "under 0.1 %"


def notebook_fingerprint(manifest_sha256: str) -> str:
    """Formats the fingerprint for a notebook: the first 20 hex digits of the manifest's SHA-256, in groups of four."""
    digits = manifest_sha256[:_FINGERPRINT_DIGITS]
    return " ".join(digits[at : at + 4] for at in range(0, len(digits), 4))
