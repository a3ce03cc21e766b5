"""Checks that a private key's file is private, as ssh does: a key of your own that others can read or change is refused."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from evidencesync.errors import ExposedKeyError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.files.disk import NO_MODES
from evidencesync.home import NO_REGULAR_FILE
from evidencesync.limits import MAX_PRIVATE_KEY

_FOREIGN_BITS: Final = 0o077
_PRIVATE: Final = b"PRIVATE KEY"


def require_private(fd: int, data: bytes, file: Path) -> None:
    """Raises ExposedKeyError for an open file that holds a private key, is this user's own, and is open to others.

    The rule is that of OpenSSH's sshkey_perm_ok: a file of another owner (such as root's, on a shared medium) is accepted.
    """
    found = os.fstat(fd)
    mode = stat.S_IMODE(found.st_mode)
    if _PRIVATE in data and found.st_uid == os.getuid() and mode & _FOREIGN_BITS:
        shown = safe_text(str(file), 200)
        text = f"others can get at the private key {shown} (mode {mode:04o})"
        raise ExposedKeyError(text, hint=f"chmod 600 {shell_text(str(file))}. {NO_MODES}")


def check_key_file(file: Path) -> None:
    """The same for a file that is not open yet. Raises OSError, also for anything but a regular file.

    ssh would wait for ever at a FIFO without a writer, and read /dev/full until no memory is left.
    """
    fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, NO_REGULAR_FILE)
        require_private(fd, os.read(fd, MAX_PRIVATE_KEY), file)
    finally:
        os.close(fd)
