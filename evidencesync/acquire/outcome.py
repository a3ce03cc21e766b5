"""Concludes a push or a pull: checks the vault's acknowledgement, and gathers the results for the command line."""

from __future__ import annotations

from typing import Final

import msgspec

from evidencesync.acquire.handshake import Handshake
from evidencesync.acquire.reading import SourceTally
from evidencesync.acquire.request import Documents, PushOutcome, PushRequest
from evidencesync.acquire.signing import ManifestSums, Signed
from evidencesync.acquire.unchanged import other_source
from evidencesync.custody.chain import ChainSubject, follows
from evidencesync.custody.documents import CUSTODY_NAMESPACE, RECEIPT_NAMESPACE, CustodyRecord, ManifestHeader, Receipt
from evidencesync.custody.receipt import ReceiptFacts, check_receipt, decode_receipt
from evidencesync.custody.record import check_signer, decode_record
from evidencesync.custody.sshsig import verify_signature
from evidencesync.custody.times import AcquisitionTimes, Step, measured_clocks
from evidencesync.custody.wholeness import ManifestTally
from evidencesync.errors import ChainError, SignatureError, hinting
from evidencesync.evidence.digest import sha256_of, sha512_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.protocol.messages import Changes, Published

PUBLISHED_HINT: Final = "The vault says that it has published this. Leave it as it is, and run evidencesync verify there."


class Sent(msgspec.Struct, frozen=True):
    """The documents that this end sent. Digests are hexadecimal."""

    header: ManifestHeader
    tally: ManifestTally
    manifest_sha256: str
    manifest_signature: bytes
    acquired: bytes
    read_back: bool


class Acknowledged(msgspec.Struct, frozen=True):
    """The checked acknowledgement: digests in hexadecimal, and the contradictions between its times, each in a sentence."""

    receipt: Receipt
    receipt_sha256: str
    chain_head_sha256: str
    contradictions: list[str]


def check_published(published: Published, sent: Sent, handshake: Handshake, now_ns: int) -> Acknowledged:
    """Checks a vault's acknowledgement, which arrived at `now_ns`.

    1. Both signatures are by the key that the vault named in the handshake.
    2. The receipt is about this very acquisition, with all its contents, and the disk was read back if that was asked for.
    3. The `received` record follows the `acquired` record in the chain, and names this manifest, that receipt and the key.
    4. Times that contradict what happened here, or each other, are reported and not refused: the evidence is safe.

    What `verify` would refuse later is refused here, except for what only the vault knows: the trust of keys at its dates, and
    the digests of its own files (sums, recipes, the previous receipt). Raises SignatureError, UntrustedSignerError or ChainError.
    """
    # 1.
    for document, signature, namespace in (
        (published.receipt, published.receipt_signature, RECEIPT_NAMESPACE),
        (published.received, published.received_signature, CUSTODY_NAMESPACE),
    ):
        signer = verify_signature(signature, namespace, sha512_of(document))
        if signer != handshake.vault_key:
            raise SignatureError("the vault's acknowledgement is signed by another key than the vault's")
    receipt = _check_receipt(published, sent, handshake)  # 2.
    received = _check_received(published, sent, handshake)  # 3.
    # 4.
    acquired = decode_record(sent.acquired)
    times = AcquisitionTimes.of(sent.header, acquired=acquired, received=received, receipt=receipt)
    arrived = Step("its receipt arrived here", now_ns)
    contradictions = [*times.contradictions(measured_clocks(sent.header)), *times.of_the_future(arrived)]
    return Acknowledged(receipt, sha256_of(published.receipt).hex(), sha256_of(published.received).hex(), contradictions)


def _check_receipt(published: Published, sent: Sent, handshake: Handshake) -> Receipt:
    """Step 2 of `check_published`."""
    receipt = decode_receipt(published.receipt)
    facts = ReceiptFacts(
        header=sent.header,
        footer=sent.tally.footer(receipt.finished),
        contents=sent.tally.contents,
        manifest_sha256=sent.manifest_sha256,
        manifest_signature_sha256=sha256_of(sent.manifest_signature).hex(),
        acquired_sha256=sha256_of(sent.acquired).hex(),
        acquired_sequence=handshake.ready.chain_sequence + 1,
    )
    differences = check_receipt(receipt, facts)
    if differences or published.acquisition != sent.header.acquisition:
        what = f" ({safe_text(str(differences[0]), 200)})" if differences else ""
        raise SignatureError(f"the vault's receipt is about something else than what was sent{what}")
    if sent.read_back and not receipt.points.disk.taken:
        raise SignatureError("the vault did not read its disk back, as it was asked to")
    return receipt


def _check_received(published: Published, sent: Sent, handshake: Handshake) -> CustodyRecord:
    """Step 3 of `check_published`."""
    header = sent.header
    received = decode_record(published.received)
    check_signer(received, handshake.vault_key, handshake.vault_key.fingerprint, None)
    if (
        received.type != "received"
        or not follows(received, handshake.ready.chain_sequence + 1, sha256_of(sent.acquired).hex())
        or received.receipt_sha256 != sha256_of(published.receipt).hex()
        or received.manifest_sha256 != sent.manifest_sha256
        or received.acquisition != header.acquisition
        or ChainSubject.of(received) != ChainSubject(header.vault_id, header.case, header.item)
    ):
        raise ChainError("the vault's custody record does not follow the one that was signed here")
    return received


class CountedTraffic(msgspec.Struct, frozen=True):
    """Counts the traffic of a transfer. `interruptions` counts the links that were lost."""

    literal_bytes: int
    reused_bytes: int
    zero_bytes: int
    wire_sent: int
    wire_received: int
    seconds: float
    interruptions: int


class ConcludedPush(msgspec.Struct, frozen=True):
    """One acquisition from the handshake to the vault's acknowledgement, as the examiner's end knows it."""

    request: PushRequest
    handshake: Handshake
    header: ManifestHeader
    tally: SourceTally
    sums: ManifestSums
    signed: Signed
    published: Published
    changes: Changes | None

    def acknowledged(self, now_ns: int) -> Acknowledged:
        """Checks the acknowledgement, and that the vault's chains hold it. Raises what `check_published` raises."""
        signed = self.signed
        sent = Sent(
            self.header,
            self.tally.manifest,
            self.sums.sha256.hex(),
            signed.manifest_signature,
            signed.acquired,
            read_back=self.request.read_back,
        )
        with hinting(PUBLISHED_HINT):
            checked = check_published(self.published, sent, self.handshake, now_ns)
            self.handshake.shown.conclude(signed.acquired, self.published.received)
        return checked

    def outcome(
        self, checked: Acknowledged, traffic: CountedTraffic, now_ns: int, *, source_clock_offset_ns: int | None
    ) -> PushOutcome:
        """Returns the results of the acquisition, once it is acknowledged."""
        request, handshake, published = self.request, self.handshake, self.published
        return PushOutcome(
            name=request.name,
            vault_id=handshake.vault_id,
            session=request.session,
            acquisition=published.acquisition,
            tally=self.tally,
            literal_bytes=traffic.literal_bytes,
            reused_bytes=traffic.reused_bytes,
            zero_bytes=traffic.zero_bytes,
            stored=checked.receipt.stored,
            lookup=checked.receipt.lookup,
            wire_sent=traffic.wire_sent,
            wire_received=traffic.wire_received,
            seconds=traffic.seconds,
            interruptions=traffic.interruptions,
            leftovers=handshake.ready.leftovers,
            manifest_sha256=self.sums.sha256.hex(),
            receipt_sha256=checked.receipt_sha256,
            chain_head_sha256=checked.chain_head_sha256,
            vault_head=handshake.shown.own.known,
            seen=handshake.shown.remembered(format_utc_time(now_ns)),
            read_back=request.read_back,
            damaged=published.damaged,
            clock_offset_ns=handshake.clock_offset,
            source_clock_offset_ns=source_clock_offset_ns,
            documents=self._documents(),
            contradictions=checked.contradictions,
            changes=self.changes if published.acquisition > 1 else None,  # the vault's word, for a display
            other_source=other_source(handshake, self.header),
            alike=handshake.alike,
            previous_is_whole=handshake.previous is not None,
        )

    def _documents(self) -> Documents:
        signed, published = self.signed, self.published
        return Documents(
            signed.manifest_signature,
            signed.acquired,
            signed.acquired_signature,
            published.receipt,
            published.receipt_signature,
            published.received,
            published.received_signature,
        )
