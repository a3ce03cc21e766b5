"""Roots: the authorities that somebody trusts for time, and whether a token's certificate leads to one of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store, VerificationError

from evidencesync.custody.cms import UNREADABLE
from evidencesync.custody.timestamp import Token
from evidencesync.errors import TimestampError, TrustFileError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.utc_time import format_moment
from evidencesync.limits import MAX_TIMESTAMP_ROOTS

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Roots:
    """Certificates that are trusted because they were given, and for no other reason."""

    certificates: tuple[x509.Certificate, ...]

    @classmethod
    def parse(cls, data: bytes, shown: str) -> Roots:
        """All certificates of a PEM file, called `shown` in errors. Raises TrustFileError."""
        try:
            found = x509.load_pem_x509_certificates(data)
        except UNREADABLE as error:
            raise TrustFileError(f"{shown} holds no certificates in PEM form, or one that is damaged") from error
        if len(found) > MAX_TIMESTAMP_ROOTS:
            raise TrustFileError(f"{shown} holds more than {MAX_TIMESTAMP_ROOTS} certificates")
        return cls(tuple(found))

    def __add__(self, other: Roots) -> Roots:
        return Roots(self.certificates + other.certificates)

    def check(self, token: Token) -> None:
        """Raises TimestampError unless the token's certificate leads to a root, at the token's own time.

        Every certificate on the way was valid then, may issue the next one, and is signed with an algorithm that counts.
        What the token brings along is only ever used on the way. Whether a certificate was revoked is not asked.
        """
        at = _EPOCH + timedelta(seconds=token.gen_time_ns // 1_000_000_000)
        issuers = ExtensionPolicy.permit_all()
        issuers = issuers.require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _may_issue)
        issuers = issuers.may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign_certificates)
        builder = PolicyBuilder().store(Store(list(self.certificates))).time(at)
        builder = builder.extension_policies(ca_policy=issuers, ee_policy=ExtensionPolicy.permit_all())
        try:
            builder.build_client_verifier().verify(token.certificate, list(token.others))
        except (VerificationError, *UNREADABLE) as error:
            why = str(error).removeprefix("validation failed: ").partition(" (encountered")[0]
            why = "there is no valid way to any of them" if why.startswith("candidates exhausted") else safe_text(why, 200)
            raise TimestampError(
                f"the authority {token.authority} does not lead to a given root at {format_moment(token.gen_time_ns)}: {why}",
                hint="Give the root certificate of the authority that you trust.",
            ) from error


def _may_issue(_policy: Policy, _certificate: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("a certificate on the way may not issue others")


def _may_sign_certificates(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("a key on the way may not sign certificates")
