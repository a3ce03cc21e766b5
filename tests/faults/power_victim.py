"""The command `evidencesync`, in a process that suffers a power cut at a moment of its own: the vault's file system stops, and
the process with it.

The moment is `step:NAME` (a step of publishing is done), `stored:BYTES:INTERVAL` (so many bytes were stored, with a checkpoint
after each INTERVAL; on stdout it says how many were on the disk for certain) or `acknowledged` (the command has ended).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from evidencesync.cli import app
from evidencesync.files.disk import sync_file_system
from evidencesync.ingest import session as ingest_session
from evidencesync.vault import staging
from evidencesync.vault.publish import PublishedAcquisition, publish
from evidencesync.vault.staging import Staging
from tests.support.power import cut_power

_put: Final = setattr  # for as long as the process lives, and without pytest, which takes longer to start than the rest


def main(vault: str, moment: str, *arguments: str) -> None:
    """Runs the command, and cuts the power."""

    def die() -> None:
        cut_power(Path(vault))
        os.kill(os.getpid(), signal.SIGKILL)

    what, _, when = moment.partition(":")
    if what == "step":

        def publish_until(staging: Staging, documents: Mapping[str, bytes]) -> PublishedAcquisition:
            return publish(staging, documents, lambda step: die() if step == when else None)

        _put(ingest_session, "publish", publish_until)
    elif what == "stored":
        at, _, interval = when.partition(":")
        _watch_checkpoints(int(at), int(interval), die)
    sys.argv = ["evidencesync", *arguments]
    try:
        app.main()
    except SystemExit as end:
        if end.code:
            raise
    if what == "acknowledged":
        die()


def _watch_checkpoints(at: int, interval: int, die: Callable[[], None]) -> None:
    stored = synced = 0
    on_disk = threading.Event()
    note = staging.Checkpoints.add_stored

    def sync_and_tell(fd: int, what: str) -> bool:
        nonlocal synced
        before = stored
        done = sync_file_system(fd, what)
        synced = before
        if synced:
            on_disk.set()
        return done

    def count(self: staging.Checkpoints, size: int) -> None:
        nonlocal stored
        note(self, size)
        stored += size
        if stored >= at:
            on_disk.wait()  # the first checkpoint, however slow the disk is
            print(synced, flush=True)  # noqa: T201
            die()

    _put(staging, "CHECKPOINT_BYTES", interval)
    _put(staging, "sync_file_system", sync_and_tell)
    _put(staging.Checkpoints, "add_stored", count)
