"""What an SFTP server answers, held to what a manifest can state; and its errors as ours."""

from __future__ import annotations

import errno
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


@dataclass(frozen=True, slots=True)
class SftpStatus:
    """What a server says of an entry; None for what it does not tell. Times are whole seconds."""

    kind: EntryType | None
    mode: int | None
    size: int | None
    uid: int | None
    gid: int | None
    mtime: int | None
    atime: int | None

    def differs(self, other: SftpStatus) -> bool:
        """Whether it is another file now, or one that was written to."""
        return (self.kind, self.size, self.mtime) != (other.kind, other.size, other.mtime)


def status_of(attributes: sftp.SFTPAttrs) -> SftpStatus:
    """The attributes in a server's answer. Raises LimitExceededError for a size that no manifest can state."""
    mode, size = attributes.permissions, attributes.size
    if size is not None and size > MAX_FILE_SIZE:
        raise LimitExceededError("the server states a size that no file has")
    kind = _TYPES.get(stat.S_IFMT(mode)) if mode is not None else None
    return SftpStatus(kind, mode, size, attributes.uid, attributes.gid, attributes.mtime, attributes.atime)


def explain_answer(path: bytes, error: Exception) -> Exception:
    """The error to raise: about this path alone (SourceReadError), or about the server or the link."""
    reason = safe_text(str(error), 200)
    shown = f"cannot read {safe_text(path, 300)}: {reason}"
    match error:
        case sftp.SFTPNoSuchFile() | sftp.SFTPNoSuchPath():
            return SourceReadError(shown, errno=errno.ENOENT, vanished=True)
        case sftp.SFTPPermissionDenied():
            return SourceReadError(shown, errno=errno.EACCES)
        case sftp.SFTPBadMessage() | LookupError() | ValueError() | TypeError():
            return ProtocolError(f"the server breaks the SFTP protocol: {reason}")
        case sftp.SFTPConnectionLost() | sftp.SFTPNoConnection() | OSError():
            return LinkLostError(f"the connection was lost: {reason}")
        case sftp.SFTPError():
            return SourceReadError(shown, errno=errno.EIO)
        case _:
            return LinkLostError(f"the connection was lost: {reason}")
