"""What carries bytes between the two ends, as the engine threads see it: blocking, ordered, bounded.

Four kinds: an SSH connection carried by the user's ssh (`evidencesync.connection.ssh_link`), the standard streams of a serving
process (`evidencesync.serve.stdio`), a channel of the embedded server, and a pair of queues inside one process for a vault on
the same machine.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, runtime_checkable

from evidencesync.custody.documents import SshPeer
from evidencesync.errors import LinkLostError
from evidencesync.limits import MIB
from evidencesync.ssh.channel import Channel

_LOCAL_BUFFER = 8 * MIB


class Link(Protocol):
    """A duplex stream of bytes. One thread reads, one thread writes."""

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
    """A link whose writer is not left waiting for an other end that takes nothing."""

    timeout_seconds: float
    """For how long nothing at all may be taken: then LinkLostError is raised. May be changed at any time."""


class _Pipe:
    """One direction of a local link: a queue of byte blocks, bounded by their total size.

    The lock is entered, not its condition: a Condition is entered by a function of Python, and Ctrl-C in that, between the
    lock and the block that releases it, would leave the lock taken for ever.
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
        """Bytes given to the other end."""
        return self.outgoing.total

    @property
    def wire_received(self) -> int:
        """Bytes the other end gave."""
        return self.incoming.total

    def read(self) -> bytes:
        """The next block."""
        return self.incoming.take()

    def write(self, data: bytes) -> None:
        """Hands a block over."""
        if data:
            self.outgoing.put(data)

    def close(self) -> None:
        """Ends both directions; what is queued can still be read."""
        self.outgoing.close()
        self.incoming.close()


def local_pair() -> tuple[LocalLink, LocalLink]:
    """Two ends of a connection inside this process."""
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
