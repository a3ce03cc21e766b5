"""Claims on the next record's number, which a crash may leave in a custody folder: looked at, so that none hides a forgery."""

from __future__ import annotations

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.sshsig import decode_armor
from evidencesync.errors import SignatureError
from evidencesync.vault.claims import MAX_CLAIM, NewRecord
from evidencesync.vault.vouching import is_listed, signer_of
from evidencesync.verify.context import Context
from evidencesync.verify.documents import CheckedFolder


def claim_objection(context: Context, subject: ChainSubject, folder: CheckedFolder, name: str) -> str | None:
    """What is wrong with a claim that a writer cannot have made; None for one that a crash can have left.

    A power cut may leave anything that is no whole claim. One that is whole was signed by whoever may sign such a record. Who is
    known is asked only where the vault's own lists are what counts, and could be read; a key that was revoked since may have
    claimed before. The disk not giving a claim is no objection: nothing of it counts in any case.
    """
    data, unread = folder.load_quietly(name, MAX_CLAIM)
    if data is None:
        return "a claim larger than any" if not unread and folder.has_now(name) else None
    new = NewRecord.decode(data)
    if new is None or not _has_form(new.signature):
        return None
    key = signer_of(new, subject, context.identity.key, low_s=context.judge.low_s)
    if key is None:
        return "a claim that is not signed by whoever may sign such a record"
    if subject.item is not None and key.fingerprint != context.identity.key and not context.judge.may_know(key, is_listed):
        return "a claim by somebody whom the vault does not know"
    return None


def _has_form(signature: bytes) -> bool:
    try:
        decode_armor(signature)
    except SignatureError:
        return False
    return True
