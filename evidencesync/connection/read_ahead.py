"""Reads a link in a thread of its own, a bounded number of bytes ahead of the thread that takes them."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Final

from evidencesync.connection.link import Link
from evidencesync.errors import EvidenceSyncError, LinkLostError
from evidencesync.evidence.number_format import seconds_text
from evidencesync.files.shortages import unexpected
from evidencesync.limits import KIB, MIB, SILENCE_SECONDS

_AHEAD_BYTES: Final = 8 * MIB
_JOINED_BYTES: Final = 128 * KIB  # more is not worth a copy


class ReadAhead:
    """Buffers what a link receives. The bound is in bytes, not in blocks: sshd delivers small blocks.

    Reading ahead keeps the SSH channel moving while a segment is being stored.
    """

    def __init__(self, link: Link, *, other: str = "the sender", silence_seconds: float = SILENCE_SECONDS) -> None:
        """`other` names the other end in error messages."""
        self._link = link
        self._other = other
        self.silence_seconds = silence_seconds
        self.deadline: float | None = None
        """When the handshake must be over (`time.monotonic`), even if the other end keeps sending; None: no deadline."""
        self._blocks: deque[bytes] = deque()
        self._held_bytes = 0
        self._end: EvidenceSyncError | None = None
        self.has_finished = False
        """Whether the stream has ended regularly, rather than by an error."""
        self._waiting_since: float | None = None
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        threading.Thread(target=self._read, name="link", daemon=True).start()

    def take(self) -> bytes:
        """Takes the next bytes that have arrived, waiting for some: one large block as it is, or many small ones joined.

        Raises the error that ended reading, or LinkLostError.
        """
        with self._lock:
            self._waiting_since = now = time.monotonic()
            left = self.silence_seconds if self.deadline is None else min(self.silence_seconds, self.deadline - now)
            came = self._changed.wait_for(lambda: self._blocks or self._end, max(left, 0.0))
            self._waiting_since = None
            if not came:
                if left < self.silence_seconds:
                    raise LinkLostError(f"{self._other} has not shown in time who is there")
                raise LinkLostError(f"{self._other} has been silent for {seconds_text(round(self.silence_seconds))}")
            if not self._blocks and self._end is not None:
                raise self._end
            taken = [self._blocks.popleft()]
            size = len(taken[0])
            while self._blocks and size + len(self._blocks[0]) <= _JOINED_BYTES:
                taken.append(self._blocks.popleft())
                size += len(taken[-1])
            self._held_bytes -= size
            self._changed.notify()
            return b"".join(taken) if len(taken) > 1 else taken[0]

    @property
    def has_ended(self) -> bool:
        """Whether reading has ended, by the end of the stream or by an error."""
        return self._end is not None

    @property
    def is_waiting(self) -> bool:
        """Whether `take` is waiting for bytes."""
        return self._waiting_since is not None

    def idle_seconds(self) -> float:
        """Returns for how long `take` has been waiting for bytes."""
        since = self._waiting_since
        return 0.0 if since is None else time.monotonic() - since

    def give_up(self, error: EvidenceSyncError) -> None:
        """Ends reading: after the bytes that have arrived, `take` raises this error."""
        with self._lock:
            self._end = self._end or error
            self._changed.notify_all()

    def close(self) -> None:
        """Ends reading, and wakes both threads."""
        with self._lock:
            self._end = self._end or LinkLostError("the link was closed")
            self._changed.notify_all()

    def _read(self) -> None:
        end: EvidenceSyncError = LinkLostError(f"{self._other} has gone before it had finished")
        try:
            while block := self._link.read():
                with self._lock:
                    self._changed.wait_for(lambda: self._held_bytes < _AHEAD_BYTES or self._end)
                    if self._end:  # closed, or given up: an end that always says something would never be done
                        return
                    self._blocks.append(block)
                    self._held_bytes += len(block)
                    self._changed.notify()
            self.has_finished = True
        except EvidenceSyncError as error:
            end = error
        except Exception as error:  # noqa: BLE001 - whatever it is, the engine must not wait for ever
            end = unexpected(error)
        self.give_up(end)
