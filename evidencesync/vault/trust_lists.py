"""The lists of trust as they lie in a vault, and what each change makes of them: nothing here touches a file."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Final

import msgspec

from evidencesync.custody.documents import (
    CUSTODY_NAMESPACE,
    MANIFEST_NAMESPACE,
    RECEIPT_NAMESPACE,
    SESSION_NAMESPACE,
)
from evidencesync.custody.principals import VAULT_PRINCIPAL, check_principal
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.roles import ROLES_FORMAT, USUAL, Roles, decode_roles, encode_roles
from evidencesync.custody.rule_of_two import NeedsTwo
from evidencesync.custody.trust import (
    SEE_SIGNERS,
    RevokedKeys,
    TrustedSigner,
    TrustedSigners,
    TrustLists,
    signer_line,
)
from evidencesync.errors import NotThereError, UntrustedSignerError, UsageError
from evidencesync.evidence.digest import sha256_of
from evidencesync.evidence.display import safe_text
from evidencesync.vault.layout import REVOKED_KEYS, ROLES, TRUSTED_SIGNERS
from evidencesync.vault.trust_drafts import STATED_DIGESTS

_SECOND: Final = 1_000_000_000
VAULT_NAMESPACES: Final = (RECEIPT_NAMESPACE, CUSTODY_NAMESPACE)
EXAMINER_NAMESPACES: Final = (SESSION_NAMESPACE, MANIFEST_NAMESPACE, CUSTODY_NAMESPACE)


class TrustFiles(msgspec.Struct, frozen=True):
    """The exact bytes of all lists. `roles` is None in a vault that states none."""

    trusted_signers: bytes
    revoked_keys: bytes
    roles: bytes | None = None

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> TrustFiles:
        """Makes them of what `by_name` returns."""
        return cls(files[TRUSTED_SIGNERS], files[REVOKED_KEYS], files.get(ROLES))

    def by_name(self) -> dict[str, bytes]:
        """Returns the bytes by file name."""
        lists = {TRUSTED_SIGNERS: self.trusted_signers, REVOKED_KEYS: self.revoked_keys}
        return lists if self.roles is None else {**lists, ROLES: self.roles}

    def digests(self) -> dict[str, str]:
        """Returns the details that a record states about them."""
        return {STATED_DIGESTS[name]: sha256_of(data).hex() for name, data in self.by_name().items()}

    def rule(self) -> tuple[NeedsTwo, ...]:
        """Returns what needs two people. Raises as `parse` does."""
        roles = self.parse().roles
        return (roles.two_person or ()) if roles is not None else ()

    def parse(self) -> TrustLists:
        """Parses all lists. Raises TrustFileError, and MalformedDocumentError for roles."""
        roles = None if self.roles is None else decode_roles(self.roles)
        return TrustLists(TrustedSigners.parse(self.trusted_signers), RevokedKeys.parse(self.revoked_keys), roles)


def first_trust_files(vault_id: str, vault_key: PublicKey, examiners: list[tuple[PublicKey, str]]) -> TrustFiles:
    """Returns the lists of a new vault: its own key first, then its examiners; no key is revoked, and all may do the usual."""
    signers = (signer_line(VAULT_PRINCIPAL, vault_key, VAULT_NAMESPACES) + "\n").encode()
    files = TrustFiles(signers, b"", encode_roles(Roles(ROLES_FORMAT, vault_id, USUAL, {})))
    for key, principal in examiners:
        files = with_signer(files, key, principal, None)
    return files


def administrators(trust: TrustLists, at_ns: int) -> set[str]:
    """Returns the principals who may change trust from afar."""
    found = set()
    for signer in trust.signers.signers:
        with contextlib.suppress(UntrustedSignerError):
            trust.check_admin(signer.key, at_ns)
            found.add(trust.principal_for(signer.key, CUSTODY_NAMESPACE, at_ns))
    return found


def with_signer(files: TrustFiles, key: PublicKey, principal: str, valid_after_ns: int | None) -> TrustFiles:
    """Trusts an examiner's key. Raises UsageError, InvalidNameError, TrustFileError."""
    trust = files.parse()
    check_principal(principal)
    if trust.revoked.refuses(key):
        raise UsageError(f"the key {key.fingerprint} was revoked", hint="A revoked key cannot be trusted again.")
    for signer in trust.signers.signers:
        if signer.key == key and (signer.valid_before is None or principal not in signer.principals):
            known = safe_text(", ".join(signer.principals), 80)
            hint = "One key has one name, and keeps it. What it may do is altered by: evidencesync trust change"
            raise UsageError(f"the key {key.fingerprint} is known already, as {known}", hint=hint)
    line = signer_line(principal, key, EXAMINER_NAMESPACES, valid_after_ns)
    return msgspec.structs.replace(files, trusted_signers=files.trusted_signers + line.encode() + b"\n")


def with_retired(files: TrustFiles, key: PublicKey, at_ns: int) -> TrustFiles:
    """Ends the trust in a key now. An end that lies ahead was set by a clock that was fast: it is moved to now.

    Raises NotThereError, UsageError.
    """
    require_not_revoked(files, key)
    lines = []
    retired = False
    for line in files.trusted_signers.split(b"\n"):
        signers = TrustedSigners.parse(line).signers
        if signers and signers[0].key == key and _is_open(signers[0], at_ns // _SECOND):
            retired = True
            lines.append(_retired_line(signers[0], at_ns).encode())
        else:
            lines.append(line)
    if not retired:
        raise NotThereError(f"the key {key.fingerprint} is not trusted now", hint=SEE_SIGNERS)
    return msgspec.structs.replace(files, trusted_signers=b"\n".join(lines))


def _is_open(signer: TrustedSigner, at: int) -> bool:
    """Whether a key was never retired, or its end lies ahead and can be moved to now, or nearer to now."""
    return signer.valid_before is None or _end(signer, at) < signer.valid_before


def _end(signer: TrustedSigner, at: int) -> int:
    """Returns when the time of a key ends that is retired at `at`: then, or a second after its beginning, which may lie ahead.

    A fast clock has set that beginning, and an interval may not be empty.
    """
    return at if signer.valid_after is None else max(at, signer.valid_after + 1)


def _retired_line(signer: TrustedSigner, at_ns: int) -> str:
    valid_after_ns = None if signer.valid_after is None else signer.valid_after * _SECOND
    ends_ns = _end(signer, at_ns // _SECOND) * _SECOND
    return signer_line(signer.principals[0], signer.key, signer.namespaces or (), valid_after_ns, ends_ns)


def require_not_revoked(files: TrustFiles, key: PublicKey) -> None:
    """Raises UsageError for a key of which nothing is trusted any more."""
    if files.parse().revoked.refuses(key):
        raise UsageError(f"the key {key.fingerprint} was revoked already", hint="Nothing that it signed is trusted any more.")


def with_revoked(files: TrustFiles, key: PublicKey) -> TrustFiles:
    """Accepts nothing that a key has ever signed. Raises UsageError for one that was revoked already."""
    require_not_revoked(files, key)
    return msgspec.structs.replace(files, revoked_keys=files.revoked_keys + key.line().encode() + b"\n")
