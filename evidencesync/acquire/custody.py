"""Reads an item's custody chain and adds records to it, in a local or a remote vault: the examiner's part.

A record is signed only on a chain that was checked (`acquire.custody_exchange`), and counts as appended when the vault shows it
in its chain.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from evidencesync.acquire.connect import pause_seconds
from evidencesync.acquire.custody_exchange import ChainRecord, CustodyExchange, CustodyRequest, ShownChain
from evidencesync.acquire.known_heads import KnownHeads, VaultAtHand, item_subject, open_item
from evidencesync.connection.link import Link
from evidencesync.connection.process import SteadyClock
from evidencesync.custody.consistency import whose_chain
from evidencesync.custody.documents import CUSTODY_NAMESPACE, CustodyRecord, Person, RecordType
from evidencesync.custody.record import encode_record
from evidencesync.custody.sshsig import sign_document
from evidencesync.errors import (
    BusyError,
    ChainError,
    ConnectError,
    EvidenceSyncError,
    LinkLostError,
    LockedError,
    MalformedDocumentError,
    MissingOrExtraError,
    NotThereError,
    SealedError,
    UsageError,
)
from evidencesync.evidence.digest import sha256_of, sha512_of
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.evidence.identity import ItemName
from evidencesync.evidence.meant import numbers_text
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.localstate.pending_record import PendingRecord
from evidencesync.vault.absent import SEE_LIST
from evidencesync.vault.heads import require_stated
from evidencesync.vault.ledger import Ledger, iter_records

if TYPE_CHECKING:
    from evidencesync.acquire.stamping import Stamping
    from evidencesync.localstate.heads import HeadMemory
    from evidencesync.vault.stated import StatedHead
    from evidencesync.vault.vault import Vault

_MOST_ATTEMPTS: Final = 8  # to append to a chain that others append to at the same time
_NOT_KNOWN: Final = (
    "Whether the record is in the chain is not known. See: evidencesync custody show. "
    "Run the same command again to add it: it is not added twice."
)
RETRIES: Final = 4
"""Reconnection attempts in a row, for a vault on another machine."""


@dataclass(frozen=True, slots=True)
class RecordDraft:
    """The content of a record that an examiner wants to add."""

    kind: RecordType
    details: Mapping[str, str]
    acquisition: int | None = None
    manifest_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Appended:
    """An appended record, and the chain as it was shown after that.

    `unremembered`: why this machine could not remember the new head. The record is in the chain all the same.
    `is_earlier`: an interrupted run of the same command had appended it already.
    """

    record: ChainRecord
    chain: ShownChain
    unremembered: str | None = None
    is_earlier: bool = False


Connect = Callable[[], Link]
Compose = Callable[[ShownChain], RecordDraft]
"""Makes the draft for the present chain; called again when the chain has grown meanwhile."""


def read_chain(connect: Connect, request: CustodyRequest, now: Callable[[], int] | None = None) -> ShownChain:
    """The item's chain; where it is not what was seen of it before, `inconsistency` says why.

    Raises what the vault refuses us with, ChainError, SignatureError, ProtocolError.
    """
    for attempt in range(request.retries):
        try:
            return _read_once(connect, request, now or SteadyClock())
        except (LinkLostError, BusyError):
            time.sleep(pause_seconds(attempt))
    return _read_once(connect, request, now or SteadyClock())


def _read_once(connect: Connect, request: CustodyRequest, now: Callable[[], int]) -> ShownChain:
    exchange = CustodyExchange(connect(), request, now)
    try:
        return exchange.chain
    finally:
        exchange.close()


def read_local_chain(vault: Vault, name: ItemName, memory: HeadMemory) -> ShownChain:
    """Reads the chain of an item in a vault on this machine, and checks it like any other. No key is needed for that.

    Raises NotThereError, ChainError, SignatureError, and MalformedDocumentError for a damaged record of which nothing is known.
    """
    open_item(memory, vault, name)  # is it there at all?
    at_hand = VaultAtHand(memory, vault, name)
    known = KnownHeads(memory, vault)
    item = vault.item(name)
    chain = ShownChain(vault.settings.id, vault.keys, name)
    whose, stated = whose_chain(item_subject(vault.settings.id, name)), known.of(name.place)
    try:
        for stored in iter_records(item.ledger):
            chain.add(stored.data, stored.signature)
        if not chain.records:
            raise NotThereError(f"the vault has no custody records of {name}", hint="A chain begins with an acquisition.")
        chain.inconsistency = _inconsistency(at_hand, item.ledger, whose, stated)
    except (MalformedDocumentError, MissingOrExtraError):  # where more is known of the record, that is said
        if isinstance(worst := known.worst_problem(), ChainError):
            raise worst from None
        require_stated(item.ledger, whose, stated)
        raise
    chain.inconsistency = chain.inconsistency or known.worst_problem()
    return chain


def _inconsistency(at_hand: VaultAtHand, ledger: Ledger, whose: str, stated: Iterable[StatedHead]) -> ChainError | None:
    try:
        at_hand.require()
        require_stated(ledger, whose, stated)
    except ChainError as error:
        return error
    return None


def attach_timestamp(
    connect: Connect, request: CustodyRequest, stamping: Stamping, now: Callable[[], int] | None = None
) -> Appended:
    """Has the vault store a timestamp and append the record that names it, as `append_record` does, and raises as it does.

    Where the chain has that record already, whoever signed it, the vault puts back what is missing. Raises TimestampError where
    there is another timestamp, VersionError for a vault's end that takes none from afar.
    """

    def compose(chain: ShownChain) -> RecordDraft:
        return RecordDraft("timestamped", stamping.details, stamping.number, stamping.manifest_sha256(chain))

    return _Appending(connect, request, compose, now or SteadyClock(), "", stamping).run()


def append_record(
    connect: Connect, request: CustodyRequest, compose: Compose, now: Callable[[], int] | None = None, *, statement: str = ""
) -> Appended:
    """Signs the next record of the chain and has the vault append it, exactly once, over as many links as it takes.

    It is appended once also where the process is killed and the command is run again: `statement` is a text that is the same for
    the same command. Without it, nothing is known of earlier runs.

    All records of examiners are added through this function. Before signing, the chain must continue the one that this machine
    has seen (RolledBackError, ForkedError); afterwards its new head is remembered. A memory that cannot be written to is an
    error before anything is signed (RememberedHeadsError, UsageError).

    Returns when the vault shows the record in its chain. Where others add records at the same time, the record is signed again
    after theirs. After a lost link the chain shows whether the record is in it. Raises the vault's error, LockedError where
    others are always first, and ChainError where the vault shows a chain that does not continue the one before.
    """
    return _Appending(connect, request, compose, now or SteadyClock(), statement).run()


class _Appending:
    """One record, over as many links as it takes."""

    def __init__(
        self,
        connect: Connect,
        request: CustodyRequest,
        compose: Compose,
        now: Callable[[], int],
        statement: str,
        stamping: Stamping | None = None,
    ) -> None:
        self._connect = connect
        self._statement = statement
        self._pending: PendingRecord | None = None
        self._earlier: list[str] = []  # the digests of the records that an earlier run sent
        self._request = request
        self._compose = compose
        self._now = now
        self._stamping = stamping
        self._sent: list[str] = []  # the digests of all records that were sent
        self._seen: list[str] = []  # the digests of the chain as it was shown last

    def run(self) -> Appended:
        memory = self._request.memory
        memory.require_usable()  # before the record is signed: afterwards it is too late to find that nothing can be remembered
        try:
            return self._run_over_links()
        finally:
            memory.close()

    def _run_over_links(self) -> Appended:
        lost: LinkLostError | BusyError | None = None
        for attempt in range(self._request.retries + 1):
            if attempt:
                time.sleep(pause_seconds(attempt - 1))
            try:
                return self._run_once()
            except (LinkLostError, BusyError) as error:
                lost = error
            except ConnectError as error:
                if lost is None:
                    raise
                lost = LinkLostError(error.message)
        if isinstance(lost, BusyError):
            raise lost
        hint = _NOT_KNOWN if self._sent else None
        raise LinkLostError(f"the link was lost: {lost.message if lost else 'no attempt was made'}", hint=hint)

    def _run_once(self) -> Appended:
        exchange = CustodyExchange(self._connect(), self._request, self._now)
        try:
            if exchange.chain.inconsistency is not None:
                raise exchange.chain.inconsistency
            if self._stamping is not None:
                exchange.require_attach()
            self._compare(exchange.chain)
            self._recall(exchange.chain)
            handed_in: set[str] = set()  # over this link
            for _ in range(_MOST_ATTEMPTS):
                found = self._find(exchange.chain)
                if found is not None:
                    if found.sha256 not in handed_in:
                        self._have_stated(found, exchange)
                    return self._appended(found, exchange)
                document, signature = self._sign(exchange)
                self._sent.append(sha256_of(document).hex())
                if self._pending is not None:
                    self._pending.keep(self._sent)
                handed_in.add(self._sent[-1])
                before = exchange.chain.head_sha256
                self._hand_in(exchange, document, signature)
                if exchange.chain.head_sha256 == before:
                    raise ChainError("the vault took a record and does not show it in the chain")
                self._seen = [one.sha256 for one in exchange.chain.records]
            found = self._find(exchange.chain)
            if found is not None:
                return self._appended(found, exchange)
            raise LockedError("others add to this chain all the time", hint="Run the same command again.")
        finally:
            exchange.close()

    def _recall(self, chain: ShownChain) -> None:
        """Loads the digests of records that an interrupted run of the same command has sent."""
        if self._pending is None and self._statement:
            request = self._request
            about = (chain.vault_id, request.name.case.text, request.name.item.text, request.signer.public_key.fingerprint)
            self._pending = PendingRecord(request.memory.folder.parent, about, self._statement)
            self._earlier = self._pending.records()
            self._sent += self._earlier

    def _have_stated(self, found: ChainRecord, exchange: CustodyExchange) -> None:
        """Sends a record once more that the vault took over a lost link, or from a process that was killed.

        The vault does not append it again, but states it in its own chain, if a crash had kept it from doing so.
        """
        if self._stamping is not None:
            self._hand_in(exchange)
        elif found.sha256 == exchange.chain.head_sha256 and exchange.chain.last is not None:  # else a later append has stated it
            exchange.append(*exchange.chain.last)

    def _hand_in(self, exchange: CustodyExchange, document: bytes = b"", signature: bytes = b"") -> None:
        if self._stamping is None:
            exchange.append(document, signature)
        else:
            exchange.attach(self._stamping.number, self._stamping.answer, document, signature)

    def _appended(self, found: ChainRecord, exchange: CustodyExchange) -> Appended:
        unremembered = None
        try:
            self._request.memory.remember(exchange.remembered(format_utc_time(self._now())))
        except EvidenceSyncError as error:  # no failure: the record is in the chain, and must not be appended again
            unremembered = error.message
        if self._pending is not None:
            self._pending.end()
        return Appended(found, exchange.chain, unremembered, found.sha256 in self._earlier)

    def _compare(self, chain: ShownChain) -> None:
        """Checks that the chain continues the one that was shown over an earlier link. Raises ChainError."""
        shown = [one.sha256 for one in chain.records]
        if shown[: len(self._seen)] != self._seen:
            raise ChainError(
                "the vault shows another chain than it did a moment ago: it was cut off, or replaced",
                hint="Keep what this says, and have the vault verified.",
            )
        self._seen = shown

    def _find(self, chain: ShownChain) -> ChainRecord | None:
        if self._stamping is not None:
            return self._stamping.find(chain)
        return next((one for one in reversed(chain.records) if one.sha256 in self._sent), None) if self._sent else None

    def _sign(self, exchange: CustodyExchange) -> tuple[bytes, bytes]:
        request, chain = self._request, exchange.chain
        draft = self._compose(chain)
        facts = chain.history.facts()
        if facts.sealed and draft.kind == "sealed":
            raise SealedError(f"item {request.name} was sealed before", hint="It can still be noted, corrected and handed over.")
        if draft.acquisition is not None and draft.acquisition > facts.acquisitions:
            there = numbers_text(range(1, facts.acquisitions + 1), "acquisition")
            raise NotThereError(f"{request.name} has no acquisition {draft.acquisition}", hint=f"{there}{SEE_LIST}")
        record = CustodyRecord(
            format="evidencesync-custody/1",
            vault_id=chain.vault_id,
            sequence=facts.length + 1,
            type=draft.kind,
            time=format_utc_time(self._now()),
            case=request.name.case.text,
            item=request.name.item.text,
            actor=Person(
                name=request.examiner,
                principal=exchange.principal,
                key=request.signer.public_key.fingerprint,
                organisation=request.organisation,
            ),
            previous_sha256=facts.head_sha256,
            details=dict(draft.details),
            acquisition=draft.acquisition,
            manifest_sha256=draft.manifest_sha256,
        )
        violation = chain.history.statements.find_violation(record)
        if violation is not None:
            raise violation.error()
        holder = chain.history.statements.passed_over(record)
        if holder is not None:
            raise UsageError(
                f"{safe_text(holder, 80)} holds {request.name}, and is the one to hand it over",
                hint=f"To do it for them, say so in the record: --in-place-of {shell_text(holder)}",
            )
        document = encode_record(record)
        return document, sign_document(request.signer, CUSTODY_NAMESPACE, sha512_of(document))
