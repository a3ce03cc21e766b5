"""The sender's check of what the vault signed for, before anything is called complete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from evidencesync.acquire.handshake import Handshake
from evidencesync.custody.chain import ChainSubject, follows
from evidencesync.custody.documents import CUSTODY_NAMESPACE, RECEIPT_NAMESPACE, ManifestHeader, Receipt
from evidencesync.custody.receipt import ReceiptFacts, check_receipt, decode_receipt
from evidencesync.custody.record import check_signer, decode_record
from evidencesync.custody.sshsig import verify_signature
from evidencesync.custody.tally import ManifestTally
from evidencesync.custody.times import AcquisitionTimes, Step, measured_clocks
from evidencesync.errors import ChainError, SignatureError
from evidencesync.evidence.digest import sha256_of, sha512_of
from evidencesync.evidence.display import safe_text
from evidencesync.protocol.messages import Published

PUBLISHED_HINT: Final = "The vault says that it has published this. Leave it as it is, and run evidencesync verify there."


@dataclass(frozen=True, slots=True)
class Sent:
    """What this end read, signed and asked for. Digests are hexadecimal."""

    header: ManifestHeader
    tally: ManifestTally
    manifest_sha256: str
    manifest_signature: bytes
    acquired: bytes
    read_back: bool


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What a vault has signed for: digests in hexadecimal, and where the times that it states cannot be true."""

    receipt: Receipt
    receipt_sha256: str
    chain_head_sha256: str
    contradictions: list[str]


def check_published(published: Published, sent: Sent, handshake: Handshake, now_ns: int) -> Acknowledged:
    """Checks a vault's acknowledgement, which arrived at `now_ns`.

    1. Both signatures are by the key with which the vault introduced itself.
    2. The receipt is about this very acquisition, with all its contents, and the disk was read back if that was asked for.
    3. The `received` record follows the `acquired` record in the chain, and names this manifest, that receipt and the key.
    4. Times that contradict what happened here, or each other, are told and not refused: the evidence is safe.

    Whatever `verify` would refuse of it for ever is refused here; but who is trusted by the vault's dates, only the vault can
    tell. Raises SignatureError, UntrustedSignerError or ChainError.
    """
    header = sent.header
    # 1.
    for document, signature, namespace in (
        (published.receipt, published.receipt_signature, RECEIPT_NAMESPACE),
        (published.received, published.received_signature, CUSTODY_NAMESPACE),
    ):
        signer = verify_signature(signature, namespace, sha512_of(document))
        if signer != handshake.vault_key:
            raise SignatureError("the vault's acknowledgement is signed by another key than the vault's")
    # 2.
    receipt = decode_receipt(published.receipt)
    acquired_sha256 = sha256_of(sent.acquired).hex()
    facts = ReceiptFacts(
        header=header,
        footer=sent.tally.footer(receipt.finished),
        contents=sent.tally.contents,
        manifest_sha256=sent.manifest_sha256,
        manifest_signature_sha256=sha256_of(sent.manifest_signature).hex(),
        acquired_sha256=acquired_sha256,
        acquired_sequence=handshake.ready.chain_sequence + 1,
    )
    differences = check_receipt(receipt, facts)
    if differences or published.acquisition != header.acquisition:
        what = f" ({safe_text(str(differences[0]), 200)})" if differences else ""
        raise SignatureError(f"the vault's receipt is about something else than what was sent{what}")
    if sent.read_back and not receipt.points.disk.taken:
        raise SignatureError("the vault did not read its disk back, as it was asked to")
    # 3.
    receipt_sha256, acquired = sha256_of(published.receipt).hex(), decode_record(sent.acquired)
    received = decode_record(published.received)
    check_signer(received, handshake.vault_key, handshake.vault_key.fingerprint, None)
    if (
        received.type != "received"
        or not follows(received, handshake.ready.chain_sequence + 1, acquired_sha256)
        or received.receipt_sha256 != receipt_sha256
        or received.manifest_sha256 != sent.manifest_sha256
        or received.acquisition != header.acquisition
        or ChainSubject.of(received) != ChainSubject(header.vault_id, header.case, header.item)
    ):
        raise ChainError("the vault's custody record does not follow the one that was signed here")
    # 4.
    times = AcquisitionTimes.of(header, acquired=acquired, received=received, receipt=receipt)
    told = [*times.contradictions(measured_clocks(header)), *times.of_the_future(Step("its receipt arrived here", now_ns))]
    return Acknowledged(receipt, receipt_sha256, sha256_of(published.received).hex(), told)
