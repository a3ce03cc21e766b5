"""Pushes a source into a vault at the other end of a link.

Three threads: one reads and hashes the source, one receives the vault's messages, and the caller's decides and sends. Reading
begins before the vault has answered, and waits only for a full window. After a lost link the session is resumed where the vault
stands.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from evidencesync.acquire.connect import wait_for_place
from evidencesync.acquire.earlier import EarlierFiles
from evidencesync.acquire.handshake import Handshake
from evidencesync.acquire.outcome import ConcludedPush, CountedTraffic
from evidencesync.acquire.reading import PageRead, SourceEvent, SourceTally
from evidencesync.acquire.request import PushOutcome, PushRequest
from evidencesync.acquire.session_recorder import SessionRecorder
from evidencesync.acquire.signing import ManifestHasher, ManifestSums, Signed, make_header, sign
from evidencesync.acquire.source_access import (
    LocalSourceAccess,
    Reading,
    SourceAccess,
    add_to_sender,
    refuse_empty,
)
from evidencesync.acquire.unchanged import EntriesCheck, UnchangedSource, earlier_files, unchanged
from evidencesync.acquire.vault_connection import VaultConnection, connect_again
from evidencesync.connection.link import Link
from evidencesync.connection.process import SteadyClock, set_seconds
from evidencesync.connection.progress import Progress
from evidencesync.custody.documents import ManifestHeader
from evidencesync.custody.manifest import encode_header
from evidencesync.delta.refine import piece_key
from evidencesync.errors import (
    BusyError,
    EvidenceSyncError,
    InterruptedRunError,
    LinkLostError,
    ProtocolError,
    SessionGoneError,
    SourceNotFoundError,
    UsageError,
)
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.files.shortages import unexpected
from evidencesync.protocol.messages import (
    Alive,
    Changes,
    Finish,
    KeptLost,
    Message,
    Need,
    NeedPieces,
    PageAnswer,
    PagesStored,
    Published,
    Records,
    SegmentAnswer,
    SegmentsStored,
    Status,
    Want,
    Withdraw,
)
from evidencesync.protocol.pages import ContentNotRead
from evidencesync.protocol.sender import Sender
from evidencesync.source.minimum_size import minimum_bytes
from evidencesync.source.root import resolve_source

# After Finish the vault may still request data and report what it has stored; then its own new records and the acknowledgement
# follow.
_ANSWERS: Final = (PageAnswer, Want, PagesStored, SegmentAnswer, Need, NeedPieces, SegmentsStored, KeptLost)
_AFTER_THE_END: Final = (*_ANSWERS, Records, Changes, Published)

_FIRST_LOOK_SECONDS: Final = 3.0
_LOST: Final = "the vault does not have any more what it had stored, and it cannot be read again: nothing was published"
_LACKS: Final = "the vault lacks something that was not read, or its copy is damaged"


def push(
    link: Link,
    request: PushRequest,
    progress: Progress,
    now: Callable[[], int] | None = None,
    *,
    again: Callable[[], Link] | None = None,
    afresh: Callable[[], Link] | None = None,
    source_access: SourceAccess | None = None,
    recorder: SessionRecorder = SessionRecorder(),  # noqa: B008 - frozen, and empty
) -> PushOutcome:
    """Makes one acquisition and waits until the vault has published it. Closes the link.

    `now` is the clock; without one, a steady clock is used. `source_access` reads the source, where that is not
    `request.source` on this machine.

    `again` makes another link to the same vault after a lost one. Where the vault's process has ended meanwhile, or the server
    was busy, the source is read again, and what had arrived is not sent again. `recorder` has the remembered heads, and keeps
    manifest and records; the caller finishes the receipt, and remembers the heads in `PushOutcome.seen`.

    `afresh` makes a link for a run that begins anew: a quick one whose vault lacks what was not read reads everything then.

    Returns only what the vault has signed for and this end has checked. Raises the vault's error, LinkLostError, or the error of
    reading: then nothing was published, unless the link was lost while the vault was acknowledging.
    """
    now = now or SteadyClock()
    if source_access is None:
        request = msgspec.structs.replace(request, least_bytes=_least_bytes(request))
    try:
        return _push(link, request, progress, now, again, source_access, recorder)
    except ContentNotRead:
        if source_access is not None and source_access.is_read_once:
            raise SessionGoneError(_LOST) from None
        if afresh is None:
            raise ProtocolError(_LACKS) from None
    progress.notify(f"{_LACKS}: everything is read")
    progress.restart()
    request = msgspec.structs.replace(request, session=secrets.token_hex(16), quick=False)
    outcome = _push(connect_again(afresh, request, progress), request, progress, now, again, source_access, recorder)
    return msgspec.structs.replace(outcome, why_all_read=_LACKS)


def _push(
    link: Link,
    request: PushRequest,
    progress: Progress,
    now: Callable[[], int],
    again: Callable[[], Link] | None,
    source_access: SourceAccess | None,
    recorder: SessionRecorder,
) -> PushOutcome:
    """Makes an acquisition in as many attempts as it takes. What is read once goes on with what an attempt before has stored."""
    if source_access is not None and source_access.is_read_once:
        request = msgspec.structs.replace(request, began=request.began or format_utc_time(now()))
    for attempt in range(request.retries):
        try:
            return _push_once(link, request, progress, now, again, source_access, recorder)
        except SessionGoneError:
            if again is None:
                raise
        except BusyError as busy:
            if again is None:
                raise
            wait_for_place(busy, progress, attempt, request.retries)
        link = connect_again(again, request, progress)
        request = msgspec.structs.replace(request, session=secrets.token_hex(16))
        progress.restart()
    return _push_once(link, request, progress, now, again, source_access, recorder)


def _least_bytes(request: PushRequest) -> int:
    try:
        return minimum_bytes(resolve_source(request.source))
    except (SourceNotFoundError, UsageError):
        return 0  # the reading reports the error


def _push_once(
    link: Link,
    request: PushRequest,
    progress: Progress,
    now: Callable[[], int],
    again: Callable[[], Link] | None,
    source_access: SourceAccess | None,
    recorder: SessionRecorder,
) -> PushOutcome:
    try:
        run = _Push(link, request, progress, now, again, source_access, recorder)
    except EvidenceSyncError:
        link.close()
        raise
    return run.run()


class _Push:
    """The caller's thread of one push."""

    def __init__(
        self,
        link: Link,
        request: PushRequest,
        progress: Progress,
        now: Callable[[], int],
        again: Callable[[], Link] | None,
        source_access: SourceAccess | None,
        recorder: SessionRecorder,
    ) -> None:
        self._request = request
        self._recorder = recorder
        self._progress = progress
        self._now = now
        self._source_access = source_access or LocalSourceAccess(request)
        self._connection: VaultConnection[SourceEvent] = VaultConnection(link, request, progress, now, again)
        self._manifest = ManifestHasher()
        self._is_read = False
        self._earlier: EarlierFiles | None = None
        self._entries: EntriesCheck | None = None
        self._changes: Changes | None = None

    def run(self) -> PushOutcome:
        """Runs the push. An error that ends it is sent to the vault, if the link still works: so the vault need not wait."""
        try:
            return self._run()
        except (LinkLostError, UnchangedSource):
            raise
        except ContentNotRead:
            self._connection.send_failure(InterruptedRunError("the sender begins anew"))
            raise
        except EvidenceSyncError as error:
            self._connection.send_failure(error)
            raise
        except KeyboardInterrupt:
            self._connection.send_failure(InterruptedRunError("the sender was interrupted"))
            raise
        except Exception as error:
            self._connection.send_failure(unexpected(error))
            raise
        finally:
            self._connection.close()

    def _run(self) -> PushOutcome:
        """Handshake, transfer, signatures, acknowledgement."""
        started = time.monotonic()
        request, connection = self._request, self._connection
        began = request.began or format_utc_time(self._now())
        self._recorder.begin()
        # Its items wait in the inbox, a bounded number of bytes, until the vault is ready.
        reading = None if request.quick or self._source_access.is_read_once else self._start_reading()
        if reading is not None:
            self._refuse_empty(reading)
        handshake = connection.begin_session(self._recorder)
        self._progress.stage = "reading"
        ready = handshake.ready
        header = make_header(request, self._source_access.provenance(handshake, connection.link.peer), handshake, began)
        if request.quick:  # which files are to be read is known only now
            self._earlier = earlier_files(self._recorder.draft, request.name, handshake, header)
        reading = reading or self._start_reading()
        sender = Sender(
            knows_nothing=ready.known_contents == 0,
            has_previous=ready.previous_manifest_sha256 is not None or ready.leftovers > 0,
            piece_key=piece_key(request.session),
            compress=request.compress,
            clock=time.monotonic,
        )
        if request.skip_unchanged:
            self._entries = EntriesCheck(handshake)
        first = encode_header(header)
        self._take_lines(first)
        sender.add_page(first, [])
        self._transfer(sender, handshake, lambda: self._is_read)
        self._refuse_empty(reading)
        if self._is_unchanged(sender, handshake, header, reading.tally):
            self._withdraw(sender)
            raise unchanged(request, handshake, reading.tally, time.monotonic() - started, format_utc_time(self._now()))
        sums = self._manifest.sums()
        signed = sign(request, header, handshake, sums, reading.tally, format_utc_time(self._now()), set_seconds(self._now))
        connection.all_bytes = reading.tally.manifest.bytes
        published = self._finish(sender, sums, signed, handshake)
        done = ConcludedPush(request, handshake, header, reading.tally, sums, signed, published, self._changes)
        checked = done.acknowledged(self._now())
        self._progress.stage = "done"
        counts = sender.counts
        traffic = CountedTraffic(
            counts.literal_bytes,
            max(reading.tally.manifest.bytes - counts.literal_bytes - counts.zero_bytes, 0),
            counts.zero_bytes,
            connection.wire_sent,
            connection.wire_received,
            time.monotonic() - started,
            self._progress.interruptions,
        )
        outcome = done.outcome(checked, traffic, self._now(), source_clock_offset_ns=None)
        return msgspec.structs.replace(outcome, why_all_read=None if self._earlier is None else self._earlier.why_not)

    # Reading.

    def _start_reading(self) -> Reading:
        reading = self._source_access.reading(
            self._connection.inbox.put_local, self._progress, lambda: format_utc_time(self._now()), self._earlier
        )
        threading.Thread(target=self._read, args=(reading,), name="source", daemon=True).start()
        if self._progress.count_ahead:
            threading.Thread(target=self._count, name="count", daemon=True).start()
        return reading

    def _count(self) -> None:
        """Counts what there is to read, for a display. Errors are dropped: the reading itself records them."""
        with contextlib.suppress(EvidenceSyncError):
            self._source_access.count(self._progress, lambda: self._connection.inbox.is_closed)

    def _read(self, reading: Reading) -> None:
        try:
            reading.run()
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            self._connection.inbox.fail_local(error)

    def _refuse_empty(self, reading: Reading) -> None:
        """Raises NothingLeftError where nothing is in the source, or filters leave nothing of it.

        It is called before the handshake, and again when all was read. The first time it waits until something was found, for
        _FIRST_LOOK_SECONDS at the longest: the vault's end has a handshake deadline.
        """
        rules, tally = self._request.rules, reading.tally
        if self._request.allow_empty:
            return
        inbox = self._connection.inbox
        inbox.wait_for_local(lambda: tally.is_whole or tally.has_begun or tally.manifest.taken > 0, _FIRST_LOOK_SECONDS)
        if tally.is_whole:
            refuse_empty(rules, tally.manifest, tally.listed_folders)

    # Moving.

    def _transfer(self, sender: Sender, handshake: Handshake, is_done: Callable[[], bool]) -> None:
        """Reads and sends the source, over as many links as it takes, until `is_done`."""
        while not is_done():
            try:
                self._step(sender)
            except LinkLostError as lost:
                self._resume(sender, lost, handshake)

    def _step(self, sender: Sender) -> None:
        """Sends the frames that are due, and handles one item of the source or one message of the vault."""
        self._send(sender)
        connection = self._connection
        may_read = sender.has_room and not self._is_read
        if self._must_write(local=may_read):
            connection.writer.write_some()
            return
        item, message = connection.take_any(local=may_read)
        if item is None and message is None:
            connection.send(Alive())
        if message is not None and not isinstance(message, Status):
            self._take_answer(sender, message)
        if isinstance(item, PageRead):
            self._take_lines(item.lines)
        if item is not None:
            self._is_read = not add_to_sender(sender, item)

    def _must_write(self, *, local: bool) -> bool:
        """Whether to write before anything else. What has arrived comes first; what was read, while little is to be written."""
        inbox, writer = self._connection.inbox, self._connection.writer
        return writer.is_overfull or (writer.has_frames and inbox.would_wait(local=local and not writer.is_full))

    def _take_answer(self, sender: Sender, message: Message) -> None:
        before = sender.stored
        sender.receive(message)
        if self._entries is not None:
            self._entries.take_answer(message)
        if sender.stored != before:  # only new storage is progress: a message alone must not renew the attempts
            self._connection.reset_attempts()
            if self._source_access.is_read_once:
                self._source_access.drop_stored(sender.stored[1])

    def _take_lines(self, lines: bytes) -> None:
        """Digests and keeps the next lines of the manifest, before they are sent."""
        self._manifest.update(lines)
        if self._entries is not None:
            self._entries.add(lines)
        self._recorder.add_manifest(lines)

    def _send(self, sender: Sender) -> None:
        writer = self._connection.writer
        writer.put(sender.take_output())
        sender.data.link_rate = writer.link_rate
        counts = sender.counts
        self._progress.take_stored(counts.stored_bytes, counts.known_bytes, counts.acknowledged_on_link, counts.zero_bytes)

    def _resume(self, sender: Sender, lost: LinkLostError, handshake: Handshake) -> None:
        """Reconnects, and resumes where the vault stands; the sender still has everything that the vault has not stored."""
        answer = self._connection.reconnect(lost, handshake)
        if isinstance(answer, Published) or answer.concluding:
            raise ProtocolError("the vault says that it has everything, and it was not sent everything")
        sender.resume(answer)

    # The end.

    def _is_unchanged(self, sender: Sender, handshake: Handshake, header: ManifestHeader, tally: SourceTally) -> bool:
        """Returns whether nothing need be published: for that the vault must have found all of it on its disk, too."""
        entries = self._entries
        if entries is None or not entries.is_same(header, tally):
            return False
        self._transfer(sender, handshake, lambda: sender.all_stored or entries.lacks)
        return not entries.lacks

    def _withdraw(self, sender: Sender) -> None:
        """Ends the session without an acquisition, and waits until the vault has removed what it had staged.

        A lost link changes nothing: then what is staged is left to `clean`.
        """
        connection = self._connection
        try:
            self._send(sender)
            connection.writer.flush()
            connection.send(Withdraw())
            while not isinstance(connection.expect(*_ANSWERS, Withdraw), Withdraw):
                continue
        except LinkLostError:
            return

    def _finish(self, sender: Sender, sums: ManifestSums, signed: Signed, handshake: Handshake) -> Published:
        """Sends the signatures and waits for the acknowledgement, over as many links as it takes.

        The signatures follow the last item of the source at once. The vault keeps them until it has stored everything, and may
        request missing data until then.
        """
        connection = self._connection
        finish = Finish(
            sums.size,
            sums.sha256,
            signed.manifest_signature,
            signed.acquired,
            signed.acquired_signature,
            sender.pages_sent,
        )
        is_said = False
        while True:
            try:
                self._send(sender)
                if self._must_write(local=False):
                    connection.writer.write_some()
                    continue
                if not is_said and not connection.writer.has_frames:
                    connection.send(finish)
                    is_said = True
                    self._recorder.sync_manifest()
                if sender.all_stored and self._progress.stage == "reading":  # else the vault has said what it does meanwhile
                    self._progress.stage = "finishing"
                answer = connection.take(*_AFTER_THE_END)
                if answer is None:  # a Status: there may be more to be written
                    continue
                if isinstance(answer, Published):
                    return answer
                if isinstance(answer, Records):
                    handshake.shown.take(answer)
                    continue
                if isinstance(answer, Changes):
                    if self._changes is not None:
                        raise ProtocolError("the vault says twice what has changed")
                    self._changes = answer
                    continue
                self._take_answer(sender, answer)
            except LinkLostError as lost:
                again = connection.reconnect(lost, handshake)
                if isinstance(again, Published):
                    return again
                is_said = again.concluding
                if not is_said:
                    sender.resume(again)
