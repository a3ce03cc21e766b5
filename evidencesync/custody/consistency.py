"""Compares a vault's chains with what was seen of them before: KnownChain in one comparison, ConsistencyCheck record by record.

A head alone proves nothing. So a vault shows the record that was seen last, and all records after it: each must name the digest
of the record before it, and have a signature by the key that it names.

A chain alone cannot show that its end was cut off. A remembered record can: its digest covers all records before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

import msgspec

from evidencesync.custody.chain import ChainSubject, follows
from evidencesync.custody.documents import CUSTODY_NAMESPACE, CustodyRecord
from evidencesync.custody.record import check_signer, decode_record
from evidencesync.custody.sshsig import verify_signature
from evidencesync.custody.vault_keys import KEY_CHANGED, VaultKeys
from evidencesync.errors import ChainError, ForkedError, LimitExceededError, MalformedDocumentError, RolledBackError
from evidencesync.evidence.digest import sha256_of, sha512_of
from evidencesync.evidence.display import safe_text
from evidencesync.limits import MAX_SEEN_DIGESTS, MAX_SHOWN_RECORDS


class ChainComparison(Enum):
    """How a chain relates to one that was seen before."""

    EXTENDS = "it goes on where it was, or has not changed"
    OLDER_COPY = "every record it has is one that was seen, but later ones are missing: an older copy"
    SHORTER = "later records are missing; whether the rest is what it was cannot be told"
    FORKED = "it has another record under a number that was seen"


class KnownChain(msgspec.Struct, frozen=True):
    """A chain up to the record `sequence`: the digests (hexadecimal) of its last records without a gap, at least of that one."""

    sequence: int
    digests: tuple[str, ...]

    @classmethod
    def of(cls, sequence: int, digests: Sequence[str]) -> KnownChain:
        """Makes a chain of that record and those before it, limited to MAX_SEEN_DIGESTS."""
        return cls(sequence, tuple(digests[-MAX_SEEN_DIGESTS:]))

    @property
    def sha256(self) -> str:
        """The digest of the last record."""
        return self.digests[-1]

    def digest_of(self, sequence: int) -> str | None:
        """Returns the digest of a record; None where it is not known (any more, or yet)."""
        place = len(self.digests) - 1 - (self.sequence - sequence)
        return self.digests[place] if 0 <= place < len(self.digests) else None

    def extended(self, *digests: str) -> KnownChain:
        """Returns the same chain with further records."""
        return KnownChain.of(self.sequence + len(digests), (*self.digests, *digests))

    def compare(self, present: KnownChain) -> ChainComparison:
        """Compares the chain that is there now with this one, which was seen before.

        `present` must reach back to this chain's last record, or be known to be linked from there: what is older than its
        digests counts as changed.
        """
        if present.sequence >= self.sequence:
            same = present.digest_of(self.sequence) == self.sha256
            return ChainComparison.EXTENDS if same else ChainComparison.FORKED
        known = self.digest_of(present.sequence)
        if known is None:
            return ChainComparison.SHORTER
        return ChainComparison.OLDER_COPY if known == present.sha256 else ChainComparison.FORKED


Keep = Callable[[CustodyRecord, bytes, bytes], None]
"""Called with each record that was shown, its exact bytes and its signature, after both were checked."""


class ConsistencyCheck(msgspec.Struct):
    """Checks one chain as a vault shows it against what was `seen` of it before (None: nothing).

    `keys` are the vault's. `place` is `CASE/ITEM`, folder names: what the vault's own chain states
    about that item is collected in `stated`. `received` is the last record of an acquisition that was shown.
    """

    subject: ChainSubject
    keys: VaultKeys
    seen: KnownChain | None
    keep: Keep
    place: str = ""
    stated: set[str] = msgspec.field(default_factory=set)
    received: CustodyRecord | None = None
    _known: KnownChain | None = None
    _last: KnownChain | None = None
    _bytes: int = 0

    def __post_init__(self) -> None:
        self._known = self.seen

    @property
    def known(self) -> KnownChain | None:
        """The chain as it is known now: what was seen before, and what was shown after it."""
        return self._known

    @property
    def sequence(self) -> int:
        """The number of the last known record; 0 for none."""
        return self._known.sequence if self._known is not None else 0

    def show(self, sequence: int, data: bytes, signature: bytes) -> None:
        """Checks the next record that a vault shows, filed under a number.

        1. It is within bounds, and belongs to this chain.  2. It is signed by the key that it names, which may sign this type:
        bytes that a disk has changed are nobody's other history.  3. With a known number, it is the same record. With the next
        number, it follows. Where nothing is known, the first record is accepted as it is.

        Raises ForkedError, ChainError, SignatureError, LimitExceededError.
        """
        record = self._decode(sequence, data, signature)  # 1.
        key = verify_signature(signature, CUSTODY_NAMESPACE, sha512_of(data))  # 2.
        is_own = self.subject.case is None
        check_signer(record, key, self.keys.at(sequence) if is_own else self.keys.named(key.fingerprint), key.fingerprint)
        if is_own and (record.type == KEY_CHANGED) != any(change.number == sequence for change in self.keys.changes):
            raise ChainError(f"{self._whose()}: record {sequence} is not what the vault says of its changes of key")
        digest = sha256_of(data).hex()
        self._place(record, digest)  # 3.
        self._last = KnownChain(sequence, (digest,))
        if record.type == "heads" and self.place in record.details:
            self.stated.add(record.details[self.place])
        if record.type == "received":
            self.received = record
        self.keep(record, data, signature)

    def finish(self) -> None:
        """Ends the check: the last record that was seen before must have been shown. Raises RolledBackError or ForkedError."""
        if self.seen is None or (self._last is not None and self._last.sequence >= self.seen.sequence):
            return
        if self._last is None:
            raise RolledBackError(
                f"{self._whose()} is empty; this machine has seen it up to {_shown(self.seen)}", hint=self._hint()
            )
        found = self.seen.compare(self._last)
        if found is ChainComparison.FORKED:
            raise self._fork(self._last)
        raise RolledBackError(
            f"{self._whose()} ends with {_shown(self._last)}; this machine has seen it up to {_shown(self.seen)}: {found.value}",
            hint=self._hint(),
        )

    def require_head(self, sequence: int, sha256: str | None) -> None:
        """Checks that what was shown ends with the head that the vault states. Raises ChainError."""
        if self._last is None and sequence == 0:
            return
        if self._last != (KnownChain(sequence, (sha256,)) if sha256 is not None else None):
            shown = _shown(self._last) if self._last is not None else "nothing"
            raise ChainError(f"the vault says that {self._whose()} ends with record {sequence}, {sha256}, and shows {shown}")

    def require_received(self, acquisition: int, manifest_sha256: str | None) -> None:
        """Checks that the last acquisition that was shown, where one was, is the one that the vault states. Raises ChainError."""
        last = self.received
        if last is not None and (last.acquisition, last.manifest_sha256) != (acquisition, manifest_sha256):
            raise ChainError(f"the vault says that {self._whose()} ends with another acquisition than the one that it shows")

    def require_stated(self, sequence: int, sha256: str) -> None:
        """Checks that the vault's own chain states this head of the item's chain. Raises ChainError."""
        if f"{sequence} {sha256}" not in self.stated:
            raise ChainError(f"{self._whose()} does not state the item's new head, record {sequence}, {sha256}")

    def require_key(self, remembered: str) -> None:
        """Checks that the vault has the key that it had when it was seen, or one that this key led to. Raises ForkedError."""
        if remembered not in self.keys.all:
            raise ForkedError(
                f"the vault {self.subject.vault_id} has the key {self.keys.current}; this machine has seen it with {remembered}",
                hint=self._hint(),
            )

    def extend(self, *records: bytes) -> None:
        """Adds the next records, which the caller has checked."""
        digests = [sha256_of(data).hex() for data in records]
        before = self._known.digests if self._known is not None else ()
        self._known = KnownChain.of(self.sequence + len(digests), (*before, *digests))

    def _decode(self, sequence: int, data: bytes, signature: bytes) -> CustodyRecord:
        self._bytes += len(data) + len(signature)
        if self._bytes > MAX_SHOWN_RECORDS:
            raise LimitExceededError(f"the vault shows more than {MAX_SHOWN_RECORDS} bytes of records", hint=self._hint())
        try:
            record = decode_record(data)
        except MalformedDocumentError as error:
            raise ChainError(f"{self._whose()}: what the vault shows as record {sequence} is none: {error.message}") from error
        if record.sequence != sequence or ChainSubject.of(record) != self.subject:
            raise ChainError(f"{self._whose()}: what the vault shows as record {sequence} is of another chain")
        return record

    def _place(self, record: CustodyRecord, digest: str) -> None:
        known, last, sequence = self._known, self._last, record.sequence
        if last is not None and sequence == last.sequence + 1 and not follows(record, last.sequence, last.sha256):
            raise ChainError(f"{self._whose()}: record {sequence} does not follow the record before it")
        if known is None:
            self._known = KnownChain(sequence, (digest,))
        elif sequence <= known.sequence:
            if known.digest_of(sequence) not in (digest, None) or (sequence == known.sequence and known.sha256 != digest):
                raise self._fork(KnownChain(sequence, (digest,)))
        elif not follows(record, known.sequence, known.sha256):
            raise ChainError(
                f"{self._whose()}: record {sequence}, {digest}, does not follow {_shown(known)}, which this machine has seen",
                hint=self._hint(),
            )
        else:
            self._known = known.extended(digest)

    def _fork(self, found: KnownChain) -> ForkedError:
        before = self._known or found
        return ForkedError(
            f"{self._whose()} has {_shown(found)}; this machine has seen record {found.sequence} as "
            f"{before.digest_of(found.sequence)}, and the chain up to {_shown(before)}: somebody has written another history",
            hint=self._hint(),
        )

    def _whose(self) -> str:
        return whose_chain(self.subject)

    def _hint(self) -> str:
        return HINT.format(vault_id=self.subject.vault_id)


HINT = (
    "Find out who put back or changed the vault before you go on. If an older state was restored on purpose: "
    "evidencesync receipts forget-head {vault_id}"
)


def whose_chain(subject: ChainSubject) -> str:
    """Returns a chain's name, for people."""
    if subject.case is None:
        return f"the own chain of the vault {safe_text(subject.vault_id)}"
    return f"the custody chain of {safe_text(subject.case)} / {safe_text(subject.item or '')}"


def _shown(chain: KnownChain) -> str:
    return f"record {chain.sequence}, {chain.sha256}"
