"""Which names a file system keeps as they are written. Some take a name, and list another one for it.

A file system that ignores case may store small letters only, HFS+ composes and decomposes letters with accents, and FAT and
SMB servers leave out dots and spaces at the end of a name. Such a file is found by the name that was written, so nothing fails
while it is made and read back; and whoever lists the folder later finds one file missing and another one too many.
"""

from __future__ import annotations

import errno
import os
import secrets
from typing import Final

import msgspec

from evidencesync.files.disk import CREATE_FLAGS, opened_folder, storing
from evidencesync.files.folders import names_in, remove_tree

_TRIAL: Final = ".names-"
_LETTERS: Final = (b"Letters",)
_ACCENTS: Final = ("\u00e9".encode(), "e\u0301".encode())
_ENDS: Final = (b"dot.", b"space ")
# A name that is refused is not changed: whoever needs it is told then. exfat-fuse says that there is no such file.
_REFUSED: Final = frozenset({errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG, errno.ENOENT})


class KeptNames(msgspec.Struct, frozen=True):
    """What a file system keeps of a name. What it refuses counts as kept."""

    letters: bool = True
    accents: bool = True
    ends: bool = True

    @property
    def all(self) -> bool:
        """Whether every name is kept, or refused."""
        return self.letters and self.accents and self.ends

    def holds(self, name: bytes) -> bool:
        """Whether a folder will list this name as it is, if the file system takes it."""
        return (
            (self.letters or name == name.lower())
            and (self.accents or name.isascii())
            and (self.ends or not name.endswith((b".", b" ")))
        )


def is_trial(name: bytes) -> bool:
    """Whether a folder's name is that of a trial of this module: a process that is killed leaves it behind."""
    return name.startswith(_TRIAL.encode())


def try_names(folder_fd: int) -> KeptNames:
    """Finds out what a folder's file system keeps of names, in a folder of its own, and removes that one.

    Raises StorageError, NoSpaceError.
    """
    trial = f"{_TRIAL}{secrets.token_hex(8)}"
    with storing("make a folder to try names"):
        os.mkdir(trial, 0o700, dir_fd=folder_fd)
    try:
        with opened_folder(trial, folder_fd) as fd, storing("try names"):
            letters, accents, ends = (all(_is_kept(fd, name) for name in names) for names in (_LETTERS, _ACCENTS, _ENDS))
    finally:
        remove_tree(folder_fd, trial)
    return KeptNames(letters, accents, ends)


def _is_kept(folder_fd: int, name: bytes) -> bool:
    """Makes an empty file, looks how it is listed, and removes it. A name that is refused counts as kept.

    Each name is tried alone: a file system that takes two spellings for one name may all the same keep the one it was given.
    """
    try:
        os.close(os.open(name, CREATE_FLAGS, 0o600, dir_fd=folder_fd))
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        return True
    listed = [os.fsencode(one) for one in names_in(folder_fd)]
    os.unlink(name, dir_fd=folder_fd)
    return listed == [name]
