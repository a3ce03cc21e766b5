"""Runs one ingest session under an item's lock, from the first frame to the published acquisition.

One thread reads the link ahead, one decodes frames, stores what arrives and answers. A lost link does not end the session: it
waits until the same sender resumes, and goes on from what is stored.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from functools import partial
from typing import Final, Literal

from evidencesync.connection.sender_connection import Caller, SenderConnection, SenderIdentity
from evidencesync.custody.documents import ManifestHeader
from evidencesync.delta.refine import piece_key
from evidencesync.errors import InternalError, LinkLostError, ProtocolError, SealedError, StorageError
from evidencesync.evidence.digest import sha256_of
from evidencesync.files.disk import FOLDER_FLAGS, storing
from evidencesync.ingest.admission import Admitted, show_after, show_since
from evidencesync.ingest.basis import Basis, Lookup, TreeKey
from evidencesync.ingest.context import IngestContext
from evidencesync.ingest.manifests import leftover_manifests, not_verified, previous_manifest, staged_lines
from evidencesync.ingest.pages import PageIntake, PreviousManifest
from evidencesync.ingest.receipt import (
    Received,
    StagedAcquisition,
    TransferFacts,
    check_finish,
    check_hard_links,
    check_header,
    make_receipt,
    make_received,
    sign_receipt,
    sign_record,
)
from evidencesync.ingest.session_contents import SessionContents
from evidencesync.ingest.streams import StreamIntake
from evidencesync.protocol.events import (
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
from evidencesync.protocol.messages import Finish, Message, Published, Ready, Resumed, Status
from evidencesync.protocol.receiver import Receiver
from evidencesync.vault.heads import state_head
from evidencesync.vault.index.index import Index
from evidencesync.vault.index.reindex import catch_up
from evidencesync.vault.item import ItemState, VaultItem
from evidencesync.vault.layout import (
    ACQUIRED,
    ACQUIRED_SIGNATURE,
    DATA,
    MANIFEST_SIGNATURE,
    RECEIPT,
    RECEIPT_SIGNATURE,
    RECEIVED,
    RECEIVED_SIGNATURE,
    THIS_SESSION,
    ItemLayout,
    Location,
    Scope,
)
from evidencesync.vault.ledger import ChainHead
from evidencesync.vault.publish import committed, publish
from evidencesync.vault.readback import read_back
from evidencesync.vault.resume.leftovers import Leftovers
from evidencesync.vault.settings import LookupScope
from evidencesync.vault.space import check_declared, check_space
from evidencesync.vault.staging import Staging
from evidencesync.vault.tree import TreeReader
from evidencesync.vault.vault import Vault

Stage = Literal["receiving", "syncing", "read-back", "publishing"]
_STATUS_SECONDS: Final = 1.0


class IngestSession:
    """One acquisition being made. `run` is called once, under the item's lock."""

    def __init__(
        self,
        connection: SenderConnection,
        vault: Vault,
        item: VaultItem,
        admitted: Admitted,
        caller: Caller,
        now: Callable[[], int],
    ) -> None:
        self._connection = connection
        self._vault = vault
        self._item = item
        self._admitted = admitted
        self._caller = caller
        self._now = now
        self._started = time.monotonic_ns()
        self._done_bytes = 0
        self._total_bytes = 0
        self._last_keep_alive = time.monotonic()
        self._has_received = False
        self._damaged: set[Location] = set()
        self._manifests: list[PreviousManifest] = []
        self._vault_shown = 0
        self.least_bytes = 0
        """The room that what comes takes at the least, where nothing of it is in the vault."""
        self._unread = 0  # documents of earlier acquisitions, which are no basis then

    def run(self) -> list[Message]:
        """The transfer and its end; gives the acknowledgement, to be sent when the lock is free.

        Before it go the records that the vault's own chain has got meanwhile: the last states the item's new head.
        """
        item, admitted = self._item, self._admitted
        item.check_titles()
        state = item.state()
        if state.sealed:
            raise SealedError(f"item {item.name} is sealed")
        check_space(item.layout.root, 0)
        pulled = self._caller.pulled
        lookup_scope = self._lookup_scope()
        scope = Scope.of(item.name, lookup_scope)
        with ExitStack() as stack:
            index = self._vault.index()
            stack.callback(index.close)
            leftovers = Leftovers(item, admitted.session)
            stack.callback(leftovers.close)
            present = SessionContents(scope)
            open_tree = partial(self._open_tree, leftovers)
            self._while_working("receiving", partial(self._look_up, index, leftovers, state))
            self._check_declared(index.known(scope) + leftovers.count)
            staging = stack.enter_context(Staging.create(item, admitted.session))
            staging.keep_reserve()
            basis = Basis(
                partial(_open_any, open_tree, present, staging), from_disk=admitted.read_back, working=self._send_keep_alive
            )
            stack.callback(basis.close)
            self._damaged = basis.damaged
            self._open_session_socket(staging, stack)
            lookup = Lookup(index, leftovers)
            self._show_chains()
            self._connection.send(_ready(admitted, state, lookup.known(scope), lookup_scope, leftovers.count))
            previous = (item.name.case.folder, item.name.item.folder, state.next_acquisition - 1)
            side = IngestContext(
                Receiver(), lookup, scope, basis, admitted.read_back, piece_key(admitted.session), previous, present
            )
            streams = StreamIntake(side, staging, leftovers)
            stack.callback(streams.close)
            vault_id, vault_key = self._vault.settings.id, self._vault.signer.public_key.fingerprint

            def check(header: ManifestHeader) -> None:
                check_header(header, admitted, vault_id, vault_key, state)
                leftovers.set_header(header)

            pages = PageIntake(
                side,
                streams,
                staging,
                self._manifests,
                leftovers,
                check,
                on_page=pulled.on_page if pulled is not None else None,
            )
            finish = self._take_everything(side.receiver, streams, pages)
            self._connection.committed = True
            self._connection.interruptions += leftovers.count_continued()
            published = self._conclude(state, staging, streams, pages, finish, lookup_scope)
            self._while_working("publishing", leftovers.remove_continued)
            return [*show_after(self._vault.ledger, self._vault_shown), published]

    def _open_session_socket(self, staging: Staging, stack: ExitStack) -> None:
        """The sender may come back, if whoever called this allows it."""
        if self._caller.may_reconnect:
            who, caller = self._admitted, self._caller
            sender = SenderIdentity(who.principal, who.key.fingerprint, caller.received_from)
            self._connection.open_session_socket(staging.session_fd, who.session, sender, caller.host)
            stack.callback(self._connection.close_session_socket)

    def _lookup_scope(self) -> LookupScope:
        """How far lookups go. A pull's source may be anybody's machine: what it can learn of the vault ends at the item."""
        pulled = self._caller.pulled
        return "item" if pulled is not None and pulled.on_page is not None else self._vault.settings.policy.lookup_scope

    def catch_up(self) -> None:
        """The index with everything that is published in the case, also by a session that ended before it came to this."""
        index = self._vault.index()
        try:
            catch_up(self._vault.layout, index, self._item.name.case.folder)
        finally:
            index.close()

    # Before.

    def _check_declared(self, known: int) -> None:
        """Refuses at once what cannot fit; where anything is known that may be part of it, nobody knows."""
        if not known:
            check_declared(self._item.layout.root, self.least_bytes)

    def _look_up(self, index: Index, leftovers: Leftovers, state: ItemState) -> None:
        self._unread = len(catch_up(self._vault.layout, index, self._item.name.case.folder).left_out)
        leftovers.load()
        try:
            self._manifests = previous_manifest(state)
        except StorageError:  # it is no basis, and its pages travel again
            self._unread += 1
        self._manifests += leftover_manifests(leftovers)

    def _open_tree(self, leftovers: Leftovers, key: TreeKey) -> TreeReader:
        case, item, number = key
        if number < 0:
            return leftovers.open_tree(number)
        folder = ItemLayout(self._vault.layout.case(case) / item).acquisition(number) / DATA
        with storing("open a published acquisition"):
            return TreeReader(os.open(folder, FOLDER_FLAGS))

    def _show_chains(self) -> None:
        """Both chains, from what the sender has seen of them on: he decides whether they are what they were."""
        for batch in show_since(self._item.ledger, self._admitted.seen):
            self._connection.send(batch)
        for batch in show_since(self._vault.ledger, self._admitted.vault_seen):
            self._connection.send(batch)
            self._vault_shown = batch.first + len(batch.records) - 1

    # Transfer.

    def _take_everything(self, receiver: Receiver, streams: StreamIntake, pages: PageIntake) -> Finish:
        """Takes everything in, over as many links as it needs; returns when the sender says that this was all, and it was."""
        lost = False
        while True:
            try:
                if lost:
                    receiver = self._resume(streams, pages)
                return self._take_frames(receiver, streams, pages)
            except LinkLostError:
                # A sender who had gone before the item was his sends nothing, and has nothing here to come back to.
                if not self._has_received or not self._connection.wait():
                    raise
                lost = True

    def _resume(self, streams: StreamIntake, pages: PageIntake) -> Receiver:
        """Goes back to what is stored, and tells the sender where that is."""
        stored = streams.stored
        resumed = Resumed(pages.stored, stored.segments, stored.streams, stored.left is not None, concluding=False)
        receiver = Receiver(resumed, stored.left)
        streams.rewind(receiver)
        self._connection.send(resumed)
        pages.rewind(receiver)
        return receiver

    def _take_frames(self, receiver: Receiver, streams: StreamIntake, pages: PageIntake) -> Finish:
        """Stores what comes. The end may be announced while answers to what was asked are still under way."""
        finish: Finish | None = None
        for frame_type, body in self._connection.frames():
            self._has_received = True
            for event in receiver.receive(frame_type, body):
                if isinstance(event, FinishRequested):
                    finish = event.finish
                else:
                    _dispatch(event, streams, pages)
            answers = receiver.take_output()
            if answers:
                with suppress(LinkLostError):  # what has arrived is stored all the same, and after that the link's end is met
                    self._connection.write(answers)
            if finish is not None and streams.is_idle and pages.is_idle:
                if not pages.reader.done:
                    raise ProtocolError("the end was announced before everything was sent")
                return finish
        raise InternalError("the stream of frames ended without an error")

    # The end.

    def _conclude(
        self,
        state: ItemState,
        staging: Staging,
        streams: StreamIntake,
        pages: PageIntake,
        finish: Finish,
        lookup_scope: LookupScope,
    ) -> Published:
        """Checks, makes durable, reads back, signs, publishes; gives the acknowledgement that may then be sent."""
        header, tally, admitted = pages.reader.header, pages.reader.tally, self._admitted
        if header is None:
            raise ProtocolError("a manifest without a header")
        staging.finish()
        self._total_bytes = tally.bytes
        trust, low_s = self._vault.load_trust(), self._vault.low_s
        check_finish(finish, staging, pages.manifest_sha512.digest(), admitted, trust, state, self._now(), low_s=low_s)
        self._while_working("syncing", staging.sync)
        self._while_working("syncing", lambda: check_hard_links(pages.hard_links, staging))
        if admitted.read_back:
            self._while_working("read-back", lambda: self._read_back(staging, pages))
        # All of this may have taken hours: who is trusted is asked again, for the very time that the vault will state.
        now = self._now()
        check_finish(finish, staging, pages.manifest_sha512.digest(), admitted, self._vault.load_trust(), state, now, low_s=low_s)
        pulled = self._caller.pulled
        received = Received(tally.contents, tally.bytes, admitted.read_back, pages.tallies)
        traveled = TransferFacts(
            self._connection.wire_received,
            self._connection.wire_sent,
            streams.literal_bytes + pages.literal_bytes,
            streams.zero_bytes,
            time.monotonic_ns() - self._started,
            self._connection.interruptions,
            self._caller.received_from,
            self._caller.host_key,
            pulled.host_key if pulled is not None else None,
        )
        concluded = StagedAcquisition(header, finish, staging, state, lookup_scope)
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
        with committed(published.number):
            state_head(self._vault, self._item.name, ChainHead(state.head_sequence + 2, sha256_of(record).hex()), at_ns=now)
        return Published(
            published.number,
            receipt,
            documents[RECEIPT_SIGNATURE],
            record,
            documents[RECEIVED_SIGNATURE],
            damaged=len(self._damaged) + self._unread,
            repeated=False,
        )

    def _read_back(self, staging: Staging, pages: PageIntake) -> None:
        """The third point, for everything that was not read from the disk when it was linked."""
        data_fd = staging.open_data()
        try:
            lines = not_verified(staged_lines(staging), pages.verified_on_disk)
            read_back(data_fd, lines, self._count_read_back)
            staging.read_documents_back()
        finally:
            os.close(data_fd)

    def _count_read_back(self, _files: int, size: int) -> None:
        self._done_bytes += size

    def _send_keep_alive(self) -> None:
        """In the middle of work on what has arrived, which may take long: the sender should not take this end for gone."""
        now = time.monotonic()
        if now - self._last_keep_alive >= _STATUS_SECONDS:
            self._last_keep_alive = now
            self._connection.try_send(Status("receiving", 0, 0))

    def _while_working(self, stage: Stage, work: Callable[[], object]) -> None:
        """Runs work that takes its time in a thread, and lets the sender know that this end is alive.

        The work goes on when there is nobody who hears it, and a sender who comes back is told where it is.
        """
        self._done_bytes = 0
        with ThreadPoolExecutor(1, stage) as pool:
            running = pool.submit(work)
            while wait([running], _STATUS_SECONDS).not_done:
                if self._connection.take_new_link():
                    self._connection.try_send(Resumed(0, 0, 0, stream_open=False, concluding=True))
                self._connection.try_send(Status(stage, self._done_bytes, self._total_bytes))
            running.result()


def _open_any(open_tree: Callable[[TreeKey], TreeReader], present: SessionContents, staging: Staging, key: TreeKey) -> TreeReader:
    """What is published or left over; and what this session itself has brought."""
    return present.tree(staging.open_data()) if key[2] == THIS_SESSION else open_tree(key)


def _ready(admitted: Admitted, state: ItemState, known: int, lookup_scope: LookupScope, leftovers: int) -> Ready:
    return Ready(
        admitted.principal,
        state.next_acquisition,
        state.head_sequence,
        bytes.fromhex(state.head_sha256) if state.head_sha256 else None,
        bytes.fromhex(state.previous_manifest_sha256) if state.previous_manifest_sha256 else None,
        known,
        lookup_scope,
        leftovers,
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
        case SegmentNamed():
            streams.on_named(event)
        case ChunksListed():
            streams.on_listed(event)
        case StreamResembles():
            streams.on_resembles(event)
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
