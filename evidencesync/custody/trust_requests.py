"""What an administrator asks of a vault: a change of trust, and the signed request for it, which the record of the change keeps.

A request is bound to one vault, to the record with which that vault's own chain ended, and to a nonce of the vault: it has its
effect once, in one place of one chain, or never.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from evidencesync.custody.documents import CUSTODY_NAMESPACE, CustodyRecord, Document, Fingerprint, Nonce, Person, VaultId
from evidencesync.custody.principals import VAULT_PRINCIPAL
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.roles import Grant, grant_of
from evidencesync.custody.rule_of_two import TWO_PERSON, NeedsTwo, parse_rule
from evidencesync.custody.sshsig import SigningKey, decode_armor, encode_armor, sign_document, verify_signature
from evidencesync.custody.text import check_texts, check_utc_time, decode_exactly
from evidencesync.errors import MalformedDocumentError, SignatureError, UsageError
from evidencesync.evidence.digest import HexDigest, sha512_of
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.limits import MAX_FREE_TEXT

ChangeAction = Literal["added", "changed", "retired", "revoked", "two_person", "consented", "withdrawn"]
PROPOSED: Final = "proposed"
CONSENTED: Final = "consented"
WITHDRAWN: Final = "withdrawn"
PROPOSAL: Final = "proposal"
PROPOSAL_SHA256: Final = "proposal_sha256"
"""The details that name a proposal: the number of its record, and the record's digest."""
LAPSES: Final = "lapses"
"""The detail of a proposal that says until when it is open."""
REQUEST_FORMAT: Final = "evidencesync-trust-request/1"
ASKED_BY: Final = "asked_by"
REQUEST: Final = "request"
REQUEST_SIGNATURE: Final = "request_signature"
KEPT: Final = frozenset({ASKED_BY, REQUEST, REQUEST_SIGNATURE})
"""The details of a record that keep the request for it."""
_WHAT: Final = "a request to change trust"


class ChangeOfTrust(msgspec.Struct, frozen=True):
    """What is to change of who is trusted: an action, and what its record states of it."""

    action: ChangeAction
    details: dict[str, str]

    @property
    def key(self) -> str | None:
        """The fingerprint of the key that it is about; None where it is about none."""
        return self.details.get("key")

    def public_key(self) -> PublicKey:
        """The whole key, where it is stated. Raises MalformedDocumentError."""
        try:
            return PublicKey.from_line(self.details["public_key"].encode())
        except SignatureError as error:
            raise MalformedDocumentError(f"{_WHAT} holds no usable key: {error.message}") from error

    def grant(self) -> Grant:
        """What the key may do, where it is stated. Raises MalformedDocumentError."""
        if (grant := grant_of(self.details)) is None:
            raise MalformedDocumentError(f"{_WHAT} does not say what the key may do")
        return grant


def added(key: PublicKey, principal: str, grant: Grant) -> ChangeOfTrust:
    """A key is trusted from now on, under a name."""
    details = {"principal": principal, "key": key.fingerprint, "public_key": key.line()}
    return ChangeOfTrust("added", details | grant.details())


def changed(key: str, grant: Grant) -> ChangeOfTrust:
    """The key with this fingerprint may do something else from now on."""
    return ChangeOfTrust("changed", {"key": key} | grant.details())


def retired(key: str) -> ChangeOfTrust:
    """The key with this fingerprint is trusted until now, and no longer."""
    return ChangeOfTrust("retired", {"key": key})


def revoked(key: PublicKey, reason: str = "") -> ChangeOfTrust:
    """Nothing that a key has ever signed is trusted."""
    details = {"key": key.fingerprint, "public_key": key.line()}
    return ChangeOfTrust("revoked", {**details, "reason": reason} if reason else details)


def two_person(rule: tuple[NeedsTwo, ...]) -> ChangeOfTrust:
    """These need two people from now on, and nothing else does."""
    return ChangeOfTrust("two_person", {TWO_PERSON: ",".join(rule)})


def about_proposal(action: Literal["consented", "withdrawn"], record: int, sha256: str) -> ChangeOfTrust:
    """Somebody consents to the proposal in a record, or withdraws it."""
    return ChangeOfTrust(action, {PROPOSAL: str(record), PROPOSAL_SHA256: sha256})


def check_form(change: ChangeOfTrust) -> None:
    """Checks that a change which somebody else has put together is in its one form. Raises MalformedDocumentError."""
    details = change.details
    try:
        match change.action:
            case "two_person":
                same = two_person(parse_rule(details[TWO_PERSON]))
            case "consented" | "withdrawn":
                same = about_proposal(change.action, int(details[PROPOSAL]), details[PROPOSAL_SHA256])
            case "added":
                same = added(change.public_key(), details["principal"], change.grant())
            case "changed":
                same = changed(details["key"], change.grant())
            case "retired":
                same = retired(details["key"])
            case _:
                same = revoked(change.public_key(), details.get("reason", ""))
    except KeyError as error:
        raise MalformedDocumentError(f"{_WHAT} lacks its {error.args[0]}") from error
    except ValueError as error:
        raise MalformedDocumentError(f"{_WHAT} names no record") from error
    if change != same:
        raise MalformedDocumentError(f"{_WHAT} is not in its one form")


class TrustRequest(Document, frozen=True):
    """What an administrator signs, so that a vault changes whom it trusts. `head_*`: the last record of the vault's own chain.

    `nonce` is the vault's, of this session. `time` is by the administrator's clock.
    """

    format: Literal["evidencesync-trust-request/1"]
    vault_id: VaultId
    vault_key: Fingerprint
    head_sequence: Annotated[int, msgspec.Meta(ge=1, le=999_999)]
    head_sha256: HexDigest
    nonce: Nonce
    time: UtcTime
    actor: Person
    action: ChangeAction
    details: dict[str, str]

    @property
    def change(self) -> ChangeOfTrust:
        """What is asked for."""
        return ChangeOfTrust(self.action, self.details)


_DECODER: Final = msgspec.json.Decoder(TrustRequest)


class SignedRequest(NamedTuple):
    """A request, its exact bytes, and the armored signature over them."""

    request: TrustRequest
    data: bytes
    signature: bytes

    @classmethod
    def decode(cls, data: bytes, signature: bytes) -> SignedRequest:
        """Reads a request in its strict form; the signature is not verified. Raises MalformedDocumentError."""
        if len(data) > MAX_FREE_TEXT:
            raise MalformedDocumentError(f"{_WHAT} has {len(data)} bytes; the limit is {MAX_FREE_TEXT}")
        request = decode_exactly(_DECODER, data, _WHAT)
        check_texts(request, _WHAT)
        check_utc_time(request.time, _WHAT)
        return cls(request, data, signature)

    @classmethod
    def of(cls, request: TrustRequest, signer: SigningKey) -> SignedRequest:
        """Signs a request. Raises UsageError for one that a record has no room for, SigningKeyError."""
        data = msgspec.json.encode(request)
        if len(data) > MAX_FREE_TEXT:
            raise UsageError(f"the request has {len(data)} bytes; the limit is {MAX_FREE_TEXT}", hint="Give a shorter reason.")
        return cls.decode(data, sign_document(signer, CUSTODY_NAMESPACE, sha512_of(data)))

    @classmethod
    def kept_in(cls, details: Mapping[str, str]) -> SignedRequest | None:
        """The request that a record keeps; None where it says of nobody that they asked. Raises MalformedDocumentError."""
        if not KEPT & details.keys():
            return None
        try:
            blob = base64.b64decode(details[REQUEST_SIGNATURE], validate=True)
            return cls.decode(details[REQUEST].encode(), encode_armor(blob))
        except (KeyError, binascii.Error, ValueError) as error:
            raise MalformedDocumentError("a record says who asked for it, and does not keep the signed request") from error

    def kept(self) -> dict[str, str]:
        """The details with which a record keeps it. Raises SignatureError."""
        signature = base64.b64encode(decode_armor(self.signature)).decode()
        return {ASKED_BY: self.request.actor.principal, REQUEST: self.data.decode(), REQUEST_SIGNATURE: signature}

    def signer(self, *, low_s: bool) -> PublicKey:
        """The key that signed it, trusted or not. Raises SignatureError where that is not the one which it names."""
        key = verify_signature(self.signature, CUSTODY_NAMESPACE, sha512_of(self.data), low_s=low_s)
        actor = self.request.actor
        if key.fingerprint != actor.key or actor.principal == VAULT_PRINCIPAL:
            raise SignatureError(f"{_WHAT} is signed by another key than it names")
        return key

    def reason_not_for(self, record: CustodyRecord, stated: Collection[str], proposed: ChangeOfTrust | None) -> str | None:
        """Why a record is not what was asked for; None where it is. `stated`: details that the vault alone can state.

        It is in the vault and at the place that the request names, and says what the request says; or that it is proposed; or, of
        a consent, what was `proposed`.
        """
        request = self.request
        place = (request.vault_id, request.vault_key, request.head_sequence, request.head_sha256)
        if place != (record.vault_id, record.actor.key, record.sequence - 1, record.previous_sha256):
            return "the request that it keeps was made for another place of a chain"
        said = {name: text for name, text in record.details.items() if name not in stated}
        if said != self._as_recorded(said, proposed):
            return "the request that it keeps asks for something else"
        return None

    def _as_recorded(self, said: Mapping[str, str], proposed: ChangeOfTrust | None) -> dict[str, str]:
        request = self.request
        if said.get("action") == PROPOSED:
            return {"action": PROPOSED, LAPSES: said.get(LAPSES, ""), **self.kept()}
        if request.action == CONSENTED and proposed is not None:
            number = request.details.get(PROPOSAL, "")
            return {"action": proposed.action, **proposed.details, PROPOSAL: number, **self.kept()}
        return {"action": request.action, **request.details, **self.kept()}
