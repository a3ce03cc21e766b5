"""Limits what asyncssh's server would keep or do for a client without a bound, and has no setting for.

The names that are replaced are private to asyncssh; `tests/integration/test_floods_after_login.py` fails if they change.

- Requests that this server never grants. Some of them wait for a turn of the event loop each, while thousands more arrive.
- Packets to send while keys are exchanged anew. A client can begin an exchange, never end it, and go on asking.
- Data that has arrived for a session that does not read: a window counts bytes, and a packet of one byte costs a hundred.
- Answers in packets of a few bytes: a client chooses the size, and each packet costs as much as a large one.
- Packets without a meaning, before anybody has vouched for the client: the smallest has 16 bytes, and each costs time.
"""

# ruff: noqa: SLF001 - this module is where we reach into asyncssh

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from evidencesync.limits import KIB, MIB

_HELD_BACK: Final = 32 * MIB  # a few of OpenSSH's windows (2 MiB), whatever an honest exchange of keys takes
_PACKET_COST: Final = 256  # what the smallest packet takes in memory while it is held back
_SMALL: Final = 4 * KIB
_BLOCK: Final = 64 * KIB
_LEAST_PACKET: Final = 1 * KIB  # every SSH program takes 32 KiB (RFC 4253, 6.1), and small ones 16 KiB
_LOGIN_PACKETS: Final = 256  # an exchange of keys, and twenty keys with two questions each, are some fifty
_PROOF_PACKETS: Final = 4096  # a hello and a claim are few packets; a client in the queue for a place sends keep-alives for hours
# The handler that runs a command, and those with which asyncssh dispatches all requests.
_KEPT: Final = frozenset({"_process_exec_request", "_process_request", "_process_global_request"})


class Blocks:
    """A queue of bytes. Small blocks are joined, so that many of them cost no more than a few large ones."""

    def __init__(self) -> None:
        self._blocks: deque[bytes | bytearray] = deque()

    def __len__(self) -> int:
        return len(self._blocks)

    def append(self, data: bytes) -> None:
        """The next bytes."""
        last = self._blocks[-1] if self._blocks else None
        if len(data) >= _SMALL:
            self._blocks.append(data)
        elif isinstance(last, bytearray) and len(last) < _BLOCK:
            last += data
        else:
            self._blocks.append(bytearray(data))

    def first_size(self) -> int:
        """How long the first block is; 0 where there is none."""
        return len(self._blocks[0]) if self._blocks else 0

    def take(self) -> bytes:
        """The first block."""
        return bytes(self._blocks.popleft())

    def clear(self) -> None:
        """Forgets all of them."""
        self._blocks.clear()


class _ReceiveBuffer:
    """Replaces the list in which a channel of asyncssh keeps data that its session has not read yet."""

    def __init__(self) -> None:
        self._blocks = Blocks()

    def __len__(self) -> int:
        return len(self._blocks)

    def append(self, arrived: tuple[bytes, None]) -> None:
        """Adds a packet's bytes. A server receives plain data only."""
        self._blocks.append(arrived[0])

    def pop(self, _first: int) -> tuple[bytes, None]:
        """The first of what is left."""
        return self._blocks.take(), None


def limit_connection(connection: Any, abort: Callable[[], None], is_known: Callable[[], bool]) -> None:
    """Refuses every request of the connection itself (forwardings) at once. Calls `abort` if too much is deferred.

    Also calls `abort` if more packets come than a stranger may send, until `is_known` says that somebody vouches for the client.
    """

    def refuse(_packet: object) -> None:
        connection._report_global_response(result=False)

    _replace_all(connection, "_global_request", refuse)
    send, held = connection.send_packet, _DeferredBytes(abort)

    def send_packet(kind: int, *parts: bytes, **others: Any) -> None:
        before = len(connection._deferred_packets)
        send(kind, *parts, **others)
        now = len(connection._deferred_packets)
        if now > before:
            held.add(sum(map(len, parts)))
        elif not now:
            held.bytes = 0

    setattr(connection, "send_packet", send_packet)  # noqa: B010
    _count_packets(connection, abort, is_known)


def _count_packets(connection: Any, abort: Callable[[], None], is_known: Callable[[], bool]) -> None:
    """Counts the packets of a client until somebody vouches for it."""
    finish, packets = connection._finish_recv_packet, 0

    def finish_packet(*packet: Any, **others: Any) -> None:
        nonlocal packets
        packets += 1
        if is_known():
            setattr(connection, "_finish_recv_packet", finish)  # noqa: B010
        elif packets > (_PROOF_PACKETS if connection._auth_complete else _LOGIN_PACKETS):
            abort()
            # This buffer holds all that came while a packet had to wait, and asyncssh would process all of it in one turn.
            connection._inpbuf = b""
        finish(*packet, **others)

    setattr(connection, "_finish_recv_packet", finish_packet)  # noqa: B010


def limit_channel(channel: Any) -> None:
    """Refuses every request of a new channel except to run a command, and joins the data that it keeps."""

    def refuse(_packet: object) -> bool:
        return False

    _replace_all(channel, "_request", refuse)
    setattr(channel, "_recv_buf", _ReceiveBuffer())  # noqa: B010


def wants_tiny_packets(channel: Any) -> bool:
    """Whether a client asks for a channel's data in smaller packets than any honest client does."""
    return bool(channel._send_pktsize < _LEAST_PACKET)


class _DeferredBytes:
    """Counts the memory of packets that wait for the end of a key exchange, and aborts above a limit."""

    def __init__(self, abort: Callable[[], None]) -> None:
        self.bytes = 0
        self._abort = abort

    def add(self, size: int) -> None:
        self.bytes += size + _PACKET_COST
        if self.bytes > _HELD_BACK:
            self._abort()


def _replace_all(owner: Any, ending: str, by: Callable[[object], object]) -> None:
    """Replaces all request handlers, which asyncssh looks up by name: `_process_<request><ending>`."""
    for name in dir(owner):
        if name.startswith("_process_") and name.endswith(ending) and name not in _KEPT:
            setattr(owner, name, by)
