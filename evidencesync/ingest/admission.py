"""Runs the vault's half of the handshake: decides who may open a session for which item, and shows the custody chains."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final, TypeVar

import msgspec

import evidencesync
from evidencesync.custody.documents import SESSION_NAMESPACE, ReadingClaim, SessionClaim
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.roles import Grant, Role
from evidencesync.custody.sshsig import verify_signature
from evidencesync.custody.trust import TrustLists
from evidencesync.delta.refine import DELTA_PARAMETERS
from evidencesync.errors import (
    EvidenceSyncError,
    ProtocolError,
    SignatureError,
    UntrustedSignerError,
    VaultNotFoundError,
    VersionError,
)
from evidencesync.evidence.digest import sha512_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.files.disk import storing
from evidencesync.limits import MAX_RECORDS, MIB
from evidencesync.protocol.failures import version_in_common
from evidencesync.protocol.messages import (
    KEYS_VERSION,
    PROTOCOL_VERSION,
    READING_VERSION,
    TRUST_VERSION,
    TWO_PEOPLE_VERSION,
    Begin,
    Hello,
    KeyChanges,
    Purpose,
    Records,
    Welcome,
    clock_for,
)
from evidencesync.vault.ledger import Ledger, RecordFile
from evidencesync.vault.vault import Vault

_PATH: Final = (
    "The path is the one behind serve --vault: in authorized_keys on the vault's machine, or where its server was started; the "
    "address that init printed has it, too. HOST:/ means the one vault that is served."
)
_PORT_IN_PATH: Final = re.compile(rb"([0-9]{1,5})(/.*)", re.DOTALL)
_ADD_KEY: Final = "Have it added, on the vault's machine: evidencesync trust add VAULT KEY.pub --principal NAME"
_NOT_NOW: Final = (
    "The vault knows this key, and does not trust it now: ask who keeps the vault. On the vault's machine, this shows who is "
    "trusted: evidencesync trust list VAULT"
)
_TO_ASK: Final[tuple[Role, ...]] = ("read", "verify", "acquire", "admin")  # who acquires asks for room, who administers for trust
_LEAST_VERSION: Final[dict[Purpose, int]] = {"read": READING_VERSION, "trust": TRUST_VERSION}
_CLAIM: Final = msgspec.json.Decoder(SessionClaim)
_READING_CLAIM: Final = msgspec.json.Decoder(ReadingClaim)
_C = TypeVar("_C", SessionClaim, ReadingClaim)


class Admitted(msgspec.Struct, frozen=True):
    """An examiner that has proved a trusted key, and the item of the session.

    `grant`: what the key might do when the session began. `seen` and `vault_seen`: the numbers of the last records that the
    sender knows of the item's chain and of the vault's own.
    """

    principal: str
    key: PublicKey
    grant: Grant
    name: ItemName
    session: str
    read_back: bool
    resumes: bool
    seen: int
    vault_seen: int


def _port_hint(asked: bytes, vault: Vault) -> str | None:
    """Returns how a port is written, for a path that is this vault's behind a number: who knows scp writes HOST:PORT/PATH."""
    found = _PORT_IN_PATH.fullmatch(asked)
    if found is None or not _is_served(found[2], vault):
        return None
    path = safe_text(found[2], 200)
    return f"{found[1].decode()} was taken as a folder. A port is written so: ssh://USER@HOST:{found[1].decode()}{path}"


def welcome(hello: Hello, vault: Vault, nonce: bytes, clock: int) -> Welcome:
    """Returns the answer to a client's first message. Raises VersionError, or VaultNotFoundError for another vault's path."""
    version = version_in_common(hello.versions)
    if version is None or version < _LEAST_VERSION.get(hello.purpose, PROTOCOL_VERSION):
        raise VersionError(f"this vault's end speaks version {PROTOCOL_VERSION} of the protocol, the other end does not")
    if hello.parameters != DELTA_PARAMETERS:
        raise VersionError("the two ends cut contents by different parameters")
    if not _is_served(hello.vault, vault):
        raise VaultNotFoundError(
            "this server serves another vault than the one that was asked for",
            hint=_port_hint(hello.vault, vault) or _PATH,
        )
    if version < TWO_PEOPLE_VERSION and _knows_two_people(vault):
        raise VersionError(
            "this vault demands two people for some changes, and the other end's evidencesync does not know proposals",
            hint="Update evidencesync on the machine from which you ask.",
        )
    return Welcome(
        version,
        evidencesync.__version__,
        vault.settings.id,
        vault.signer.public_key.blob,
        nonce,
        DELTA_PARAMETERS,
        clock_for(version, clock),
    )


def key_changes(offered: Welcome, vault: Vault) -> KeyChanges | None:
    """Returns what goes before Welcome: the proof of a key that is not the vault's first; None where it is the first.

    Raises VersionError for an end that does not know it, and would take the vault for another one.
    """
    changes = vault.key_changes()
    if not changes:
        return None
    if offered.version < KEYS_VERSION:
        raise VersionError(
            "the vault's own key was changed, and the other end's evidencesync is too old to follow that",
            hint="Update evidencesync on the machine from which you push, pull or read.",
        )
    return KeyChanges(changes)


def _knows_two_people(vault: Vault) -> bool:
    """Whether the vault has ever said what needs two people. Where its lists are not what they should be, that is said later."""
    try:
        roles = vault.load_trust().roles
    except EvidenceSyncError:
        return False
    return roles is not None and roles.two_person is not None


def _is_served(asked: bytes, vault: Vault) -> bool:
    """Returns whether the path that a client asked for is this vault. A server serves one: an empty path, or `/`, means that."""
    if asked in (b"", b"/"):
        return True
    with storing("look at the vault"):
        served = os.stat(vault.layout.root)
    try:
        return os.path.samestat(os.stat(os.path.expanduser(asked)), served)
    except (OSError, ValueError):
        return False


class Reader(msgspec.Struct, frozen=True):
    """Somebody who has proved a trusted key, and reads what the vault has, or changes whom it trusts; and the session's nonce."""

    principal: str
    key: PublicKey
    session: str
    nonce: str


def admit(begin: Begin, offered: Welcome, vault: Vault, now: int, roles: tuple[Role, ...]) -> Admitted:
    """Decides whether a session for an item may begin, for which one of some roles is needed.

    Raises as `_prove` does, and NotAllowedError.
    """
    claim, principal, key, trust = _prove(_CLAIM, begin, offered, vault, now)
    name = ItemName(Title(claim.case), Title(claim.item))
    trust.check_role(key, roles, name.case.text, now)
    return Admitted(
        principal, key, trust.grant_of(key), name, claim.session, begin.read_back, begin.resumes, begin.seen, begin.vault_seen
    )


def admit_reader(begin: Begin, offered: Welcome, vault: Vault, now: int, purpose: Purpose = "read") -> Reader:
    """Decides whether somebody may ask for anything, or with the purpose `trust` administer.

    Raises as `_prove` does, ProtocolError for a claim to something else, and NotAllowedError.
    """
    claim, principal, key, trust = _prove(_READING_CLAIM, begin, offered, vault, now)
    if claim.purpose != purpose:
        raise ProtocolError("the session's claim is to something else than was asked for")
    if purpose == "trust":
        trust.check_admin(key, now)
    else:
        trust.check_somewhere(key, _TO_ASK, now)
    return Reader(principal, key, claim.session, claim.nonce)


def _prove(
    decoder: msgspec.json.Decoder[_C], begin: Begin, offered: Welcome, vault: Vault, now: int
) -> tuple[_C, str, PublicKey, TrustLists]:
    """Returns the claim of a session, whose it is (the principal and the key), and the lists by which that was judged.

    1. The claim is a document of the wanted kind, in its one form.
    2. It names this vault and the nonce of this handshake: so it cannot be a replay from another time or place.
    3. Its signature is good, in the session namespace, and by the key that the claim names.
    4. That key is trusted here and now for sessions, and not revoked.

    Raises ProtocolError (1, 2), SignatureError (3) or UntrustedSignerError (4).
    """
    # 1.
    try:
        claim = decoder.decode(begin.claim)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError("the session's claim is malformed") from error
    if msgspec.json.encode(claim) != begin.claim:
        raise ProtocolError("the session's claim is not in its one form")
    # 2.
    key = PublicKey.from_blob(offered.vault_key)  # as it was offered: it may have been changed since
    if (claim.nonce, claim.vault_id, claim.vault_key) != (offered.nonce.hex(), vault.settings.id, key.fingerprint):
        raise ProtocolError("the session's claim is about another vault or another time")
    # 3.
    message = sha512_of(begin.claim)
    try:
        signer = verify_signature(begin.signature, SESSION_NAMESPACE, message, low_s=vault.low_s)
    except SignatureError as error:
        error.hint = "If the sender's evidencesync is an older one and its key is ECDSA: update it, or sign with an Ed25519 key."
        raise
    if signer.fingerprint != claim.key:
        raise SignatureError("the session's claim is signed by another key than it names")
    # 4.
    trust = vault.load_trust()
    try:
        return claim, trust.principal_for(signer, SESSION_NAMESPACE, now), signer, trust
    except UntrustedSignerError as error:
        if error.hint == error.default_hint:  # it is the key of whoever asks, also where nothing is acquired
            error.hint = _NOT_NOW if any(one.key == signer for one in trust.signers.signers) else _ADD_KEY
        raise


_BATCH: Final = MIB // 2


def show_since(ledger: Ledger, seen: int) -> Iterator[Records]:
    """Yields the records of a chain from the last one on that the sender knows, that one included. Raises ChainError.

    Where the sender knows none, or one that is not there, it is shown the last record alone.
    """
    files = ledger.files()
    first = seen if 1 <= seen <= len(files) else len(files)
    yield from record_batches(ledger, files[first - 1 :] if first else [])


def show_after(ledger: Ledger, shown: int) -> Iterator[Records]:
    """Yields the records that a chain has got after number `shown`. Raises ChainError."""
    yield from record_batches(ledger, ledger.files()[shown:])


def record_batches(ledger: Ledger, files: list[RecordFile], most: int = _BATCH, overhead: int = 0) -> Iterator[Records]:
    """Yields records in messages of at most `most` bytes, with so much overhead for each record. The last one says that it is."""
    batch: list[tuple[bytes, bytes]] = []
    size = 0
    for file in files:
        stored = ledger.load(file)
        length = len(stored.data) + len(stored.signature) + overhead
        if batch and (size + length > most or len(batch) == MAX_RECORDS):
            yield Records(file.sequence - len(batch), batch, more=True)
            batch, size = [], 0
        batch.append((stored.data, stored.signature))
        size += length
    if batch:
        yield Records(files[-1].sequence - len(batch) + 1, batch, more=False)
