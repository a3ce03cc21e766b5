"""Marks, in a copy of documents, what could not be read where they lie: whoever reads the copy meets the same refusal.

A mark is a symbolic link that leads nowhere. Its target begins with a word that this process has drawn by lot: nobody else can
make one, so no link in a vault is ever taken for a failed read.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from evidencesync.errors import StorageError

_WORD: Final = secrets.token_hex(16).encode() + b":"
_MOST: Final = 4000  # bytes of text: a link's target has at most 4095


def mark_unread(place: Path, text: str) -> None:
    """Makes a mark: whoever reads what should lie there gets StorageError with that text. Raises OSError."""
    os.symlink(_WORD + text.encode()[:_MOST], os.fsencode(place))


def unread_error(name: str | bytes | os.PathLike[str], dir_fd: int | None = None) -> StorageError | None:
    """Returns the error that reading a marked place has to raise; None for what is no mark."""
    try:
        target = os.readlink(os.fsencode(name), dir_fd=dir_fd)
    except OSError:
        return None
    return StorageError(target.removeprefix(_WORD).decode("utf-8", "replace")) if target.startswith(_WORD) else None


def raise_if_unread(name: str | bytes | os.PathLike[str], dir_fd: int | None = None) -> None:
    """Raises that error for a marked place."""
    error = unread_error(name, dir_fd)
    if error is not None:
        raise error
