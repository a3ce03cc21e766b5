"""What an SFTP server answers, held to what a manifest can state; and its errors as ours."""

from __future__ import annotations

import errno
import re
import stat
from dataclasses import dataclass
from typing import Final

from asyncssh import sftp

from evidencesync.errors import LimitExceededError, LinkLostError, ProtocolError, SourceReadError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import EntryType
from evidencesync.limits import MAX_FILE_SIZE

_TYPES: Final[dict[int, EntryType]] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFBLK: "block-device",
    stat.S_IFCHR: "character-device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


_LONGEST_LINE: Final = 4096  # of a listing's line, before the name
_DATE: Final = re.compile(rb" (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 0-3]?[0-9] {1,2}(-?[0-9]{1,12})$")


_REFUSED: Final = "Bad message"
"""What OpenSSH's server says of a question for which the system has EINVAL or ENAMETOOLONG, as where a link has become a file.

It breaks nothing. asyncssh uses the same number for what it does not understand itself, and never these words alone.
"""


@dataclass(frozen=True, slots=True)
class SftpStatus:
    """What a server says of an entry; None for what it does not tell.

    Times are whole seconds since 1970, of which SFTP 3 carries the lowest 32 bits. `year` is that of the modification in the line
    that a server lists a file with, like `ls -l`: OpenSSH's makes it of the whole time.
    """

    kind: EntryType | None
    mode: int | None
    size: int | None
    uid: int | None
    gid: int | None
    mtime: int | None
    atime: int | None
    year: int | None = None

    def differs(self, other: SftpStatus) -> bool:
        """Whether it is another file now, or one that was written to."""
        return (self.kind, self.size, self.mtime) != (other.kind, other.size, other.mtime)


def status_of(attributes: sftp.SFTPAttrs, year: int | None = None) -> SftpStatus:
    """The attributes in a server's answer. Raises LimitExceededError for a size that no manifest can state."""
    mode, size = attributes.permissions, attributes.size
    if size is not None and size > MAX_FILE_SIZE:
        raise LimitExceededError("the server states a size that no file has")
    kind = _TYPES.get(stat.S_IFMT(mode)) if mode is not None else None
    return SftpStatus(kind, mode, size, attributes.uid, attributes.gid, attributes.mtime, attributes.atime, year)


def listed_year(line: object, name: bytes) -> int | None:
    """The year in a listing's line for `name`; None where there is none, as for what was modified in the last six months.

    The form of these lines is a server's own affair (draft-ietf-secsh-filexfer-02 §7). One that is not understood says nothing.
    """
    if not isinstance(line, bytes) or not line.endswith(b" " + name):
        return None
    found = _DATE.search(line[: -len(name) - 1][-_LONGEST_LINE:])
    return int(found[1]) if found else None


def explain_answer(path: bytes, error: Exception) -> Exception:
    """The error to raise: about this path alone (SourceReadError), or about the server or the link."""
    reason = safe_text(str(error), 200)
    shown = f"cannot read {safe_text(path, 300)}: {reason}"
    match error:
        case sftp.SFTPNoSuchFile() | sftp.SFTPNoSuchPath():
            return SourceReadError(shown, errno=errno.ENOENT, vanished=True)
        case sftp.SFTPPermissionDenied():
            return SourceReadError(shown, errno=errno.EACCES)
        case sftp.SFTPBadMessage() if reason == _REFUSED:
            return SourceReadError(shown, errno=errno.EINVAL)
        case sftp.SFTPBadMessage() | LookupError() | ValueError() | TypeError():
            return ProtocolError(f"the server breaks the SFTP protocol: {reason}")
        case sftp.SFTPConnectionLost() | sftp.SFTPNoConnection() | OSError():
            return LinkLostError(f"the connection was lost: {reason}")
        case sftp.SFTPError():
            return SourceReadError(shown, errno=errno.EIO)
        case _:
            return LinkLostError(f"the connection was lost: {reason}")
