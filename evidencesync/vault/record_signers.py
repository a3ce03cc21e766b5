"""Decides which reservations of a record's number count: those that a known and authorised key has signed.

Anybody who can write into the vault's folder can make a reservation. The next writer completes it, so it is checked as closely
as a record that arrives: else an honest writer would put a forged record into the chain.
"""

from __future__ import annotations

from collections.abc import Callable

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.documents import CUSTODY_NAMESPACE
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.record import SIGNERS, SignedBy, check_signer
from evidencesync.custody.sshsig import verify_signature
from evidencesync.custody.trust import TrustLists
from evidencesync.errors import SignatureError, UntrustedSignerError
from evidencesync.evidence.digest import sha512_of
from evidencesync.vault.reservations import NewRecord


def is_signed_by_vault(new: NewRecord, vault_id: str, vault_key: str) -> bool:
    """Whether a record belongs to the vault's own chain and is signed with the vault's key (given by fingerprint)."""
    return signer_of(new, ChainSubject(vault_id), vault_key, low_s=False) is not None


def is_signed_for_item(
    new: NewRecord, subject: ChainSubject, vault_key: str, load_trust: Callable[[], TrustLists], *, low_s: bool
) -> bool:
    """Whether a record is about an item, and signed by the vault or by a signer that it knows.

    A retired signer is still known: a reservation from before the retirement counts, and `verify` judges the time. A revoked
    signer is not known. Raises what `load_trust` raises.
    """
    key = signer_of(new, subject, vault_key, low_s=low_s)
    if key is None or key.fingerprint == vault_key:
        return key is not None
    trust = load_trust()
    return is_listed(key, trust) and not trust.revoked.refuses(key)


def is_listed(key: PublicKey, trust: TrustLists) -> bool:
    """Whether a key is on the list of signers, at any time."""
    return any(signer.key == key for signer in trust.signers.signers)


def signer_of(new: NewRecord, subject: ChainSubject, vault_key: str, *, low_s: bool) -> PublicKey | None:
    """Returns the key that signed a record of a chain, if it may sign a record of that type; else None.

    Whether the signer of `acquired` is that of the manifest is checked elsewhere.
    """
    record = new.record
    if ChainSubject.of(record) != subject:
        return None
    if subject.item is None and SIGNERS[record.type] is not SignedBy.VAULT:
        return None
    try:
        key = verify_signature(new.signature, CUSTODY_NAMESPACE, sha512_of(new.data), low_s=low_s)
        check_signer(record, key, vault_key, key.fingerprint)
    except (SignatureError, UntrustedSignerError):
        return None
    return key
