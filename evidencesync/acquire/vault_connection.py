"""Connects a sender to its vault, and resumes the session over a new link when one is lost."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from evidencesync.acquire.connect import longest_pause, not_regained, pause_seconds
from evidencesync.acquire.handshake import Handshake, begin_session, resume_session
from evidencesync.acquire.request import PushRequest
from evidencesync.acquire.session_recorder import SessionRecorder
from evidencesync.connection.inbox import Inbox, alive_seconds, listen
from evidencesync.connection.link import Link, ThreadedLink, timeout_on
from evidencesync.connection.progress import Progress
from evidencesync.connection.waiting import Standstill, is_of_the_way
from evidencesync.connection.writer import BufferedWriter
from evidencesync.errors import (
    EvidenceSyncError,
    InterruptedRunError,
    LinkLostError,
    ProtocolError,
    SessionGoneError,
)
from evidencesync.limits import LEAST_WORK_RATE, MAX_STANDSTILL_SECONDS
from evidencesync.protocol.failures import failure_of
from evidencesync.protocol.framing import frame_of
from evidencesync.protocol.messages import Alike, Alive, Message, Published, Resumed, Status, Withdraw

_M = TypeVar("_M", bound=Message)
LocalT = TypeVar("LocalT")
_LAST_WORD_SECONDS: Final = 3.0
_STAGES: Final = ("syncing", "read-back", "publishing")  # in the order in which a vault comes to them


def connect_again(again: Callable[[], Link], request: PushRequest, progress: Progress) -> Link:
    """Makes another link, for a new session, in as many attempts as after a lost link. Raises the error of the last one."""
    progress.stage = "reconnecting"
    progress.lose_link()
    for attempt in range(request.retries):
        time.sleep(pause_seconds(attempt))
        try:
            return again()
        except EvidenceSyncError as error:
            if not is_of_the_way(error):
                raise
    return again()


class VaultConnection(Generic[LocalT]):
    """Used by one thread. `again` makes another link to the same vault; without it a lost link is an error."""

    def __init__(
        self, link: Link, request: PushRequest, progress: Progress, now: Callable[[], int], again: Callable[[], Link] | None
    ) -> None:
        self.inbox: Inbox[LocalT, Message] = Inbox(alive_seconds(request.timeout_seconds))
        self.writer = BufferedWriter(link, request.limit_rate)
        self._link = link
        self._request = request
        self._progress = progress
        self._now = now
        self._again = again
        self._attempts = 0
        self._stood = (0, 0)
        self._worked = -1
        self.all_bytes = 0
        """How many bytes of content the vault can sync and read back in all, when everything was sent: it cannot do more."""
        self._standstill = Standstill("the vault's end", MAX_STANDSTILL_SECONDS, self.timeout_seconds)
        self._wire_sent = 0
        self._wire_received = 0
        self._listener = listen(link, self.inbox, self._take_sign)

    @property
    def link(self) -> Link:
        """The present link."""
        return self._link

    @property
    def timeout_seconds(self) -> float:
        """After how long a silence of the vault the present link is lost."""
        return timeout_on(self._link, self._request.timeout_seconds)

    @property
    def wire_sent(self) -> int:
        """Bytes sent, over all links."""
        return self._wire_sent + self._link.wire_sent

    @property
    def wire_received(self) -> int:
        """Bytes received, over all links."""
        return self._wire_received + self._link.wire_received

    def begin_session(self, recorder: SessionRecorder) -> Handshake:
        """Runs the handshake of a new session. Raises SessionGoneError where another attempt may succeed."""
        self.inbox.may_block_peer = True  # a vault may have many records to show
        try:
            begun = begin_session(self._request, self._link, self.expect, self._now, recorder, self._reconnect_seconds())
        except LinkLostError as lost:
            reason = self.reason_for(lost)
            if self._again is not None and isinstance(reason, LinkLostError):
                hint = None if reason.hint == reason.default_hint else reason.hint
                raise SessionGoneError(f"the link was lost before the session had begun: {reason.message}", hint=hint) from lost
            raise reason from lost
        finally:
            self.inbox.may_block_peer = False
        if begun.alike is not None:
            self._ask_about(begun.alike)
        return begun

    def _ask_about(self, alike: Alike) -> None:
        """Lets a person decide about a new item. Where it was not meant, the vault removes what it has begun for it."""
        try:
            with self._sending_keep_alives():
                self._progress.about_new_item(alike)
        except (EvidenceSyncError, KeyboardInterrupt):
            with contextlib.suppress(EvidenceSyncError):
                self.send(Withdraw())
                self.expect(Withdraw)
            raise

    @contextlib.contextmanager
    def _sending_keep_alives(self) -> Iterator[None]:
        """Sends keep-alives while this thread sends nothing. A link that is lost meanwhile is noticed by what follows."""
        is_over = threading.Event()

        def send_them() -> None:
            with contextlib.suppress(LinkLostError):
                while not is_over.wait(self.inbox.alive_seconds):
                    self.send(Alive())

        sender = threading.Thread(target=send_them, name="keep-alives", daemon=True)
        sender.start()
        try:
            yield
        finally:
            is_over.set()
            sender.join()

    def _reconnect_seconds(self) -> float:
        """Returns for how long, at the most, this end tries to reconnect."""
        if self._again is None:
            return 0.0
        retries, timeout = self._request.retries, self._request.timeout_seconds
        return sum(map(longest_pause, range(retries))) + retries * timeout

    def send(self, message: Message) -> None:
        """Sends a message at once."""
        self._link.write(frame_of(message))

    def expect(self, *kinds: type[_M]) -> _M:
        """Returns the next message, which must be of one of these kinds; Status messages before it update the progress."""
        while (message := self.take(*kinds)) is None:
            continue
        return message

    def take(self, *kinds: type[_M]) -> _M | None:
        """Waits for one message, and returns it if it is of one of these kinds. A Status updates the progress: then None."""
        _, message = self.take_any(local=False)
        if isinstance(message, Status):
            self._take_stage(message)
            return None
        if isinstance(message, kinds):
            return message
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise ProtocolError(f"a {type(message).__name__} message stands where {expected} was expected")

    def take_any(self, *, local: bool) -> tuple[LocalT | None, Message | None]:
        """Takes the next item as `Inbox.take` does. Raises LinkLostError also for a vault that says much and does nothing.

        Not while the source is waited for (`local`): from a tape or a dying disk it may give nothing for days.
        """
        item, message = self.inbox.take(local=local, timeout_seconds=self.timeout_seconds)
        if local:
            self._standstill.end()
        elif message is not None:
            self._standstill.go_on()
        return item, message

    def _take_sign(self, status: Status) -> None:
        """Records what has arrived. Called in the listener's thread: this one may wait for a slow link to take a block."""
        if status.stage == "receiving":
            self._progress.received_bytes = max(status.done, self._progress.received_bytes)
            if self._link.peer is not None and status.total:
                self._progress.link_bytes = status.total

    def _take_stage(self, status: Status) -> None:
        if status.stage == "receiving":
            return
        progress = self._progress
        progress.stage, progress.stage_done, progress.stage_total = status.stage, status.done, status.total
        # A Status alone is no progress: a vault could send it and close the link, for ever. A stage comes once.
        at = _STAGES.index(status.stage)
        is_next = at > self._worked
        done = at * self.all_bytes + min(status.done, self.all_bytes)
        if self._standstill.show(done, 0 if is_next else LEAST_WORK_RATE) or is_next:
            self._worked = max(self._worked, at)
            self.reset_attempts()

    def reset_attempts(self) -> None:
        """Renews all attempts, after the vault has made progress."""
        self._attempts = 0
        self._standstill.end()

    def reconnect(self, lost: LinkLostError, handshake: Handshake) -> Resumed | Published:
        """Resumes the session over a new link; returns where the vault stands, or the acknowledgement that was lost.

        Waits between the attempts, longer each time, and for random times, so that senders spread out. Raises LinkLostError when
        there are no more attempts, SessionGoneError when the vault's process has ended, and at once an error that no other
        attempt would change (a changed host key, a refused login, another vault).
        """
        reason: EvidenceSyncError = self.reason_for(lost)
        if not is_of_the_way(reason) or self._again is None:
            raise reason
        before, self._progress.stage = self._progress.stage, "reconnecting"
        self._progress.lose_link()
        while self._attempts < self._request.retries:
            self._hang_up()
            time.sleep(pause_seconds(self._attempts))
            self._attempts += 1
            try:
                self._take_link(self._again())
                answer = resume_session(self._request, self._link, self.expect, self._now, handshake, self._reconnect_seconds())
            except EvidenceSyncError as error:
                if isinstance(error, SessionGoneError) or not is_of_the_way(error):
                    raise
                reason = error
                continue
            self._progress.stage = before
            self._progress.events.record("resumed")
            if isinstance(answer, Resumed) and (answer.pages, answer.segments) > self._stood:
                self._stood = answer.pages, answer.segments
                self.reset_attempts()
            return answer
        raise not_regained(self._attempts, reason) from lost

    def reason_for(self, lost: LinkLostError) -> EvidenceSyncError:
        """Returns why the link is lost: a vault that gives up sends a Failure first, which may still be unread."""
        said = self.inbox.wait_for_error(_LAST_WORD_SECONDS)
        return said if isinstance(said, EvidenceSyncError) else lost

    def send_failure(self, error: EvidenceSyncError) -> None:
        """Sends the vault the reason, if the link still works, so that the session does not wait for this sender.

        A vault in this process needs no message where the run was interrupted: its end of the link is closed.
        """
        said = frame_of(failure_of(error, None))
        unsent = self.writer.unsent()
        if unsent is None:
            return  # the vault would take the message for the rest of a frame
        if isinstance(self._link, ThreadedLink):
            self._link.write_last(unsent + said)
        elif not isinstance(error, InterruptedRunError):  # then a write may have been broken off in the middle
            with contextlib.suppress(EvidenceSyncError):
                self._link.write(said)

    def close(self) -> None:
        """Closes the link, and ends the threads."""
        self.inbox.close()
        self._link.close()

    def _hang_up(self) -> None:
        self._link.close()
        self._listener.join()

    def _take_link(self, link: Link) -> None:
        self._wire_sent, self._wire_received = self.wire_sent, self.wire_received
        self._link = link
        self._progress.received_bytes = 0
        self.writer.take_link(link)
        self._listener = listen(link, self.inbox, self._take_sign)
