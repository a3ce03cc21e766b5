"""Exchanges custody records with a vault over one link, at the examiner's end, and checks the chain as it arrives.

It checks the chain's digests, order and signatures, and which signer may sign which type of record. Whether the signers are
trusted is not known here: `verify` checks that, at the vault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from evidencesync.acquire.handshake import begin_custody_session
from evidencesync.acquire.known_heads import item_subject, recalled_consistency, require_seen
from evidencesync.connection.link import Link
from evidencesync.connection.vault_answers import VaultAnswers
from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.consistency import KnownChain
from evidencesync.custody.documents import CUSTODY_NAMESPACE, CustodyRecord
from evidencesync.custody.record import check_signer
from evidencesync.custody.sshsig import SigningKey, verify_signature
from evidencesync.custody.statements import ItemHistory
from evidencesync.custody.vault_keys import VaultKeys
from evidencesync.errors import (
    ChainError,
    EvidenceSyncError,
    LimitExceededError,
    LinkLostError,
    ProtocolError,
    SignatureError,
    VersionError,
)
from evidencesync.evidence.digest import sha256_of, sha512_of
from evidencesync.evidence.display import is_clean
from evidencesync.evidence.identity import ItemName
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.limits import MAX_CHAIN, MAX_SHOWN_RECORDS, MAX_TITLE
from evidencesync.localstate.heads import HeadMemory, RememberedHead
from evidencesync.protocol.framing import frame_of
from evidencesync.protocol.messages import ATTACH_VERSION, SIGNS_VERSION, Append, Attach, Message, Records, Standing
from evidencesync.vault.layout import MAX_SEQUENCE

if TYPE_CHECKING:
    from evidencesync.vault.timestamps import Answer

_M = TypeVar("_M", bound=Message)
_LAST_MESSAGES: Final = 64  # read at most, to find the reason why the vault closed the link
_LAST_MESSAGES_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class CustodyRequest:
    """Names the item whose chain is requested, and the examiner. `vault` is the path as the other end knows it.

    `memory`: the heads that this machine remembers, which the vault's chains must continue. `retries`: reconnection attempts in
    a row.
    """

    vault: bytes
    name: ItemName
    examiner: str
    signer: SigningKey
    session: str
    memory: HeadMemory
    organisation: str | None = None
    timeout_seconds: float = 60.0
    retries: int = 0
    read_back: bool = False


@dataclass(frozen=True, slots=True)
class ChainRecord:
    """A record of a checked chain, and the digest by which the next record names it."""

    record: CustodyRecord
    sha256: str


@dataclass(slots=True)
class ShownChain:
    """An item's chain as a vault shows it, from its first record on.

    `inconsistency`: it, or the vault's own, is not what is known of it, or could not be compared with that. Nothing may be signed
    upon it then.
    """

    vault_id: str
    keys: VaultKeys
    name: ItemName
    records: list[ChainRecord] = field(default_factory=list)
    inconsistency: EvidenceSyncError | None = None
    last: tuple[bytes, bytes] | None = None
    """The last record's document, and its signature."""
    history: ItemHistory = field(init=False)
    _size: int = 0

    def __post_init__(self) -> None:
        self.history = ItemHistory(ChainSubject(self.vault_id, self.name.case.text, self.name.item.text))

    def add(self, document: bytes, signature: bytes) -> CustodyRecord:
        """Checks and adds the next record. Raises ChainError where it does not follow, SignatureError, UntrustedSignerError.

        Whether the manifest's signer has signed `acquired`, only `verify` can check.
        """
        self._size += len(document) + len(signature)
        if self._size > MAX_CHAIN:
            raise LimitExceededError(f"a custody chain of more than {MAX_CHAIN} bytes")
        record = self.history.add(document)
        try:
            key = verify_signature(signature, CUSTODY_NAMESPACE, sha512_of(document))
            check_signer(record, key, self.keys.named(key.fingerprint), key.fingerprint)
        except SignatureError as error:
            error.message = f"custody record {record.sequence}: {error.message}"
            error.hint = "The chain does not hold. Run: evidencesync verify VAULT"
            raise
        self.records.append(ChainRecord(record, sha256_of(document).hex()))
        self.last = document, signature
        return record

    @property
    def seen(self) -> KnownChain:
        """The whole chain, for comparison with remembered heads. A vault never shows an empty chain."""
        return KnownChain(len(self.records), tuple(one.sha256 for one in self.records))

    @property
    def head_sha256(self) -> str | None:
        """The digest of the last record."""
        return self.records[-1].sha256 if self.records else None


class CustodyExchange:
    """One link: runs the handshake, reads the chain, and appends records to it."""

    def __init__(self, link: Link, request: CustodyRequest, now: Callable[[], int]) -> None:
        self._link = link
        self._request = request
        self._standing: Standing | None = None  # the first one, where it arrived while the vault's own records were expected
        self._answers = VaultAnswers(link, request.timeout_seconds)
        self.principal = ""
        try:
            self._version = begin_custody_session(request, link, self._answers.expect, now, self._recall_heads)
            self._answers.may_say_status = self._version >= SIGNS_VERSION
            self._read_own()
            self._read_more()
            self._compare()
        except LinkLostError as lost:
            self.close()
            raise self._answers.reason_for(lost) from lost
        except BaseException:
            self.close()
            raise

    def append(self, document: bytes, signature: bytes) -> None:
        """Sends a record, and reads the records that the chain has got."""
        self._send(Append(document, signature))

    def attach(self, number: int, answer: Answer, document: bytes = b"", signature: bytes = b"") -> None:
        """Sends an authority's answer with the record that names it, which is left out where the chain has it already."""
        self._send(Attach(number, answer.response, answer.request, document, signature))

    def require_attach(self) -> None:
        """Raises VersionError where the vault's end does not know what `attach` sends."""
        if self._version < ATTACH_VERSION:
            raise VersionError(
                "the vault's evidencesync is older, and takes no timestamp from afar",
                hint="Update it there, or run the command on the vault's machine.",
            )

    def _send(self, message: Append | Attach) -> None:
        self._answers.begin_waiting()  # until now it was a person who was waited for
        try:
            self._link.write(frame_of(message))
            self._read_more()
        except LinkLostError as lost:
            raise self._answers.reason_for(lost) from lost

    def close(self) -> None:
        """Closes the link."""
        self._answers.close()

    def remembered(self, now: UtcTime) -> list[RememberedHead]:
        """Returns the heads to remember of the chains that were shown."""
        item, own = self._item, self._own
        known = [(item, self.chain.seen)] + ([(own, own.known)] if self._own_shown and own.known is not None else [])
        return [RememberedHead(one.subject, one.keys.current, chain, now, one.keys.all) for one, chain in known]

    def _recall_heads(self, vault_id: str, keys: VaultKeys) -> tuple[int, int]:
        """Recalls the remembered heads of this vault. Raises RememberedHeadsError, ForkedError for another key."""
        request = self._request
        self.chain = ShownChain(vault_id, keys, request.name)
        self._item = recalled_consistency(request.memory, item_subject(vault_id, request.name), keys)
        self._own = recalled_consistency(request.memory, ChainSubject(vault_id), keys)
        self._own_shown = False
        return self._item.sequence, self._own.sequence

    def _read_own(self) -> None:
        """Reads the vault's own chain from the remembered head on; an older vault does not send it."""
        message: Message
        size = 0
        while isinstance(message := self._answers.expect(Records, Standing), Records):
            self._own_shown = True
            if not message.records:
                raise ProtocolError("the vault shows records, and there are none")
            size += sum(len(document) + len(signature) for document, signature in message.records)
            if size > MAX_SHOWN_RECORDS:  # also where nothing more of it is looked at
                raise LimitExceededError(f"the vault shows more than {MAX_SHOWN_RECORDS} bytes of records")
            try:
                for number, (document, signature) in enumerate(message.records, message.first):
                    if self.chain.inconsistency is None:
                        self._own.show(number, document, signature)
            except ChainError as error:
                self.chain.inconsistency = error
        self._standing = message if isinstance(message, Standing) else None

    def _compare(self) -> None:
        """Compares both chains with the remembered heads. A violation is kept, and raised only where a record is to be signed."""
        try:
            if self._own_shown and self.chain.inconsistency is None:
                self._own.finish()
            require_seen(self._item.seen, self._item.subject, self.chain.seen)
        except ChainError as error:
            self.chain.inconsistency = self.chain.inconsistency or error

    def _read_more(self) -> None:
        """Reads the chain's length and head, and its new records. Raises ChainError where these contradict each other."""
        standing, self._standing = self._standing or self._answers.expect(Standing), None
        records = self.chain.records
        self._check_standing(standing)
        more = True
        while more:
            part = self._answers.expect(Records)
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
            raise ProtocolError("the vault states an impossible custody chain")
        if standing.count < len(self.chain.records):
            raise ChainError("the vault shows a shorter chain than a moment ago: it was cut off")
        if not 1 <= len(standing.principal) <= MAX_TITLE or not is_clean(standing.principal):
            raise ProtocolError("the vault knows the examiner by an impossible name")
        if self.principal not in ("", standing.principal):
            raise ProtocolError("the vault knows the examiner by two names")
        self.principal = standing.principal
