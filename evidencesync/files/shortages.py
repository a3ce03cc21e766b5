"""Classifies unexpected errors: a shortage, a failure of a disk or its permissions, a clock that is far off, or a defect."""

from __future__ import annotations

import errno
import resource
import time
from typing import Final

from evidencesync.errors import ClockError, EvidenceSyncError, InternalError, NoSpaceError, ResourcesError, StorageError

_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
# Errors of a disk, a file system or its permissions. Others (EBADF, EINVAL, ENOENT) may be a defect of the program.
_SAID_BY_BROKEN_DISKS: Final = (
    "EIO ESTALE ENXIO ENODEV ENOMEDIUM EUCLEAN EREMOTEIO EBADMSG ETIMEDOUT "  # not all of them on every platform
    "ENODATA EILSEQ EBADE ETIME "  # what Linux makes of a sector that cannot be read, and of other answers of a disk
    "ENOTCONN ECONNABORTED ESHUTDOWN EHOSTDOWN EHOSTUNREACH ENETDOWN ENETUNREACH ENOLINK ECOMM EPROTO ENOLCK "  # over a network
    "ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED"  # encrypted file systems, and those with tickets
)
_SAID_BY_SOUND_DISKS: Final = "EROFS EACCES EPERM EMLINK EFBIG EBUSY"  # EBUSY: a Windows machine has the file open, say
_BROKEN, _SOUND = (
    frozenset(getattr(errno, name) for name in names.split() if hasattr(errno, name))
    for names in (_SAID_BY_BROKEN_DISKS, _SAID_BY_SOUND_DISKS)
)
_STORAGE: Final = _BROKEN | _SOUND
_TOO_LARGE: Final = (
    "No file may become so large here: by a limit of this process (ulimit -f), or because the file system holds no larger ones. "
    "Raise the limit, or use another file system; then run the same command again."
)
_NO_THREAD: Final = "can't start new thread"  # Python's text for a refused clone(2), a plain RuntimeError
_NO_ROOM_FOR_ERROR: Final = "without exception set"  # a SystemError: no memory was left for the MemoryError itself
_LIMITED: Final = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
_NO_ROOM_FOR_CODE: Final = ("Cannot allocate memory", "failed to map segment")  # texts of the dynamic loader, in an ImportError


def is_shortage(error: BaseException) -> bool:
    """Whether an error of Python or of the system means that this process cannot get more of a resource."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno in _SHORTAGES
    if isinstance(error, ImportError):
        return any(sign in str(error) for sign in _NO_ROOM_FOR_CODE)
    if isinstance(error, SystemError) or is_panic(error):
        return (is_panic(error) or _NO_ROOM_FOR_ERROR in str(error)) and _is_limited()
    return isinstance(error, RuntimeError) and str(error) == _NO_THREAD


def is_panic(error: BaseException) -> bool:
    """Whether a Rust library has panicked. Python's bindings raise a BaseException for that, not an Exception."""
    return type(error).__name__ == "PanicException" and not isinstance(error, Exception)


def _is_limited() -> bool:
    """Whether a memory limit is set for this process: then that limit was probably reached."""
    return any(resource.getrlimit(limit)[0] != resource.RLIM_INFINITY for limit in _LIMITED)


def require_address_space(needed_bytes: int, what: str) -> None:
    """Raises ResourcesError where a limit of this process (ulimit -v) leaves less than that.

    For libraries that do not report a refused allocation and abort the process: no sentence can be said then.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return
    try:
        with open("/proc/self/statm", "rb") as file:
            left = limit - int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # no /proc: it is not known, and is tried
        return
    if left < needed_bytes:
        mib = 1 << 20
        raise ResourcesError(
            f"not enough memory for {what}: it needs about {needed_bytes // mib} MiB, and the limit of this process "
            f"leaves {max(left, 0) // mib} MiB",
            hint="Raise the limit (ulimit -v), then run the same command again.",
        )


def is_full(error: OSError) -> bool:
    """Whether a disk, or the user's quota, is full."""
    return error.errno in _FULL


def is_broken(error: OSError) -> bool:
    """Whether a disk, or the network to it, has failed: another name or mode would not help."""
    return error.errno in _BROKEN


def hint_of(error: OSError) -> str | None:
    """Returns the hint for a refusal that is not a failure of the disk; None where the class's own hint fits."""
    return _TOO_LARGE if error.errno == errno.EFBIG else None


def clock_error() -> ClockError | None:
    """Returns the error of a clock that no time can be read of: it is before 1970, or after 64 bits of nanoseconds. None else."""
    try:
        now = time.time_ns()
    except OverflowError:
        return ClockError("this machine's clock shows a time after April 2262, or before 1678")
    return ClockError("this machine's clock shows a time before 1970") if now < 0 else None


def unexpected(error: BaseException) -> EvidenceSyncError:
    """Returns our error for an unexpected one: a shortage, a refusal of a disk, an impossible clock, or else a defect."""
    said: EvidenceSyncError
    if is_shortage(error):
        what = (error.strerror or "no room") if isinstance(error, OSError) else str(error) or "out of memory"
        said = ResourcesError(f"not enough memory, threads or open files: {what}")
    elif isinstance(error, OSError) and is_full(error):
        said = NoSpaceError(_refusal(error))
    elif isinstance(error, OSError) and error.errno in _STORAGE:
        said = StorageError(_refusal(error), hint=hint_of(error))
    else:
        said = clock_error() or InternalError(f"{type(error).__name__}: {error}")
    said.__cause__ = error
    return said


def _refusal(error: OSError) -> str:
    """Returns the system's message, with the file where it is known and can be displayed as it is."""
    name = error.filename if isinstance(error.filename, str) else ""
    shown = f" [{name}]" if name and name.isprintable() else ""
    return f"the system refused to read or write a file: {error.strerror}{shown}"
