"""The keys of a vault, one after the other: a `key-changed` record, signed with the old key, names the new one.

Which key counts is decided by the order of the vault's own chain, and never by a clock: each key signs the records after the
change that names it, up to the one that names the next. What the vault signs elsewhere, its own chain states soon after. So a
signature is of a key's time, if the chain states it before the record that ends that time, and not before the one that began it.
Who has an old key can sign more with it, and no chain states that in the key's time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from evidencesync.custody.documents import CUSTODY_NAMESPACE, CustodyRecord
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.record import decode_record
from evidencesync.custody.sshsig import verify_signature
from evidencesync.custody.trust import TrustedSigners
from evidencesync.errors import ChainError, LimitExceededError, UntrustedSignerError
from evidencesync.evidence.digest import sha512_of
from evidencesync.limits import MAX_KEY_CHANGES

KEY_CHANGED: Final = "key-changed"
HELD_BY: Final = "vault_key_held_by"
AGENT: Final = "ssh-agent"
"""The detail of the record that names a key, `made` or `key-changed`, where an ssh-agent holds it. Without it: a file."""


class KeyChange(msgspec.Struct, frozen=True):
    """One change: the number of its record in the vault's own chain, and the new key's fingerprint."""

    number: int
    key: str


class VaultKeys(msgspec.Struct, frozen=True):
    """A vault's first key, and its changes, in order. Keys are fingerprints."""

    first: str
    changes: tuple[KeyChange, ...] = ()

    @property
    def current(self) -> str:
        """The key that signs now."""
        return self.changes[-1].key if self.changes else self.first

    @property
    def all(self) -> tuple[str, ...]:
        """Every key that the vault has had, in order."""
        return (self.first, *(change.key for change in self.changes))

    def at(self, number: int) -> str:
        """Returns the key that signs the record with this number of the vault's own chain."""
        return next((one.key for one in reversed(self.changes) if one.number < number), self.first)

    def named(self, fingerprint: str) -> str:
        """Returns this key where it is, or was, the vault's; else the current one."""
        return fingerprint if fingerprint in self.all else self.current

    def in_time(self, fingerprint: str, stated_by: int | None) -> bool:
        """Whether one of the vault's keys signed in its time.

        `stated_by`: the first record of the vault's own chain that states what was signed; None where none does (yet): only the
        current key counts then.
        """
        if stated_by is None:
            return fingerprint == self.current
        begun = (0, *(change.number for change in self.changes))
        ended = (*(change.number for change in self.changes), None)
        return any(
            key == fingerprint and start < stated_by and (end is None or stated_by < end)
            for key, start, end in zip(self.all, begun, ended, strict=True)
        )

    def with_change(self, record: CustodyRecord) -> VaultKeys:
        """Returns the keys after a `key-changed` record, whose signature by the current key the caller has checked.

        Raises UntrustedSignerError for a key that the vault has had: what it may sign would be unclear. Raises
        LimitExceededError after MAX_KEY_CHANGES.
        """
        new = record.details["key"]
        if new in self.all:
            raise UntrustedSignerError(f"custody record {record.sequence} makes {new} the vault's key, which it has been before")
        if len(self.changes) >= MAX_KEY_CHANGES:
            raise LimitExceededError(f"a vault changes its key at most {MAX_KEY_CHANGES} times", hint="Make a new vault.")
        return VaultKeys(self.first, (*self.changes, KeyChange(record.sequence, new)))


def reason_untrusted(trust: TrustedSigners, keys: VaultKeys, key: PublicKey, namespace: str, at_ns: int) -> str | None:
    """Returns why a key that signed as the vault is not trusted by lists from outside; None where it is.

    A key of the vault is trusted where an earlier one is, under any name: that one has signed it.
    """
    untrusted = trust.reason_untrusted(None, key, namespace, at_ns)
    if untrusted is None or key.fingerprint not in keys.all:
        return untrusted
    earlier = keys.all[: keys.all.index(key.fingerprint)]
    known = (one.key for one in trust.signers if one.key.fingerprint in earlier)
    return None if any(trust.reason_untrusted(None, one, namespace, at_ns) is None for one in known) else untrusted


def proven_keys(vault_id: str, current: str, changes: Iterable[tuple[bytes, bytes]]) -> VaultKeys:
    """Returns the keys of a vault by its `key-changed` records, as bytes and signature, all of them, in order.

    Each must be of this vault, and signed with the key before; the last must name the `current` key. Without any, that is the
    only key. Raises ChainError, SignatureError, UntrustedSignerError, MalformedDocumentError, LimitExceededError.
    """
    keys: VaultKeys | None = None
    for data, signature in changes:
        record = decode_record(data)
        before = keys or VaultKeys(record.actor.key)
        last = before.changes[-1].number if before.changes else 1
        if record.type != KEY_CHANGED or record.vault_id != vault_id or record.sequence <= last:
            raise ChainError("a record that is to prove the vault's key is none, of another vault, or out of order")
        if verify_signature(signature, CUSTODY_NAMESPACE, sha512_of(data)).fingerprint != before.current:
            raise UntrustedSignerError(f"custody record {record.sequence} names a new key, and the old one has not signed it")
        keys = before.with_change(record)
    keys = keys or VaultKeys(current)
    if keys.current != current:
        raise ChainError(f"the vault's records lead to the key {keys.current}, and it has {current}")
    return keys
