"""Pulls a source on another machine into a vault on this one.

The vault's end runs in a thread of this process, and treats a pull like a push: the same handshake, checks and lock. The source's
end (`serve.source_server`) sends the messages of a sender between Ready and Finish. This module relays these frames, and no
others, and makes what a sender without a key cannot make: handshake, header, footer, signatures. The digest that it signs is
computed from the lines that the vault has checked, not from what the source's end claims.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Final

import msgspec

from evidencesync.acquire.handshake import Handshake, patience_of
from evidencesync.acquire.outcome import ConcludedPush, CountedTraffic
from evidencesync.acquire.reading import SourceTally
from evidencesync.acquire.remote_source import Frames, RemoteSource, note_of, origin_of, wish_for
from evidencesync.acquire.request import PushOutcome, PushRequest
from evidencesync.acquire.session_recorder import SessionRecorder
from evidencesync.acquire.signing import ManifestHasher, ManifestSums, Provenance, Signed, make_header, sign
from evidencesync.acquire.source_access import refuse_empty
from evidencesync.acquire.unchanged import EntriesCheck, UnchangedSource, unchanged
from evidencesync.acquire.vault_connection import VaultConnection, connect_again
from evidencesync.connection.event_log import Events
from evidencesync.connection.inbox import SilenceTimer
from evidencesync.connection.link import Link, LocalLink
from evidencesync.connection.process import SteadyClock, set_seconds
from evidencesync.connection.progress import Progress
from evidencesync.connection.sender_connection import Pulled
from evidencesync.custody.documents import ManifestHeader, SshPeer
from evidencesync.custody.manifest import CheckedLine, encode_footer, encode_header
from evidencesync.delta.refine import piece_key
from evidencesync.errors import (
    EvidenceSyncError,
    LinkLostError,
    MalformedDocumentError,
    ProtocolError,
    SourceGapsError,
)
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.number_format import seconds_text
from evidencesync.evidence.utc_time import UtcTime, format_utc_time
from evidencesync.limits import ALIVE_SECONDS
from evidencesync.protocol.data_frames import Outgoing
from evidencesync.protocol.messages import (
    PATIENT_VERSION,
    PROTOCOL_VERSION,
    Alive,
    Changes,
    Finish,
    Message,
    Need,
    NeedPieces,
    Page,
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
from evidencesync.protocol.pull_messages import Fetch, SourceAsk

_ANSWERS: Final = (PageAnswer, Want, PagesStored, SegmentAnswer, Need, NeedPieces, SegmentsStored)
_ALIVE_SECONDS: Final = 5.0
_OLD_KEEP_ALIVES: Final = 1.5  # a source's end of version 1 gives a sign after ALIVE_SECONDS, however impatient we are
RootCheck = Callable[[bytes, Entry], None]


class CheckedTally:
    """Digests and counts the manifest lines that the vault has checked.

    `add_page` is called in the vault's thread; the results are read after the vault has acknowledged the last page.
    """

    def __init__(self, recorder: SessionRecorder, events: Events) -> None:
        self._recorder = recorder
        self.hasher = ManifestHasher()
        self.entries: EntriesCheck | None = None
        self.tally = SourceTally(events=events)
        self.root: Entry | None = None
        """The manifest's first entry: what was named as the source, as it is there."""

    def add_page(self, lines: bytes, checked: list[CheckedLine]) -> None:
        """Adds the next page, as the vault has stored it."""
        self.hasher.update(lines)
        if self.entries is not None:
            self.entries.add(lines)
        self._recorder.add_manifest(lines)
        for path, line in checked:
            self.tally.add_gaps(line.read_errors or ())
            if not isinstance(line, Entry):
                continue
            if self.root is None:
                self.root = line
            self.tally.partial += line.read_errors is not None
            self.tally.add(path, line)
            for flag in line.flags or ():
                self.tally.add_flag(path, flag)


def accept_any(_path: bytes, _root: Entry) -> None:
    """Accepts every source."""


def pull(
    link: Link,
    vault: Callable[[Pulled, SshPeer | None], Link],
    request: PushRequest,
    progress: Progress,
    now: Callable[[], int] | None = None,
    *,
    again: Callable[[], Link] | None = None,
    recorder: SessionRecorder = SessionRecorder(),  # noqa: B008 - frozen, and empty
    check_root: RootCheck = accept_any,
) -> PushOutcome:
    """Makes one acquisition of `request.source`, a path as the other end of `link` knows it. Closes the link.

    `vault` returns a link to the vault's end in this process; its arguments describe the source's SSH server. `again` makes
    another link to the same source after a lost one: then the source is read from its start again, and what had arrived is not
    sent again. `recorder` is used as for a push. `check_root` is called early with the source's path and root entry, and may
    raise an error to refuse the source.

    Returns only what the vault has signed for. Raises the error of either end; then nothing was published.
    """
    now = now or SteadyClock()
    for _ in range(request.retries):
        try:
            return _pull_once(link, vault, request, progress, now, recorder, check_root)
        except LinkLostError:
            if again is None:
                raise
        link = connect_again(again, request, progress)
        request = msgspec.structs.replace(request, session=secrets.token_hex(16))
        progress.restart()
    return _pull_once(link, vault, request, progress, now, recorder, check_root)


def _pull_once(
    link: Link,
    vault: Callable[[Pulled, SshPeer | None], Link],
    request: PushRequest,
    progress: Progress,
    now: Callable[[], int],
    recorder: SessionRecorder,
    check_root: RootCheck,
) -> PushOutcome:
    recorder.begin()
    checked = CheckedTally(recorder, progress.events)
    try:
        near = vault(Pulled(link.peer.host_key if link.peer else None, checked.add_page), link.peer)
    except EvidenceSyncError:
        link.close()
        raise
    return _Pull(link, near, checked, request, progress, now, recorder, check_root).run()


class _Pull:
    """The caller's thread of one pull."""

    def __init__(
        self,
        link: Link,
        near: Link,
        checked: CheckedTally,
        request: PushRequest,
        progress: Progress,
        now: Callable[[], int],
        recorder: SessionRecorder,
        check_root: RootCheck,
    ) -> None:
        self._request = request
        self._check_root = check_root
        self._is_root_checked = False
        self._path = b""
        self._recorder = recorder
        self._progress = progress
        self._now = now
        self._checked = checked
        self._source = RemoteSource(link, progress, request.timeout_seconds)
        self._connection: VaultConnection[Frames] = VaultConnection(near, request, progress, now, None)
        self._stored = 0
        self._changes: Changes | None = None
        self._version = PROTOCOL_VERSION
        self._alive = time.monotonic()
        self._silence = SilenceTimer(lambda: self._connection.inbox.local_arrived)

    def run(self) -> PushOutcome:
        """Runs the pull. A malformed manifest line is reported as a protocol error of the source's end."""
        try:
            return self._run()
        except MalformedDocumentError as error:
            raise ProtocolError(f"the source's end: {error.message}") from error
        except (LinkLostError, UnchangedSource):
            raise
        except EvidenceSyncError as error:
            self._connection.send_failure(error)
            raise
        finally:
            self._source.link.close()
            self._connection.close()

    def _run(self) -> PushOutcome:
        began, started = time.monotonic(), format_utc_time(self._now())
        provenance = self._ask()
        handshake = self._connection.begin_session(self._recorder)
        if self._request.skip_unchanged:
            self._checked.entries = EntriesCheck(handshake)
        header = self._begin(provenance, handshake, started)
        self._progress.stage = "reading"
        self._relay()
        self._progress.stage = "finishing"
        self._source.link.close()
        tally = self._checked.tally
        entries = self._checked.entries
        if entries is not None and entries.is_same(header, tally) and not entries.lacks:
            self._withdraw()
            raise unchanged(self._request, handshake, tally, time.monotonic() - began, format_utc_time(self._now()))
        self._add_page(self._source.pages, encode_footer(tally.manifest.footer(format_utc_time(self._now()))))
        while self._stored <= self._source.pages:
            self._take_answer(self._connection.expect(*_ANSWERS))
        sums = self._checked.hasher.sums()
        signed = sign(self._request, header, handshake, sums, tally, format_utc_time(self._now()), set_seconds(self._now))
        self._connection.all_bytes = tally.manifest.bytes
        published = self._finish(sums, signed, handshake)
        done = ConcludedPush(self._request, handshake, header, tally, sums, signed, published, self._changes)
        outcome = self._outcome(done, provenance, time.monotonic() - began)
        self._progress.stage = "done"
        return outcome

    # Beginning.

    def _ask(self) -> Provenance:
        """Requests the source, and returns how its end describes itself."""
        request, source = self._request, self._source
        source.listen(self._connection.inbox)
        asked = self._now()
        counts = self._progress.count_ahead
        source.ask(
            wish_for(SourceAsk, request.source, request.rules, request.on_read_error, request.retries_changed, counts=counts)
        )
        offer = source.wait_for_offer(self._connection.inbox, request.timeout_seconds)
        self._version = offer.version
        self._path = offer.path
        offset = offer.clock - (asked + self._now()) // 2
        return Provenance(origin_of(offer), "pull", "source", source.link.peer, offset, note_of(offer), request.on_read_error)

    def _begin(self, provenance: Provenance, handshake: Handshake, started: UtcTime) -> ManifestHeader:
        """Sends the header, which is the first page, to the vault; then lets the source's end begin."""
        request, ready = self._request, handshake.ready
        header = make_header(request, provenance, handshake, started)
        self._add_page(0, encode_header(header))
        if self._version >= PATIENT_VERSION:
            self._source.send(patience_of(request.timeout_seconds, 0.0))
        self._silence.restart()
        self._source.send(
            Fetch(
                knows_nothing=ready.known_contents == 0,
                has_previous=ready.previous_manifest_sha256 is not None or ready.leftovers > 0,
                piece_key=piece_key(request.session),
                compress=request.compress,
                limit_rate=request.limit_rate,
            )
        )
        return header

    def _add_page(self, number: int, lines: bytes) -> None:
        """Sends the vault a page that this end has made."""
        out = Outgoing("never", time.monotonic)
        out.send(Page(number, len(lines), with_files=False, proofs=b""))
        out.send_lines(lines)
        self._write(b"".join(out.take()))

    # Between the two ends.

    def _relay(self) -> None:
        """Relays frames between both ends, until the source is read and all of it is stored."""
        inbox = self._connection.inbox
        while self._source.end is None or self._stored < self._source.pages:
            frames, message = inbox.take(local=True, timeout_seconds=self._request.timeout_seconds)
            if frames is None and message is None:
                self._check_silence()
                continue
            if frames is not None:
                self._write(self._source.take(frames))
            elif message is not None:
                self._forward_to_source(message)
            self._silence.restart()
            self._check_root_once()
        self._check_root_once()
        tally = self._checked.tally
        for remark, count in self._source.end.remarks.items():
            tally.manifest.remark(remark, count)
        if not self._request.allow_empty:
            refuse_empty(self._request.rules, tally.manifest)
        if self._request.on_read_error == "fail" and "unreadable" in tally.manifest.flags:
            raise SourceGapsError("the source's end goes on where something could not be read")
        tally.read_again = self._source.end.read_again
        tally.changed_folders = self._source.end.remarks.get("folder-changed-while-read", 0)

    def _check_root_once(self) -> None:
        """Calls `check_root` once, in this thread, so that its error ends the pull."""
        root = self._checked.root
        if root is not None and not self._is_root_checked:
            self._is_root_checked = True
            self._check_root(self._path, root)

    def _check_silence(self) -> None:
        """Raises LinkLostError after a long silence of the source's end, which sends keep-alives while it has nothing to send."""
        patience = self._request.timeout_seconds
        if self._version < PATIENT_VERSION:
            patience = max(patience, _OLD_KEEP_ALIVES * ALIVE_SECONDS)
        if self._silence.remaining(patience) <= 0:
            raise LinkLostError(f"the source's end has been silent for {seconds_text(round(patience))}")

    def _forward_to_source(self, message: Message) -> None:
        if isinstance(message, Status):
            self._source.excuse()
            if time.monotonic() - self._alive > min(_ALIVE_SECONDS, self._connection.inbox.alive_seconds):
                self._alive = time.monotonic()
                self._source.send(Alive())
            return
        self._take_answer(message)
        self._source.send(message)

    def _take_answer(self, message: Message) -> None:
        if not isinstance(message, _ANSWERS):
            raise ProtocolError(f"the message {type(message).__name__} is out of order")
        if isinstance(message, PagesStored):
            self._stored = message.count
        if self._checked.entries is not None:
            self._checked.entries.take_answer(message)

    def _write(self, frames: bytes) -> None:
        """Writes frames to the vault's end. Raises the reason of the vault's end where it takes nothing more.

        While the vault works and takes nothing, the source's end is told that this end is there.
        """
        link = self._connection.link
        try:
            while isinstance(link, LocalLink) and not link.wait_for_room(self._connection.inbox.alive_seconds):
                self._source.send(Alive())
            link.write(frames)
        except LinkLostError as lost:
            raise self._connection.reason_for(lost) from lost

    # The end.

    def _withdraw(self) -> None:
        """Ends the session without an acquisition, and waits until the vault has removed what it had staged."""
        self._connection.send(Withdraw())
        self._connection.expect(Withdraw)

    def _finish(self, sums: ManifestSums, signed: Signed, handshake: Handshake) -> Published:
        self._connection.send(
            Finish(
                sums.size,
                sums.sha256,
                signed.manifest_signature,
                signed.acquired,
                signed.acquired_signature,
                self._source.pages + 1,
            )
        )
        self._recorder.sync_manifest()
        while True:
            answer = self._connection.expect(Published, Records, Changes)
            if isinstance(answer, Published):
                return answer
            if isinstance(answer, Records):
                handshake.shown.take(answer)
            if isinstance(answer, Changes):
                if self._changes is not None:
                    raise ProtocolError("the vault says twice what has changed")
                self._changes = answer

    def _outcome(self, done: ConcludedPush, provenance: Provenance, seconds: float) -> PushOutcome:
        """Checks the receipt, and returns the results. The traffic is what the vault has counted."""
        checked = done.acknowledged(self._now())
        counted, link = checked.receipt.transfer, self._source.link
        traffic = CountedTraffic(
            counted.literal_bytes,
            counted.reused_bytes,
            counted.zero_bytes,
            link.wire_sent,
            link.wire_received,
            seconds,
            self._progress.interruptions,
        )
        return done.outcome(checked, traffic, self._now(), source_clock_offset_ns=provenance.clock_offset)
