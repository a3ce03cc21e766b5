"""Encodes timestamp requests and checks tokens (RFC 3161) against trusted root certificates.

A token states that certain bytes existed at a time. Here these are the bytes of `manifest.jsonl.sig`: so it proves the latest
time of the examiner's signature, independent of any clock of ours.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store, VerificationError

from evidencesync.custody.cms import DIGESTS, UNREADABLE, digest_of, read_digest_algorithm, read_signed
from evidencesync.custody.der import (
    BIT_STRING,
    BOOLEAN,
    GENERALIZED_TIME,
    INTEGER,
    NULL,
    OCTETS,
    OID,
    SEQUENCE,
    DerReader,
    context,
    der,
    der_integer,
    der_oid,
)
from evidencesync.errors import TimestampError, TrustFileError
from evidencesync.evidence.digest import sha256_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.utc_time import format_utc_time, parse_utc_time, shown_time
from evidencesync.limits import MAX_TIMESTAMP, MAX_TIMESTAMP_ROOTS, MAX_TITLE

ImprintDigest = Literal["sha256", "sha512"]

_TST_INFO: Final = "1.2.840.113549.1.9.16.1.4"
_OIDS: Final = {name: oid for oid, name in DIGESTS.items()}
_GRANTED: Final = (0, 1)  # granted, or granted with changes: everything that matters is checked below
_STATUS: Final = {2: "rejected", 3: "waiting", 4: "a revocation is imminent", 5: "revoked"}
_TIME: Final = re.compile(rb"([0-9]{14})(?:\.([0-9]{0,8}[1-9]))?Z")
_WHAT: Final = "the timestamp token"
_REQUEST: Final = "the timestamp request"
_NANOSECONDS: Final = 1_000_000_000
_LAST_NS: Final = parse_utc_time("9999-12-31T23:59:59.999999Z")


@dataclass(frozen=True, slots=True)
class Request:
    """A request to an authority: a digest, and a nonce that its answer must repeat."""

    digest: str
    imprint: bytes
    nonce: int | None
    policy: str | None = None

    @classmethod
    def over(cls, stamped: bytes, digest: ImprintDigest, nonce: int) -> Request:
        """Makes a request for these bytes. `nonce` is a random number that is not negative."""
        return cls(digest, digest_of(digest, stamped), nonce)

    def encode(self) -> bytes:
        """Returns the bytes to send. They ask for the authority's certificate, which is needed to check the token later."""
        algorithm = der(SEQUENCE, der_oid(_OIDS[self.digest]), der(NULL))
        parts = [der_integer(1), der(SEQUENCE, algorithm, der(OCTETS, self.imprint))]
        parts += [] if self.policy is None else [der_oid(self.policy)]
        parts += [] if self.nonce is None else [der_integer(self.nonce)]
        return der(SEQUENCE, *parts, der(BOOLEAN, b"\xff"))

    @classmethod
    def decode(cls, data: bytes) -> Request:
        """Decodes a request of this or another program. Raises TimestampError."""
        body = _open(data, _REQUEST)
        if body.integer() != 1:
            raise body.refuse("it is of another version")
        digest, imprint = _read_imprint(body)
        policy = body.oid() if body.tag == OID else None
        nonce = body.integer() if body.tag == INTEGER else None
        body.flag(default=False)
        body.end()
        return cls(digest, imprint, nonce, policy)


@dataclass(frozen=True, slots=True)
class Token:
    """The statement of an authority, after its signature was verified. Whether the authority is trusted: see `Roots`.

    `gen_time_ns` is in nanoseconds since the epoch, `accuracy_ns` the deviation that the authority states, if any.
    """

    gen_time_ns: int
    accuracy_ns: int | None
    policy: str
    serial: int
    digest: str
    imprint: bytes
    nonce: int | None
    certificate: x509.Certificate
    others: tuple[x509.Certificate, ...]

    @property
    def authority(self) -> str:
        """The name in the authority's certificate, safe to display and to write into a record."""
        return safe_text(self.certificate.subject.rfc4514_string(), MAX_TITLE)

    @property
    def latest_ns(self) -> int:
        """The latest time at which the token can have been made: its own time, and as much as its clock may be slow."""
        return min(self.gen_time_ns + (self.accuracy_ns or 0), max(self.gen_time_ns, _LAST_NS))

    @classmethod
    def decode(cls, response: bytes) -> Token:
        """Decodes an authority's whole answer. Raises TimestampError.

        1. It is strict DER, within the size limit, and granted.  2. It holds a token signed by one authority, with its
        certificate, and the signature verifies.  3. That certificate is for timestamps and nothing else.  4. The signed
        content states a time, and has no critical extension.
        """
        try:
            body = _open(response, "the timestamp response")
            status = body.enter(SEQUENCE)
        except TimestampError as error:  # a request, the page of a web server, any other file
            hint = "RESPONSE is the file into which the authority's answer was written, as by: curl -o ANSWER.tsr"
            raise TimestampError(f"this is no authority's answer (.tsr, RFC 3161): {error.message}", hint=hint) from error
        _check_status(status)  # 1
        signed = read_signed(body.enter(SEQUENCE), _TST_INFO)  # 2
        body.end()
        _check_purpose(signed.certificate)  # 3
        return _read_info(signed.content, signed.certificate, signed.others)  # 4

    def check_stamped(self, stamped: bytes) -> None:
        """Raises TimestampError unless the token is over these very bytes."""
        if not hmac.compare_digest(self.imprint, digest_of(self.digest, stamped)):
            raise TimestampError("the timestamp is over other bytes than this manifest's signature")

    def check_answers(self, request: Request) -> None:
        """Raises TimestampError unless the token answers this very request."""
        if (self.digest, self.imprint) != (request.digest, request.imprint):
            raise TimestampError("the timestamp is over another digest than the one that was sent")
        if self.nonce != request.nonce:
            raise TimestampError("the timestamp answers another request: its nonce is not the one that was sent")
        if request.policy not in (None, self.policy):
            raise TimestampError("the timestamp was made under another policy than the one that was asked for")


def timestamp_details(token: Token, response: bytes, request: bytes | None) -> dict[str, str]:
    """Returns the details of a `timestamped` record for a token. Digests of files are SHA-256 of their exact bytes."""
    details = {
        "token_sha256": sha256_of(response).hex(),
        "gen_time": format_utc_time(token.gen_time_ns),
        "policy": token.policy,
        "serial": str(token.serial),
        "authority": token.authority,
        "imprint": f"{token.digest}:{token.imprint.hex()}",
    }
    return details if request is None else details | {"request_sha256": sha256_of(request).hex()}


def _open(data: bytes, what: str) -> DerReader:
    if len(data) > MAX_TIMESTAMP:
        raise TimestampError(f"{what} is longer than {MAX_TIMESTAMP} bytes")
    outer = DerReader(data, what)
    body = outer.enter(SEQUENCE)
    outer.end()
    return body


def _check_status(status: DerReader) -> None:
    code = status.integer()
    if code not in _GRANTED:
        raise TimestampError(f"the authority did not grant the timestamp: {_STATUS.get(code, f'status {code}')}")
    status.optional(SEQUENCE)  # free text for people
    status.optional(BIT_STRING)
    status.end()


def _check_purpose(certificate: x509.Certificate) -> None:
    """Checks the certificate as RFC 3161, clause 2.3 asks: one purpose, marked critical; and a key that may sign."""
    try:
        extensions = certificate.extensions
        purpose = extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except (x509.ExtensionNotFound, *UNREADABLE) as error:
        raise TimestampError("the authority's certificate does not say that it is for timestamps") from error
    if not purpose.critical or list(purpose.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        raise TimestampError("the authority's certificate is not for timestamps alone, or does not insist on it")
    for usage in (one.value for one in extensions if isinstance(one.value, x509.KeyUsage)):
        if not (usage.digital_signature or usage.content_commitment):
            raise TimestampError("the authority's key may not sign, as its certificate says")


def _read_imprint(reader: DerReader) -> tuple[str, bytes]:
    pair = reader.enter(SEQUENCE)
    digest = read_digest_algorithm(pair)
    imprint = pair.take(OCTETS)
    pair.end()
    if len(imprint) != len(digest_of(digest, b"")):
        raise pair.refuse("a digest has another length than its kind")
    return digest, imprint


def _read_info(content: bytes, certificate: x509.Certificate, others: tuple[x509.Certificate, ...]) -> Token:
    info = _open(content, _WHAT)
    if info.integer() != 1:
        raise info.refuse("it is of another version")
    policy = info.oid()
    digest, imprint = _read_imprint(info)
    serial = info.integer()
    at = _parse_time(info, info.take(GENERALIZED_TIME))
    accuracy = _read_accuracy(info.enter(SEQUENCE)) if info.tag == SEQUENCE else None
    info.flag(default=False)  # `ordering`: not used here
    nonce = info.integer() if info.tag == INTEGER else None
    info.optional(context(0))  # the authority's name: that of its certificate is used
    _check_extensions(info.optional(context(1)) or b"")
    info.end()
    return Token(at, accuracy, policy, serial, digest, imprint, nonce, certificate, others)


def _parse_time(info: DerReader, text: bytes) -> int:
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError("not a time")
        whole = datetime.strptime(match[1].decode("ascii"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        seconds = parse_utc_time(whole.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    except ValueError as error:
        raise info.refuse("its time is not a time") from error
    if seconds < 0:
        raise info.refuse("its time is before 1970")
    return seconds + int((match[2] or b"").ljust(9, b"0"))


def _read_accuracy(reader: DerReader) -> int:
    seconds = reader.integer() if reader.tag == INTEGER else 0
    parts = [seconds]
    for number in (0, 1):  # milliseconds, microseconds
        data = reader.optional(context(number, constructed=False))
        parts.append(0 if data is None else reader.to_integer(data))
    reader.end()
    if min(parts) < 0 or max(parts[1:]) > 999:
        raise reader.refuse("its accuracy is impossible")
    return parts[0] * _NANOSECONDS + parts[1] * 1_000_000 + parts[2] * 1000


def _check_extensions(data: bytes) -> None:
    reader = DerReader(data, _WHAT)
    while reader.tag is not None:
        extension = reader.enter(SEQUENCE)
        oid = extension.oid()
        if extension.flag(default=False):
            raise TimestampError(f"the timestamp has an extension that must be understood, and is not ({oid})")
        extension.take(OCTETS)
        extension.end()


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Roots:
    """Root certificates: trusted because the user gave them, and for no other reason."""

    certificates: tuple[x509.Certificate, ...]

    @classmethod
    def parse(cls, data: bytes, shown: str) -> Roots:
        """Parses all certificates of a PEM file, named `shown` in errors. Raises TrustFileError."""
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
        """Raises TimestampError unless a certificate path leads from the token to a root, at the token's own time.

        Every certificate of the path was valid at that time, may issue the next one, and is signed with an accepted algorithm.
        Certificates in the token are only used as intermediates. Revocation is not checked.
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
                f"the authority {token.authority} does not lead to a given root at {shown_time(token.gen_time_ns)}: {why}",
                hint="Give the root certificate of the authority that you trust.",
            ) from error


def _may_issue(_policy: Policy, _certificate: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("a certificate on the way may not issue others")


def _may_sign_certificates(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("a key on the way may not sign certificates")
