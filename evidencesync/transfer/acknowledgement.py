"""The sender's check of what the vault signed for, before anything is called complete."""

from __future__ import annotations

from evidencesync.custody.documents import CUSTODY_NAMESPACE, RECEIPT_NAMESPACE, ManifestHeader
from evidencesync.custody.receipt import decode_receipt
from evidencesync.custody.record import decode_record
from evidencesync.custody.sshsig import verify_signature
from evidencesync.errors import ChainError, SignatureError
from evidencesync.evidence.digest import sha256_of, sha512_of
from evidencesync.protocol.messages import Published
from evidencesync.transfer.greeting import Greeting


def check_published(
    published: Published, header: ManifestHeader, manifest_sha256: bytes, acquired: bytes, greeting: Greeting
) -> tuple[str, str]:
    """Checks a vault's acknowledgement; gives the SHA-256 of the receipt and of the new chain head, in hexadecimal.

    1. Both signatures are by the key with which the vault introduced itself.
    2. The receipt is about this very acquisition: vault, item, number, session, manifest and `acquired` record.
    3. The `received` record follows that record in the chain and names that receipt.

    Raises SignatureError or ChainError.
    """
    # 1.
    for document, signature, namespace in (
        (published.receipt, published.receipt_signature, RECEIPT_NAMESPACE),
        (published.received, published.received_signature, CUSTODY_NAMESPACE),
    ):
        signer = verify_signature(signature, namespace, sha512_of(document))
        if signer != greeting.vault_key:
            raise SignatureError("the vault's acknowledgement is signed by another key than the vault's")
    # 2.
    receipt = decode_receipt(published.receipt)
    acquired_sha256 = sha256_of(acquired).hex()
    said = (receipt.vault_id, receipt.case, receipt.item, receipt.acquisition, receipt.session)
    if (
        said != (header.vault_id, header.case, header.item, header.acquisition, header.session)
        or published.acquisition != header.acquisition
        or receipt.manifest_sha256 != manifest_sha256.hex()
        or receipt.acquired_sha256 != acquired_sha256
    ):
        raise SignatureError("the vault's receipt is about something else than what was sent")
    # 3.
    receipt_sha256 = sha256_of(published.receipt).hex()
    received = decode_record(published.received)
    if (
        received.type != "received"
        or received.previous_sha256 != acquired_sha256
        or received.sequence != greeting.ready.chain_sequence + 2
        or received.receipt_sha256 != receipt_sha256
        or (received.vault_id, received.case, received.item) != (header.vault_id, header.case, header.item)
    ):
        raise ChainError("the vault's custody record does not follow the one that was signed here")
    return receipt_sha256, sha256_of(published.received).hex()
