"""Serves the source's end of a pull: reads the offered source, sends it, and answers the vault's requests.

It has no key and no vault, and learns neither case nor item nor session. It hashes, cuts and sends with the same code as a push;
the header, the footer and every signature are made at the other end.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

import evidencesync
from evidencesync.acquire.reading import SourceEvent, SourceReading
from evidencesync.acquire.source_access import add_to_sender, count_source
from evidencesync.connection.event_log import NO_EVENTS, Events
from evidencesync.connection.inbox import Inbox, alive_seconds, listen, silence_seconds
from evidencesync.connection.link import Link, PatientLink
from evidencesync.connection.process import SteadyClock
from evidencesync.connection.progress import Progress
from evidencesync.connection.writer import BufferedWriter
from evidencesync.delta.refine import DELTA_PARAMETERS
from evidencesync.errors import EvidenceSyncError, LinkLostError, ProtocolError, VersionError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import seconds_text
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.files.shortages import unexpected
from evidencesync.limits import HANDSHAKE_SECONDS, MAX_FILE_SIZE, SILENCE_SECONDS
from evidencesync.protocol.failures import another_service, failure_of, version_in_common
from evidencesync.protocol.framing import frame_of
from evidencesync.protocol.messages import (
    HOLES_VERSION,
    PATIENT_VERSION,
    PREAMBLE,
    PROTOCOL_VERSION,
    Alive,
    Hello,
    Message,
    Patience,
    clock_for,
)
from evidencesync.protocol.pull_messages import (
    Fetch,
    SourceAsk,
    SourceEnd,
    SourceOffer,
    SourceSeen,
    SourceSeenHoles,
    SurveyAsk,
)
from evidencesync.protocol.sender import Sender
from evidencesync.serve.source_survey import send_survey
from evidencesync.source.filters import FilterRules
from evidencesync.source.origin import describe_origin
from evidencesync.source.root import Confined, confined
from evidencesync.source.salvage import parse_on_read_error

_M = TypeVar("_M", bound=Message)
_PROGRESS_SECONDS: Final = 0.25


def serve_source(link: Link, offered: bytes, now: Callable[[], int] | None = None, events: Events = NO_EVENTS) -> None:
    """Serves one pull on a link, and closes it. Nothing but `offered` is read, and nothing is written.

    An error is sent to the other end, and raised. Raises LinkLostError where the other end closes the link before it has all.
    """
    server = _SourceServer(link, now or SteadyClock(), events)
    events.record("begun", tool=evidencesync.__version__)
    try:
        server.run(offered)
        events.record("ended", code=0)
    except LinkLostError as error:
        events.refuse(error)
        raise
    except EvidenceSyncError as error:
        events.refuse(error)
        server.send_failure(error)
        raise
    except Exception as error:
        failure = unexpected(error)
        events.refuse(failure)
        server.send_failure(failure)
        raise failure from error
    finally:
        server.close()


class _SourceServer:
    """Serves one pull, in the thread that sends."""

    def __init__(self, link: Link, now: Callable[[], int], events: Events) -> None:
        self._link = link
        self._now = now
        self._inbox: Inbox[SourceEvent, Message] = Inbox()
        self._progress = Progress(events=events)
        self._version: int | None = None
        self._silence_seconds = SILENCE_SECONDS
        self._progress_sent = 0.0
        self._is_read = False
        listen(link, self._inbox)

    def send_failure(self, error: EvidenceSyncError) -> None:
        """Sends the reason why the pull ends, if the link still works."""
        with contextlib.suppress(LinkLostError):
            self._send_message(failure_of(error, self._version))

    def close(self) -> None:
        """Closes the link, and ends the threads."""
        self._inbox.close()
        self._link.close()

    def run(self, offered: bytes) -> None:
        """Finds, reads and sends the requested source."""
        self._link.write(PREAMBLE)
        ask = self._expect(SourceAsk, HANDSHAKE_SECONDS)
        self._version = version_in_common(ask.versions)
        if self._version is None or ask.parameters != DELTA_PARAMETERS:
            raise VersionError("the two ends of this pull do not speak the same version of the protocol")
        parse_on_read_error(ask.on_read_error)
        rules = FilterRules.from_patterns(
            map(os.fsdecode, ask.excludes),
            map(os.fsdecode, ask.includes),
            max_size=ask.max_size,
            one_file_system=ask.one_file_system,
        )
        with confined(offered, ask.path) as place:
            self._progress.events.record("session", what=safe_text(place.source.path, 300))
            self._send_message(self._offer(place))
            reading = None if isinstance(ask, SurveyAsk) else self._start_reading(place, rules, ask)
            if self._version >= PATIENT_VERSION:
                self._set_timeouts(self._expect(Patience, SILENCE_SECONDS))
            if reading is None:
                send_survey(self._send_message, self._inbox, self._silence_seconds, place.reading, rules)
                return
            self._serve(self._expect(Fetch, SILENCE_SECONDS), reading)

    def _set_timeouts(self, patience: Patience) -> None:
        """Adapts the silence timeout and the interval of keep-alives to the other end's patience."""
        told = patience.timeout_ms / 1000
        self._silence_seconds = silence_seconds(told)
        self._inbox.alive_seconds = alive_seconds(told)
        if isinstance(self._link, PatientLink):
            self._link.timeout_seconds = self._silence_seconds

    def _offer(self, place: Confined) -> SourceOffer:
        origin = describe_origin(place.source)
        return SourceOffer(
            self._version or PROTOCOL_VERSION,
            evidencesync.__version__,
            DELTA_PARAMETERS,
            clock_for(self._version, self._now()),
            origin.host,
            origin.operating_system,
            place.source.path,
            place.source.named,
            origin.file_system,
            origin.machine_id,
            origin.device,
        )

    # Reading.

    def _start_reading(self, place: Confined, rules: FilterRules, ask: SourceAsk) -> SourceReading:
        """Starts reading. Its items wait in the inbox, a bounded number of bytes, until the vault's side fetches them."""
        reading = SourceReading(
            place.reading,
            rules,
            self._inbox.put_local,
            self._progress,
            lambda: format_utc_time(self._now()),
            with_footer=False,
            on_read_error=parse_on_read_error(ask.on_read_error),
            retries_changed=ask.retries_changed,
        )
        threading.Thread(target=self._read, args=(reading,), name="source", daemon=True).start()
        if ask.counts:
            threading.Thread(target=self._count, args=(place, rules), name="count", daemon=True).start()
        return reading

    def _read(self, reading: SourceReading) -> None:
        try:
            reading.run()
        except Exception as error:  # noqa: BLE001 - raised again in the thread that sends
            self._inbox.fail_local(error)

    def _count(self, place: Confined, rules: FilterRules) -> None:
        """Counts what there is to read, for the other end's display."""
        with contextlib.suppress(EvidenceSyncError, OSError):
            count_source(place.reading, rules, self._progress, lambda: self._inbox.is_closed)

    # Sending.

    def _serve(self, fetch: Fetch, reading: SourceReading) -> None:
        sender = Sender(
            knows_nothing=fetch.knows_nothing,
            has_previous=fetch.has_previous,
            piece_key=fetch.piece_key,
            compress=fetch.compress,
            clock=time.monotonic,
            first_page=1,
        )
        writer = BufferedWriter(self._link, fetch.limit_rate)
        writer.link_rate = fetch.limit_rate  # the rate of the network behind sshd's pipe is not known before it was measured
        while not self._is_read:
            self._step(sender, writer)
        self._write_all(sender, writer)
        self._send_progress()
        self._send_message(SourceEnd(sender.pages_sent, reading.tally.read_again, reading.tally.manifest.remarks))
        self._answer_until_closed(sender, writer)

    def _step(self, sender: Sender, writer: BufferedWriter) -> None:
        """Sends the frames that are due, and handles one item of the source or one message of the vault's side."""
        self._send(sender, writer)
        may_read = sender.has_room
        if writer.is_overfull or (writer.has_frames and self._inbox.would_wait(local=may_read and not writer.is_full)):
            writer.write_some()
            return
        item, message = self._inbox.take(local=may_read, timeout_seconds=self._silence_seconds)
        if message is not None:
            _receive(sender, message)
        elif item is not None:
            self._is_read = not add_to_sender(sender, item)
        else:
            self._send_message(Alive())

    def _write_all(self, sender: Sender, writer: BufferedWriter) -> None:
        """Writes all that is to be sent now. What arrives meanwhile comes first, and may ask for more."""
        self._send(sender, writer)
        while writer.has_frames:
            if writer.is_overfull or self._inbox.would_wait(local=False):
                writer.write_some()
            else:
                _, message = self._inbox.take(local=False, timeout_seconds=self._silence_seconds)
                if message is not None:
                    _receive(sender, message)
            self._send(sender, writer)

    def _answer_until_closed(self, sender: Sender, writer: BufferedWriter) -> None:
        """Answers requests until the vault's side, which then has everything, closes the link."""
        while True:
            try:
                self._write_all(sender, writer)
                _, message = self._inbox.take(local=False, timeout_seconds=self._silence_seconds)
            except LinkLostError:
                if sender.all_stored:
                    return
                raise
            if message is not None:
                _receive(sender, message)

    def _send(self, sender: Sender, writer: BufferedWriter) -> None:
        writer.put(sender.take_output())
        sender.data.link_rate = writer.link_rate
        self._progress.take_stored(sender.counts.stored_bytes, sender.counts.known_bytes, 0, sender.counts.zero_bytes)
        if time.monotonic() - self._progress_sent >= _PROGRESS_SECONDS:
            self._send_progress()

    def _send_progress(self) -> None:
        """Sends the progress, ahead of gathered frames: it may stand between any two frames, because only a display uses it."""
        self._progress_sent = time.monotonic()
        progress = self._progress
        seen = (
            progress.files,
            progress.stored_bytes,
            progress.hole_bytes,
            progress.bad_bytes,
            progress.stored_bytes - progress.known_bytes,
            progress.total_files,
            None if progress.total_bytes is None else min(progress.to_arrive(progress.total_bytes), MAX_FILE_SIZE),
            progress.path,
        )
        if self._version is None or self._version < HOLES_VERSION:
            self._send_message(SourceSeen(*seen))
        else:
            holes = progress.total_hole_bytes
            self._send_message(SourceSeenHoles(*seen, None if holes is None else min(holes, MAX_FILE_SIZE)))

    def _send_message(self, message: Message) -> None:
        self._link.write(frame_of(message))

    def _expect(self, kind: type[_M], seconds: float) -> _M:
        """Waits for a message of one kind, `seconds` at the longest: keep-alives do not extend that."""
        until = time.monotonic() + seconds
        while True:
            _, message = self._inbox.take(local=False, timeout_seconds=max(until - time.monotonic(), 0.0))
            if isinstance(message, kind):
                return message
            if time.monotonic() >= until:
                raise LinkLostError(f"the other end has not said what it wants in {seconds_text(round(seconds))}")
            if isinstance(message, Hello):
                raise another_service("a vault", "a source")
            if not isinstance(message, Alive):
                raise ProtocolError(f"the message {type(message).__name__} stands where {kind.__name__} was expected")


def _receive(sender: Sender, message: Message) -> None:
    if not isinstance(message, Alive):
        sender.receive(message)
