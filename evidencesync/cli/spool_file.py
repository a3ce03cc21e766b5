"""The file of `push - --spool FILE`: made outside of vaults, and removed in the end, unless it has what was never sent."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evidencesync.errors import EvidenceSyncError
from evidencesync.home import expand_new_file

if TYPE_CHECKING:
    from evidencesync.acquire.spool import Spool
    from evidencesync.cli.command import Run

Rest = tuple[int, int]


@dataclass(slots=True)
class SpoolFile:
    """The spool of a run, None without one; `keep_rest` keeps in it what was not sent, and says from where to where."""

    spool: Spool | None = None
    keep_rest: Callable[[], Rest | None] = lambda: None


@contextlib.contextmanager
def opened_spool(run: Run, place: str | None) -> Iterator[SpoolFile]:
    """Makes the spool. After an error it stays, and is named, if the vault has not stored all that had come.

    Raises UsageError where the name is taken, or lies in a vault; NoSpaceError, StorageError.
    """
    if place is None:
        yield SpoolFile()
        return
    from evidencesync.acquire.spool import Spool
    from evidencesync.outside import NewFile

    with NewFile(expand_new_file(place), hint="Name another file: --spool FILE") as file:
        descriptor = file.make()
        opened = SpoolFile(Spool(descriptor, run.console.warn))
        try:
            yield opened
        except BaseException:
            if not _is_kept(run, file.shown, opened):
                file.take_back()
            raise
        else:
            file.take_back()
        finally:
            os.close(descriptor)


def _is_kept(run: Run, shown: str, opened: SpoolFile) -> bool:
    try:
        rest = opened.keep_rest()
    except EvidenceSyncError as error:
        run.console.warn(f"not all that had come could be kept in {shown}: {error.message}")
        return True
    if rest is None:
        return False
    run.console.warn(
        f"{shown} keeps bytes {rest[0]:,} to {rest[1]:,} of the capture, each at its own place: the vault lacks them"
    )
    return True
