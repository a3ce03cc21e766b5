"""Errors that nobody has foreseen where they were met: a process that may have no more of something, or a defect."""

from __future__ import annotations

import errno
from typing import Final

from evidencesync.errors import EvidenceSyncError, InternalError, ResourcesError

_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
_NO_THREAD: Final = "can't start new thread"  # what Python says of a refused clone(2), as a plain RuntimeError
_NO_ROOM_FOR_CODE: Final = ("Cannot allocate memory", "failed to map segment")  # what the loader says, as an ImportError


def is_shortage(error: BaseException) -> bool:
    """Whether an error of Python or of the system means that this process may have no more of something."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno in _SHORTAGES
    if isinstance(error, ImportError):
        return any(sign in str(error) for sign in _NO_ROOM_FOR_CODE)
    return isinstance(error, RuntimeError) and str(error) == _NO_THREAD


def unexpected(error: BaseException) -> EvidenceSyncError:
    """Our error for one that nobody has foreseen where it was met: a shortage of this process, or else a defect of the tool."""
    said: EvidenceSyncError
    if is_shortage(error):
        what = (error.strerror or "no room") if isinstance(error, OSError) else str(error) or "out of memory"
        said = ResourcesError(f"not enough memory, threads or open files: {what}")
    else:
        said = InternalError(f"{type(error).__name__}: {error}")
    said.__cause__ = error
    return said
