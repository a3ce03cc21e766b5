"""Exchanges frames with one sender at the vault's end, over one link after another when the sender reconnects."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, Literal

import msgspec

from evidencesync.connection.event_log import NO_EVENTS, Events
from evidencesync.connection.inbox import alive_seconds, silence_seconds
from evidencesync.connection.link import Link, PatientLink
from evidencesync.connection.read_ahead import ReadAhead
from evidencesync.connection.session_socket import SessionSocket, SessionState, SocketLink
from evidencesync.custody.manifest import CheckedLine
from evidencesync.errors import LinkLostError
from evidencesync.limits import (
    HANDSHAKE_SECONDS,
    MAX_RECONNECT_SECONDS,
    MAX_STANDSTILL_SECONDS,
    RECONNECT_SECONDS,
    SILENCE_SECONDS,
)
from evidencesync.protocol.framing import FrameDecoder, frame_of
from evidencesync.protocol.messages import Message, Patience, Status


class Pulled(msgspec.Struct, frozen=True):
    """Marks a session as that of a pull, with its source's SSH host key (None where the source is local).

    The source sends manifest lines, or only their digests where the vault has them. So the examiner's end computes the digest
    that it signs from the lines as the vault has read and checked them: `on_page` is called with them in the vault's thread,
    once a page, in order. It is None where the source is read over SFTP: then no answer of the vault reaches the source.
    """

    host_key: str | None
    on_page: Callable[[bytes, list[CheckedLine]], None] | None


class Host(msgspec.Struct, frozen=True):
    """Asks the serving process, which may serve several sessions, whether a session may run and how long it may wait."""

    has_place: Callable[[str, Callable[[], None]], bool]
    """Waits a while for a free place for the named principal. The callback is called about once a second, to tell the sender."""
    is_closing: Callable[[], bool]
    """Returns whether sessions must stop waiting for senders whose links are lost."""
    waiting: Callable[[str], AbstractContextManager[None]] = lambda _who: nullcontext()
    """A session enters this context while it waits for the named principal, whose link is lost."""
    shows_evidence: bool = True
    """Whether a reader from afar may have evidence, and not only documents."""
    events: Events = NO_EVENTS
    """Where the vault's end tells what happens."""


SINGLE_SESSION: Final = Host(lambda _who, _waits: True, lambda: False)
"""A process that serves one session, or that serves itself."""


class Caller(msgspec.Struct, frozen=True):
    """What this process itself knows of a session's connection, for the receipt; and whether its sender may reconnect."""

    received_from: str
    host_key: str | None
    may_reconnect: bool
    pulled: Pulled | None
    host: Host = SINGLE_SESSION


_IDLE_SECONDS: Final = 60.0  # three times what an honest sender lets pass without a word


class SenderIdentity(msgspec.Struct, frozen=True):
    """The sender of a session, as `SessionState` shows it to the vault's own user."""

    principal: str
    key: str
    received_from: str


AT_WORK: Final = Status("receiving", 0, 0)
"""What an end says that works, and has no more to tell."""
SIGN_SECONDS: Final = 1.0
LAST_WORD_SECONDS: Final = 5.0  # a sender that takes nothing at the end of a session is not waited for longer
_LEAST_SIGN_SECONDS: Final = 0.05
_PROGRESS_SECONDS: Final = 0.5


def sign_seconds(patience: Patience) -> float:
    """Returns how often an end that works says so, for a sender with this timeout."""
    return max(min(SIGN_SECONDS, alive_seconds(patience.timeout_ms / 1000)), _LEAST_SIGN_SECONDS)


class SenderConnection:
    """Reads frames from the sender and writes frames to it. Used by one thread, except for what the session socket calls.

    Between `begin_signs_of_life` and `end_signs_of_life` a second thread sends a Status about once a second while the
    using thread does anything but wait for the sender: however long that takes, a vault that works is not silent. It also does
    while bytes of the sender arrive, and whenever there is progress to tell: on a slow line, what it has written lies in the
    buffers of its machine for minutes.
    """

    def __init__(self, link: Link) -> None:
        self.interruptions = 0
        self.committed = False
        """Set when everything has arrived: from then on the session completes without a sender, too."""
        self._session_socket: SessionSocket | None = None
        self._sender: SenderIdentity | None = None
        self._host = SINGLE_SESSION
        self._lost_ns: int | None = None
        self._wire_received = 0
        self._wire_sent = 0
        self._silence_seconds = SILENCE_SECONDS
        self._reconnect_seconds = RECONNECT_SECONDS
        self._sign_seconds = SIGN_SECONDS
        self._signs: threading.Thread | None = None
        self._describe_work: Callable[[], Message] = lambda: AT_WORK
        self._signs_end = threading.Event()
        self._writing = threading.RLock()
        """Held while a frame is written, and while the link is replaced: no other frame stands within a frame."""
        self._last_word = time.monotonic()
        self._lost = False
        self._stored_at = time.monotonic()
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

    @property
    def data_begun(self) -> int:
        """Bytes that have come of a data frame that is not complete yet."""
        return self._decoder.data_begun

    def set_patience(self, patience: Patience) -> None:
        """Takes over the sender's timeouts, within our bounds: for silence, and for reconnecting."""
        self._silence_seconds = silence_seconds(patience.timeout_ms / 1000)
        self._reconnect_seconds = min(float(patience.reconnect_seconds), MAX_RECONNECT_SECONDS)
        self._sign_seconds = sign_seconds(patience)

    def disable_silence_timeout(self, patience: Patience) -> None:
        """Switches the silence timeout off: the sender runs in this process, and itself times out its source."""
        self._silence_seconds = threading.TIMEOUT_MAX
        self._sign_seconds = sign_seconds(patience)

    def set_sign_interval(self, patience: Patience) -> None:
        """Adapts the signs of life to the sender's timeout, and nothing else: a person may take long before the next message."""
        self._sign_seconds = sign_seconds(patience)

    def lift_deadline(self) -> None:
        """Ends the deadline of the handshake: the sender is authenticated, and from now on only silence ends the link."""
        self._ahead.deadline = None
        self._bound(self._link)

    def _bound(self, link: Link) -> None:
        self._ahead.silence_seconds = self._silence_seconds
        if isinstance(link, PatientLink):
            link.timeout_seconds = self._silence_seconds

    def open_session_socket(self, session_fd: int, session: str, sender: SenderIdentity, host: Host = SINGLE_SESSION) -> None:
        """Opens the socket through which the sender may reconnect, for as long as the serving process lets the session wait."""
        self._sender, self._host = sender, host
        self._session_socket = SessionSocket(
            session_fd,
            session,
            sender.key,
            may_end=self._may_end,
            interrupt=self._interrupt_reading,
            is_closing=host.is_closing,
            describe=self._describe,
        )

    def _describe(self) -> SessionState | None:
        """Describes what this session is doing. Called in the thread of the session socket."""
        if (who := self._sender) is None:
            return None
        state: Literal["receiving", "waiting", "finishing"] = "receiving"
        since, ends = self._attached_ns, None
        if self._lost_ns is not None:
            state, since = "waiting", self._lost_ns
            ends = since + int(self._reconnect_seconds * 1e9)
        elif self.committed:
            state = "finishing"
        return SessionState(who.principal, who.key, who.received_from, os.getpid(), state, since, ends)

    def frames(self) -> Iterator[tuple[int, memoryview]]:
        """Yields the frames that arrive on the present link. Raises LinkLostError when the link ends."""
        return self._frames

    def record_stored(self) -> None:
        """Records that something more of the sender is stored, or that it can begin."""
        self._stored_at = time.monotonic()

    def send(self, message: Message) -> None:
        """Sends a message. Raises LinkLostError."""
        self.write(frame_of(message))

    def write(self, frames: bytes) -> None:
        """Sends frames. Raises LinkLostError."""
        with self._writing:
            if self._lost:  # a frame may have been cut off: the sender would take what follows for a part of it
                raise LinkLostError("the link was lost")
            try:
                self._link.write(frames)
            except LinkLostError:
                self._lost = True
                raise
            self._last_word = time.monotonic()

    @property
    def has_gone(self) -> bool:
        """Whether the other end of the present link has ended it, as far as this end has noticed."""
        return self._lost or self._ahead.has_ended

    def begin_signs_of_life(self, describe: Callable[[], Message]) -> None:
        """Begins to tell the sender, whenever this end works for long, what it does. `describe` is called in another thread."""
        self._describe_work = describe
        self._signs = threading.Thread(target=self._send_signs, name="signs of life", daemon=True)
        self._signs.start()

    @contextmanager
    def saying(self, describe: Callable[[], Message]) -> Iterator[None]:
        """Signs of life, where they have begun, say within this context something of their own, and nothing of it after it."""
        before, self._describe_work = self._describe_work, describe
        try:
            yield
        finally:
            with self._writing:
                self._describe_work = before

    def end_signs_of_life(self, seconds: float | None = None) -> None:
        """Ends that; afterwards nothing is sent but by the using thread. Safe to call again.

        With `seconds`, a sign that the sender does not take is waited for no longer, and may still be on its way.
        """
        self._signs_end.set()
        if self._signs is not None and self._signs.ident is not None:
            self._signs.join(seconds)

    def _send_signs(self) -> None:
        arrived, told = self.wire_received, self._describe_work()
        while not self._signs_end.wait(min(self._sign_seconds / 2, _PROGRESS_SECONDS)):
            with self._writing:
                sign, is_silent = self._describe_work(), time.monotonic() - self._last_word >= self._sign_seconds
                if sign != told or (is_silent and (not self._ahead.is_waiting or self.wire_received != arrived)):
                    self.try_send(sign)
                    arrived, told = self.wire_received, sign

    def send_last(self, message: Message) -> None:
        """Sends the last message, if the sender takes it, and what is being sent before it, within some seconds."""
        self._hurry()
        if self._writing.acquire(timeout=LAST_WORD_SECONDS):
            try:
                self.try_send(message)
            finally:
                self._writing.release()

    def _hurry(self) -> None:
        """Lets a write end soon, also one that has begun, where the link can: this session ends."""
        if isinstance(self._link, PatientLink):
            self._link.timeout_seconds = min(self._link.timeout_seconds, LAST_WORD_SECONDS)

    def try_send(self, message: Message) -> None:
        """Sends a message if the link still works; a lost link is no error here, and the work goes on."""
        if not self._lost:
            try:
                self.send(message)
            except LinkLostError:
                return

    def wait(self) -> bool:
        """Waits for the sender to reconnect, for as long as a session may wait; returns whether it has."""
        self._lost = True
        if self._session_socket is None or self._sender is None or self._session_socket.ending:
            return False
        self._lost_ns = time.time_ns()
        try:
            with self._host.waiting(self._sender.principal):
                link = self._session_socket.wait(self._reconnect_seconds)
            return self._replace_link(link)
        finally:
            self._lost_ns = None

    def take_new_link(self) -> bool:
        """Switches to the link over which the sender has reconnected; False where it has not."""
        return self._session_socket is not None and self._replace_link(self._session_socket.wait(0))

    def read_raw(self) -> bytes:
        """Bytes that arrive on the present link, undecoded: for a process that only passes them on."""
        return self._ahead.take()

    def close_session_socket(self) -> None:
        """Ends listening: the sender cannot reconnect to this session any more."""
        if self._session_socket is not None:
            self._session_socket.close()

    def close(self) -> None:
        """Closes the session socket, both threads and the link."""
        self.close_session_socket()
        self._ahead.close()
        self._hurry()
        # First: a descriptor that is closed during a write may be another file's by then. But a link that is stuck in a write
        # wakes its writer when it is closed.
        self.end_signs_of_life(2 * LAST_WORD_SECONDS)
        self._link.close()
        self.end_signs_of_life()

    def _attach(self, link: Link, *, begun: bool) -> None:
        """Takes a link; `begun` where another process has taken the preamble and the handshake from it."""
        self._link = link
        self._lost = False
        self._attached_ns = time.time_ns()
        self._ahead: ReadAhead = ReadAhead(link)
        self._decoder = FrameDecoder(begun=begun)
        self._frames = _frames(self._ahead, self._decoder)

    def _replace_link(self, link: SocketLink | None) -> bool:
        if link is None:
            return False
        with self._writing:
            self._wire_received, self._wire_sent = self.wire_received, self.wire_sent
            self._ahead.close()
            self._link.close()
            self._attach(link, begun=True)
            self._bound(link)
        self.interruptions += 1
        return True

    def _may_end(self) -> bool:
        """Returns whether another session may have the item: a sender of which nothing is stored must not keep it for ever.

        It may wait for a tape or a dying disk, and nobody else want the item: so it is not ended before it is asked.
        """
        is_idle = time.monotonic() - self._stored_at > MAX_STANDSTILL_SECONDS
        return not self.committed and (self._lost or is_idle or self._ahead.idle_seconds() > _IDLE_SECONDS)

    def _interrupt_reading(self) -> None:
        self._ahead.give_up(LinkLostError("the sender has come back on another link, or another session was let in"))


def _frames(ahead: ReadAhead, decoder: FrameDecoder) -> Iterator[tuple[int, memoryview]]:
    while True:
        yield from decoder.update(ahead.take())
