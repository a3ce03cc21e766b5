"""A time-stamping authority of our own: a root, a certificate, and answers, honest (by `openssl ts`) or not (made here)."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from evidencesync.custody.der import (
    GENERALIZED_TIME,
    NULL,
    OCTETS,
    OID,
    SEQUENCE,
    SET,
    context,
    der,
    der_integer,
    der_oid,
)

DAY = timedelta(days=1)
FIRST = datetime(2020, 1, 1, tzinfo=UTC)
LAST = datetime(2039, 1, 1, tzinfo=UTC)
POLICY = "1.3.6.1.4.1.99999.1"
DIGEST_OIDS = {
    "md5": "1.2.840.113549.2.5",
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
TST_INFO = "1.2.840.113549.1.9.16.1.4"
STAMPING = (ExtendedKeyUsageOID.TIME_STAMPING,)
_SIGNED_DATA = "1.2.840.113549.1.7.2"
_CONFIG = f"""
[tsa]
default_tsa = mine
[mine]
serial = %(folder)s/serial
default_policy = {POLICY}
digests = sha256, sha384, sha512
signer_digest = %(digest)s
accuracy = secs:1, millisecs:500
ordering = yes
tsa_name = yes
ess_cert_id_alg = %(ess)s
"""


@dataclass(frozen=True)
class Authority:
    """Whoever is asked. `chain` leads from its certificate to the root, both left out."""

    root: x509.Certificate
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def root_pem(self) -> bytes:
        """The file that somebody who trusts this authority has."""
        return self.root.public_bytes(Encoding.PEM)

    def answer(
        self, folder: Path, request: bytes, *, digest: str = "sha256", ess: str = "sha256", with_root: bool = False
    ) -> bytes:
        """What `openssl ts` answers to a request, now."""
        (folder / "tsa.cnf").write_text(_CONFIG % {"folder": folder, "digest": digest, "ess": ess})
        (folder / "serial").write_text("1A2B3C\n")
        (folder / "tsa.pem").write_bytes(self.certificate.public_bytes(Encoding.PEM))
        (folder / "tsa.key").write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        others = [*self.chain, *([self.root] if with_root else [])]
        (folder / "chain.pem").write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in others))
        (folder / "asked.tsq").write_bytes(request)
        chain: list[str | Path] = ["-chain", folder / "chain.pem"] if others else []
        program: list[str | Path] = ["openssl", "ts", "-reply", "-config", folder / "tsa.cnf", "-queryfile", folder / "asked.tsq"]
        program += ["-signer", folder / "tsa.pem", "-inkey", folder / "tsa.key", *chain, "-out", folder / "answer.tsr"]
        subprocess.run(program, check=True, capture_output=True)
        return (folder / "answer.tsr").read_bytes()

    def forge(  # whatever a test wants to be otherwise
        self,
        stamped: bytes,
        at_ns: int,
        *,
        imprint: str = "sha512",
        digest: str = "sha256",
        nonce: int | None = None,
        status: int = 0,
        signers: int = 1,
        tokens: int = 1,
        accuracy: bytes = b"",
        extensions: bytes = b"",
        content_type: str = TST_INFO,
        signed_type: str = TST_INFO,
        certificates: Sequence[x509.Certificate] | None = None,
        named: x509.Certificate | None = None,
        twice: bool = False,
        spoil_digest: bool = False,
        by_key: bool = False,
        version: int | None = None,
    ) -> bytes:
        """An answer made here: over any bytes, of any time, and with any one thing wrong."""
        info = self._info(stamped, at_ns, imprint, nonce, accuracy, extensions)
        attributes = self._attributes(info + (b"x" if spoil_digest else b""), digest, signed_type, named or self.certificate)
        if twice:
            attributes += attributes[:1]
        body = b"".join(sorted(attributes))
        assert isinstance(self.key, ec.EllipticCurvePrivateKey)
        signature = self.key.sign(der(SET, body), ec.ECDSA(hashes.SHA256()))
        issuer = der(SEQUENCE, self.certificate.issuer.public_bytes(), der_integer(self.certificate.serial_number))
        who = der(context(0, constructed=False), b"key") if by_key else issuer
        number = der_integer((3 if by_key else 1) if version is None else version)
        algorithm = der(SEQUENCE, der_oid("1.2.840.10045.4.3.2"))
        signer = der(SEQUENCE, number, who, _digest(digest), der(context(0), body), algorithm, der(OCTETS, signature))
        brought = [self.certificate, *self.chain] if certificates is None else certificates
        data = der(
            SEQUENCE,
            der_integer(3),
            der(SET, _digest(digest)),
            der(SEQUENCE, der_oid(content_type), der(context(0), der(OCTETS, info))),
            der(context(0), *(one.public_bytes(Encoding.DER) for one in brought)),
            der(SET, *[signer] * signers),
        )
        token = der(SEQUENCE, der_oid(_SIGNED_DATA), der(context(0), data))
        return der(SEQUENCE, der(SEQUENCE, der_integer(status)), *[token] * tokens)

    def _info(self, stamped: bytes, at_ns: int, imprint: str, nonce: int | None, accuracy: bytes, extensions: bytes) -> bytes:
        hashed = hashlib.new(imprint, stamped).digest()
        at = datetime.fromtimestamp(at_ns // 10**9, UTC).strftime("%Y%m%d%H%M%S").encode() + b"Z"
        parts = [der_integer(1), der_oid(POLICY), der(SEQUENCE, _digest(imprint), der(OCTETS, hashed)), der_integer(77)]
        parts += [der(GENERALIZED_TIME, at), accuracy, b"" if nonce is None else der_integer(nonce), extensions]
        return der(SEQUENCE, *parts)

    def _attributes(self, info: bytes, digest: str, signed_type: str, named: x509.Certificate) -> list[bytes]:
        wanted = der(OCTETS, named.fingerprint(hashes.SHA256()))
        return [
            _attribute("1.2.840.113549.1.9.3", der_oid(signed_type)),
            _attribute("1.2.840.113549.1.9.4", der(OCTETS, hashlib.new(digest, info).digest())),
            _attribute("1.2.840.113549.1.9.16.2.47", der(SEQUENCE, der(SEQUENCE, der(SEQUENCE, wanted)))),
        ]


def make_authority(  # whatever a test wants to be otherwise
    name: str = "Clock",
    *,
    first: datetime = FIRST,
    last: datetime = LAST,
    purposes: Sequence[ObjectIdentifier] | None = STAMPING,
    critical: bool = True,
    may_sign: bool = True,
    intermediate: bool = False,
    issuer_is_ca: bool = True,
    rsa_bits: int | None = None,
) -> Authority:
    """A new authority with a root of its own."""
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _certificate(f"{name} root", f"{name} root", root_key, root_key, FIRST - DAY, LAST + DAY, ca=True)
    issuer, issuer_key = f"{name} root", root_key
    chain: tuple[x509.Certificate, ...] = ()
    if intermediate:
        middle_key = ec.generate_private_key(ec.SECP256R1())
        middle = _certificate(f"{name} middle", issuer, middle_key, root_key, FIRST, LAST, ca=issuer_is_ca)
        issuer, issuer_key, chain = f"{name} middle", middle_key, (middle,)
    leaf_key = key if rsa_bits is None else rsa.generate_private_key(65537, rsa_bits)
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.KeyUsage(may_sign, False, not may_sign, False, False, False, False, False, False), True)  # noqa: FBT003
    ]
    if purposes is not None:
        extensions.append((x509.ExtendedKeyUsage(list(purposes)), critical))
    certificate = _certificate(f"{name} authority", issuer, leaf_key, issuer_key, first, last, ca=False, extensions=extensions)
    return Authority(root, certificate, leaf_key, chain)


def _certificate(
    subject: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    first: datetime,
    last: datetime,
    *,
    ca: bool,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> x509.Certificate:
    builder = x509.CertificateBuilder(
        issuer_name=_name(issuer),
        subject_name=_name(subject),
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=first,
        not_valid_after=last,
    ).add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _digest(name: str) -> bytes:
    return der(SEQUENCE, der(OID, der_oid(DIGEST_OIDS[name])[2:]), der(NULL))


def _attribute(oid: str, value: bytes) -> bytes:
    return der(SEQUENCE, der_oid(oid), der(SET, value))
