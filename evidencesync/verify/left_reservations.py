"""Judges reservations of custody records that lie beside a chain: whether a writer of the vault can have left one."""

from __future__ import annotations

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.sshsig import decode_armor
from evidencesync.errors import SignatureError
from evidencesync.vault.reservations import MAX_RESERVATION, NewRecord, is_listed, signer_of
from evidencesync.verify.context import Context
from evidencesync.verify.documents import CheckedFolder


def reservation_violation(context: Context, subject: ChainSubject, folder: CheckedFolder, name: str) -> str | None:
    """Returns what is wrong with a reservation that no writer can have made; None for one that a crash can have left.

    A power cut may leave anything that is not a whole reservation. A whole one was signed by a key that may sign such a record.
    Whether the key is known is checked only where the vault's own lists are used, and could be read; a key that was revoked
    since may have made it before. A reservation that cannot be read is no violation: it counts for nothing in any case.
    """
    data, unread = folder.load_quietly(name, MAX_RESERVATION)
    if data is None:
        return "a reservation larger than any" if not unread and folder.has_now(name) else None
    new = NewRecord.decode(data)
    if new is None or not _has_form(new.signature):
        return None
    keys, low_s = context.keys.keys, context.judge.low_s
    own = keys.all if subject.item is not None else (keys.at(new.record.sequence),)
    key = next((found for one in own if (found := signer_of(new, subject, one, low_s=low_s)) is not None), None)
    if key is None and context.keys.lost:
        return None
    if key is None:
        return "a reservation that is not signed by a key that may sign such a record"
    if subject.item is not None and key.fingerprint not in keys.all and not context.judge.may_know(key, is_listed):
        return "a reservation by a signer that the vault does not know"
    return None


def _has_form(signature: bytes) -> bool:
    try:
        decode_armor(signature)
    except SignatureError:
        return False
    return True
