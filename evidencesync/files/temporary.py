"""Temporary folders, and what to say where none can be made or filled: they lie on another disk than a command's results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from evidencesync.errors import EvidenceSyncError, NoSpaceError, StorageError
from evidencesync.files.shortages import is_full, is_shortage, unexpected

_HINT: Final = "Free space in /tmp (df -h /tmp, df -i /tmp), or name another folder in TMPDIR; then run the same command again."


@contextlib.contextmanager
def temporary_folder(purpose: str = "") -> Iterator[Path]:
    """Makes a temporary folder for the length of a `with`, and removes it. Raises NoSpaceError, StorageError, ResourcesError."""
    import tempfile  # it is slow to import, and hardly ever needed

    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"evidencesync-{purpose}"))
        except OSError as error:
            raise temporary_error(error) from error
        yield Path(folder)


@contextlib.contextmanager
def writing_temporary() -> Iterator[None]:
    """Turns an OSError of the body, which writes to temporary files only, into an error that says so."""
    try:
        yield
    except OSError as error:
        raise temporary_error(error) from error


def temporary_error(error: OSError) -> EvidenceSyncError:
    """The error for a temporary folder or file that cannot be made or written."""
    if is_shortage(error):
        return unexpected(error)
    kind = NoSpaceError if is_full(error) else StorageError
    return kind(f"a temporary file cannot be written: {error.strerror or error}", hint=_HINT)
