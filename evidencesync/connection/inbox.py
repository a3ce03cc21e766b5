"""Queues the items of the source and the answers of the peer, each bounded, and runs the thread that receives answers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from evidencesync.connection.link import Link
from evidencesync.connection.not_begun import HINT, decoded, ending_of, not_started, silent
from evidencesync.errors import (
    EvidenceSyncError,
    InterruptedRunError,
    LimitExceededError,
    LinkLostError,
    ProtocolError,
)
from evidencesync.files.shortages import unexpected
from evidencesync.limits import ALIVE_SECONDS, LEAST_RATE, LEAST_SILENCE_SECONDS, MIB, SILENCE_SECONDS
from evidencesync.protocol.failures import error_of_far_end
from evidencesync.protocol.framing import DATA_FRAME, FrameDecoder, decode_message
from evidencesync.protocol.messages import Failure, Message, Status

_QUEUED_BYTES = 16 * MIB
_QUEUED_ITEMS = 512
_ANSWER_BYTES = 16 * MIB  # about ten answers for everything that may be open within a window
_MOST_IN_A_ROW: Final = 256  # messages of a peer that always says something, before it is the source's turn
_SIGNS = 4  # keep-alives within a timeout: one may come late
_LENIENCE = 3  # times the peer's own timeout: the end that gives up first should be the peer
FRAME_OVERHEAD: Final = 256  # what a frame or a message takes in memory, however short it was on the wire

LocalT = TypeVar("LocalT")
PeerT = TypeVar("PeerT")


def alive_seconds(timeout_seconds: float) -> float:
    """Returns how often to send a keep-alive, for a peer that gives a link up after such a silence."""
    return min(ALIVE_SECONDS, timeout_seconds / _SIGNS)


def silence_seconds(timeout_seconds: float) -> float:
    """Returns the silence timeout for a peer whose own timeout is `timeout_seconds`: it may wait for a person that signs."""
    return min(max(_LENIENCE * timeout_seconds, LEAST_SILENCE_SECONDS), SILENCE_SECONDS)


class SilenceTimer:
    """Measures how long a peer has been silent. A long frame that is still arriving over a slow link is no silence.

    `arrived` returns how many bytes have come from the peer so far, whole frames or not.
    """

    def __init__(self, arrived: Callable[[], int]) -> None:
        self._arrived = arrived
        self.restart()

    def restart(self) -> None:
        """Restarts the timer: a whole frame has come."""
        self._since, self._before = time.monotonic(), self._arrived()

    def remaining(self, patience_seconds: float) -> float:
        """Returns how many seconds of the timeout are left; 0 or less when it is over."""
        passed = time.monotonic() - self._since
        left = patience_seconds - passed
        if left <= 0 and self._arrived() - self._before >= LEAST_RATE * passed:
            self.restart()
            return patience_seconds
        return left


class Inbox(Generic[LocalT, PeerT]):
    """Two queues that one thread takes from. An error in a thread that fills them is raised where the items are taken.

    `alive_seconds`: after so long without an item of the source, `take` returns, so that a keep-alive can be sent.
    """

    def __init__(self, alive_seconds: float = ALIVE_SECONDS) -> None:
        self.alive_seconds = alive_seconds
        self._lock = threading.RLock()  # entered in place of the condition: see link._Pipe
        self._changed = threading.Condition(self._lock)
        self._local: deque[tuple[LocalT, int]] = deque()
        self._local_bytes = 0
        self._peer: deque[tuple[PeerT, int]] = deque()
        self._peer_bytes = 0
        self._in_a_row = 0
        self._local_error: BaseException | None = None
        self._peer_error: BaseException | None = None
        self._link = 0
        self._closed = False
        self.local_arrived = 0
        self.peer_arrived = 0
        """Bytes that have arrived from the source and from the peer, also those of items that are not complete yet."""
        self.local_frames: FrameDecoder | None = None
        self.peer_frames: FrameDecoder | None = None
        """What decodes the frames of a far source, and of the peer: they say whether our protocol has begun there."""
        self.may_block_peer = False
        """Whether `put_peer` may wait when the peer sends much at once: only while nothing is being sent to it (deadlock)."""

    def put_local(self, item: LocalT, size: int) -> None:
        """Adds an item of the source, `size` bytes; waits while the queue is full. Raises InterruptedRunError after `close`."""
        with self._lock:
            self._changed.wait_for(
                lambda: (self._local_bytes < _QUEUED_BYTES and len(self._local) < _QUEUED_ITEMS) or self._closed
            )
            if self._closed:
                raise InterruptedRunError("the run has ended")
            self._local.append((item, size))
            self._local_bytes += size
            self._changed.notify_all()

    def begin_link(self) -> int:
        """Drops all messages of earlier links; returns the number of the new link, which `put_peer` needs."""
        with self._lock:
            self._link += 1
            self._peer.clear()
            self._peer_bytes = 0
            self._peer_error = None
            return self._link

    def put_peer(self, link: int, items: list[PeerT], size: int) -> None:
        """Adds messages of the peer, `size` bytes in all, from a link that `begin_link` numbered.

        Waits only with `may_block_peer`: otherwise what may come is bounded by what was asked. Raises LimitExceededError where
        more is queued than any honest peer answers.
        """
        with self._lock:
            if self.may_block_peer:
                self._changed.wait_for(
                    lambda: not self.may_block_peer or self._peer_bytes < _ANSWER_BYTES // 2 or self._closed or link != self._link
                )
            if link != self._link:
                return
            share = size // max(len(items), 1) + FRAME_OVERHEAD
            self._peer.extend((item, share) for item in items)
            self._peer_bytes += share * len(items)
            if self._peer_bytes > _ANSWER_BYTES:
                raise LimitExceededError("the other end says more than it was asked")
            self._changed.notify_all()

    def fail_local(self, error: BaseException) -> None:
        """Records that the source's thread has ended with an error."""
        with self._lock:
            self._local_error = error
            self._changed.notify_all()

    def fail_peer(self, link: int, error: BaseException) -> None:
        """Records that the link has ended; messages that arrived before are still taken."""
        with self._lock:
            if link == self._link:
                self._peer_error = error
                self._changed.notify_all()

    def wait_for_error(self, timeout_seconds: float) -> BaseException | None:
        """Waits for the error with which the link has ended, as after a failed write; None where it has not ended in time."""
        with self._lock:
            self._changed.wait_for(lambda: self._peer_error is not None, timeout_seconds)
            return self._peer_error

    def close(self) -> None:
        """Ends the queues: nothing is taken any more. Wakes a source that waits."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    @property
    def is_closed(self) -> bool:
        """Whether the run has ended."""
        return self._closed

    def wait_for_local(self, is_enough: Callable[[], bool], timeout_seconds: float) -> None:
        """Waits until `is_enough`, or the source's thread has ended or can add nothing more; `timeout_seconds` at the longest."""
        with self._lock:
            self._changed.wait_for(
                lambda: (
                    is_enough()
                    or self._closed
                    or self._local_error is not None
                    or self._local_bytes >= _QUEUED_BYTES
                    or len(self._local) >= _QUEUED_ITEMS
                ),
                timeout_seconds,
            )

    def would_wait(self, *, local: bool) -> bool:
        """Returns whether `take` would probably wait. Without `local` the source's items do not count."""
        return not self._peer and not (local and self._local)

    def take(self, *, local: bool, timeout_seconds: float) -> tuple[LocalT | None, PeerT | None]:
        """Takes the next item: the peer's first, but not for ever; the source's only if `local`. At most one of both is not None.

        Both are None when the source had nothing for `alive_seconds`: then a keep-alive is due. Raises the error of a thread that
        fills the queues, and LinkLostError when only the peer was waited for and it was silent for `timeout_seconds`.
        """
        until = time.monotonic() + self.alive_seconds
        silence = SilenceTimer(lambda: self.peer_arrived)
        with self._lock:
            while True:
                if self._peer and not (local and self._is_sources_turn()):
                    self._in_a_row += 1
                    message, share = self._peer.popleft()
                    self._peer_bytes -= share
                    if self.may_block_peer:
                        self._changed.notify_all()
                    return None, message
                if self._peer_error is not None:
                    raise self._peer_error
                if local and self._local:
                    self._in_a_row = 0
                    item, size = self._local.popleft()
                    self._local_bytes -= size
                    self._changed.notify_all()
                    return item, None
                if local and self._local_error is not None:
                    raise self._local_error
                # Without a limit on the wait, a lock in the main thread would hold back Ctrl-C on some systems.
                left = until - time.monotonic() if local else silence.remaining(timeout_seconds)
                if left > 0:
                    self._changed.wait(left)  # the loop looks at what has come, also at the last moment
                    continue
                if local:
                    return None, None
                raise silent(self.peer_frames, "the other end", timeout_seconds)

    def _is_sources_turn(self) -> bool:
        has_some = bool(self._local) or self._local_error is not None
        return has_some and self._in_a_row >= _MOST_IN_A_ROW and self._peer_error is None


def listen(link: Link, inbox: Inbox[LocalT, Message], on_status: Callable[[Status], None] = lambda _: None) -> threading.Thread:
    """Starts the thread that receives messages; the error that ends it is raised by `Inbox.take`.

    `on_status` is called in that thread with each Status, which goes to the inbox, too.
    """
    thread = threading.Thread(target=_listen, args=(link, inbox, inbox.begin_link(), on_status), name="listener", daemon=True)
    thread.start()
    return thread


def _listen(link: Link, inbox: Inbox[LocalT, Message], number: int, on_status: Callable[[Status], None]) -> None:
    frames = inbox.peer_frames = FrameDecoder()
    try:
        while block := link.read():
            inbox.peer_arrived += len(block)
            whole = decoded(frames, block, HINT)
            if whole:  # counted by their own lengths: a long message may come in many blocks
                messages = [message_of_vault(kind, body) for kind, body in whole]
                for message in messages:
                    if isinstance(message, Status):
                        on_status(message)
                inbox.put_peer(number, messages, sum(len(body) for _, body in whole))
        raise end_of(frames, link)
    except EvidenceSyncError as error:
        inbox.fail_peer(number, error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the engine must not wait for ever
        inbox.fail_peer(number, unexpected(error))


def message_of_vault(frame_type: int, body: memoryview) -> Message:
    """Returns the message in a frame of the vault's end, which sends no data. Raises ProtocolError, or what a Failure says."""
    if frame_type == DATA_FRAME:
        raise ProtocolError("the vault's end sent data")
    message = decode_message(frame_type, body)
    if isinstance(message, Failure):
        raise error_of_far_end(message)
    return message


def end_of(frames: FrameDecoder, link: Link) -> EvidenceSyncError:
    """Returns the error for a stream that has ended here."""
    if frames.started:
        return LinkLostError("the connection ended before the vault had answered")
    return not_started(frames.noise, HINT, ending_of(link))
