"""Encodes and decodes custody records, and states which key may sign which type."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

import msgspec

from evidencesync.custody.documents import CustodyRecord, RecordType
from evidencesync.custody.principals import VAULT_PRINCIPAL
from evidencesync.custody.publickey import InvalidPublicKeyError, PublicKey
from evidencesync.custody.roles import Role
from evidencesync.custody.text import check_texts, check_title, check_utc_time, decode_readable, encode_readable
from evidencesync.errors import MalformedDocumentError, UntrustedSignerError
from evidencesync.evidence.display import safe_text
from evidencesync.limits import MAX_FREE_TEXT, MAX_RECORD

_DECODER: Final = msgspec.json.Decoder(CustodyRecord)


class SignedBy(Enum):
    """The key that must sign a record."""

    VAULT = "the vault's key"
    ACQUIRER = "the signer of the acquisition's manifest"
    EXAMINER = "an examiner trusted for custody@evidencesync"


SIGNERS: Final[Mapping[RecordType, SignedBy]] = MappingProxyType(
    {
        "made": SignedBy.VAULT,
        "trust-changed": SignedBy.VAULT,
        "heads": SignedBy.VAULT,
        "key-changed": SignedBy.VAULT,
        "acquired": SignedBy.ACQUIRER,
        "received": SignedBy.VAULT,
        "verified": SignedBy.EXAMINER,
        "handed-over": SignedBy.EXAMINER,
        "accepted": SignedBy.EXAMINER,
        "exported": SignedBy.EXAMINER,
        "restored": SignedBy.EXAMINER,
        "noted": SignedBy.EXAMINER,
        "corrected": SignedBy.EXAMINER,
        "timestamped": SignedBy.EXAMINER,
        "sealed": SignedBy.EXAMINER,
        "proposed": SignedBy.EXAMINER,
        "withdrawn": SignedBy.EXAMINER,
    }
)
ABOUT_TRUST: Final[frozenset[RecordType]] = frozenset({"made", "trust-changed", "key-changed"})
"""Types of records that state who is trusted, and for what."""
ROLE_FOR: Final[Mapping[SignedBy, Role | None]] = MappingProxyType(
    {SignedBy.VAULT: None, SignedBy.ACQUIRER: "acquire", SignedBy.EXAMINER: "custody"}
)
"""The role that the signer of a record needs in its case, where the vault states roles."""
VAULT_TYPES: Final[frozenset[RecordType]] = frozenset({"made", "trust-changed", "heads", "key-changed"})
"""Types of records of the vault's own chain, without a case and an item; all others are about an item."""


SIGNATURE_FORM: Final[Mapping[str, str]] = MappingProxyType({"signatures": "low-s"})
"""Details of a vault's first record, where the vault accepts signatures in low-s form only. Older vaults lack them."""


def demands_low_s(made: CustodyRecord) -> bool:
    """Whether a vault with this first record accepts signatures in low-s form only."""
    return made.type == "made" and SIGNATURE_FORM.items() <= made.details.items()


def encode_record(record: CustodyRecord) -> bytes:
    """Returns the exact bytes to store and sign. Raises MalformedDocumentError for a record that a reader would refuse."""
    data = encode_readable(record)
    decode_record(data)
    return data


def decode_record(data: bytes) -> CustodyRecord:
    """Decodes a record from its exact bytes; its type's fields must be there. Raises MalformedDocumentError."""
    record = decode_readable(_DECODER, data, MAX_RECORD, "a custody record")
    what = f"custody record {record.sequence} ({record.type})"
    check_texts(record, what)
    check_utc_time(record.time, what)
    if any(len(text) > MAX_FREE_TEXT for text in record.details.values()):
        raise MalformedDocumentError(f"{what} has a detail that is too long")
    if (record.sequence == 1) != (record.previous_sha256 is None):
        raise MalformedDocumentError(f"{what}: only the first record of a chain, and that one always, has none before it")
    _check_subject(record, what)
    return record


def _check_subject(record: CustodyRecord, what: str) -> None:
    if record.type in VAULT_TYPES:
        if not (record.case is None and record.item is None and record.acquisition is None):
            raise MalformedDocumentError(f"{what} is about the vault, but names a case, an item or an acquisition")
        if (record.type == "made") != (record.sequence == 1):
            raise MalformedDocumentError(f"{what}: a vault's chain begins with its making, once")
        if record.type == "key-changed":
            _check_new_key(record, what)
        return
    if record.case is None or record.item is None:
        raise MalformedDocumentError(f"{what} does not say what case and item it is about")
    check_title(record.case, what)
    check_title(record.item, what)
    if record.type in ("acquired", "received") and (record.acquisition is None or record.manifest_sha256 is None):
        raise MalformedDocumentError(f"{what} does not say which acquisition and manifest it is about")
    if (record.type == "received") != (record.receipt_sha256 is not None) and record.type in ("acquired", "received"):
        raise MalformedDocumentError(f"{what}: a receipt is named by `received`, and cannot be known to `acquired`")


def _check_new_key(record: CustodyRecord, what: str) -> None:
    """A change of the vault's key names another key than the one that signs it, by its line and its fingerprint."""
    try:
        new = PublicKey.from_line(record.details.get("public_key", "").encode()).fingerprint
    except InvalidPublicKeyError as error:
        raise MalformedDocumentError(f"{what} names no new key: {error.message}") from error
    if new != record.details.get("key") or new == record.actor.key:
        raise MalformedDocumentError(f"{what} names two new keys, or the old one")


def record_name(record: CustodyRecord) -> str:
    """Returns the name of the record's file in a custody folder: `NNNN-TYPE.json`; the signature's name adds `.sig`."""
    return f"{record.sequence:04d}-{record.type}.json"


def check_signer(record: CustodyRecord, signer: PublicKey, vault_key: str, manifest_signer: str | None) -> None:
    """Checks that the key which signed a record is one that may sign its type.

    `vault_key` and `manifest_signer` are fingerprints; the latter is that of the key which signed the manifest of the
    record's acquisition (None where it is not known: then `acquired` is refused). The vault, and it alone, signs under its own
    name: so no record says that somebody has done what only the vault can state. Whether an examiner is trusted is for
    `custody.trust`. Raises UntrustedSignerError.
    """
    what = f"custody record {record.sequence} ({record.type})"
    fingerprint = signer.fingerprint
    if record.actor.key != fingerprint:
        raise UntrustedSignerError(f"{what} names the key {record.actor.key}, but {fingerprint} signed it")
    rule = SIGNERS[record.type]
    if rule is SignedBy.VAULT:
        allowed = fingerprint == vault_key
    elif rule is SignedBy.ACQUIRER:
        allowed = fingerprint == manifest_signer and fingerprint != vault_key
    else:
        allowed = fingerprint != vault_key
    if not allowed:
        raise UntrustedSignerError(f"{what} must be signed by {rule.value}; {fingerprint} signed it")
    if (record.actor.principal == VAULT_PRINCIPAL) != (rule is SignedBy.VAULT):
        who = safe_text(record.actor.principal, 80)
        raise UntrustedSignerError(f"{what} must be signed by {rule.value}, and names {who} as its signer")
