"""Reads and verifies CMS SignedData (RFC 5652) with exactly one signer: the form of a timestamp token (RFC 3161, clause 2.4.2).

The signer's certificate is the one that the signed attributes name by its digest (RFC 2634, RFC 5035), so that no other
certificate with the same key or name can replace it. Whether that certificate is trusted is not checked here.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from evidencesync.custody.der import NULL, OCTETS, OID, SEQUENCE, SET, DerReader, context, der
from evidencesync.errors import TimestampError
from evidencesync.limits import MAX_TIMESTAMP_CERTIFICATES

DIGESTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "2.16.840.1.101.3.4.2.1": "sha256",
        "2.16.840.1.101.3.4.2.2": "sha384",
        "2.16.840.1.101.3.4.2.3": "sha512",
    }
)
"""The accepted digests, by object identifier. SHA-1 and MD5 are refused: they are broken."""

_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = MappingProxyType(
    {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
)
_SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
_CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
_SIGNING_CERTIFICATE: Final = "1.2.840.113549.1.9.16.2.12"  # by SHA-1: only to select the certificate
_SIGNING_CERTIFICATE_V2: Final = "1.2.840.113549.1.9.16.2.47"
_ED25519: Final = "1.3.101.112"
_RSA: Final = "1.2.840.113549.1.1.1"  # without a digest of its own: the signer names it
_WITH_DIGEST: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "1.2.840.113549.1.1.11": ("rsa", "sha256"),
        "1.2.840.113549.1.1.12": ("rsa", "sha384"),
        "1.2.840.113549.1.1.13": ("rsa", "sha512"),
        "1.2.840.10045.4.3.2": ("ecdsa", "sha256"),
        "1.2.840.10045.4.3.3": ("ecdsa", "sha384"),
        "1.2.840.10045.4.3.4": ("ecdsa", "sha512"),
    }
)
_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
_LEAST_RSA: Final = 2048
_WHAT: Final = "the timestamp token"
UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    Warning,  # where warnings are errors: no honest authority issues what is warned of
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises for a malformed certificate; often only when a part is first accessed."""


@dataclass(frozen=True, slots=True)
class SignedContent:
    """The signed content, the signer's certificate, and the other certificates in the token."""

    content: bytes
    certificate: x509.Certificate
    others: tuple[x509.Certificate, ...]


@dataclass(frozen=True, slots=True)
class _Signer:
    identifier: bytes
    digest: str
    attributes: bytes
    algorithm: str
    signature: bytes


def read_signed(token: DerReader, content_type: str) -> SignedContent:
    """Returns the content of a SignedData after its signature was verified. Raises TimestampError.

    1. It is in its one form, holds content of this type and exactly one signer.  2. The signed attributes name the type and
    the digest of that content, each once.  3. They name one of the certificates in it by its digest, and the signer
    identifier does not name another one.  4. The signature over them verifies with that certificate's key.
    """
    if token.oid() != _SIGNED_DATA:
        raise token.refuse("it is no signed data")
    outer = token.enter(context(0))
    token.end()
    data = outer.enter(SEQUENCE)
    outer.end()
    if data.integer() != 3:
        raise data.refuse("it is of another version")
    announced = data.enter(SET)
    digest = read_digest_algorithm(announced)
    announced.end()
    holder = data.enter(SEQUENCE)
    if holder.oid() != content_type:
        raise holder.refuse("what is signed is no timestamp")
    wrapped = holder.enter(context(0))
    content = wrapped.take(OCTETS)
    wrapped.end()
    holder.end()
    certificates = _certificates(data.optional(context(0)) or b"")
    data.optional(context(1))  # revocation lists: not judged
    signers = data.enter(SET)
    data.end()
    signer = _read_signer(signers.enter(SEQUENCE))
    signers.end()  # 1
    if signer.digest != digest:
        raise data.refuse("it announces another digest than its signer uses")
    attributes = _attributes(signer.attributes)
    _check_content(attributes, signer.digest, content, content_type)  # 2
    certificate = _named_certificate(attributes, certificates)  # 3
    _check_identifier(signer.identifier, certificate)  # 3
    _check_signature(certificate, signer)  # 4
    return SignedContent(content, certificate, tuple(one for one in certificates if one != certificate))


def read_digest_algorithm(reader: DerReader) -> str:
    """Reads an AlgorithmIdentifier and returns the digest's name. Raises TimestampError for a digest that is not accepted."""
    algorithm = reader.enter(SEQUENCE)
    oid = algorithm.oid()
    _end_parameters(algorithm)
    name = DIGESTS.get(oid)
    if name is None:
        raise TimestampError(f"the timestamp relies on a digest that is too weak or unknown ({oid})")
    return name


def digest_of(name: str, data: bytes) -> bytes:
    """Returns the digest of `data` by the algorithm with that name."""
    return hashlib.new(name, data).digest()


def _end_parameters(algorithm: DerReader) -> None:
    """Checks that the parameters are NULL or absent."""
    if algorithm.optional(NULL):
        raise algorithm.refuse("an algorithm has parameters that it cannot have")
    algorithm.end()


def _certificates(data: bytes) -> list[x509.Certificate]:
    reader = DerReader(data, _WHAT)
    found: list[x509.Certificate] = []
    while reader.tag is not None:
        if len(found) == MAX_TIMESTAMP_CERTIFICATES:
            raise TimestampError(f"the timestamp brings more than {MAX_TIMESTAMP_CERTIFICATES} certificates")
        if reader.tag != SEQUENCE:
            raise reader.refuse("it brings certificates of a kind that no authority has")
        try:
            certificate = x509.load_der_x509_certificate(reader.take_whole())
            _ = certificate.subject, certificate.issuer, certificate.serial_number  # parsed at the first access: errors come here
        except UNREADABLE as error:
            raise reader.refuse("a certificate in it cannot be read") from error
        found.append(certificate)
    return found


def _read_signer(reader: DerReader) -> _Signer:
    version = reader.integer()
    if version != (1 if reader.tag == SEQUENCE else 3):
        raise reader.refuse("its signer is of another version")
    identifier = reader.take_whole()
    digest = read_digest_algorithm(reader)
    attributes = reader.take(context(0))
    algorithm = reader.enter(SEQUENCE)
    oid = algorithm.oid()
    _end_parameters(algorithm)
    signature = reader.take(OCTETS)
    reader.optional(context(1))  # unsigned attributes are ignored: anybody can add them
    reader.end()
    return _Signer(identifier, digest, attributes, oid, signature)


def _attributes(data: bytes) -> dict[str, bytes]:
    """Returns the attributes by type; each has exactly one value."""
    reader = DerReader(data, _WHAT)
    found: dict[str, bytes] = {}
    while reader.tag is not None:
        attribute = reader.enter(SEQUENCE)
        oid = attribute.oid()
        values = attribute.take(SET)
        attribute.end()
        if oid in found:
            raise reader.refuse("a signed attribute is there twice")
        found[oid] = values
    return found


def _check_content(attributes: dict[str, bytes], digest: str, content: bytes, content_type: str) -> None:
    of_type = DerReader(attributes.get(_CONTENT_TYPE, b""), _WHAT)
    if of_type.tag != OID or of_type.oid() != content_type:
        raise of_type.refuse("its signer does not say that it is a timestamp")
    of_type.end()
    of_digest = DerReader(attributes.get(_MESSAGE_DIGEST, b""), _WHAT)
    stated = of_digest.take(OCTETS)
    of_digest.end()
    if not hmac.compare_digest(stated, digest_of(digest, content)):
        raise TimestampError("the timestamp's content is not what the authority signed")


def _named_certificate(attributes: dict[str, bytes], certificates: list[x509.Certificate]) -> x509.Certificate:
    """Returns the certificate that the first ESSCertID names."""
    v2 = attributes.get(_SIGNING_CERTIFICATE_V2)
    data = v2 if v2 is not None else attributes.get(_SIGNING_CERTIFICATE)
    if data is None:
        raise TimestampError("the timestamp does not name the certificate that it was signed with")
    attribute = DerReader(data, _WHAT)
    named = attribute.enter(SEQUENCE).enter(SEQUENCE).enter(SEQUENCE)
    attribute.end()
    digest = (read_digest_algorithm(named) if named.tag == SEQUENCE else "sha256") if v2 is not None else "sha1"
    wanted = named.take(OCTETS)
    algorithm = hashes.SHA1() if digest == "sha1" else _HASHES[digest]  # noqa: S303  # see _SIGNING_CERTIFICATE
    found = next((one for one in certificates if one.fingerprint(algorithm) == wanted), None)
    if found is None:
        raise TimestampError(
            "the timestamp does not bring the certificate of its authority",
            hint="The request must ask for it (certReq), as `evidencesync timestamp request` does.",
        )
    return found


def _check_identifier(identifier: bytes, certificate: x509.Certificate) -> None:
    """Checks the unsigned signer identifier, which other programs use: issuer and serial number, or a key identifier."""
    reader = DerReader(identifier, _WHAT)
    if reader.tag != SEQUENCE:
        reader.take(context(0, constructed=False))
        return
    names = reader.enter(SEQUENCE)
    issuer, number = names.take_whole(), names.integer()
    names.end()
    if (issuer, number) != (certificate.issuer.public_bytes(), certificate.serial_number):
        raise TimestampError("the timestamp names two certificates as its signer's")


def _check_signature(certificate: x509.Certificate, signer: _Signer) -> None:
    """Verifies the signature over the attributes: encoded as a SET, not with the tag that they are stored with."""
    signed = der(SET, signer.attributes)
    try:
        _verify(certificate, signer, signed)
    except (InvalidSignature, *UNREADABLE) as error:
        raise TimestampError("the timestamp's signature is not that of its authority's certificate") from error


def _verify(certificate: x509.Certificate, signer: _Signer, signed: bytes) -> None:
    key = certificate.public_key()
    family, digest = _WITH_DIGEST.get(signer.algorithm, ("", ""))
    if signer.algorithm == _RSA:
        family, digest = "rsa", signer.digest
    if family == "rsa" and isinstance(key, rsa.RSAPublicKey) and key.key_size >= _LEAST_RSA:
        key.verify(signer.signature, signed, padding.PKCS1v15(), _HASHES[digest])
    elif family == "ecdsa" and isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        key.verify(signer.signature, signed, ec.ECDSA(_HASHES[digest]))
    elif signer.algorithm == _ED25519 and isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signer.signature, signed)
    else:
        raise TimestampError(f"the timestamp is signed in a way that is too weak or unknown ({signer.algorithm})")
