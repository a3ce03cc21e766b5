"""The vault's end of a conversation with one sender, which may go on over several links.

The source's end sends manifest lines, or only their names where the vault has them already. So what the examiner signs cannot be
digested as it passes by: it is digested where the vault has read and checked it, line by line.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Literal

from evidencesync.connection.inbox import silence_seconds
from evidencesync.connection.link import Link, PatientLink
from evidencesync.connection.read_ahead import ReadAhead
from evidencesync.connection.session_socket import SessionSocket, SessionState, SocketLink
from evidencesync.custody.manifest import CheckedLine
from evidencesync.errors import LinkLostError
from evidencesync.limits import HANDSHAKE_SECONDS, MAX_RETURN_SECONDS, RETURN_SECONDS, SILENCE_SECONDS
from evidencesync.protocol.framing import FrameDecoder, frame_of
from evidencesync.protocol.messages import Message, Patience


@dataclass(frozen=True, slots=True)
class Pulled:
    """What makes a session that of a pull: its source's SSH host key (None where it is local), and who hears the lines.

    `overhear` is called in the vault's thread, once a page, in order. It is None where the source is read over SFTP: then nothing
    of what the vault answers reaches the source.
    """

    host_key: str | None
    overhear: Callable[[bytes, list[CheckedLine]], None] | None


@dataclass(frozen=True, slots=True)
class Host:
    """What a session asks the process that serves it beside others: whether it has a place, and how long it may wait."""

    has_place: Callable[[str, Callable[[], None]], bool]
    """Waits a while for one, for whoever has this name. The other argument is called about once a second, so that he hears it."""
    is_closing: Callable[[], bool]
    """Whether a session is to wait no longer for a sender whose link is lost."""
    waiting: Callable[[str], AbstractContextManager[None]] = lambda _who: nullcontext()
    """Entered by a session for as long as it waits for a sender whose link is lost, and who has this name."""


ALONE: Final = Host(lambda _who, _waits: True, lambda: False)
"""A process that serves one session, or that serves itself."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What this process itself knows of a session's connection, for the receipt; and whether its sender may come back."""

    received_from: str
    host_key: str | None
    may_return: bool
    pulled: Pulled | None
    host: Host = ALONE


_IDLE_SECONDS: Final = 60.0  # three times what an honest sender lets pass without a word


@dataclass(frozen=True, slots=True)
class SenderIdentity:
    """Who is at the other end of a session, for whoever asks at its door."""

    principal: str
    key: str
    received_from: str


class SenderConnection:
    """Frames from the sender, and to him. Used by one thread, but for what a door calls."""

    def __init__(self, link: Link) -> None:
        self.interruptions = 0
        self.committed = False
        """Set when everything has arrived: from then on the session goes to its end without a sender, too."""
        self._session_socket: SessionSocket | None = None
        self._resident: SenderIdentity | None = None
        self._host = ALONE
        self._lost_ns: int | None = None
        self._wire_received = 0
        self._wire_sent = 0
        self._silence_seconds = SILENCE_SECONDS
        self._return_seconds = RETURN_SECONDS
        self._attach(link, begun=False)
        self._ahead.deadline = time.monotonic() + HANDSHAKE_SECONDS

    @property
    def wire_received(self) -> int:
        """Bytes received over all links."""
        return self._wire_received + self._link.wire_received

    @property
    def wire_sent(self) -> int:
        """Bytes sent over all links."""
        return self._wire_sent + self._link.wire_sent

    def be_patient(self, patience: Patience) -> None:
        """Takes the sender at his word: who gives up so soon, and may come back for so long, is not waited for much longer."""
        self._silence_seconds = silence_seconds(patience.timeout_ms / 1000)
        self._return_seconds = min(float(patience.return_seconds), MAX_RETURN_SECONDS)

    def wait_without_end(self) -> None:
        """The sender is of this very process, and himself gives up whom he has his bytes from: he is never lost."""
        self._silence_seconds = threading.TIMEOUT_MAX

    def trust(self) -> None:
        """Somebody who is trusted is at the other end: he may take his time, and from now on only silence counts."""
        self._ahead.deadline = None
        self._bound(self._link)

    def _bound(self, link: Link) -> None:
        self._ahead.silence_seconds = self._silence_seconds
        if isinstance(link, PatientLink):
            link.timeout_seconds = self._silence_seconds

    def open_session_socket(self, session_fd: int, session: str, resident: SenderIdentity, host: Host = ALONE) -> None:
        """From now on the sender may come back on another link, for as long as the process that serves this lets it wait."""
        self._resident, self._host = resident, host
        self._session_socket = SessionSocket(
            session_fd,
            session,
            resident.key,
            may_leave=self._may_leave,
            disturb=self._disturbed,
            is_closing=host.is_closing,
            describe=self._describe,
        )

    def _describe(self) -> SessionState | None:
        """What this session is doing. Called in the door's thread."""
        if (who := self._resident) is None:
            return None
        state: Literal["receiving", "waiting", "finishing"] = "receiving"
        since, ends = self._attached_ns, None
        if self._lost_ns is not None:
            state, since = "waiting", self._lost_ns
            ends = since + int(self._return_seconds * 1e9)
        elif self.committed:
            state = "finishing"
        return SessionState(who.principal, who.key, who.received_from, os.getpid(), state, since, ends)

    def frames(self) -> Iterator[tuple[int, memoryview]]:
        """What arrives on the present link. Raises LinkLostError when that ends."""
        return self._frames

    def send(self, message: Message) -> None:
        """Sends a message. Raises LinkLostError."""
        self.write(frame_of(message))

    def write(self, frames: bytes) -> None:
        """Sends frames. Raises LinkLostError."""
        try:
            self._link.write(frames)
        except LinkLostError:
            self._lost = True
            raise

    def tell(self, message: Message) -> None:
        """Sends a message if somebody hears it; if not, the work goes on all the same."""
        if not self._lost:
            try:
                self.send(message)
            except LinkLostError:
                return

    def wait(self) -> bool:
        """Waits for the sender to come back, for as long as a session may wait; whether he has."""
        self._lost = True
        if self._session_socket is None or self._resident is None or self._session_socket.leaving:
            return False
        self._lost_ns = time.time_ns()
        try:
            with self._host.waiting(self._resident.principal):
                visitor = self._session_socket.wait(self._return_seconds)
            return self._take_visitor(visitor)
        finally:
            self._lost_ns = None

    def look(self) -> bool:
        """Whether the sender has come back meanwhile; then the link is the new one."""
        return self._session_socket is not None and self._take_visitor(self._session_socket.wait(0))

    def rest(self) -> bytes:
        """Bytes that arrive on the present link, undecoded: for a process that only passes them on."""
        return self._ahead.take()

    def close_door(self) -> None:
        """The sender may not come back here any more."""
        if self._session_socket is not None:
            self._session_socket.close()

    def close(self) -> None:
        """Lets go of everything."""
        self.close_door()
        self._ahead.close()
        self._link.close()

    def _attach(self, link: Link, *, begun: bool) -> None:
        """Takes a link; `begun` where another process has taken the preamble and the handshake from it."""
        self._link = link
        self._lost = False
        self._attached_ns = time.time_ns()
        self._ahead = ReadAhead(link)
        self._frames = _frames(self._ahead, begun=begun)

    def _take_visitor(self, visitor: SocketLink | None) -> bool:
        if visitor is None:
            return False
        self._wire_received, self._wire_sent = self.wire_received, self.wire_sent
        self._ahead.close()
        self._link.close()
        self._attach(visitor, begun=True)
        self._bound(visitor)
        self.interruptions += 1
        return True

    def _may_leave(self) -> bool:
        return not self.committed and (self._lost or self._ahead.idle_seconds() > _IDLE_SECONDS)

    def _disturbed(self) -> None:
        self._ahead.give_up(LinkLostError("the sender has come back on another link, or another session was let in"))


def _frames(ahead: ReadAhead, *, begun: bool) -> Iterator[tuple[int, memoryview]]:
    decoder = FrameDecoder(begun=begun)
    while True:
        yield from decoder.feed(ahead.take())
