"""Receive: the vault's end of a transfer, the same whether the bytes come over SSH or from this machine.

One thread reads the link ahead, one takes frames apart, stores and answers. Nothing is visible under `acquisitions/`
before everything is verified, durable and signed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial
from typing import Final, Literal, TypeVar

from evidencesync.delta.refine import piece_key
from evidencesync.errors import (
    EvidenceSyncError,
    InternalError,
    MissingOrExtraError,
    ProtocolError,
    SealedError,
    UntrustedSignerError,
)
from evidencesync.limits import MAX_RECORD, NONCE
from evidencesync.protocol.failures import error_of
from evidencesync.protocol.framing import FrameDecoder, frame_of
from evidencesync.protocol.messages import (
    DATA_FRAME,
    PREAMBLE,
    Begin,
    Failure,
    Finish,
    Hello,
    Message,
    Published,
    Ready,
    Status,
    decode_message,
)
from evidencesync.session.events import (
    ChunksArrived,
    ChunksListed,
    Event,
    FilesArrived,
    FinishRequested,
    PageArrived,
    PageNamed,
    PiecesListed,
    SegmentArrived,
    SegmentNamed,
    StreamClosed,
    StreamOpened,
    StreamResembles,
)
from evidencesync.session.receiver import Receiver
from evidencesync.transfer.ahead import Ahead
from evidencesync.transfer.intake.admission import Admitted, admit, welcome
from evidencesync.transfer.intake.basis import Basis, TreeKey, VaultSide
from evidencesync.transfer.intake.conclusion import (
    Concluded,
    Received,
    Traveled,
    check_finish,
    check_header,
    make_receipt,
    make_received,
    sign_receipt,
    sign_record,
)
from evidencesync.transfer.intake.history import not_verified, previous_manifest, staged_lines
from evidencesync.transfer.intake.pages import PageIntake
from evidencesync.transfer.intake.streams import StreamIntake
from evidencesync.transfer.link import Link
from evidencesync.vault.disk import FOLDER_FLAGS, load_file, opened_folder, storing
from evidencesync.vault.index import Index
from evidencesync.vault.item import Item, ItemState
from evidencesync.vault.layout import (
    ACQUIRED,
    ACQUIRED_SIGNATURE,
    DATA,
    MANIFEST_SIGNATURE,
    RECEIPT,
    RECEIPT_SIGNATURE,
    RECEIVED,
    RECEIVED_SIGNATURE,
    ItemLayout,
)
from evidencesync.vault.location import Location, Scope
from evidencesync.vault.publish import complete_unfinished, publish
from evidencesync.vault.readback import read_back
from evidencesync.vault.reindex import catch_up
from evidencesync.vault.space import check_space
from evidencesync.vault.staging import Staging
from evidencesync.vault.tree import TreeReader
from evidencesync.vault.vault import Vault

Stage = Literal["receiving", "syncing", "read-back", "publishing"]
_M = TypeVar("_M", bound=Message)
_STATUS_SECONDS: Final = 1.0


def receive(
    link: Link,
    vault: Vault,
    received_from: str,
    now: Callable[[], int] = time.time_ns,
    *,
    host_key: str | None = None,
) -> None:
    """Serves one session on a link, and closes it. The other end is told what goes wrong; so is the caller.

    `received_from` and `host_key` are what this process itself knows of the connection; the key is None where sshd holds it.
    Whatever it raises, nothing of a session that was not acknowledged or published is to be seen among the evidence.
    """
    session = _Session(link, vault, received_from, now, host_key)
    try:
        session.run()
    except EvidenceSyncError as error:
        _tell(link, error)
        raise
    except Exception as error:
        failure = InternalError(f"{type(error).__name__}: {error}")
        _tell(link, failure)
        raise failure from error
    finally:
        session.close()


def refuse(link: Link, error: EvidenceSyncError) -> None:
    """Tells a client why there is no session for it at all, and closes the link."""
    try:
        link.write(PREAMBLE)
        _tell(link, error)
    finally:
        link.close()


def _tell(link: Link, error: EvidenceSyncError) -> None:
    """Says why the session ends, where the link still works."""
    hint = error.hint[:1000] if error.hint else None
    try:
        link.write(frame_of(Failure(error.slug, error.message[:1000], hint)))
    except EvidenceSyncError:
        return


class _Session:
    """One session of one client."""

    def __init__(self, link: Link, vault: Vault, received_from: str, now: Callable[[], int], host_key: str | None) -> None:
        self._link = link
        self._vault = vault
        self._received_from = received_from
        self._host_key = host_key
        self._now = now
        self._started = time.monotonic_ns()
        self._ahead = Ahead(link)
        self._frames = self._all_frames()
        self._done_bytes = 0
        self._total_bytes = 0
        self._damaged: set[Location] = set()

    def close(self) -> None:
        """Lets go of the link and of the thread that reads it."""
        self._ahead.close()
        self._link.close()

    def run(self) -> None:
        """Handshake, then the transfer under the item's lock."""
        self._link.write(PREAMBLE)
        admitted = self._shake_hands()
        item = self._vault.item(admitted.name, create=True)
        with item.locked():
            complete_unfinished(item)
            completed = item.find_session(admitted.session)
            if completed is not None:
                acknowledgement = self._once_more(item, completed, admitted)
            else:
                acknowledgement = self._acquire(item, admitted)
        # Only when the lock is free: whoever hears that it is done may begin with the next one at once.
        self._send(acknowledgement)
        # What is left to do is for a cache.
        with ExitStack() as stack:
            self._catch_up(item, stack, acknowledged=True)

    def _catch_up(self, item: Item, stack: ExitStack, *, acknowledged: bool) -> Index:
        """The index with everything that is published in the case, also by a session that ended before it came to this."""
        index = self._vault.index()
        stack.callback(index.close)
        work = partial(catch_up, self._vault.layout, index, item.name.case.folder)
        if acknowledged:
            work()
        else:  # the sender waits, and should know that this end is alive
            self._while_working("receiving", work)
        return index

    # Frames.

    def _all_frames(self) -> Iterator[tuple[int, memoryview]]:
        decoder = FrameDecoder()
        while True:
            yield from decoder.feed(self._ahead.take())

    def _expect(self, kind: type[_M]) -> _M:
        frame_type, body = next(self._frames)
        message = decode_message(frame_type, body) if frame_type != DATA_FRAME else None
        if isinstance(message, Failure):
            raise error_of(message)
        if not isinstance(message, kind):
            raise ProtocolError(f"a {kind.__name__} message was expected")
        return message

    def _send(self, message: Message) -> None:
        self._link.write(frame_of(message))

    # Handshake.

    def _shake_hands(self) -> Admitted:
        offered = welcome(self._expect(Hello), self._vault, os.urandom(NONCE), self._now())
        self._send(offered)
        return admit(self._expect(Begin), offered, self._vault, self._now())

    def _once_more(self, item: Item, number: int, admitted: Admitted) -> Published:
        """The same session again, whose acknowledgement was lost: its own examiner gets what he would have got."""
        if item.header(number).examiner.key != admitted.key.fingerprint:
            raise UntrustedSignerError("this session was another examiner's")
        with opened_folder(item.layout.acquisition(number)) as folder:
            documents = {name: _require(folder, name) for name in (RECEIPT, RECEIPT_SIGNATURE, RECEIVED, RECEIVED_SIGNATURE)}
        return Published(
            number,
            documents[RECEIPT],
            documents[RECEIPT_SIGNATURE],
            documents[RECEIVED],
            documents[RECEIVED_SIGNATURE],
            damaged=0,
            repeated=True,
        )

    # Transfer.

    def _acquire(self, item: Item, admitted: Admitted) -> Published:
        item.check_titles()
        state = item.state()
        if state.sealed:
            raise SealedError(f"item {item.name} is sealed")
        check_space(item.layout.root, 0)
        # Beyond the case, knowing a digest would have to be proved by possession; until then a case is as far as it goes.
        policy = self._vault.settings.policy.lookup
        scope = Scope.of(item.name, "item" if policy == "item" else "case")
        with ExitStack() as stack:
            index = self._catch_up(item, stack, acknowledged=False)
            basis = Basis(self._open_tree, from_disk=admitted.read_back)
            stack.callback(basis.close)
            self._damaged = basis.damaged
            staging = stack.enter_context(Staging.create(item, admitted.session))
            self._send(_ready(admitted, state, index.known(scope), scope))
            previous = (item.name.case.folder, item.name.item.folder, state.next_acquisition - 1)
            side = VaultSide(Receiver(), index, scope, basis, admitted.read_back, piece_key(admitted.session), previous)
            streams = StreamIntake(side, staging.new_content)
            stack.callback(streams.close)
            vault_id, vault_key = self._vault.settings.id, self._vault.signer.public_key.fingerprint
            pages = PageIntake(
                side,
                streams,
                staging,
                previous_manifest(state),
                lambda header: check_header(header, admitted, vault_id, vault_key, state),
            )
            finish = self._transfer(side.receiver, streams, pages)
            return self._conclude(admitted, state, staging, streams, pages, finish, scope)

    def _open_tree(self, key: TreeKey) -> TreeReader:
        case, item, number = key
        folder = ItemLayout(self._vault.layout.case(case) / item).acquisition(number) / DATA
        with storing("open a published acquisition"):
            return TreeReader(os.open(folder, FOLDER_FLAGS))

    def _transfer(self, receiver: Receiver, streams: StreamIntake, pages: PageIntake) -> Finish:
        """Takes everything in; returns when the sender says that this was all, and it was."""
        for frame_type, body in self._frames:
            for event in receiver.receive(frame_type, body):
                if isinstance(event, FinishRequested):
                    if not (streams.is_idle and pages.is_idle and pages.reader.done):
                        raise ProtocolError("the end was announced before everything was sent")
                    return event.finish
                _dispatch(event, streams, pages)
            answers = receiver.take_output()
            if answers:
                self._link.write(answers)
        raise InternalError("the stream of frames ended without an error")

    # The end.

    def _conclude(
        self,
        admitted: Admitted,
        state: ItemState,
        staging: Staging,
        streams: StreamIntake,
        pages: PageIntake,
        finish: Finish,
        scope: Scope,
    ) -> Published:
        """Checks, makes durable, reads back, signs, publishes; gives the acknowledgement that may then be sent."""
        header, tally = pages.reader.header, pages.reader.tally
        if header is None:
            raise ProtocolError("a manifest without a header")
        staging.finish()
        self._total_bytes = tally.bytes
        trust = self._vault.load_trust()
        check_finish(finish, staging, pages.manifest_sha512.digest(), admitted, trust, state, self._now())
        self._while_working("syncing", staging.sync)
        if admitted.read_back:
            self._while_working("read-back", lambda: self._read_back(staging, pages))
        # All of this may have taken hours: who is trusted is asked again, for the very time that the vault will state.
        now = self._now()
        check_finish(finish, staging, pages.manifest_sha512.digest(), admitted, self._vault.load_trust(), state, now)
        received = Received(tally.contents, tally.bytes, admitted.read_back, pages.tallies)
        traveled = Traveled(
            self._link.wire_received,
            self._link.wire_sent,
            streams.literal_bytes + pages.literal_bytes,
            streams.zero_bytes,
            time.monotonic_ns() - self._started,
            self._received_from,
            self._host_key,
        )
        concluded = Concluded(header, finish, staging, state, scope.reach)
        receipt = make_receipt(concluded, received, traveled, now)
        signer = self._vault.signer
        record = make_received(concluded, receipt, signer, now)
        documents = {
            MANIFEST_SIGNATURE: finish.signature,
            ACQUIRED: finish.acquired,
            ACQUIRED_SIGNATURE: finish.acquired_signature,
            RECEIPT: receipt,
            RECEIPT_SIGNATURE: sign_receipt(signer, receipt),
            RECEIVED: record,
            RECEIVED_SIGNATURE: sign_record(signer, record),
        }
        published = publish(staging, documents)
        return Published(
            published.number,
            receipt,
            documents[RECEIPT_SIGNATURE],
            record,
            documents[RECEIVED_SIGNATURE],
            damaged=len(self._damaged),
            repeated=False,
        )

    def _read_back(self, staging: Staging, pages: PageIntake) -> None:
        """The third point, for everything that was not read from the disk when it was linked."""
        data_fd = staging.open_data()
        try:
            lines = not_verified(staged_lines(staging), pages.verified_on_disk)
            read_back(data_fd, lines, self._note_read)
            staging.read_documents_back()
        finally:
            os.close(data_fd)

    def _note_read(self, _files: int, size: int) -> None:
        self._done_bytes += size

    def _while_working(self, stage: Stage, work: Callable[[], object]) -> None:
        """Runs work that takes its time in a thread, and lets the sender know that this end is alive."""
        self._done_bytes = 0
        with ThreadPoolExecutor(1, stage) as pool:
            running = pool.submit(work)
            while wait([running], _STATUS_SECONDS).not_done:
                self._send(Status(stage, self._done_bytes, self._total_bytes))
            running.result()


def _require(folder_fd: int, name: str) -> bytes:
    data = load_file(folder_fd, name, MAX_RECORD)
    if data is None:
        raise MissingOrExtraError(f"a published acquisition lacks {name}")
    return data


def _ready(admitted: Admitted, state: ItemState, known: int, scope: Scope) -> Ready:
    return Ready(
        admitted.principal,
        state.next_acquisition,
        state.head_sequence,
        bytes.fromhex(state.head_sha256) if state.head_sha256 else None,
        bytes.fromhex(state.previous_manifest_sha256) if state.previous_manifest_sha256 else None,
        known,
        scope.reach,
    )


def _dispatch(event: Event, streams: StreamIntake, pages: PageIntake) -> None:
    """Gives an event to the intake it is for. A page may have waited for the content that a stream completes."""
    match event:
        case PageNamed():
            pages.on_named(event)
        case PageArrived():
            pages.on_arrived(event)
        case FilesArrived():
            pages.on_files(event)
        case StreamOpened():
            streams.on_opened(event)
        case StreamResembles():
            streams.on_resembles(event)
        case SegmentNamed():
            streams.on_named(event)
        case ChunksListed():
            streams.on_listed(event)
        case PiecesListed():
            streams.on_pieces(event)
        case SegmentArrived():
            streams.on_segment(event)
        case ChunksArrived():
            streams.on_chunks(event)
            pages.advance()
        case StreamClosed():
            streams.on_closed(event)
            pages.advance()
        case _:
            raise InternalError("an event that nobody takes")
