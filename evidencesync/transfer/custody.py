"""An item's custody chain, read and added to from anywhere: the examiner's end of the conversation.

What a vault shows is checked for holding together before anything is signed upon it. Whether the signers are trusted is not
known here: that is for `verify`, where the vault lies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.documents import CUSTODY_NAMESPACE, CustodyRecord, Person, RecordType
from evidencesync.custody.record import check_signer, encode_record
from evidencesync.custody.sshsig import Signer, sign_document, verify_signature
from evidencesync.custody.statements import Story
from evidencesync.errors import (
    ChainError,
    ConnectError,
    EvidenceSyncError,
    LimitExceededError,
    LinkLostError,
    LockedError,
    NotThereError,
    ProtocolError,
    SealedError,
    SignatureError,
)
from evidencesync.evidence.digest import sha256_of, sha512_of
from evidencesync.evidence.display import is_clean
from evidencesync.evidence.identity import ItemName
from evidencesync.evidence.moment import format_moment
from evidencesync.limits import MAX_CHAIN, MAX_TITLE
from evidencesync.protocol.failures import error_of
from evidencesync.protocol.framing import FrameDecoder, frame_of
from evidencesync.protocol.messages import DATA_FRAME, Append, Failure, Message, Records, Standing, decode_message
from evidencesync.transfer.ahead import Ahead
from evidencesync.transfer.greeting import greet_for_custody
from evidencesync.transfer.link import Link
from evidencesync.transfer.listening import end_of
from evidencesync.vault.layout import MAX_SEQUENCE
from evidencesync.vault.ledger import iter_records

if TYPE_CHECKING:
    from evidencesync.vault.vault import Vault

_M = TypeVar("_M", bound=Message)
_MOST_ATTEMPTS: Final = 8  # to be the next one in a chain that others add to
_FIRST_PAUSE: Final = 0.5
_LAST_WORDS: Final = 64
RETRIES: Final = 4
"""How often in a row a lost link is made anew, for a vault on another machine."""


@dataclass(frozen=True, slots=True)
class CustodyRequest:
    """Whose chain is asked for, and who asks. `vault` is the path as the other end knows it.

    `retries`: how often in a row to try again when the link is lost.
    """

    vault: bytes
    name: ItemName
    examiner: str
    signer: Signer
    session: str
    organisation: str | None = None
    timeout_seconds: float = 60.0
    retries: int = 0
    read_back: bool = False


@dataclass(frozen=True, slots=True)
class ChainRecord:
    """A record of a chain that holds together, and the digest by which the next one names it."""

    record: CustodyRecord
    sha256: str


@dataclass(slots=True)
class ShownChain:
    """An item's chain as a vault shows it, from its first record on."""

    vault_id: str
    vault_key: str
    name: ItemName
    records: list[ChainRecord] = field(default_factory=list)
    story: Story = field(init=False)
    _size: int = 0

    def __post_init__(self) -> None:
        self.story = Story(ChainSubject(self.vault_id, self.name.case.text, self.name.item.text))

    def add(self, document: bytes, signature: bytes) -> CustodyRecord:
        """The next record. Raises ChainError where it does not follow, and SignatureError or UntrustedSignerError.

        That the signature of `acquired` is by the manifest's signer only `verify` can say.
        """
        self._size += len(document) + len(signature)
        if self._size > MAX_CHAIN:
            raise LimitExceededError(f"a custody chain of more than {MAX_CHAIN} bytes")
        record = self.story.add(document)
        try:
            key = verify_signature(signature, CUSTODY_NAMESPACE, sha512_of(document))
            check_signer(record, key, self.vault_key, key.fingerprint)
        except SignatureError as error:
            error.message = f"custody record {record.sequence}: {error.message}"
            error.hint = "The chain does not hold. Run: evidencesync verify VAULT"
            raise
        self.records.append(ChainRecord(record, sha256_of(document).hex()))
        return record

    @property
    def head_sha256(self) -> str | None:
        """The digest of the last record."""
        return self.records[-1].sha256 if self.records else None


@dataclass(frozen=True, slots=True)
class Draft:
    """What an examiner wants to state next."""

    kind: RecordType
    details: Mapping[str, str]
    acquisition: int | None = None


@dataclass(frozen=True, slots=True)
class Appended:
    """A record that is in the chain, and the chain as it was shown after that."""

    record: ChainRecord
    chain: ShownChain


Reach = Callable[[], Link]
Compose = Callable[[ShownChain], Draft]
"""Makes the draft for a chain as it stands; called again when the chain has grown meanwhile."""


def read_chain(reach: Reach, request: CustodyRequest, now: Callable[[], int] = time.time_ns) -> ShownChain:
    """The item's chain. Raises what the vault refuses us with, ChainError, SignatureError, ProtocolError."""
    talk = _Talk(reach(), request, now)
    try:
        return talk.chain
    finally:
        talk.close()


def read_local_chain(vault: Vault, name: ItemName) -> ShownChain:
    """The chain of an item in a vault on this machine, checked like any other; nobody has to prove who he is.

    Raises NotThereError, ChainError, SignatureError.
    """
    item = vault.item(name)
    chain = ShownChain(vault.settings.id, vault.settings.key, name)
    for stored in iter_records(item.ledger):
        chain.add(stored.data, stored.signature)
    if not chain.records:
        raise NotThereError(f"the vault has no custody records of {name}", hint="A chain begins with an acquisition.")
    return chain


def append_record(reach: Reach, request: CustodyRequest, compose: Compose, now: Callable[[], int] = time.time_ns) -> Appended:
    """Signs the next record of the chain and has the vault append it; only once, whatever becomes of the link.

    Returns when the vault shows the record in its chain. Where others add records at the same time, it is signed anew on top
    of theirs. After a lost link the chain tells whether the record is in it. Raises what the vault refuses it with, LockedError
    where others are always first, ChainError where a chain is shown that is not a continuation of the one before.
    """
    return _Appending(reach, request, compose, now).run()


class _Appending:
    """One record, over as many links as it takes."""

    def __init__(self, reach: Reach, request: CustodyRequest, compose: Compose, now: Callable[[], int]) -> None:
        self._reach = reach
        self._request = request
        self._compose = compose
        self._now = now
        self._sent: set[str] = set()  # the digests of all that was handed in
        self._seen: list[str] = []  # the digests of all that was ever shown

    def run(self) -> Appended:
        lost: LinkLostError | None = None
        for attempt in range(self._request.retries + 1):
            if attempt:
                time.sleep(_FIRST_PAUSE * 2 ** (attempt - 1))
            try:
                return self._run_once()
            except LinkLostError as error:
                lost = error
            except ConnectError as error:
                if lost is None:
                    raise
                lost = LinkLostError(error.message)
        hint = "Whether the record is in the chain is not known. See: evidencesync custody show" if self._sent else None
        raise LinkLostError(f"the link was lost: {lost.message if lost else 'no attempt was made'}", hint=hint)

    def _run_once(self) -> Appended:
        talk = _Talk(self._reach(), self._request, self._now)
        try:
            self._compare(talk.chain)
            for _ in range(_MOST_ATTEMPTS):
                found = self._find(talk.chain)
                if found is not None:
                    return Appended(found, talk.chain)
                document, signature = self._sign(talk)
                self._sent.add(sha256_of(document).hex())
                before = talk.chain.head_sha256
                talk.append(document, signature)
                if talk.chain.head_sha256 == before:
                    raise ChainError("the vault took a record and does not show it in the chain")
                self._seen = [one.sha256 for one in talk.chain.records]
            found = self._find(talk.chain)
            if found is not None:
                return Appended(found, talk.chain)
            raise LockedError("others add to this chain all the time", hint="Run the same command again.")
        finally:
            talk.close()

    def _compare(self, chain: ShownChain) -> None:
        """Nothing that was shown over an earlier link may be gone. Raises ChainError."""
        shown = [one.sha256 for one in chain.records]
        if shown[: len(self._seen)] != self._seen:
            raise ChainError(
                "the vault shows another chain than it did a moment ago: it was cut off, or replaced",
                hint="Keep what this says, and have the vault verified.",
            )
        self._seen = shown

    def _find(self, chain: ShownChain) -> ChainRecord | None:
        return next((one for one in reversed(chain.records) if one.sha256 in self._sent), None) if self._sent else None

    def _sign(self, talk: _Talk) -> tuple[bytes, bytes]:
        request, chain = self._request, talk.chain
        draft = self._compose(chain)
        facts = chain.story.facts()
        if facts.sealed and draft.kind == "sealed":
            raise SealedError(f"item {request.name} was sealed before", hint="It can still be noted, corrected and handed over.")
        if draft.acquisition is not None and draft.acquisition > facts.acquisitions:
            raise NotThereError(f"{request.name} has no acquisition {draft.acquisition}", hint="See: evidencesync list VAULT")
        record = CustodyRecord(
            format="evidencesync-custody/1",
            vault_id=chain.vault_id,
            sequence=facts.length + 1,
            type=draft.kind,
            time=format_moment(self._now()),
            case=request.name.case.text,
            item=request.name.item.text,
            actor=Person(
                name=request.examiner,
                principal=talk.principal,
                key=request.signer.public_key.fingerprint,
                organisation=request.organisation,
            ),
            previous_sha256=facts.head_sha256,
            details=dict(draft.details),
            acquisition=draft.acquisition,
        )
        objection = chain.story.statements.objection_to(record)
        if objection is not None:
            raise objection.error()
        document = encode_record(record)
        return document, sign_document(request.signer, CUSTODY_NAMESPACE, sha512_of(document))


class _Talk:
    """One link: the handshake, the chain as it was shown, and what is shown after an append."""

    def __init__(self, link: Link, request: CustodyRequest, now: Callable[[], int]) -> None:
        self._link = link
        self._ahead = Ahead(link, other="the vault's end", silence_seconds=request.timeout_seconds)
        self._frames = self._read_frames()
        self.principal = ""
        try:
            vault_id, vault_key = greet_for_custody(request, link, self._expect, now)
            self.chain = ShownChain(vault_id, vault_key.fingerprint, request.name)
            self._read_more()
        except LinkLostError as lost:
            self.close()
            raise self._reason_for(lost) from lost
        except BaseException:
            self.close()
            raise

    def append(self, document: bytes, signature: bytes) -> None:
        """Hands in a record, and reads what the chain has become."""
        try:
            self._link.write(frame_of(Append(document, signature)))
            self._read_more()
        except LinkLostError as lost:
            raise self._reason_for(lost) from lost

    def close(self) -> None:
        """Hangs up."""
        self._ahead.close()
        self._link.close()

    def _read_more(self) -> None:
        """Reads where the chain stands and what it has become. Raises ChainError where it is not what is said of it."""
        standing = self._expect(Standing)
        records = self.chain.records
        self._check_standing(standing)
        more = True
        while more:
            part = self._expect(Records)
            if part.first != len(records) + 1 or (part.more and not part.records):
                raise ProtocolError("the vault shows other records of the chain than come next")
            for document, signature in part.records:
                self.chain.add(document, signature)
            if len(records) > standing.count:
                raise ProtocolError("the vault shows more records than it says there are")
            more = part.more
        stated = standing.head_sha256.hex() if standing.head_sha256 is not None else None
        if len(records) != standing.count or self.chain.head_sha256 != stated:
            raise ChainError("the vault says that the chain ends with another record than it shows")

    def _check_standing(self, standing: Standing) -> None:
        if not 1 <= standing.count < MAX_SEQUENCE:
            raise ProtocolError("the vault states a custody chain that cannot be")
        if standing.count < len(self.chain.records):
            raise ChainError("the vault shows a shorter chain than a moment ago: it was cut off")
        if not 1 <= len(standing.principal) <= MAX_TITLE or not is_clean(standing.principal):
            raise ProtocolError("the vault knows the examiner by a name that cannot be")
        if self.principal not in ("", standing.principal):
            raise ProtocolError("the vault knows the examiner by two names")
        self.principal = standing.principal

    def _expect(self, *kinds: type[_M]) -> _M:
        message = next(self._frames, None)
        if isinstance(message, kinds):
            return message
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise ProtocolError(f"a {type(message).__name__} message stands where {expected} was expected")

    def _read_frames(self) -> Iterator[Message]:
        decoder = FrameDecoder()
        while True:
            try:
                block = self._ahead.take()
            except LinkLostError as lost:
                raise (end_of(decoder) if self._ahead.is_over and not decoder.started else lost) from lost
            for frame_type, body in decoder.feed(block):
                if frame_type == DATA_FRAME:
                    raise ProtocolError("the vault's end sent data")
                message = decode_message(frame_type, body)
                if isinstance(message, Failure):
                    raise error_of(message)
                yield message

    def _reason_for(self, lost: LinkLostError) -> EvidenceSyncError:
        """Why the link is lost. A vault that gives up says so and hangs up: a write may fail before that was heard."""
        try:
            for _ in zip(self._frames, range(_LAST_WORDS), strict=False):
                pass
        except LinkLostError:
            return lost
        except EvidenceSyncError as said:
            return said
        return lost
