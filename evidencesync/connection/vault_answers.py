"""Reads what the vault's end sends over one link, message by message, where each is waited for when it is due."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, TypeVar

from evidencesync.connection.inbox import SilenceTimer, end_of, message_of_vault
from evidencesync.connection.link import Link, timeout_on
from evidencesync.connection.not_begun import HINT, decoded, silent
from evidencesync.connection.read_ahead import ReadAhead
from evidencesync.connection.waiting import Standstill
from evidencesync.errors import EvidenceSyncError, LinkLostError, ProtocolError
from evidencesync.evidence.number_format import seconds_text
from evidencesync.limits import LEAST_RATE, MAX_CUSTODY_WORK_SECONDS
from evidencesync.protocol.data_frames import DataDecoder
from evidencesync.protocol.framing import DATA_FRAME, FrameDecoder
from evidencesync.protocol.messages import Message, Status

_M = TypeVar("_M", bound=Message)
_LAST_MESSAGES: Final = 64  # read at most, to find the reason why the vault closed the link
_LAST_MESSAGES_SECONDS: Final = 3.0


class VaultAnswers:
    """The messages of the vault's end, in order. A long wait between two of them is a person's, who decides or signs."""

    def __init__(self, link: Link, timeout_seconds: float) -> None:
        self.may_say_status = False
        """Whether the vault's end may say Status in between: from SIGNS_VERSION on, it says so that it works."""
        self._link = link
        self._patience = timeout_on(link, timeout_seconds)
        self._ahead = ReadAhead(link, other="the vault's end", silence_seconds=self._patience)
        self._arrived = self._shown = 0
        self._work = Standstill("the vault's end", MAX_CUSTODY_WORK_SECONDS, self._patience)
        self._data = DataDecoder()
        self._frames = self._read_frames()

    def close(self) -> None:
        """Closes the link."""
        self._ahead.close()
        self._link.close()

    def begin_waiting(self) -> None:
        """The vault has to answer from now on: what time passed before was not its own."""
        self._work.end()

    def expect(self, *kinds: type[_M]) -> _M:
        """Returns the next message. Raises ProtocolError for one of another kind, what a Failure says, and LinkLostError."""
        message = self._next()
        if isinstance(message, kinds):
            return message
        expected = " or ".join(kind.__name__ for kind in kinds)
        came = "data" if isinstance(message, memoryview) else f"the message {type(message).__name__}"
        raise ProtocolError(f"{came} stands where {expected} was expected")

    def data(self, size: int) -> Iterator[memoryview]:
        """Yields `size` bytes of data. Raises ProtocolError where others come, and as `expect` does."""
        while size:
            came = self._next()
            if not isinstance(came, memoryview):
                raise ProtocolError(f"the message {type(came).__name__} stands where data were expected")
            block = self._data.decode(came)
            if not 0 < len(block) <= size:
                raise ProtocolError("the vault's end sent other data than it announced")
            size -= len(block)
            yield block

    def _next(self) -> Message | memoryview:
        """Returns the next message, or the body of the next data frame; but no Status that may be said in between.

        Raises LinkLostError also for a vault that says much and shows next to nothing.
        """
        for frame_type, body in self._frames:
            came = body if frame_type == DATA_FRAME else message_of_vault(frame_type, body)
            says_only_that_it_works = self.may_say_status and isinstance(came, Status)
            if not says_only_that_it_works:
                self._shown += len(body)
                self._work.show(self._shown, LEAST_RATE)
            self._work.go_on()
            if not says_only_that_it_works:
                return came
        raise LinkLostError("the connection ended before the vault had answered")

    def _read_frames(self) -> Iterator[tuple[int, memoryview]]:
        decoder = FrameDecoder()
        silence = SilenceTimer(lambda: self._arrived)
        while True:
            try:
                block = self._ahead.take()
            except LinkLostError as lost:
                raise self._reason_without_answer(lost, decoder) from lost
            self._arrived += len(block)
            whole = decoded(decoder, block, HINT)
            if not whole and silence.remaining(self._patience) <= 0:
                raise LinkLostError(f"the vault's end has sent no complete message for {seconds_text(round(self._patience))}")
            yield from whole
            if whole:
                silence.restart()  # only here: between two messages the user may have taken long, to decide or to sign

    def _reason_without_answer(self, lost: LinkLostError, decoder: FrameDecoder) -> EvidenceSyncError:
        """Returns why nothing more comes: where our protocol has never begun, what has answered there in its place."""
        if decoder.started or (self._ahead.has_ended and not self._ahead.has_finished):
            return lost
        if self._ahead.has_finished:
            return end_of(decoder, self._link)
        return silent(decoder, "the vault's end", self._ahead.silence_seconds)

    def reason_for(self, lost: LinkLostError) -> EvidenceSyncError:
        """Returns why the link is lost: a vault that gives up sends a Failure first, which may still be unread."""
        self._ahead.deadline = time.monotonic() + _LAST_MESSAGES_SECONDS
        try:
            for (frame_type, body), _ in zip(self._frames, range(_LAST_MESSAGES), strict=False):
                if frame_type != DATA_FRAME:
                    message_of_vault(frame_type, body)
        except LinkLostError:
            return lost
        except EvidenceSyncError as said:
            return said
        return lost
