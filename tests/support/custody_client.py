"""A client in the custody conversation that may break any rule, and helpers for honest ones."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import msgspec

from evidencesync.acquire.custody import Appended, Compose, RecordDraft, append_record, read_chain
from evidencesync.acquire.custody_exchange import CustodyRequest, ShownChain
from evidencesync.custody.documents import CUSTODY_NAMESPACE, CustodyRecord, Person, RecordType
from evidencesync.custody.sshsig import SigningKey, sign_document
from evidencesync.custody.text import encode_readable
from evidencesync.evidence.digest import sha256_of, sha512_of
from evidencesync.localstate.heads import HeadMemory
from evidencesync.protocol.messages import Append, Records, Standing
from tests.support.bench_of_evidence import Bench
from tests.support.hostile_client import MOMENT, HostileClient


class CustodyClient(HostileClient):
    """Proves a key for the custody of the bench's item, and then hands in whatever a test wants."""

    def __init__(self, bench: Bench, signer: SigningKey | None = None) -> None:
        super().__init__(bench if signer is None else replace(bench, signer=signer))  # type: ignore[arg-type]
        self.standing: Standing | None = None
        self.shown: list[tuple[bytes, bytes]] = []

    def enter(self) -> Standing:
        """An honest handshake; reads the chain."""
        self.send(self.begin(self.claim(self.hello(purpose="custody"))))
        return self.listen()

    def listen(self) -> Standing:
        """Where the chain stands, and what is new in it."""
        self.standing = self.hear(Standing)
        more = True
        while more:
            part = self.hear(Records)
            self.shown += part.records
            more = part.more
        return self.standing

    def statement(self, kind: RecordType = "noted", **changes: Any) -> bytes:
        """An honest record that comes next, with whatever a test wants otherwise; not held to any form."""
        assert self.standing is not None
        head = self.standing.head_sha256
        known = CustodyRecord(
            format="evidencesync-custody/1",
            vault_id=self.bench.vault.settings.id,
            sequence=self.standing.count + 1,
            type=kind,
            time=MOMENT,
            case=self.bench.name.case.text,
            item=self.bench.name.item.text,
            actor=Person(name="Ana", principal=self.standing.principal, key=self.bench.signer.public_key.fingerprint),
            previous_sha256=head.hex() if head else None,
            details={"text": "seen"},
        )
        return encode_readable(msgspec.structs.replace(known, **changes))

    def hand_in(self, document: bytes, *, signer: SigningKey | None = None, namespace: str = CUSTODY_NAMESPACE) -> None:
        """Sends a record with a signature over it."""
        self.send(Append(document, sign_document(signer or self.bench.signer, namespace, sha512_of(document))))

    def append(self, document: bytes) -> Standing:
        """Hands a record in, and hears what becomes of the chain. Raises what it is refused with."""
        self.hand_in(document)
        return self.listen()

    @property
    def last(self) -> bytes:
        """The last record that was shown."""
        return self.shown[-1][0]


def custody_request(bench: Bench, signer: SigningKey | None = None, **changes: Any) -> CustodyRequest:
    """An honest request."""
    known = CustodyRequest(
        vault=b"",
        name=bench.name,
        examiner="Ana",
        signer=signer or bench.signer,
        session=secrets.token_hex(16),
        memory=HeadMemory(bench.source.parent / "seen"),
        timeout_seconds=30,
    )
    return replace(known, **changes)


def state(
    bench: Bench, kind: RecordType, details: dict[str, str] | None = None, signer: SigningKey | None = None, **changes: Any
) -> Appended:
    """Appends a record as an honest client does."""
    draft = RecordDraft(kind, details or {})
    compose: Compose = lambda _: draft  # noqa: E731
    return append_record(lambda: bench.serve()[0], custody_request(bench, signer, **changes), compose)


def chain_of(bench: Bench, signer: SigningKey | None = None) -> ShownChain:
    """The chain as an honest client reads it."""
    return read_chain(lambda: bench.serve()[0], custody_request(bench, signer))


def digest(document: bytes) -> str:
    """By which the next record names it."""
    return sha256_of(document).hex()
