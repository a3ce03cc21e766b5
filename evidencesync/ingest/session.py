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
from typing import Final, Literal, TypeVar

from evidencesync.connection.event_log import NO_EVENTS, Events
from evidencesync.connection.sender_connection import Caller, SenderConnection, SenderIdentity
from evidencesync.custody.documents import ManifestHeader
from evidencesync.custody.wholeness import SourceState
from evidencesync.delta.refine import piece_key
from evidencesync.errors import InternalError, LinkLostError, ProtocolError, StorageError
from evidencesync.evidence.digest import sha256_of
from evidencesync.files.disk import FOLDER_FLAGS, storing
from evidencesync.ingest.admission import Admitted, show_after, show_since
from evidencesync.ingest.basis import Basis, Lookup, TreeKey
from evidencesync.ingest.comparison import ManifestComparison, has_its_documents
from evidencesync.ingest.context import IngestContext
from evidencesync.ingest.dispatch import dispatch
from evidencesync.ingest.pages import PageIntake, PreviousManifest, leftover_manifests, previous_manifest
from evidencesync.ingest.receipt import (
    ReceivedContents,
    StagedAcquisition,
    TransferFacts,
    check_finish,
    check_hard_links,
    check_header,
    not_verified,
    sign_acquisition,
    staged_lines,
)
from evidencesync.ingest.room import require_open
from evidencesync.ingest.session_contents import SessionContents
from evidencesync.ingest.streams import StreamIntake
from evidencesync.protocol.messages import (
    Alike,
    Finish,
    Message,
    Previous,
    Published,
    Ready,
    Records,
    Resumed,
    Status,
    Withdraw,
)
from evidencesync.protocol.receiver import FinishRequested, Receiver, WithdrawalRequested
from evidencesync.vault.alike import find_alike
from evidencesync.vault.heads import state_head
from evidencesync.vault.index.index import Index, catch_up, published_contents
from evidencesync.vault.item import ItemState, VaultItem
from evidencesync.vault.layout import (
    DATA,
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
from evidencesync.vault.space import check_declared
from evidencesync.vault.staging import Staging
from evidencesync.vault.tree import TreeReader
from evidencesync.vault.vault import Vault
from evidencesync.vault.writer import publishing

Stage = Literal["receiving", "syncing", "read-back", "publishing"]
_NEW_LINK_SECONDS: Final = 1.0  # so often it is looked whether the sender has reconnected
_T = TypeVar("_T")


class IngestSession:
    """Makes one acquisition. `run` is called once, under the item's lock."""

    def __init__(
        self,
        connection: SenderConnection,
        vault: Vault,
        item: VaultItem,
        admitted: Admitted,
        caller: Caller,
        now: Callable[[], int],
    ) -> None:
        self.least_bytes = 0
        """The bytes that the content needs at the least, where none of it is in the vault."""
        self.compares = True
        """Whether the sender knows the messages that compare with the previous acquisition."""
        self.tells_alike = True
        """Whether the sender knows the message about numbers that are nearly the same."""
        self.events: Events = NO_EVENTS
        """Where it is told what happens."""
        self._connection = connection
        self._vault = vault
        self._item = item
        self._admitted = admitted
        self._caller = caller
        self._now = now
        self._lookup_scope = self._choose_lookup_scope()
        self._scope = Scope.of(item.name, self._lookup_scope)
        self._started = time.monotonic_ns()
        self._stage: Stage = "receiving"
        self._done_bytes = 0
        self._total_bytes = 0
        self._has_received = False
        self._stored = (-1, 0)
        self._receiver = Receiver()
        self._damaged: set[Location] = set()
        self._manifests: list[PreviousManifest] = []
        self._vault_shown = 0
        self._comparison: ManifestComparison | None = None
        self._published: int | None = None
        self._unread = 0  # documents of earlier acquisitions that could not be read, and so are no basis

    def run(self) -> list[Message]:
        """Receives, checks and publishes one acquisition; returns the acknowledgement, to be sent when the lock is released.

        Before it go the records that the vault's own chain has got meanwhile: the last states the item's new head.
        """
        item, admitted = self._item, self._admitted
        state = require_open(self._vault, item)
        self.events = self.events.about(acquisition=state.next_acquisition)
        with ExitStack() as stack:
            index = self._vault.index()
            stack.callback(index.close)
            leftovers = Leftovers(item, admitted.session)
            stack.callback(leftovers.close)
            self._while_working("receiving", partial(self._look_up, index, leftovers, state))
            lookup = Lookup(index, leftovers)
            known = lookup.known(self._scope)
            self._check_declared(known)
            staging = stack.enter_context(Staging.create(item, admitted.session))
            staging.keep_reserve()
            context = self._make_context(lookup, leftovers, staging, state)
            stack.callback(context.basis.close)
            self._open_session_socket(staging, stack)
            # The sender checks both chains before it signs anything: so they go before Ready.
            self._show_chains()
            comparison = self._comparison = self._begin_comparison(state)
            self._send_alike(state)
            self._connection.send(_ready(admitted, state, known, self._lookup_scope, leftovers.count))
            streams = StreamIntake(context, staging, leftovers)
            stack.callback(streams.close)
            pages = self._make_page_intake(context, streams, staging, leftovers, state, comparison)
            finish = self._receive_all(streams, pages)
            self._connection.committed = True
            if finish is None:
                self._connection.close_session_socket()  # it lies in the staging area
                self._while_working("publishing", staging.discard)
                self.events.record("unchanged")
                self._while_working("publishing", leftovers.remove_continued)  # no other acquisition would take them away
                return [Withdraw()]
            self._connection.interruptions += leftovers.count_continued()
            changes = self._compare(comparison, staging)
            published, later = self._conclude(state, staging, streams, pages, finish)
            self._while_working("publishing", leftovers.remove_continued)  # only now: before, a crash would have lost them
            return [*later, *changes, published]

    def _make_context(self, lookup: Lookup, leftovers: Leftovers, staging: Staging, state: ItemState) -> IngestContext:
        admitted, contents = self._admitted, SessionContents(self._scope)
        open_tree = partial(_open_any, partial(self._open_tree, leftovers), contents, staging)
        basis = Basis(open_tree, from_disk=admitted.read_back)
        self._damaged = basis.damaged
        name = self._item.name
        previous = (name.case.folder, name.item.folder, state.next_acquisition - 1)
        key = piece_key(admitted.session)
        return IngestContext(self._receiver, lookup, self._scope, basis, admitted.read_back, key, previous, contents, self.events)

    def _begin_comparison(self, state: ItemState) -> ManifestComparison | None:
        """Begins to compare with the previous manifest, where it can be read; shows its ends to the sender, if all is there."""
        previous = next((manifest for manifest in self._manifests if manifest.acquisition > 0), None)
        if previous is None or not self.compares:
            return None
        try:
            ends = previous.read_ends()
        except StorageError:
            return None
        folder = self._item.layout.acquisition(previous.acquisition)
        if ends is not None and has_its_documents(folder, state.previous_receipt_sha256):
            self._connection.send(Previous(*ends))
        return ManifestComparison(previous.positions, previous.read)

    def _send_alike(self, state: ItemState) -> None:
        """Tells the sender of a new item which numbers the vault has that are nearly the same."""
        if state.next_acquisition == 1 and self.tells_alike:
            found = self._while_working(
                "receiving", partial(find_alike, self._vault.layout, self._item.name, self._admitted.grant.covers)
            )
            if any(found):
                self._connection.send(Alike(*found))

    def _compare(self, comparison: ManifestComparison | None, staging: Staging) -> list[Message]:
        """Says what has changed since the previous acquisition; nothing where that is not known."""
        if comparison is None:
            return []
        changes = self._while_working("receiving", partial(comparison.changes, staging.read_manifest, self.events))
        return [] if changes is None else [changes]

    def _make_page_intake(
        self,
        context: IngestContext,
        streams: StreamIntake,
        staging: Staging,
        leftovers: Leftovers,
        state: ItemState,
        comparison: ManifestComparison | None,
    ) -> PageIntake:
        admitted, pulled = self._admitted, self._caller.pulled
        vault_id, vault_key = self._vault.settings.id, self._vault.signer.public_key.fingerprint

        def check(header: ManifestHeader) -> None:
            check_header(header, admitted, vault_id, vault_key, state)
            leftovers.set_header(header)

        on_page = pulled.on_page if pulled is not None else None
        return PageIntake(context, streams, staging, self._manifests, leftovers, check, on_page=on_page, comparison=comparison)

    def _open_session_socket(self, staging: Staging, stack: ExitStack) -> None:
        """Lets the sender reconnect, if the caller allows it."""
        if self._caller.may_reconnect:
            admitted, caller = self._admitted, self._caller
            sender = SenderIdentity(admitted.principal, admitted.key.fingerprint, caller.received_from)
            self._connection.open_session_socket(staging.session_fd, admitted.session, sender, caller.host)
            stack.callback(self._connection.close_session_socket)

    def _choose_lookup_scope(self) -> LookupScope:
        """How far lookups go. A pull's source may be anybody's machine: what it can learn of the vault ends at the item."""
        pulled = self._caller.pulled
        return "item" if pulled is not None and pulled.on_page is not None else self._vault.settings.policy.lookup_scope

    def catch_up(self) -> None:
        """Adds everything that is published in the case to the index, also what an interrupted session has not added."""
        index = self._vault.index()
        try:
            self._add_published(index)
            catch_up(self._vault.layout, index, self._item.name.case.folder)
        finally:
            index.close()

    def _add_published(self, index: Index) -> None:
        """Adds what this session has published, whose lines it has checked.

        What is in pages of the previous manifest is in the index with that acquisition. Only where some of it was found damaged
        the newer files are to be found instead.
        """
        if (number := self._published) is None:
            return
        case, item = self._item.name.case.folder, self._item.name.item.folder
        comparison, pages = self._comparison, None
        if comparison is not None and not self._damaged and (item, number - 1) in index.acquisitions(case):
            pages = comparison.added
        index.add_acquisition(case, item, number, published_contents(self._item.layout, number, pages))

    # Before the transfer.

    def _check_declared(self, known: int) -> None:
        """Refuses at once what cannot fit. Where anything is known that may be reused, the room that is needed is not known."""
        if not known:
            check_declared(self._item.layout.root, self.least_bytes)

    def _look_up(self, index: Index, leftovers: Leftovers, state: ItemState) -> None:
        self._unread = len(catch_up(self._vault.layout, index, self._item.name.case.folder).left_out)
        leftovers.load()
        try:
            self._manifests = previous_manifest(state)
        except StorageError:  # then it is no basis, and its pages travel again
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
        """Sends both chains from the last records that the sender knows on: the sender checks that they are what they were."""
        for batch in show_since(self._item.ledger, self._admitted.seen):
            self._connection.send(batch)
        for batch in show_since(self._vault.ledger, self._admitted.vault_seen):
            self._connection.send(batch)
            self._vault_shown = batch.first + len(batch.records) - 1

    # Transfer.

    def _receive_all(self, streams: StreamIntake, pages: PageIntake) -> Finish | None:
        """Receives everything, over as many links as it takes; returns when the end is announced and nothing is missing.

        Returns None where the sender withdraws.
        """
        lost = False
        while True:
            try:
                if lost:
                    self._resume(streams, pages)
                return self._receive_frames(streams, pages)
            except LinkLostError:
                # A sender that was lost before it had sent anything has nothing here to resume.
                self.events.record("link-lost")
                if not self._has_received or not self._connection.wait():
                    raise
                lost = True
                self.events.record("resumed")

    def _resume(self, streams: StreamIntake, pages: PageIntake) -> None:
        """Goes back to what is stored, and sends the sender that position."""
        stored = streams.stored
        resumed = Resumed(pages.stored, stored.segments, stored.streams, stored.left is not None, concluding=False)
        receiver = self._receiver = Receiver(resumed, stored.left)
        streams.rewind(receiver)
        self._connection.send(resumed)  # before the pages: they may send answers, which the sender expects after it
        pages.rewind(receiver)

    def _receive_frames(self, streams: StreamIntake, pages: PageIntake) -> Finish | None:
        """Stores what arrives on one link. The end may be announced while answers to earlier requests are still under way."""
        finish: Finish | None = None
        receiver = self._receiver
        for frame_type, body in self._connection.frames():
            self._has_received = True
            for event in receiver.receive(frame_type, body):
                if isinstance(event, FinishRequested):
                    finish = event.finish
                elif isinstance(event, WithdrawalRequested):
                    return None
                else:
                    dispatch(event, streams, pages)
            answers = receiver.take_output()
            if answers:
                with suppress(LinkLostError):  # what has arrived is stored first; the next read then meets the link's end
                    self._connection.write(answers)
            if (stored := (pages.stored, streams.stored.segments)) != self._stored:
                self._stored = stored
                self._connection.record_stored()
            if finish is not None and streams.is_idle and pages.is_idle:
                if not pages.reader.done:
                    raise ProtocolError("the end was announced before everything was sent")
                return finish
        raise InternalError("the stream of frames ended without an error")

    # The end.

    def _conclude(
        self, state: ItemState, staging: Staging, streams: StreamIntake, pages: PageIntake, finish: Finish
    ) -> tuple[Published, list[Records]]:
        """Checks, syncs, reads back, signs and publishes; returns the acknowledgement that may then be sent.

        With it what the vault's own chain has got meanwhile, up to the statement of the new head: a key that is changed after it
        this sender does not know yet.
        """
        header, tally = pages.reader.header, pages.reader.tally
        if header is None:
            raise ProtocolError("a manifest without a header")
        now = self._verify(state, staging, pages, finish)
        acquisition = StagedAcquisition(header, finish, staging, state, self._lookup_scope)
        received = ReceivedContents(tally.contents, tally.bytes, self._admitted.read_back, pages.tallies)
        facts = self._transfer_facts(streams, pages)

        def publish_all() -> tuple[int, dict[str, bytes], list[Records]]:
            with publishing(self._vault.layout):  # from the signature until it is stated, the key stays as it is
                documents = sign_acquisition(acquisition, received, facts, self._vault.signer, now)
                published = publish(staging, documents)
                with committed(published.number):
                    head = ChainHead(state.head_sequence + 2, sha256_of(documents[RECEIVED]).hex())
                    state_head(self._vault, self._item.name, head, at_ns=now)
                    return published.number, documents, [*show_after(self._vault.ledger, self._vault_shown)]

        number, documents, later = self._while_working("publishing", publish_all)
        self._published = number
        self.events.record(
            "published",
            files=tally.contents,
            bytes=tally.bytes,
            verdict=SourceState.of(tally.flags, tally.remarks).verdict,
            manifest_sha256=finish.manifest_sha256.hex(),
        )
        published = Published(
            number,
            documents[RECEIPT],
            documents[RECEIPT_SIGNATURE],
            documents[RECEIVED],
            documents[RECEIVED_SIGNATURE],
            damaged=len(self._damaged) + self._unread,
            repeated=False,
        )
        return published, later

    def _verify(self, state: ItemState, staging: Staging, pages: PageIntake, finish: Finish) -> int:
        """Holds what is staged to what the examiner signed, and makes it durable. Returns the time that the vault will state."""
        staging.finish()
        self._total_bytes = pages.reader.tally.bytes

        def check() -> int:
            now, trust = self._now(), self._vault.load_trust()
            digest = pages.manifest_sha512.digest()
            check_finish(finish, staging, digest, self._admitted, trust, state, now, low_s=self._vault.low_s)
            return now

        check()  # before hours of work that a bad signature would make void
        self._while_working("syncing", staging.sync)  # before the read-back: it must find what is on the disk
        self._while_working("syncing", lambda: check_hard_links(pages.hard_links, staging))
        if self._admitted.read_back:
            self._while_working("read-back", lambda: self._read_back(staging, pages))
        # All of this may have taken hours: trust is asked for again, for the very time that the vault will state.
        return check()

    def _transfer_facts(self, streams: StreamIntake, pages: PageIntake) -> TransferFacts:
        pulled = self._caller.pulled
        return TransferFacts(
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

    def _read_back(self, staging: Staging, pages: PageIntake) -> None:
        """Takes the digests of the third point (disk) of everything that was not read from the disk when it was linked."""
        data_fd = staging.open_data()
        try:
            lines = not_verified(staged_lines(staging), pages.verified_on_disk)
            read_back(data_fd, lines, self._count_read_back)
            staging.read_documents_back()
        finally:
            os.close(data_fd)

    def _count_read_back(self, _files: int, size: int) -> None:
        self._done_bytes += size

    def status(self) -> Status:
        """Returns what this end does, and how far it is. Called in another thread."""
        if self._stage == "receiving":
            return Status("receiving", self._receiver.content_bytes(self._connection.data_begun), self._connection.wire_received)
        return Status(self._stage, self._done_bytes, self._total_bytes)

    def _while_working(self, stage: Stage, work: Callable[[], _T]) -> _T:
        """Runs long work of its own in a thread, and returns its result.

        The work goes on while the link is lost. A sender that has reconnected is sent that it has nothing to send any more.
        """
        self._stage, self._done_bytes = stage, 0
        with ThreadPoolExecutor(1, stage) as pool:
            running = pool.submit(work)
            while wait([running], _NEW_LINK_SECONDS).not_done:
                if self._connection.take_new_link():
                    self._connection.try_send(Resumed(0, 0, 0, stream_open=False, concluding=True))
            return running.result()


def _open_any(
    open_tree: Callable[[TreeKey], TreeReader], contents: SessionContents, staging: Staging, key: TreeKey
) -> TreeReader:
    """Opens the files of a published acquisition, of an interrupted session, or of this session itself."""
    return contents.tree(staging.open_data()) if key[2] == THIS_SESSION else open_tree(key)


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
