"""Formats and parses the times in documents. Reads no clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import msgspec

from evidencesync.evidence.number_format import exact_time_text

_DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}"
UtcTime = Annotated[str, msgspec.Meta(pattern=f"^{_DAY}T{_CLOCK}Z$", max_length=27)]
"""A time in a document: RFC 3339 in UTC with microseconds."""
FileTime = Annotated[str, msgspec.Meta(pattern=r"^-?[0-9]{1,20}\.[0-9]{9}$", max_length=31)]
"""A file's time in a document: decimal seconds since the epoch with nine places."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UTC_TIME: Final = re.compile(f"{_DAY}T{_CLOCK}Z")
_FILE_TIME: Final = re.compile(r"-?[0-9]{1,20}\.[0-9]{9}")


def format_utc_time(nanoseconds: int) -> UtcTime:
    """Formats a time (nanoseconds since the epoch) for a document; fractions of a microsecond are cut off."""
    time = _EPOCH + timedelta(microseconds=nanoseconds // 1000)
    return time.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def parse_utc_time(text: UtcTime) -> int:
    """Parses a document's time to nanoseconds since the epoch. Raises ValueError for anything else."""
    if _UTC_TIME.fullmatch(text) is None:
        raise ValueError(f"not a time of a document: {text!r}")
    # By position: strptime takes ten times as long, and the documents of a vault hold thousands of times.
    date = int(text[:4]), int(text[5:7]), int(text[8:10])
    clock = int(text[11:13]), int(text[14:16]), int(text[17:19]), int(text[20:26])
    since = datetime(*date, *clock, tzinfo=UTC) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


def shown_time(nanoseconds: int) -> str:
    """A time (nanoseconds since the epoch) for people, to the microsecond: see `exact_time_text`."""
    return exact_time_text(format_utc_time(nanoseconds))


def format_file_time(nanoseconds: int) -> FileTime:
    """Formats a file's time (nanoseconds since the epoch, of any sign and size) as decimal seconds."""
    sign = "-" if nanoseconds < 0 else ""
    seconds, rest = divmod(abs(nanoseconds), 1_000_000_000)
    return f"{sign}{seconds}.{rest:09d}"


def parse_file_time(text: FileTime) -> int:
    """Parses a file's time to nanoseconds. Raises ValueError for anything else."""
    match = _FILE_TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"not a file time: {text!r}")
    return checked_file_time(text)


def checked_file_time(text: FileTime) -> int:
    """Parses a file's time whose form was checked when its document was read: a vault does so for each file."""
    return int(text.replace(".", "", 1))
