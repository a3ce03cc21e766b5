"""Who may sign, and what each key may do: the lists on which a verdict rests, and what the vault's own chain tells of them."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha512
from typing import TYPE_CHECKING, Final, Literal

from evidencesync.custody.documents import CUSTODY_NAMESPACE
from evidencesync.custody.principals import VAULT_PRINCIPAL
from evidencesync.custody.record import ABOUT_TRUST
from evidencesync.custody.roles import Roles
from evidencesync.custody.sshsig import verify_signature
from evidencesync.custody.trust import RevokedKeys, TrustedSigner, TrustedSigners
from evidencesync.custody.vault_keys import KEY_CHANGED
from evidencesync.errors import EvidenceSyncError, SignatureError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.report.document import Signer, Trust, TrustAction, TrustStep

if TYPE_CHECKING:
    from evidencesync.vault.ledger import StoredRecord
    from evidencesync.vault.vault import Vault

_ACTIONS: Final[Mapping[str, TrustAction]] = {"added": "added", "changed": "changed", "retired": "retired", "revoked": "revoked"}


def trust_of(vault: Vault, source: Literal["vault", "outside"], trusted: bytes | None) -> Trust:
    """Who may sign, by the vault's own lists or by one from outside; and what each key may do, by the vault's word."""
    if source == "outside" and trusted is None:
        lacks = "the verdict rests on a list from outside the vault, which was not handed in for this report"
        return Trust(source, [], lacks, None)
    try:
        lists = None if trusted is not None else vault.load_trust()
        signers = TrustedSigners.parse(trusted) if trusted is not None else vault.load_trust().signers
    except EvidenceSyncError as error:
        return Trust(source, [], error.message, None)
    revoked = RevokedKeys(frozenset()) if lists is None else lists.revoked
    roles, steps, problem = _told(vault)
    found = [_signer(one, revoked.refuses(one.key), roles, steps.get(one.key.fingerprint, steps[""])) for one in signers.signers]
    return Trust(source, found, None, problem)


def _signer(signer: TrustedSigner, is_revoked: bool, roles: Roles | None, steps: list[TrustStep]) -> Signer:
    key = signer.key.fingerprint
    is_vault = VAULT_PRINCIPAL in signer.principals  # its keys sign receipts and the vault's records, and have no role
    grant = roles.of(key) if roles is not None and not is_vault and roles.tells_of(key) else None
    return Signer(
        principals=[safe_text(name) for name in signer.principals],
        key=key,
        algorithm=signer.key.algorithm,
        namespaces=[safe_text(name) for name in signer.namespaces or ()],
        valid_after=_utc_time(signer.valid_after),
        valid_before=_utc_time(signer.valid_before),
        revoked=is_revoked,
        may=None if grant is None else [*grant.may],
        cases=None if grant is None or grant.cases is None else [safe_text(case) for case in grant.cases],
        until=None if grant is None else grant.until,
        changes=steps,
    )


def _told(vault: Vault) -> tuple[Roles | None, dict[str, list[TrustStep]], str | None]:
    """Returns the roles of now, and the changes of trust by key; under "" that the vault was made, for keys nobody has added.

    Also why not all of that can be told, if so. Only what the vault's key has signed counts.
    """
    steps: dict[str, list[TrustStep]] = {"": []}
    try:
        roles, keys = vault.load_trust().roles, vault.keys
        for file in vault.ledger.files():
            if file.kind in ABOUT_TRUST:
                stored = vault.ledger.load(file)
                _require_by_vault(stored, keys.at(file.sequence))
                record, details = stored.record, stored.record.details
                if record.type == "made":
                    steps[""].append(TrustStep(record.sequence, record.time, "made"))
                elif record.type == KEY_CHANGED:
                    before = steps.setdefault(keys.at(file.sequence), [*steps[""]])
                    before.append(TrustStep(record.sequence, record.time, "key-ended"))
                    steps[details["key"]] = [TrustStep(record.sequence, record.time, "key-begun")]
                elif (action := _ACTIONS.get(details.get("action", ""))) is not None:
                    known = steps.setdefault(details.get("key", ""), [] if action == "added" else [*steps[""]])
                    known.append(TrustStep(record.sequence, record.time, action))
    except EvidenceSyncError as error:
        return None, {"": []}, error.message
    return roles, steps, None


def _require_by_vault(stored: StoredRecord, vault_key: str) -> None:
    key = verify_signature(stored.signature, CUSTODY_NAMESPACE, sha512(stored.data).digest())
    if key.fingerprint != vault_key:
        raise SignatureError(f"record {stored.record.sequence} of the vault's own chain is not signed by the vault")


def _utc_time(seconds: int | None) -> str | None:
    return None if seconds is None else format_utc_time(seconds * 1_000_000_000)
