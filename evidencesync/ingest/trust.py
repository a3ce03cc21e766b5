"""Changes whom a vault trusts, for an administrator who asks from afar, and shows what the vault states about itself."""

from __future__ import annotations

from evidencesync.connection.sender_connection import SenderConnection
from evidencesync.custody.documents import CUSTODY_NAMESPACE
from evidencesync.custody.rule_of_two import needs_two
from evidencesync.custody.trust_requests import (
    CONSENTED,
    LAPSES,
    PROPOSAL,
    PROPOSED,
    WITHDRAWN,
    ChangeOfTrust,
    SignedRequest,
    check_form,
)
from evidencesync.custody.two_people import SEE_PROPOSALS, lapse_text
from evidencesync.errors import (
    LinkLostError,
    NotAllowedError,
    NotThereError,
    ProtocolError,
    UntrustedSignerError,
    UsageError,
    VaultKeyChangedError,
)
from evidencesync.ingest.admission import Reader
from evidencesync.ingest.documents import send_own_documents
from evidencesync.ingest.reading import ReadingTerms, next_message
from evidencesync.ingest.rights import Rights
from evidencesync.protocol.failures import error_of
from evidencesync.protocol.messages import Alive, Failure
from evidencesync.protocol.trust_messages import OwnDocumentsAsk, TrustAsk
from evidencesync.vault.heads import record_heads
from evidencesync.vault.ledger import ChainHead, recorded
from evidencesync.vault.trust import AskedFor
from evidencesync.vault.vault import Vault


def serve_trust(connection: SenderConnection, vault: Vault, admin: Reader, terms: ReadingTerms) -> None:
    """Shows the vault's own documents, and makes the one change that the administrator asks for.

    Returns when the administrator has ended the link, or was shown the change. Raises what a change is refused with.
    """
    rights = Rights(vault, admin.key, terms.now)
    while True:
        try:
            message = next_message(connection)
        except LinkLostError:
            return
        match message:
            case OwnDocumentsAsk():
                rights.require_admin()
                record_heads(vault, at_ns=terms.now(), only_new=True)  # what a crash kept from being stated was there before
                send_own_documents(connection, vault)
            case TrustAsk():
                carry_out(vault, admin, message, terms.now())
                terms.events.record("appended")
                send_own_documents(connection, vault)
                return
            case Alive():
                continue
            case Failure():
                raise error_of(message)
            case _:
                raise ProtocolError(f"the message {type(message).__name__} is no question of an administrator")


def carry_out(vault: Vault, admin: Reader, ask: TrustAsk, at_ns: int) -> None:
    """Makes the change that is asked for.

    1. The request is a document in its one form, and so is the change.
    2. It was made for this vault, and for this session: it names the session's nonce.
    3. The key that opened the session signed it, under its own principal, is trusted now, and may administer.
    4. It is no change that would make its own request count for nothing.
    5. The vault's own chain ends with the record that it names: nothing has changed since the administrator looked.
    6. It is recorded with the request. Of a new key, and of one that was revoked, all heads are stated after it.

    Raises MalformedDocumentError (1), ProtocolError (2), SignatureError, UntrustedSignerError, NotAllowedError (3),
    UsageError (4), HeadMovedError (5), and what `TrustStore.apply` raises.
    """
    signed = SignedRequest.decode(ask.request, ask.signature)  # 1
    request, change = signed.request, signed.request.change
    check_form(change)
    if request.vault_key != vault.signer.public_key.fingerprint and request.vault_key in vault.keys.all:
        raise VaultKeyChangedError("the vault's key was changed meanwhile", hint="Run the same command again.")
    own = (vault.settings.id, vault.signer.public_key.fingerprint, admin.nonce)
    if (request.vault_id, request.vault_key, request.nonce) != own:  # 2
        raise ProtocolError("the request to change trust is about another vault or another time")
    if signed.signer(low_s=vault.low_s) != admin.key:  # 3
        raise UntrustedSignerError("the request to change trust is signed by another key than the one that opened the session")
    if request.actor.principal != admin.principal:
        raise UntrustedSignerError("the request to change trust names another signer than the one who opened the session")
    trust = vault.load_trust()
    trust.check_new(admin.principal, admin.key, CUSTODY_NAMESPACE, at_ns)
    trust.check_admin(admin.key, at_ns)
    require_not_own(change, request.actor.key)  # 4
    if _effect(vault, signed, at_ns) in ("added", "revoked"):  # 5, 6
        with recorded(request.head_sequence + 1):
            record_heads(vault, at_ns=at_ns)


def _effect(vault: Vault, signed: SignedRequest, at_ns: int) -> str | None:
    """Makes the change, or the one that is consented to, and returns its action; None where it becomes a proposal, or ends one.

    Raises NotThereError for a proposal that is not open, NotAllowedError for who may not consent to it.
    """
    request, change, proposals = signed.request, signed.request.change, vault.trust.proposals()
    asked = AskedFor(ChainHead(request.head_sequence, request.head_sha256), signed.kept())
    if change.action not in (CONSENTED, WITHDRAWN):
        if not needs_two(proposals.rule, change.action):
            vault.trust.apply(change, at_ns=at_ns, asked=asked)
            return change.action
        vault.trust.check(change)
        vault.trust.note({"action": PROPOSED, LAPSES: lapse_text(at_ns)}, asked, at_ns=at_ns)
        return None
    found = proposals.find(change.details)
    if found is None or at_ns >= found.lapses_ns:
        raise NotThereError(f"record {change.details[PROPOSAL]} is no proposal that is open", hint=SEE_PROPOSALS)
    if change.action == WITHDRAWN:
        vault.trust.note({"action": WITHDRAWN, **change.details}, asked, at_ns=at_ns)
        return None
    if (reason := found.reason_refused(request.actor.principal, request.actor.key, at_ns)) is not None:
        raise NotAllowedError(reason, hint=f"Have another administrator consent to it. {SEE_PROPOSALS}")
    require_not_own(found.change, request.actor.key)
    details = {PROPOSAL: change.details[PROPOSAL], **asked.details}
    vault.trust.apply(found.change, at_ns=at_ns, asked=AskedFor(asked.head, details, consented=True))
    return found.change.action


def require_not_own(change: ChangeOfTrust, key: str) -> None:
    """Raises UsageError where somebody asks to revoke the key with which they sign the request: nothing it signed would count."""
    if change.action == "revoked" and change.key == key:
        raise UsageError(
            "a key cannot ask for its own revocation: nothing that it has signed would count, this request neither",
            hint="Ask another administrator, or have it done on the vault's machine. Until then: evidencesync trust retire",
        )
