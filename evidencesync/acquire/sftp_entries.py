"""Makes manifest entries from SFTP attributes.

SFTP 3 has 32 bits for a time, in whole seconds since 1970 (draft-ietf-secsh-filexfer-02 §5). For a time before 1970 or after 2106
a server sends its lowest 32 bits, which are another time.
"""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from typing import Final

from evidencesync.evidence.entry import Entry, EntryType, Flag
from evidencesync.evidence.path import to_json_fields
from evidencesync.evidence.utc_time import FileTime
from evidencesync.ssh.sftp_answers import SftpStatus

TIMES_OF_SFTP: Final = "whole seconds, modulo 2^32"
_DOUBTFUL: Final = 2**31  # from here on it is a time after January 2038 or, in most evidence, one before 1970


def make_entry(
    path: bytes,
    status: SftpStatus,
    size: int | None = None,
    digests: tuple[str, str] | None = None,
    flags: list[Flag] | None = None,
    target: bytes | None = None,
) -> Entry:
    """Makes an entry. SFTP has no inode numbers, owner names or fractions of seconds: these fields are absent."""
    text, encoded = to_json_fields(path)
    target_text, target_encoded = to_json_fields(target) if target is not None else (None, None)
    kind: EntryType = status.kind or "file"
    mtime, atime = _times(status)
    return Entry(
        kind,
        text,
        encoded,
        size=size,
        blake3=digests[0] if digests else None,
        sha256=digests[1] if digests else None,
        mode=f"{stat.S_IMODE(status.mode):04o}" if status.mode is not None else None,
        uid=status.uid,
        gid=status.gid,
        mtime=mtime,
        atime=atime,
        target=target_text,
        target_b64=target_encoded,
        flags=flags or None,
    )


def untold_times(status: SftpStatus) -> int:
    """Returns how many times of an entry the server sent that cannot be relied on."""
    given = (status.mtime is not None) + (status.atime is not None)
    return given - sum(time is not None for time in _times(status))


def _times(status: SftpStatus) -> tuple[FileTime | None, FileTime | None]:
    """Returns modification and access time, as far as they are known.

    The year in the listing shows in which period of 2^32 seconds a time is. Without a year, times in the later half of the 32-bit
    range are dropped. Where the modification time is wrong, the access time may be wrong too, with nothing to show it.
    """
    mtime, atime, year = status.mtime, status.atime, status.year
    if mtime is not None and (not _fits(mtime, year) if year is not None else mtime >= _DOUBTFUL):
        return None, None
    return _text(mtime), _text(atime) if atime is not None and atime < _DOUBTFUL else None


def _fits(seconds: int, year: int) -> bool:
    """Returns whether a time is in a year; one year more or less is accepted, because the server uses its own time zone."""
    return abs(datetime.fromtimestamp(seconds, UTC).year - year) <= 1


def _text(seconds: int | None) -> FileTime | None:
    return None if seconds is None else f"{seconds}.000000000"
