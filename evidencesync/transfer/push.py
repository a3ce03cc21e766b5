"""Push: acquires a source into a vault at the other end of a link.

Three threads: one reads and hashes the source, one takes in what the vault says, and the caller's decides and sends.
Nothing waits for anything but a full window.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import evidencesync
from evidencesync.custody.documents import (
    CUSTODY_NAMESPACE,
    MANIFEST_NAMESPACE,
    Clock,
    CustodyRecord,
    ManifestHeader,
    Method,
    Person,
)
from evidencesync.custody.record import encode_record
from evidencesync.custody.sshsig import sign_document
from evidencesync.delta.chunker import PARAMETERS, Segment
from evidencesync.delta.refine import piece_key
from evidencesync.errors import EvidenceSyncError, LinkLostError, ProtocolError
from evidencesync.evidence.digest import sha512_of
from evidencesync.evidence.moment import format_file_time, format_moment
from evidencesync.protocol.framing import frame_of
from evidencesync.protocol.messages import Alive, Failure, Finish, Message, Published, Status
from evidencesync.session.sender import Sender
from evidencesync.source.origin import describe_origin
from evidencesync.source.root import resolve_source
from evidencesync.source.walker import walk
from evidencesync.transfer.acknowledgement import Sent, check_published
from evidencesync.transfer.greeting import Greeting, greet
from evidencesync.transfer.inbox import Inbox
from evidencesync.transfer.link import Link
from evidencesync.transfer.listening import listen
from evidencesync.transfer.outlet import Outlet
from evidencesync.transfer.progress import Progress
from evidencesync.transfer.reading import Item, PageRead, SourceRead, SourceReading, SourceTally, StreamBegun, StreamEnded
from evidencesync.transfer.request import Documents, PushOutcome, PushRequest

_M = TypeVar("_M", bound=Message)
_LAST_WORD_SECONDS: Final = 3.0


def push(link: Link, request: PushRequest, progress: Progress, now: Callable[[], int] = time.time_ns) -> PushOutcome:
    """Makes one acquisition and waits until the vault has published it. Closes the link.

    Returns only what the vault has signed for and this end has checked against what it read. Raises the vault's error,
    LinkLostError, or what reading the source fails with: then nothing was published, unless the link was lost while the
    vault was acknowledging.
    """
    try:
        run = _Push(link, request, progress, now)
    except EvidenceSyncError:
        link.close()
        raise
    try:
        return run.run()
    except LinkLostError as error:
        raise run.reason_for(error) from error
    except EvidenceSyncError as error:
        _say_goodbye(link, error)
        raise
    finally:
        run.close()


def _say_goodbye(link: Link, error: EvidenceSyncError) -> None:
    """Gives the vault the reason, where the link still works; that it does not is no further news."""
    try:
        link.write(frame_of(Failure(error.slug, error.message[:1000], None)))
    except EvidenceSyncError:
        return


@dataclass(frozen=True, slots=True)
class _Signed:
    """What the examiner has signed."""

    manifest_signature: bytes
    acquired: bytes
    acquired_signature: bytes


class _Push:
    """The caller's thread of one push."""

    def __init__(self, link: Link, request: PushRequest, progress: Progress, now: Callable[[], int]) -> None:
        self._link = link
        self._request = request
        self._progress = progress
        self._now = now
        self._source = resolve_source(request.source)
        self._inbox: Inbox[Item, Message] = Inbox()
        self._outlet = Outlet(link, request.limit_rate)

    def close(self) -> None:
        """Lets go of the link and of the threads."""
        self._inbox.close()
        self._link.close()

    def reason_for(self, lost: LinkLostError) -> BaseException:
        """Why the link is lost. A vault that gives up says so and hangs up: then a write may fail before that was heard."""
        return self._inbox.last_word(_LAST_WORD_SECONDS) or lost

    def run(self) -> PushOutcome:
        """Handshake, transfer, signatures, acknowledgement."""
        started = time.monotonic()
        listen(self._link, self._inbox)
        greeting = greet(self._request, self._link, self._expect, self._now)
        header = self._header(greeting)
        sender = Sender(
            knows_nothing=greeting.ready.known_contents == 0,
            has_previous=greeting.ready.previous_manifest_sha256 is not None,
            piece_key=piece_key(self._request.session),
            compress=self._request.compress,
            clock=time.monotonic,
        )
        reading = self._start_reading(header)
        end = self._transfer(sender)
        signed = self._sign(header, end, greeting, reading.tally)
        published = self._finish(sender, end, signed)
        sent = Sent(
            header,
            reading.tally.manifest,
            end.manifest_sha256.hex(),
            signed.manifest_signature,
            signed.acquired,
            read_back=self._request.read_back,
        )
        try:
            receipt_sha256, head_sha256 = check_published(published, sent, greeting)
        except EvidenceSyncError as error:
            error.hint = "The vault says that it has published this. Leave it as it is, and run evidencesync verify there."
            raise
        self._progress.stage = "done"
        counts = sender.counts
        return PushOutcome(
            name=self._request.name,
            vault_id=greeting.vault_id,
            acquisition=published.acquisition,
            tally=reading.tally,
            literal_bytes=counts.literal_bytes,
            reused_bytes=max(reading.tally.manifest.bytes - counts.literal_bytes - counts.zero_bytes, 0),
            zero_bytes=counts.zero_bytes,
            wire_sent=self._link.wire_sent,
            wire_received=self._link.wire_received,
            seconds=time.monotonic() - started,
            manifest_sha256=end.manifest_sha256.hex(),
            receipt_sha256=receipt_sha256,
            chain_head_sha256=head_sha256,
            read_back=self._request.read_back,
            damaged=published.damaged,
            documents=Documents(
                signed.manifest_signature,
                signed.acquired,
                signed.acquired_signature,
                published.receipt,
                published.receipt_signature,
                published.received,
                published.received_signature,
            ),
        )

    # Reading.

    def _start_reading(self, header: ManifestHeader) -> SourceReading:
        request = self._request
        self._progress.stage = "reading"
        reading = SourceReading(
            self._source,
            request.rules,
            header,
            self._inbox.put_local,
            self._progress,
            lambda: format_moment(self._now()),
        )
        threading.Thread(target=self._read, args=(reading,), name="source", daemon=True).start()
        if self._progress.count_ahead:
            threading.Thread(target=self._count, name="count", daemon=True).start()
        return reading

    def _count(self) -> None:
        """How much there is to read, for a display. What it cannot see, the reading itself will record."""
        files = total = 0
        try:
            for found in walk(self._source.path, self._request.rules):
                if found.entry_type == "file" and found.stat is not None and found.flag is None:
                    files += 1
                    total += found.stat.st_size
                if self._inbox.is_closed:
                    return
        except EvidenceSyncError:
            return
        self._progress.total_files, self._progress.total_bytes = files, total

    def _read(self, reading: SourceReading) -> None:
        try:
            reading.run()
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            self._inbox.fail_local(error)

    # Moving.

    def _transfer(self, sender: Sender) -> SourceRead:
        """Moves everything; returns when the vault has stored all of it."""
        end: SourceRead | None = None
        while end is None or not sender.all_stored:
            may_read = end is None and sender.has_room
            if self._inbox.would_wait(local=may_read):
                self._outlet.flush()
            item, message = self._inbox.take(local=may_read, timeout_seconds=self._request.timeout_seconds)
            if item is None and message is None:
                self._link.write(frame_of(Alive()))
            if message is not None and not isinstance(message, Status):
                sender.receive(message)
            match item:
                case PageRead():
                    sender.add_page(item.lines, item.contents)
                case Segment():
                    sender.add_segment(item)
                case StreamBegun():
                    sender.open_stream(item.size, item.path)
                case StreamEnded():
                    sender.close_stream(item.size, item.blake3)
                case SourceRead():
                    end = item
            self._send(sender)
        return end

    def _send(self, sender: Sender) -> None:
        self._outlet.put(sender.take_output())
        sender.data.link_rate = self._outlet.link_rate
        self._progress.literal_bytes = sender.counts.literal_bytes
        self._progress.wire_sent = self._link.wire_sent

    # Documents.

    def _header(self, greeting: Greeting) -> ManifestHeader:
        request, ready = self._request, greeting.ready
        previous = ready.previous_manifest_sha256
        return ManifestHeader(
            format="evidencesync-manifest/1",
            vault_id=greeting.vault_id,
            vault_key=greeting.vault_key.fingerprint,
            case=request.name.case.text,
            item=request.name.item.text,
            acquisition=ready.acquisition,
            session=request.session,
            previous_manifest_sha256=previous.hex() if previous else None,
            examiner=self._examiner(greeting),
            direction="push" if self._link.peer else "local",
            digests_taken_at="source",
            source=describe_origin(self._source),
            method=Method(
                tool="evidencesync",
                version=evidencesync.__version__,
                command_line=request.command_line,
                digests=["blake3", "sha256"],
                filters=request.rules.lines(),
                options={"chunking": PARAMETERS, "read-back": "yes" if request.read_back else "no"},
            ),
            ssh=self._link.peer,
            started=format_moment(self._now()),
            clock=Clock(
                utc_offset=time.strftime("%z")[:3] + ":" + time.strftime("%z")[3:5],
                peer_offset_seconds=format_file_time(greeting.clock_offset),
            ),
            notes=[*request.notes, *([self._source.note] if self._source.note else [])],
        )

    def _examiner(self, greeting: Greeting) -> Person:
        request = self._request
        return Person(
            name=request.examiner,
            principal=greeting.ready.principal,
            key=request.signer.public_key.fingerprint,
            organisation=request.organisation,
        )

    def _sign(self, header: ManifestHeader, end: SourceRead, greeting: Greeting, tally: SourceTally) -> _Signed:
        """The examiner's signatures: over the manifest, and over the record that takes it into the chain."""
        signer, ready = self._request.signer, greeting.ready
        head = ready.chain_head_sha256
        acquired = encode_record(
            CustodyRecord(
                format="evidencesync-custody/1",
                vault_id=header.vault_id,
                sequence=ready.chain_sequence + 1,
                type="acquired",
                time=format_moment(self._now()),
                case=header.case,
                item=header.item,
                actor=header.examiner,
                previous_sha256=head.hex() if head else None,
                details=_details(header, tally),
                acquisition=header.acquisition,
                manifest_sha256=end.manifest_sha256.hex(),
            )
        )
        return _Signed(
            sign_document(signer, MANIFEST_NAMESPACE, end.manifest_sha512),
            acquired,
            sign_document(signer, CUSTODY_NAMESPACE, sha512_of(acquired)),
        )

    # The end.

    def _finish(self, sender: Sender, end: SourceRead, signed: _Signed) -> Published:
        self._progress.stage = "finishing"
        finish = Finish(
            end.manifest_size,
            end.manifest_sha256,
            signed.manifest_signature,
            signed.acquired,
            signed.acquired_signature,
            sender.pages_sent,
        )
        self._link.write(frame_of(finish))
        return self._expect(Published)

    def _expect(self, kind: type[_M]) -> _M:
        """The next message, which must be of this kind; reports of the vault's progress are taken in between."""
        while True:
            _, message = self._inbox.take(local=False, timeout_seconds=self._request.timeout_seconds)
            if isinstance(message, Status):
                self._progress.stage = "finishing" if message.stage == "receiving" else message.stage
                self._progress.stage_done, self._progress.stage_total = message.done, message.total
            elif isinstance(message, kind):
                return message
            else:
                raise ProtocolError(f"a {type(message).__name__} message stands where {kind.__name__} was expected")


def _details(header: ManifestHeader, tally: SourceTally) -> dict[str, str]:
    """What the `acquired` record says besides: where it was read, and what only the end of the reading could tell."""
    details = {"source": header.source.path or header.source.path_b64 or "", "host": header.source.host}
    if tally.changed_folders:
        details["folders_changed_while_read"] = str(tally.changed_folders)
    return details
