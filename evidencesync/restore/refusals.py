"""Counts what a working copy lacks, and names some of it."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from evidencesync.errors import EvidenceSyncError, NoSpaceError, StorageError
from evidencesync.exit_codes import ExitCode, most_severe
from evidencesync.files.disk import storage_error
from evidencesync.files.shortages import hint_of

Lack = Literal[
    "damaged",
    "unreadable",
    "not-acquired",
    "not-possible",
    "bad-bytes",
    "skipped",
    "device",
    "hard-link",
    "owner",
    "mode",
    "set-id",
    "times",
    "attribute",
    "inode-flags",
]

# The meaning of each for people, and its exit code. Metadata that this system or this user cannot set is listed, and is no
# failure: an ordinary user can hardly ever set all of it.
LACKS: Final[Mapping[Lack, tuple[str, ExitCode]]] = MappingProxyType(
    {
        "damaged": ("not restored: the vault's copy is not what was acquired", ExitCode.DIGEST),
        "unreadable": ("not restored: the vault's disk or its permissions do not let it be read", ExitCode.GAPS),
        "not-acquired": ("not restored: it could not be read when it was acquired", ExitCode.GAPS),
        "not-possible": ("not restored: this system or file system cannot hold it", ExitCode.GAPS),
        "bad-bytes": ("restored as acquired, but not all of it could be read at the source", ExitCode.GAPS),
        "skipped": ("not restored: a filter left it out when it was acquired", ExitCode.COMPLETE),
        "device": ("not restored: a device, and --devices was not given", ExitCode.COMPLETE),
        "hard-link": ("restored as a file of its own: no hard link could be made", ExitCode.COMPLETE),
        "owner": ("owner or group not set", ExitCode.COMPLETE),
        "mode": ("mode not set, or not whole", ExitCode.COMPLETE),
        "set-id": ("set-id bit or file capability left out", ExitCode.COMPLETE),
        "times": ("times not set, or not exactly", ExitCode.COMPLETE),
        "attribute": ("extended attribute or ACL not set", ExitCode.COMPLETE),
        "inode-flags": ("inode flags not set", ExitCode.COMPLETE),
    }
)
NAMED_OF_EACH: Final = 200
_WHERE: Final = "at the destination"
_FULL_HINT: Final = f"Free space {_WHERE}; nothing was restored."
_DISK_HINT: Final = f"Check the disk and the permissions {_WHERE}; nothing was restored."

# The errors of a file system for a name or a kind of entry that it does not support.
NOT_POSSIBLE: Final = frozenset(
    {
        errno.EINVAL,
        errno.EILSEQ,
        errno.ENAMETOOLONG,
        errno.EPERM,
        errno.EOPNOTSUPP,
        errno.ENOSYS,
        errno.EMLINK,
    }
)


class NotRestored(NamedTuple):
    """One thing that is not in the copy as it was in the source; `reason` is safe to show."""

    lack: Lack
    path: bytes
    reason: str


@dataclass(slots=True)
class Refusals:
    """Counts all of them, and names some of each kind."""

    counts: Counter[Lack] = field(default_factory=Counter)
    named: list[NotRestored] = field(default_factory=list)

    def add(self, lack: Lack, path: bytes, reason: str) -> None:
        """One more."""
        self.counts[lack] += 1
        if self.counts[lack] <= NAMED_OF_EACH:
            self.named.append(NotRestored(lack, path, reason))

    @property
    def exit_code(self) -> ExitCode:
        """The most severe exit code of all."""
        return most_severe({LACKS[lack][1] for lack in self.counts})


def reason_of(error: OSError) -> str:
    """The system's reason, for people."""
    return os.strerror(error.errno) if error.errno is not None else type(error).__name__


def place_error(error: OSError, doing: str) -> EvidenceSyncError:
    """The error to raise if the copy cannot continue. `doing` completes the sentence "could not ..."."""
    raised = storage_error(error, doing)
    if isinstance(raised, NoSpaceError):
        raised.hint = _FULL_HINT
    elif isinstance(raised, StorageError):
        raised.hint = hint_of(error) or _DISK_HINT
    return raised


def name_place(error: BaseException, shown: str) -> None:
    """Adds the destination to the hint of a `place_error`, which was made where only the path inside the copy is known."""
    if isinstance(error, EvidenceSyncError) and error.hint in (_FULL_HINT, _DISK_HINT):
        error.hint = error.hint.replace(_WHERE, f"{_WHERE} ({shown})")
