"""Carries bytes between the two ends: a Link is blocking, ordered and bounded.

Kinds of links: an SSH connection through the user's ssh (`connection.ssh_link`), the standard streams of a serving process
(`serve.serving`), a channel of the embedded server, a Unix socket (`connection.session_socket`), and a pair of queues inside one
process for a vault on the same machine.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, runtime_checkable

from evidencesync.connection.not_begun import ending_of
from evidencesync.custody.documents import SshPeer
from evidencesync.errors import EvidenceSyncError, LinkLostError
from evidencesync.files.shortages import unexpected
from evidencesync.limits import MIB
from evidencesync.ssh.channel import Channel

_LOCAL_BUFFER = 8 * MIB


class Link(Protocol):
    """A duplex byte stream. One thread reads, one thread writes."""

    @property
    def peer(self) -> SshPeer | None:
        """The SSH server at the other end, where there is one."""

    @property
    def wire_sent(self) -> int:
        """Bytes sent on the connection so far, with all that SSH adds where this end can see it."""

    @property
    def wire_received(self) -> int:
        """Bytes received on the connection so far."""

    def read(self) -> bytes:
        """The next bytes, waiting for them; `b""` at the end of the stream."""

    def write(self, data: bytes) -> None:
        """Sends all of `data`, waiting while the outgoing buffer is full. Raises LinkLostError."""

    def close(self) -> None:
        """Ends the connection; a reader and a writer that wait are woken."""


@runtime_checkable
class PatientLink(Protocol):
    """A link whose writer gives up on a peer that takes nothing."""

    timeout_seconds: float
    """For how long the peer may take nothing at all before LinkLostError is raised. May be changed at any time."""


class _Pipe:
    """One direction of a local link: a queue of byte blocks, bounded by their total size.

    The lock is entered, not its condition: a Condition's `__enter__` is a Python function, and Ctrl-C in it, after the lock was
    taken and before the block that releases it begins, would leave the lock taken for ever.
    """

    def __init__(self) -> None:
        self._blocks: deque[bytes] = deque()
        self._size = 0
        self._closed = False
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self.total = 0

    def put(self, data: bytes) -> None:
        with self._lock:
            self._changed.wait_for(lambda: self._size < _LOCAL_BUFFER or self._closed)
            if self._closed:
                raise LinkLostError("the other end is gone")
            self._blocks.append(data)
            self._size += len(data)
            self.total += len(data)
            self._changed.notify_all()

    def wait_for_room(self, seconds: float) -> bool:
        with self._lock:
            return self._changed.wait_for(lambda: self._size < _LOCAL_BUFFER or self._closed, seconds)

    def take(self) -> bytes:
        with self._lock:
            self._changed.wait_for(lambda: self._blocks or self._closed)
            if not self._blocks:
                return b""
            block = self._blocks.popleft()
            self._size -= len(block)
            self._changed.notify_all()
            return block

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._changed.notify_all()


class LocalLink:
    """One end of a connection inside this process."""

    peer: SshPeer | None = None

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self.incoming = incoming
        self.outgoing = outgoing

    @property
    def wire_sent(self) -> int:
        """Bytes that were sent to the other end."""
        return self.outgoing.total

    @property
    def wire_received(self) -> int:
        """Bytes that the other end has sent."""
        return self.incoming.total

    def read(self) -> bytes:
        """Returns the next block; `b""` at the end."""
        return self.incoming.take()

    def write(self, data: bytes) -> None:
        """Sends a block, waiting while the queue is full."""
        if data:
            self.outgoing.put(data)

    def wait_for_room(self, seconds: float) -> bool:
        """Waits until `write` would not wait, `seconds` at the longest; returns whether that is so."""
        return self.outgoing.wait_for_room(seconds)

    def close(self) -> None:
        """Ends both directions; what is queued can still be read."""
        self.outgoing.close()
        self.incoming.close()


class OwnVaultLink(LocalLink):
    """The sender's end of a link to a vault in this process. `close` waits for the vault's thread."""

    def __init__(self, end: LocalLink, thread: threading.Thread) -> None:
        super().__init__(end.incoming, end.outgoing)
        self._thread = thread

    def close(self) -> None:
        """Ends the session, and waits until the vault's end has released its lock."""
        super().close()
        self._thread.join()


def timeout_on(link: Link, timeout_seconds: float) -> float:
    """Returns after how long a silence a link is lost. That to a vault in this process never is: its thread always ends it."""
    return threading.TIMEOUT_MAX if isinstance(link, OwnVaultLink) else timeout_seconds


def local_pair() -> tuple[LocalLink, LocalLink]:
    """Returns the two ends of a connection inside this process."""
    forth, back = _Pipe(), _Pipe()
    return LocalLink(back, forth), LocalLink(forth, back)


class ChannelLink:
    """A channel of our SSH server as a Link. `run` runs a coroutine on the channel's event loop and waits for it."""

    peer: SshPeer | None = None

    def __init__(self, channel: Channel, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._channel = channel
        self._run = run

    @property
    def timeout_seconds(self) -> float:
        """See `PatientLink`."""
        return self._channel.stall_seconds

    @timeout_seconds.setter
    def timeout_seconds(self, seconds: float) -> None:
        self._channel.stall_seconds = seconds

    @property
    def wire_sent(self) -> int:
        """Bytes sent on the connection's socket."""
        return self._channel.wire_sent

    @property
    def wire_received(self) -> int:
        """Bytes received on the connection's socket."""
        return self._channel.wire_received

    def read(self) -> bytes:
        """The next bytes of the channel."""
        block: bytes = self._run(self._channel.read())
        return block

    def write(self, data: bytes) -> None:
        """Sends, waiting while the channel's buffer is full."""
        if data:
            self._run(self._channel.write(data))

    def close(self) -> None:
        """Closes the channel and its connection."""
        self._run(self._channel.close())


_LAST_WORD_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.5  # without a limit on the wait, a lock in the main thread would hold back Ctrl-C on some systems


class ThreadedLink:
    """A link that a thread of its own writes to, so that Ctrl-C never cuts a frame.

    The last message, which gives the reason, must not follow half a frame: the peer would take it for a part of that, and this
    end for a hostile one. So the thread finishes the block that it is writing, and `write_last` sends after it.
    """

    def __init__(self, link: Link) -> None:
        """Takes over a link."""
        self._link = link
        self.taken = 0
        """Bytes that were handed to the thread, which will write them."""
        self._block: bytes | None = None
        self._failure: EvidenceSyncError | None = None
        self._closed = False
        self._lock = threading.RLock()  # entered in place of the condition: see _Pipe
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

    @property
    def ending(self) -> str:
        """See `ToldLink`."""
        return ending_of(self._link)

    def read(self) -> bytes:
        """See `Link`."""
        return self._link.read()

    def write(self, data: bytes) -> None:
        """Sends all of `data`, also where the caller is interrupted while it waits."""
        if data:
            self._put(data, None)

    def write_last(self, data: bytes) -> None:
        """Sends a last message after the block that is being written, if all that takes at most some seconds; else drops it."""
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
        """Waits until nothing is being written. Raises the error of the writing thread, and LinkLostError at `until`."""
        while self._block is not None and self._failure is None and not self._closed:
            left = _POLL_SECONDS if until is None else until - time.monotonic()
            if left <= 0:
                raise LinkLostError("the other end takes nothing more")
            self._changed.wait(min(left, _POLL_SECONDS))
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
