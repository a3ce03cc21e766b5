"""A link whose writes are whole, whatever interrupts the one who waits for them."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Final

from evidencesync.connection.link import Link
from evidencesync.custody.documents import SshPeer
from evidencesync.errors import EvidenceSyncError, LinkLostError
from evidencesync.files.shortages import unexpected

_LAST_WORD_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.5  # without a limit on the wait, a lock in the main thread would hold back Ctrl-C on some systems


class SteadyLink:
    """A link that is written to by a thread of its own.

    Ctrl-C may come in the middle of a frame. A word after half a frame would be taken for a part of it, and the sender for a
    hostile one. So the thread ends what was begun, and `last_word` follows on it.
    """

    def __init__(self, link: Link) -> None:
        """Takes over a link."""
        self._link = link
        self.taken = 0
        """Bytes that the thread has taken over to be written, so that they will be."""
        self._block: bytes | None = None
        self._failure: EvidenceSyncError | None = None
        self._closed = False
        self._lock = threading.RLock()  # entered in place of the condition: see transfer.link
        self._changed = threading.Condition(self._lock)
        self._thread = threading.Thread(target=self._write_all, name="writer", daemon=True)
        self._thread.start()

    @property
    def peer(self) -> SshPeer | None:
        """See `Link`."""
        return self._link.peer

    @property
    def wire_sent(self) -> int:
        """See `Link`."""
        return self._link.wire_sent

    @property
    def wire_received(self) -> int:
        """See `Link`."""
        return self._link.wire_received

    def read(self) -> bytes:
        """See `Link`."""
        return self._link.read()

    def write(self, data: bytes) -> None:
        """Sends all of `data`, also where the waiting for it is interrupted."""
        if data:
            self._put(data, None)

    def last_word(self, data: bytes) -> None:
        """Sends it after what is being sent, if that takes no longer than some seconds; if not, nobody hears it."""
        with contextlib.suppress(EvidenceSyncError):
            self._put(data, time.monotonic() + _LAST_WORD_SECONDS)

    def close(self) -> None:
        """Ends the connection. Safe to call again."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()
        self._link.close()
        self._thread.join()

    def _put(self, data: bytes, until: float | None) -> None:
        with self._lock:
            self._wait_until_free(until)
            self._block, self.taken = data, self.taken + len(data)
            self._changed.notify_all()
            self._wait_until_free(until)

    def _wait_until_free(self, until: float | None) -> None:
        """Raises what writing has failed with, and LinkLostError at `until`."""
        while self._block is not None and self._failure is None and not self._closed:
            left = _LOOK_SECONDS if until is None else until - time.monotonic()
            if left <= 0:
                raise LinkLostError("the other end takes nothing more")
            self._changed.wait(min(left, _LOOK_SECONDS))
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise LinkLostError("the link was closed")

    def _write_all(self) -> None:
        while True:
            with self._lock:
                self._changed.wait_for(lambda: self._block is not None or self._closed)
                block = self._block
            if block is None:
                return
            try:
                self._link.write(block)
            except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
                failure = error if isinstance(error, EvidenceSyncError) else unexpected(error)
                with self._lock:
                    self._failure = failure
                    self._changed.notify_all()
                return
            with self._lock:
                self._block = None
                self._changed.notify_all()
                if self._closed:
                    return
