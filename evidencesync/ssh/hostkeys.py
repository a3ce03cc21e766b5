"""How a host key is recorded: the file that `host trust` adds to."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from evidencesync.errors import ConfigurationError
from evidencesync.evidence.display import safe_text
from evidencesync.outside import open_folder_outside


def remember_host_key(file: Path, name: str, key: str) -> None:
    """Adds a key (its type and itself) to a known_hosts file, for `host trust` after a person has said yes.

    Durable when this returns.

    The line is one write at the end of the file, so two at once don't mix; a torn last line is closed first. Raises
    ConfigurationError where the file can't be written.
    """
    line = f"{name} {key}\n".encode()
    try:
        descriptor = _open_to_add(file)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(descriptor, line) != len(line):
                raise ConfigurationError(f"{safe_text(str(file))} could not be written whole")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigurationError(f"{safe_text(str(file))} can't be written: {error.strerror}") from error


def _open_to_add(file: Path) -> int:
    """A known_hosts file, made where it is missing. A link to a file that is there is its owner's business. Raises OSError."""
    shown = safe_text(str(file), 200)
    folder = open_folder_outside(file.parent, shown, (), "Name another file: --known-hosts FILE", follow=True)
    try:
        flags = os.O_RDWR | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(file.name, flags, dir_fd=folder)
        except FileNotFoundError:
            return os.open(file.name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return descriptor
