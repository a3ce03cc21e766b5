"""Changes the vault's own key: the old key signs the new one, in a record of the vault's own chain.

What the vault has signed for items until then, its chain states before that record: so it is of the old key's time for ever, and
what the old key signs later never is. Nothing may be published meanwhile, and no publish be left unfinished:

1. Nothing is published until the end: all publishing waits, or ends because the key has changed.
2. Publishes that a crash interrupted are completed: with the new key they never could be. Where one is not, nothing changes.
3. The heads of all items are stated, with the old key.
4. The new key's files are written beside the old ones.
5. The record, signed with the old key, commits the change.
6. The files take their places.
"""

from __future__ import annotations

import time
from typing import Final

import msgspec

from evidencesync.custody.principals import VAULT_PRINCIPAL
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.sshsig import SigningKey, sign_document
from evidencesync.custody.trust import signer_line
from evidencesync.custody.vault_keys import AGENT, HELD_BY, KEY_CHANGED, KeyChange
from evidencesync.errors import ChainError, EvidenceSyncError, MissingOrExtraError, NotThereError, SignatureError, UsageError
from evidencesync.evidence.digest import sha512_of
from evidencesync.vault.catalog import case_folders, is_unfinished, item_folders, stored_name
from evidencesync.vault.heads import record_heads
from evidencesync.vault.key_files import new_key_files, public_key_file
from evidencesync.vault.layout import VAULT_KEY_PUBLIC, ItemLayout
from evidencesync.vault.publish import complete_while_none_publishes
from evidencesync.vault.trust_lists import VAULT_NAMESPACES, TrustFiles, require_not_revoked
from evidencesync.vault.vault import Vault
from evidencesync.vault.writer import nothing_is_published

_TRIAL: Final = "trial@evidencesync"
"""The namespace of a signature that nobody accepts."""

_DAMAGED: Final = (ChainError, MissingOrExtraError, NotThereError, SignatureError)
_NOT_COMPLETED: Final = (
    "The key is as it was. A published acquisition may wait there for its custody records, and only the key of now can add them. "
    "Put that right, then run the same command again."
)


class ChangedKey(msgspec.Struct, frozen=True):
    """What `change_key` has done, or found done: the record of the last change. `completed`: an earlier run had begun it.

    `damaged`: items, by their folders, in which an interrupted publish could not be completed because of damage.
    """

    change: KeyChange
    completed: bool
    damaged: tuple[str, ...] = ()


class _ChangedMeanwhileError(EvidenceSyncError):
    """Somebody else has changed the key, or completed a change that was begun: this one is not needed any more."""


def change_key(vault: Vault, old: str, in_agent: SigningKey | None = None, *, at_ns: int | None = None) -> ChangedKey:
    """Makes a new key the vault's, in the place of the key `old`. Run again after an interruption, it completes the change.

    The key is one that is made now, or `in_agent` one that an ssh-agent holds, which is tried first.
    Where the key is not `old` any more, another run has changed it: then that counts, and the key is not changed twice.
    Raises what keeps an interrupted publish from being completed, if not damage of the item, and names the item;
    LockedError, TrustChangedError, SigningKeyError, ChainError, StorageError, NoSpaceError, OtherWriterError.
    """
    if vault.trust.complete() or (in_agent is not None and in_agent.public_key.fingerprint == old):
        return _completed(vault, in_agent)
    new, files = _new_key(vault, in_agent)
    now = time.time_ns() if at_ns is None else at_ns

    def edit(lists: TrustFiles) -> TrustFiles:
        if vault.keys.current != old:
            raise _ChangedMeanwhileError("the vault's key has been changed meanwhile")
        return _with_vault_key(lists, new)

    details = {"key": new.fingerprint, "public_key": new.line()} | ({} if in_agent is None else {HELD_BY: AGENT})
    with nothing_is_published(vault.layout):  # 1
        damaged = _complete_publishes(vault)  # 2
        if vault.keys.current == old:
            record_heads(vault, at_ns=now)  # 3
        try:
            number = vault.trust.record_change(KEY_CHANGED, edit, details, now, files)  # 4 to 6
        except _ChangedMeanwhileError:
            vault.trust.complete()
            return _completed(vault, in_agent)
    return ChangedKey(KeyChange(number, new.fingerprint), completed=False, damaged=damaged)


def _completed(vault: Vault, in_agent: SigningKey | None) -> ChangedKey:
    """Returns the change that an earlier run has begun. Raises UsageError where it is to another key than the wanted one."""
    keys = vault.keys
    if not keys.changes:
        raise UsageError(f"{keys.current} is the vault's key already", hint="See: evidencesync trust list VAULT")
    if in_agent is not None and in_agent.public_key.fingerprint != keys.current:
        raise UsageError(
            f"another run has made {keys.current} the vault's key, which is complete now",
            hint="To change it once more, run the same command again.",
        )
    return ChangedKey(keys.changes[-1], completed=True)


def _new_key(vault: Vault, in_agent: SigningKey | None) -> tuple[PublicKey, dict[str, bytes]]:
    """Returns the new key, and its files by name. Raises SigningKeyError for one in an agent that does not sign."""
    comment = f"vault {vault.settings.name}"
    if in_agent is None:
        signer, files = new_key_files(comment)
        return signer.public_key, files
    key = in_agent.public_key
    sign_document(in_agent, _TRIAL, sha512_of(key.blob))  # before the old key gives up its place
    return key, {VAULT_KEY_PUBLIC: public_key_file(key, comment)}


def _with_vault_key(files: TrustFiles, key: PublicKey) -> TrustFiles:
    """Adds the new key's line to the lists. The old key's stays: in its time it counts, and only the chain knows its time."""
    if any(one.key == key for one in files.parse().signers.signers):
        raise UsageError(f"the key {key.fingerprint} is known to the vault already, and cannot become its own")
    require_not_revoked(files, key)
    line = signer_line(VAULT_PRINCIPAL, key, VAULT_NAMESPACES).encode() + b"\n"
    return msgspec.structs.replace(files, trusted_signers=files.trusted_signers + line)


def _complete_publishes(vault: Vault) -> tuple[str, ...]:
    """Completes what a crash has interrupted; returns the items, by their folders, of which damage prevents that.

    A damaged item keeps no key from changing: a stolen key has to go. Raises any other error, which may pass, with the item's
    folders. No item's lock is needed: who holds it has completed this before, or waits until nobody keeps it from being done.
    """
    damaged: list[str] = []
    for case in case_folders(vault.layout):
        for item in item_folders(vault.layout, case):
            try:
                if not _is_complete(vault, ItemLayout(vault.layout.case(case) / item)):
                    damaged.append(f"{case}/{item}")
            except EvidenceSyncError as error:
                error.message, error.hint = f"item {case}/{item}: {error.message}", _NOT_COMPLETED
                raise
    return tuple(damaged)


def _is_complete(vault: Vault, item: ItemLayout) -> bool:
    """Completes a publish, if one was interrupted; returns False where the item is too damaged for that."""
    try:
        if (name := stored_name(item)) is not None:
            complete_while_none_publishes(vault.item(name))
    except EvidenceSyncError as error:
        try:
            if not is_unfinished(item):
                return True  # whatever is wrong there: nothing waits for this key
        except _DAMAGED:
            return False
        if not isinstance(error, _DAMAGED):
            raise
        return False
    return True
