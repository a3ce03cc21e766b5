"""Whether there is room for what is to come."""

from __future__ import annotations

import os
from pathlib import Path

from evidencesync.errors import NoSpaceError
from evidencesync.limits import SPACE_RESERVE
from evidencesync.vault.disk import storing


def free_bytes(folder: Path | int) -> int:
    """What this account may still write where `folder` lies, in bytes. Quotas are not seen here."""
    with storing("ask for the free space"):
        found = os.fstatvfs(folder) if isinstance(folder, int) else os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def check_space(folder: Path | int, needed_bytes: int) -> None:
    """Raises NoSpaceError unless `needed_bytes` fit and the reserve is left.

    A full disk may still be met later: others write too, and quotas do not show.
    """
    free = free_bytes(folder)
    if free < needed_bytes + SPACE_RESERVE:
        raise NoSpaceError(
            f"the vault's disk has {free} bytes free; this needs {needed_bytes}, and {SPACE_RESERVE} are kept in reserve"
        )
