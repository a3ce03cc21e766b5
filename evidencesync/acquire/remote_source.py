"""Talks to the source's end of a pull, at the vault's side: bounds and checks every message of it, or does not use it."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from typing import Final

import evidencesync
from evidencesync.connection.inbox import FRAME_OVERHEAD, Inbox
from evidencesync.connection.link import Link
from evidencesync.connection.not_begun import decoded, ending_of, not_started, silent
from evidencesync.connection.progress import Progress
from evidencesync.connection.waiting import Standstill
from evidencesync.custody.documents import Origin
from evidencesync.delta.refine import DELTA_PARAMETERS
from evidencesync.errors import (
    EvidenceSyncError,
    LinkLostError,
    MalformedDocumentError,
    ProtocolError,
    UsageError,
    VersionError,
)
from evidencesync.evidence.display import is_clean, safe_text
from evidencesync.evidence.path import to_json_fields
from evidencesync.files.shortages import unexpected
from evidencesync.limits import MAX_CLAIMED_SECONDS, MAX_PATTERN, MAX_PATTERNS, MAX_STANDSTILL_SECONDS
from evidencesync.protocol.data_frames import ContentCounter
from evidencesync.protocol.failures import error_of_far_end
from evidencesync.protocol.framing import DATA_FRAME, MESSAGE_TYPES, FrameDecoder, decode_message, encode_frame, frame_of
from evidencesync.protocol.messages import (
    PREAMBLE,
    VERSIONS,
    Alive,
    ChunkData,
    Chunks,
    Close,
    Failure,
    Files,
    Message,
    Open,
    Page,
    PageOffer,
    Pieces,
    Resembles,
    SegmentData,
    SegmentOffer,
)
from evidencesync.protocol.pull_messages import (
    SourceAsk,
    SourceEnd,
    SourceOffer,
    SourceSeen,
    SourceSeenHoles,
)
from evidencesync.source.filters import FilterRules
from evidencesync.source.salvage import OnReadError

_LOG: Final = logging.getLogger(__name__)
Frames = list[tuple[int, memoryview]]
_HINT: Final = "Check that evidencesync is installed there, name it with --remote-command, or use --agentless."
_LONGEST_PATH: Final = 2000  # characters of a path in a note
# Frames that are relayed to the vault's end unchanged, and checked there like any sender's. No others: no handshake, no Finish.
# No Alive either: what the vault's end says while nothing arrives there, it says because it works.
_PASSED_ON: Final = frozenset(
    {DATA_FRAME}
    | {
        number
        for number, kind in MESSAGE_TYPES.items()
        if kind in (Files, Open, Resembles, SegmentOffer, Chunks, SegmentData, ChunkData, Close, Pieces)
    }
)
_SAYS_NOTHING: Final = frozenset(number for number, kind in MESSAGE_TYPES.items() if kind in (Alive, SourceSeen, SourceSeenHoles))


class RemoteSource:
    """The link to the source's end. Used by one thread; a second one receives frames into an inbox."""

    def __init__(self, link: Link, progress: Progress, timeout_seconds: float) -> None:
        self.link = link
        self.end: SourceEnd | None = None
        self.pages = 1
        """How many pages were named so far, including the manifest's first, which is not the source's."""
        self._progress = progress
        self._gone = False
        self._standstill = Standstill("the source's end", MAX_STANDSTILL_SECONDS, timeout_seconds)
        self._claims = Standstill("the source's end", MAX_CLAIMED_SECONDS, math.inf)  # what trickles in is no pause
        self._seen: SourceSeen | None = None

    def listen(self, inbox: Inbox[Frames, Message]) -> None:
        """Starts the thread that receives frames."""
        threading.Thread(target=_listen, args=(self.link, inbox, self._progress), name="far source", daemon=True).start()

    def ask(self, wish: SourceAsk) -> None:
        """Sends the request for a source."""
        self._write(PREAMBLE + frame_of(wish))

    def wait_for_offer(self, inbox: Inbox[Frames, Message], timeout_seconds: float) -> SourceOffer:
        """Waits for the answer to the request. Raises LinkLostError, NoRemoteError, and as `take_offer`."""
        until = time.monotonic() + timeout_seconds
        while time.monotonic() < until:
            frames, _ = inbox.take(local=True, timeout_seconds=timeout_seconds)
            if frames is not None:
                return self.take_offer(frames)
        raise silent(inbox.local_frames, "the source's end", timeout_seconds)

    def take_offer(self, frames: Frames) -> SourceOffer:
        """Returns the answer to the request. Raises VersionError, ProtocolError, and the error of the other end."""
        message = decoded_message(*frames[0])
        if isinstance(message, Failure):
            raise error_of_far_end(message, is_source=True)
        if not isinstance(message, SourceOffer) or len(frames) > 1:
            raise ProtocolError("the source's end does not say what it offers")
        if message.version not in VERSIONS or message.parameters != DELTA_PARAMETERS:
            raise VersionError("the two ends do not speak the same version of the protocol")
        tool, host, path = safe_text(message.tool, 60), safe_text(message.host, 60), safe_text(message.path, 300)
        _LOG.info("the source's end is evidencesync %s, protocol %d, on %s; it reads %s", tool, message.version, host, path)
        return message

    def send(self, message: Message) -> None:
        """Sends a message. A lost link is no error here: the reason follows when all received frames were taken."""
        self._write(frame_of(message))

    def _write(self, data: bytes) -> None:
        if not self._gone:
            try:
                self.link.write(data)
            except LinkLostError:
                self._gone = True

    def take(self, frames: Frames) -> bytes:
        """Returns those frames that are for the vault's end, unchanged. Raises ProtocolError, and the error of the other end.

        Raises LinkLostError for a source that says for long that it is there, and nothing else.
        """
        passed: list[bytes] = []
        before = self._seen
        for frame_type, body in frames:
            if frame_type not in _PASSED_ON:
                message = decoded_message(frame_type, body)
                if not isinstance(message, PageOffer | Page):
                    self._receive(message)
                    continue
                self._count_page(message)
            passed.append(encode_frame(frame_type, body))
        self._judge(is_silent=all(frame_type in _SAYS_NOTHING for frame_type, _ in frames), claims=self._seen != before)
        return b"".join(passed)

    def excuse(self) -> None:
        """Records that the vault's end works: what the source's end does not send meanwhile is not its fault."""
        self._standstill.end()
        self._claims.end()

    def _judge(self, *, is_silent: bool, claims: bool) -> None:
        """`claims`: it says that it is further. It may be, between two blocks of bad sectors; but nothing shows it."""
        if not is_silent:
            self.excuse()
        elif claims:
            self._standstill.end()
            self._claims.go_on()
        else:
            self._standstill.go_on()
            self._claims.go_on()

    def _count_page(self, message: PageOffer | Page) -> None:
        """Checks that pages come in order, and counts them: SourceEnd must state the same number."""
        if message.number > self.pages or not message.number or (message.number == self.pages and self.end is not None):
            raise ProtocolError("a page of the source is out of turn")
        if message.number == self.pages:
            self.pages += 1

    def _receive(self, message: Message) -> None:
        match message:
            case SourceSeen():
                self._record_progress(message)
            case Alive():
                return
            case SourceEnd():
                if self.end is not None or message.pages != self.pages:
                    raise ProtocolError("the source's end says that it has sent something else than it has")
                self.end = message
            case Failure():
                raise error_of_far_end(message, is_source=True)
            case _:
                raise ProtocolError(f"the message {type(message).__name__} from a source is out of order")

    def _record_progress(self, seen: SourceSeen) -> None:
        self._seen = seen
        progress = self._progress
        progress.files, progress.hole_bytes, progress.bad_bytes = seen.files, seen.hole_bytes, seen.bad_bytes
        progress.take_stored(seen.stored_bytes, max(seen.stored_bytes - seen.sent_bytes, 0), seen.sent_bytes, 0)
        progress.total_files, progress.total_bytes, progress.path = seen.total_files, seen.total_bytes, seen.path
        progress.total_hole_bytes = seen.total_hole_bytes if isinstance(seen, SourceSeenHoles) else None


def wish_for(
    kind: type[SourceAsk],
    path: bytes,
    rules: FilterRules,
    on_read_error: OnReadError = "zero",
    retries_changed: int | None = None,
    *,
    counts: bool = False,
) -> SourceAsk:
    """Makes the request for a source. Raises UsageError for more patterns than the message can hold."""
    excludes, includes = list(map(os.fsencode, rules.excludes)), list(map(os.fsencode, rules.includes))
    if max(len(excludes), len(includes)) > MAX_PATTERNS or max(map(len, [*excludes, *includes]), default=0) > MAX_PATTERN:
        raise UsageError(f"a pull takes {MAX_PATTERNS} patterns of each kind, of {MAX_PATTERN} bytes each")
    return kind(
        list(VERSIONS),
        evidencesync.__version__,
        DELTA_PARAMETERS,
        path,
        excludes,
        includes,
        rules.max_size,
        rules.one_file_system,
        on_read_error,
        retries_changed,
        counts,
    )


def origin_of(offer: SourceOffer) -> Origin:
    """Returns the description of the source's machine for the manifest. Raises ProtocolError for text that it may not hold."""
    facts = offer.device or {}
    texts = (offer.host, offer.operating_system, offer.file_system or "", *facts.values())
    if not offer.host or not all(map(is_clean, texts)) or not offer.path.startswith(b"/") or b"\0" in offer.path:
        raise ProtocolError("the source's end describes its machine in an impossible way")
    try:
        path, path_b64 = to_json_fields(offer.path)
    except MalformedDocumentError as error:
        raise ProtocolError("the source's end names an impossible path") from error
    return Origin(
        host=offer.host,
        operating_system=offer.operating_system,
        path=path,
        path_b64=path_b64,
        file_system=offer.file_system,
        machine_id=offer.machine_id,
        device=offer.device,
    )


def note_of(offer: SourceOffer) -> str | None:
    """Returns the manifest's note for a source that was named through a symbolic link; else None."""
    if offer.named == offer.path:
        return None
    named, path = safe_text(offer.named, _LONGEST_PATH), safe_text(offer.path, _LONGEST_PATH)
    return f"the source was named through a symbolic link: {named} leads to {path}"


def decoded_message(frame_type: int, body: memoryview) -> Message:
    """Returns a message of the source's end. Raises ProtocolError for a malformed one, and for data."""
    if frame_type == DATA_FRAME:
        raise ProtocolError("data that was not announced")
    return decode_message(frame_type, body)


def _listen(link: Link, inbox: Inbox[Frames, Message], progress: Progress) -> None:
    frames = inbox.local_frames = FrameDecoder()
    content = ContentCounter()
    try:
        while block := link.read():
            inbox.local_arrived += len(block)
            whole = decoded(frames, block, _HINT)
            for frame in whole:
                content.add(*frame)
            progress.pulled_bytes, progress.link_bytes = content.total(frames.data_begun), link.wire_received
            if whole:
                inbox.put_local(whole, sum(len(body) + FRAME_OVERHEAD for _, body in whole))
        raise _end_of(frames, link)
    except EvidenceSyncError as error:
        inbox.fail_local(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the engine must not wait for ever
        inbox.fail_local(unexpected(error))


def _end_of(frames: FrameDecoder, link: Link) -> EvidenceSyncError:
    if frames.started:
        return LinkLostError("the source's end has gone before everything was read")
    return not_started(frames.noise, _HINT, ending_of(link))
