"""What asyncssh keeps for a client without a bound, and has no setting against. Each of these is bounded here, from outside.

asyncssh's own names for these begin with an underscore; `tests/integration/test_floods_after_login.py` sees when they change.

- Requests that this server never grants. Some of them wait for a turn of the event loop each, while thousands more arrive.
- What is to be sent while keys are exchanged anew. A client begins that, never ends it, and goes on asking.
- What has arrived for a session that does not read: a window counts bytes, and a packet of one byte costs a hundred.
- Answers in packets of a few bytes: a client names the size, and each packet costs as much as a large one.
- Packets that mean nothing, from somebody who has not shown yet who he is: the smallest has 16 bytes, and each costs time.
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
_PROOF_PACKETS: Final = (
    4096  # a first word and a claim are few; somebody in the queue for a place says for hours that he is alive
)
# What runs a command, and what asyncssh itself sorts all requests by.
_KEPT: Final = frozenset({"_process_exec_request", "_process_request", "_process_global_request"})


class Blocks:
    """Bytes in the order in which they came. Small ones are joined, so many of them cost no more than a few large ones."""

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


class _Arrived:
    """Stands in for the list in which a channel of asyncssh keeps what its session does not read yet."""

    def __init__(self) -> None:
        self._blocks = Blocks()

    def __len__(self) -> int:
        return len(self._blocks)

    def append(self, arrived: tuple[bytes, None]) -> None:
        """A packet's bytes. Nothing but plain data comes to a server."""
        self._blocks.append(arrived[0])

    def pop(self, _first: int) -> tuple[bytes, None]:
        """The first of what is left."""
        return self._blocks.take(), None


def narrow_connection(connection: Any, abort: Callable[[], None], is_known: Callable[[], bool]) -> None:
    """Refuses every request of the connection itself (forwardings), at once, and calls `abort` where too much is held back.

    So it does where more packets come than a stranger may send. `is_known`: the connection may send as many as it likes.
    """

    def refuse(_packet: object) -> None:
        connection._report_global_response(result=False)

    _replace_all(connection, "_global_request", refuse)
    send, held = connection.send_packet, _HeldBack(abort)

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
    """Counts what has come, for as long as nobody vouches for whoever sends it."""
    finish, packets = connection._finish_recv_packet, 0

    def finish_packet(*packet: Any, **others: Any) -> None:
        nonlocal packets
        packets += 1
        if is_known():
            setattr(connection, "_finish_recv_packet", finish)  # noqa: B010
        elif packets > (_PROOF_PACKETS if connection._auth_complete else _LOGIN_PACKETS):
            abort()
            # All that came while a packet had to wait lies there, and asyncssh would look at each in one turn.
            connection._inpbuf = b""
        finish(*packet, **others)

    setattr(connection, "_finish_recv_packet", finish_packet)  # noqa: B010


def narrow_channel(channel: Any) -> None:
    """Refuses every request of a new channel but to run a command, and joins what it has to keep."""

    def refuse(_packet: object) -> bool:
        return False

    _replace_all(channel, "_request", refuse)
    setattr(channel, "_recv_buf", _Arrived())  # noqa: B010


def takes_too_little(channel: Any) -> bool:
    """Whether a client wants a channel's data in smaller packets than any honest one."""
    return bool(channel._send_pktsize < _LEAST_PACKET)


class _HeldBack:
    """How much memory waits for the end of an exchange of keys."""

    def __init__(self, abort: Callable[[], None]) -> None:
        self.bytes = 0
        self._abort = abort

    def add(self, size: int) -> None:
        self.bytes += size + _PACKET_COST
        if self.bytes > _HELD_BACK:
            self._abort()


def _replace_all(owner: Any, ending: str, by: Callable[[object], object]) -> None:
    """Replaces what handles requests: asyncssh looks for it by name, `_process_<request><ending>`."""
    for name in dir(owner):
        if name.startswith("_process_") and name.endswith(ending) and name not in _KEPT:
            setattr(owner, name, by)
