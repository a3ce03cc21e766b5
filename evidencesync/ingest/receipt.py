"""Checks the documents that the examiner signed, and builds the vault's receipt and its `received` record."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from evidencesync.custody.documents import (
    CUSTODY_NAMESPACE,
    MANIFEST_NAMESPACE,
    RECEIPT_NAMESPACE,
    CustodyRecord,
    HostKeys,
    ManifestHeader,
    Person,
    Point,
    Points,
    Receipt,
    Stored,
    Tally,
    Traffic,
)
from evidencesync.custody.hardlinks import HardLinkCheck
from evidencesync.custody.manifest import CheckedLine, read_manifest
from evidencesync.custody.receipt import POINT_DIGESTS, encode_receipt
from evidencesync.custody.record import check_signer, decode_record, encode_record
from evidencesync.custody.sshsig import SigningKey, sign_document, verify_signature
from evidencesync.custody.trust import TrustLists
from evidencesync.errors import (
    ChainError,
    DigestMismatchError,
    MalformedDocumentError,
    ProtocolError,
    UntrustedSignerError,
    VaultKeyChangedError,
)
from evidencesync.evidence.digest import sha256_of, sha512_of
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.files.disk import READ_FLAGS, document_blocks, reading
from evidencesync.ingest.admission import Admitted
from evidencesync.ingest.context import StoredTally, Tallies
from evidencesync.protocol.messages import Finish
from evidencesync.vault.item import ItemState
from evidencesync.vault.layout import (
    ACQUIRED,
    ACQUIRED_SIGNATURE,
    MANIFEST,
    MANIFEST_SIGNATURE,
    RECEIPT,
    RECEIPT_SIGNATURE,
    RECEIVED,
    RECEIVED_SIGNATURE,
)
from evidencesync.vault.settings import LookupScope
from evidencesync.vault.staging import Staging

_NOT_READ_BACK = Point(taken=False, method="not taken: SHA-256 is asserted by the source only", digests=[], files=0, bytes=0)

_NOT_AT_SOURCE = Point(taken=False, method="not taken: what arrived was digested where it arrived", digests=[], files=0, bytes=0)


class TransferFacts(msgspec.Struct, frozen=True):
    """Facts of the transfer that the receipt states. Sizes are bytes.

    `interruptions` counts the links that were lost, and the earlier sessions that this one has continued.
    """

    wire_received: int
    wire_sent: int
    literal_bytes: int
    zero_bytes: int
    nanoseconds: int
    interruptions: int
    received_from: str
    host_key: str | None
    sender_key: str | None = None


class ReceivedContents(msgspec.Struct, frozen=True):
    """Counts the contents that were received: files, bytes, how they were stored; and whether the disk was read back."""

    files: int
    bytes: int
    read_back: bool
    tallies: Tallies


class StagedAcquisition(msgspec.Struct, frozen=True):
    """A complete acquisition in staging, which the receipt and the `received` record are about."""

    header: ManifestHeader
    finish: Finish
    staging: Staging
    state: ItemState
    lookup: LookupScope


def check_header(header: ManifestHeader, admitted: Admitted, vault_id: str, vault_key: str, state: ItemState) -> None:
    """Checks that a manifest's first line is about this session and nothing else. Raises ProtocolError."""
    said = (
        header.vault_id,
        header.vault_key,
        header.case,
        header.item,
        header.acquisition,
        header.session,
        header.previous_manifest_sha256,
        header.examiner.principal,
        header.examiner.key,
    )
    expected = (
        vault_id,
        vault_key,
        admitted.name.case.text,
        admitted.name.item.text,
        state.next_acquisition,
        admitted.session,
        state.previous_manifest_sha256,
        admitted.principal,
        admitted.key.fingerprint,
    )
    if said != expected:
        raise ProtocolError("the manifest is about something else than this session")


def check_finish(
    finish: Finish,
    staging: Staging,
    manifest_sha512: bytes,
    admitted: Admitted,
    trust: TrustLists,
    state: ItemState,
    now: int,
    *,
    low_s: bool,
) -> CustodyRecord:
    """Checks what the examiner signed; returns the `acquired` record.

    1. The manifest that arrived is the one that was sent, byte for byte.
    2. It is signed in the manifest namespace by the very key that opened the session, which is trusted for that.
    3. The `acquired` record is signed by that key, too, in the custody namespace.
    4. The record continues this item's chain, and is about this manifest.

    `low_s`: the vault accepts ECDSA signatures in their one canonical form only. Raises DigestMismatchError, SignatureError,
    UntrustedSignerError, ChainError.
    """
    # 1.
    manifest = staging.manifest
    if finish.manifest_size != manifest.size or finish.manifest_sha256.hex() != manifest.sha256_hex:
        raise DigestMismatchError("the manifest that arrived is not the one that was sent")
    # 2. and 3.
    for signature, namespace, message in (
        (finish.signature, MANIFEST_NAMESPACE, manifest_sha512),
        (finish.acquired_signature, CUSTODY_NAMESPACE, sha512_of(finish.acquired)),
    ):
        if verify_signature(signature, namespace, message, low_s=low_s) != admitted.key:
            raise UntrustedSignerError("a document is signed by another key than the one that opened the session")
        trust.check_new(admitted.principal, admitted.key, namespace, now)
    trust.check_role(admitted.key, ("acquire",), admitted.name.case.text, now)
    # 4.
    record = decode_record(finish.acquired)
    check_signer(record, admitted.key, staging.item.vault_key, admitted.key.fingerprint)
    said = (record.type, record.sequence, record.previous_sha256, record.acquisition, record.manifest_sha256)
    expected = ("acquired", state.head_sequence + 1, state.head_sha256, state.next_acquisition, manifest.sha256_hex)
    if said != expected or record.actor.key != admitted.key.fingerprint or record.actor.principal != admitted.principal:
        raise ChainError("the acquired record does not continue the item's chain")
    return record


def check_hard_links(links: HardLinkCheck, staging: Staging) -> None:
    """Checks every hard link of the staged manifest, by the rule of `verify`. Raises MalformedDocumentError."""
    for false in links.false_links(lambda: ((path, line) for path, line in staged_lines(staging) if isinstance(line, Entry))):
        raise MalformedDocumentError(
            f"the manifest cannot be taken: {false.text}",
            hint="Push again. A sender that is up to date says of a file that changed between its names that it did.",
        )


def sign_acquisition(
    acquisition: StagedAcquisition, received: ReceivedContents, facts: TransferFacts, signer: SigningKey, now: int
) -> dict[str, bytes]:
    """Returns the documents to publish, by name: the examiner's, and the vault's receipt and `received` record, signed.

    Raises VaultKeyChangedError.
    """
    if signer.public_key.fingerprint != acquisition.header.vault_key:
        raise VaultKeyChangedError("the vault's key was changed while the transfer ran; the manifest names the old one")
    receipt = make_receipt(acquisition, received, facts, now)
    record = make_received(acquisition, receipt, signer, now)
    finish = acquisition.finish
    return {
        MANIFEST_SIGNATURE: finish.signature,
        ACQUIRED: finish.acquired,
        ACQUIRED_SIGNATURE: finish.acquired_signature,
        RECEIPT: receipt,
        RECEIPT_SIGNATURE: sign_document(signer, RECEIPT_NAMESPACE, sha512_of(receipt)),
        RECEIVED: record,
        RECEIVED_SIGNATURE: sign_document(signer, CUSTODY_NAMESPACE, sha512_of(record)),
    }


def make_receipt(acquisition: StagedAcquisition, received: ReceivedContents, facts: TransferFacts, now: int) -> bytes:
    """Encodes the vault's statement of what it holds, as the bytes to be signed."""
    header, finish, staging, state = acquisition.header, acquisition.finish, acquisition.staging, acquisition.state
    tallies = received.tallies
    reused = max(received.bytes - facts.literal_bytes - facts.zero_bytes, 0)
    seconds, rest = divmod(facts.nanoseconds, 1_000_000_000)
    receipt = Receipt(
        format="evidencesync-receipt/1",
        vault_id=header.vault_id,
        vault_key=header.vault_key,
        case=header.case,
        item=header.item,
        acquisition=header.acquisition,
        session=header.session,
        manifest_sha256=staging.manifest.sha256_hex,
        manifest_signature_sha256=sha256_of(finish.signature).hex(),
        sha256sums_sha256=staging.sums.sha256sums.sha256_hex,
        blake3sums_sha256=staging.sums.blake3sums.sha256_hex,
        chunks_sha256=staging.recipes.sha256_hex,
        acquired_sha256=sha256_of(finish.acquired).hex(),
        acquired_sequence=state.head_sequence + 1,
        previous_receipt_sha256=state.previous_receipt_sha256,
        points=Points(
            source=_taken("source", "while it was read at the source", received)
            if header.digests_taken_at == "source"
            else _NOT_AT_SOURCE,
            arrival=_taken("arrival", "as assembled from what arrived and what the vault had", received),
            disk=_taken("disk", "read back from the disk", received) if received.read_back else _NOT_READ_BACK,
        ),
        stored=Stored(_tally(tallies.written), _tally(tallies.linked), _tally(tallies.reflinked), _tally(tallies.copied)),
        transfer=Traffic(
            wire_received_bytes=facts.wire_received,
            wire_sent_bytes=facts.wire_sent,
            literal_bytes=facts.literal_bytes,
            reused_bytes=reused,
            zero_bytes=facts.zero_bytes,
            interruptions=facts.interruptions,
            seconds=f"{seconds}.{rest:09d}",
        ),
        host_keys=HostKeys(facts.host_key, facts.sender_key),
        lookup=acquisition.lookup,
        not_in_sums=staging.not_in_sums,
        received_from=facts.received_from,
        finished=format_utc_time(now),
        agent=header.agent,
    )
    return encode_receipt(receipt)


def make_received(acquisition: StagedAcquisition, receipt: bytes, signer: SigningKey, now: int) -> bytes:
    """Encodes the vault's `received` record, which takes the acquisition into the chain."""
    header, finish = acquisition.header, acquisition.finish
    return encode_record(
        CustodyRecord(
            format="evidencesync-custody/1",
            vault_id=header.vault_id,
            sequence=acquisition.state.head_sequence + 2,
            type="received",
            time=format_utc_time(now),
            case=header.case,
            item=header.item,
            actor=Person(name="vault", principal="vault", key=signer.public_key.fingerprint),
            previous_sha256=sha256_of(finish.acquired).hex(),
            details={},
            acquisition=header.acquisition,
            manifest_sha256=finish.manifest_sha256.hex(),
            receipt_sha256=sha256_of(receipt).hex(),
        )
    )


def _taken(name: str, method: str, received: ReceivedContents) -> Point:
    return Point(taken=True, method=method, digests=[*POINT_DIGESTS[name]], files=received.files, bytes=received.bytes)


def _tally(tally: StoredTally) -> Tally:
    return Tally(tally.files, tally.bytes)


def staged_lines(staging: Staging) -> Iterator[CheckedLine]:
    """Yields the lines of the staged manifest, read from its file."""
    with reading(os.open(MANIFEST, READ_FLAGS, dir_fd=staging.acquisition_fd)) as file:
        yield from read_manifest(document_blocks(file))


def not_verified(lines: Iterator[CheckedLine], verified: bytearray) -> Iterator[CheckedLine]:
    """Yields the lines of contents that were not read from the disk yet. `verified` has one byte for each content."""
    contents = 0
    for path, line in lines:
        if isinstance(line, Entry) and line.blake3 is not None:
            if not verified[contents]:
                yield path, line
            contents += 1
