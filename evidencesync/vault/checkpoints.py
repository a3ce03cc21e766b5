"""Checkpoints: puts what is staged on the disk while evidence still arrives, so that a power cut costs no more than this."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from evidencesync.files.disk import sync_file_system
from evidencesync.limits import MIB

CHECKPOINT_BYTES: Final = 256 * MIB
"""What a power cut may cost at most, besides what one checkpoint still has under way."""


class Checkpoints:
    """Syncs the staging area's file system in a thread of its own, each time so many bytes were stored.

    One sync at a time: where the disk is slower than the link, the next one begins with the first byte after it. A sync
    that fails is raised by the next call here, for the system tells of a lost write only once.
    """

    def __init__(self, session_fd: int, before: Callable[[], None]) -> None:
        """`before` runs in the caller's thread, and hands to the system what is in memory."""
        self._fd = session_fd
        self._before = before
        self._stored = 0
        self._pool: ThreadPoolExecutor | None = None
        self._running: Future[bool] | None = None

    def note(self, size: int) -> None:
        """So many bytes more were stored. Raises StorageError when an earlier sync has failed."""
        self._stored += size
        if self._stored < CHECKPOINT_BYTES:
            return
        if self._running is not None and not self._running.done():
            return
        self._raise_failure()
        self._stored = 0
        self._before()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._running = self._pool.submit(sync_file_system, self._fd, "the staging area")

    def close(self) -> None:
        """Waits for a sync that is under way. Raises StorageError when it fails."""
        self._wait()
        self._raise_failure()

    def abandon(self) -> None:
        """Waits, and lets go: nothing is published, and nobody asks what became of it."""
        self._wait()

    def _wait(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None

    def _raise_failure(self) -> None:
        if self._running is not None:
            running, self._running = self._running, None
            running.result()
