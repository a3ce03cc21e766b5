"""Queues what the source gives and what the vault answers, each bounded, and runs the thread that receives answers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from evidencesync.connection.link import Link
from evidencesync.errors import (
    ConnectError,
    EvidenceSyncError,
    InterruptedRunError,
    LimitExceededError,
    LinkLostError,
    NoRemoteError,
    ProtocolError,
)
from evidencesync.evidence.display import safe_text
from evidencesync.files.shortages import unexpected
from evidencesync.limits import ALIVE_SECONDS, LEAST_RATE, LEAST_SILENCE_SECONDS, MIB, SILENCE_SECONDS
from evidencesync.protocol.failures import error_of_far_end
from evidencesync.protocol.framing import FrameDecoder
from evidencesync.protocol.messages import DATA_FRAME, Failure, Message, decode_message

_QUEUED_BYTES = 16 * MIB
_QUEUED_ITEMS = 512
_ANSWER_BYTES = 16 * MIB  # some ten answers for everything that a window lets be open
_SIGNS = 4  # of life within a timeout: one may come late
_LENIENCE = 3
_ANSWER_OVERHEAD = 256  # what a message takes in memory, however short it was on the wire

LocalT = TypeVar("LocalT")
PeerT = TypeVar("PeerT")


def alive_seconds(timeout_seconds: float) -> float:
    """How often an end says that it is alive whose link is lost after such a silence."""
    return min(ALIVE_SECONDS, timeout_seconds / _SIGNS)


def silence_seconds(timeout_seconds: float) -> float:
    """How long to wait in silence for an end that gives a link up after `timeout_seconds`: it may wait for a person who signs."""
    return min(max(_LENIENCE * timeout_seconds, LEAST_SILENCE_SECONDS), SILENCE_SECONDS)


class Silence:
    """Tells when an end has been silent for its patience. A long frame that is still coming over a slow line is no silence.

    `arrived` gives how many bytes have come from that end so far, whole frames or not.
    """

    def __init__(self, arrived: Callable[[], int]) -> None:
        self._arrived = arrived
        self.heard()

    def heard(self) -> None:
        """A whole frame has come: the patience begins anew."""
        self._since, self._before = time.monotonic(), self._arrived()

    def left(self, patience_seconds: float) -> float:
        """How many seconds of the patience are left; 0 and less when it is over."""
        passed = time.monotonic() - self._since
        left = patience_seconds - passed
        if left <= 0 and self._arrived() - self._before >= LEAST_RATE * passed:
            self.heard()
            return patience_seconds
        return left


class Inbox(Generic[LocalT, PeerT]):
    """Two queues that one thread takes from. What fails in a feeding thread is raised where the items are taken.

    `alive_seconds`: for how long a source may have nothing before the other end should hear a sign.
    """

    def __init__(self, alive_seconds: float = ALIVE_SECONDS) -> None:
        self.alive_seconds = alive_seconds
        self._lock = threading.RLock()  # entered in place of the condition: see transfer.link
        self._changed = threading.Condition(self._lock)
        self._local: deque[tuple[LocalT, int]] = deque()
        self._local_bytes = 0
        self._peer: deque[tuple[PeerT, int]] = deque()
        self._peer_bytes = 0
        self._local_error: BaseException | None = None
        self._peer_error: BaseException | None = None
        self._link = 0
        self._closed = False
        self.local_arrived = 0
        self.peer_arrived = 0
        """Bytes that have come from the source and from the other end, as `put_local` and `put_peer` will give them or have."""
        self.may_hold_up = False
        """Whether the other end may be held up when it says much at once: only while nothing is being sent to it."""

    def put_local(self, item: LocalT, size: int) -> None:
        """Adds what the source gave, `size` bytes of it; waits while too much is queued. Raises when nobody takes it."""
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
        """Whatever the other end said so far is void: what counts from now on comes with the number that this gives."""
        with self._lock:
            self._link += 1
            self._peer.clear()
            self._peer_bytes = 0
            self._peer_error = None
            return self._link

    def put_peer(self, link: int, items: list[PeerT], size: int) -> None:
        """Adds what the other end said in `size` bytes, over a link that `begin_link` numbered.

        Does not wait, unless it `may_hold_up` the other end: what may come is bounded by what was asked. Raises
        LimitExceededError where more is waiting than any honest end answers.
        """
        with self._lock:
            if self.may_hold_up:
                self._changed.wait_for(
                    lambda: not self.may_hold_up or self._peer_bytes < _ANSWER_BYTES // 2 or self._closed or link != self._link
                )
            if link != self._link:
                return
            share = size // max(len(items), 1) + _ANSWER_OVERHEAD
            self._peer.extend((item, share) for item in items)
            self._peer_bytes += share * len(items)
            if self._peer_bytes > _ANSWER_BYTES:
                raise LimitExceededError("the other end says more than it was asked")
            self._changed.notify_all()

    def fail_local(self, error: BaseException) -> None:
        """The source's thread has ended with an error."""
        with self._lock:
            self._local_error = error
            self._changed.notify_all()

    def fail_peer(self, link: int, error: BaseException) -> None:
        """The link has ended; what arrived before is still taken."""
        with self._lock:
            if link == self._link:
                self._peer_error = error
                self._changed.notify_all()

    def last_word(self, timeout_seconds: float) -> BaseException | None:
        """What the link ended with, for whoever could not write to it any more; None where it has not ended in time."""
        with self._lock:
            self._changed.wait_for(lambda: self._peer_error is not None, timeout_seconds)
            return self._peer_error

    def close(self) -> None:
        """Nobody will take anything any more: wakes a source that waits."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    @property
    def is_closed(self) -> bool:
        """Whether the run has ended."""
        return self._closed

    def wait_for_local(self, is_enough: Callable[[], bool], timeout_seconds: float) -> None:
        """Waits until the source's thread has come so far, has ended, or can put nothing more; but not for long."""
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
        """Whether taking something now would probably mean to wait. A source that may not be taken from is no help."""
        return not self._peer and not (local and self._local)

    def take(self, *, local: bool, timeout_seconds: float) -> tuple[LocalT | None, PeerT | None]:
        """The next item: the other end's first, the source's only if `local`. One of the two at most is not None.

        Neither is there when the source had nothing for `alive_seconds`: time to tell the other end.
        Raises what a feeding thread failed with, and LinkLostError when only the other end was waited for and it
        stayed silent for `timeout_seconds`.
        """
        until = time.monotonic() + self.alive_seconds
        silence = Silence(lambda: self.peer_arrived)
        with self._lock:
            while True:
                if self._peer:
                    message, share = self._peer.popleft()
                    self._peer_bytes -= share
                    if self.may_hold_up:
                        self._changed.notify_all()
                    return None, message
                if self._peer_error is not None:
                    raise self._peer_error
                if local and self._local:
                    item, size = self._local.popleft()
                    self._local_bytes -= size
                    self._changed.notify_all()
                    return item, None
                if local and self._local_error is not None:
                    raise self._local_error
                # Without a limit on the wait, a lock in the main thread would hold back Ctrl-C on some systems.
                left = until - time.monotonic() if local else silence.left(timeout_seconds)
                if left > 0:
                    self._changed.wait(left)  # whatever comes: it is looked at above, also at the last moment
                    continue
                if local:
                    return None, None
                raise LinkLostError(f"the other end has been silent for {timeout_seconds:.0f} seconds")


def listen(link: Link, inbox: Inbox[LocalT, Message]) -> threading.Thread:
    """Starts taking in messages; whatever ends that is raised where the inbox is emptied."""
    thread = threading.Thread(target=_listen, args=(link, inbox, inbox.begin_link()), name="listener", daemon=True)
    thread.start()
    return thread


def _listen(link: Link, inbox: Inbox[LocalT, Message], number: int) -> None:
    frames = FrameDecoder()
    try:
        while block := link.read():
            inbox.peer_arrived += len(block)
            whole = list(frames.feed(block))
            if whole:  # counted by their own lengths: a long message may have come in many blocks
                inbox.put_peer(number, [_message(kind, body) for kind, body in whole], sum(len(body) for _, body in whole))
        raise end_of(frames)
    except EvidenceSyncError as error:
        inbox.fail_peer(number, error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the engine must not wait for ever
        inbox.fail_peer(number, unexpected(error))


def _message(frame_type: int, body: memoryview) -> Message:
    if frame_type == DATA_FRAME:
        raise ProtocolError("the vault's end sent data")
    message = decode_message(frame_type, body)
    if isinstance(message, Failure):
        raise error_of_far_end(message)
    return message


def end_of(frames: FrameDecoder) -> EvidenceSyncError:
    """What it means that the stream has ended here."""
    if frames.started:
        return LinkLostError("the connection ended before the vault had answered")
    return not_started(frames.noise, "Check that evidencesync is installed there, or name it with --remote-command.")


def not_started(noise: bytes, hint: str) -> EvidenceSyncError:
    """A stream that ended before our own first word. Where there were other words, something else answers there."""
    if not noise.strip():
        return ConnectError("the other end did not start evidencesync", hint=hint)
    return NoRemoteError(f"the other end did not start evidencesync; it said: {safe_text(noise[:300].strip())}", hint=hint)
