"""Parses SSH public keys, strictly, and verifies signatures with them: Ed25519, ECDSA, RSA, and FIDO keys of the first two.

Sources: RFC 8709 (Ed25519), RFC 5656 (ECDSA), RFC 8332 (RSA with SHA-2), OpenSSH's PROTOCOL.u2f (FIDO keys).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Final

import msgspec
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from evidencesync.custody.wire import WireError, WireReader, write_mpint, write_string
from evidencesync.errors import SignatureError
from evidencesync.evidence.display import safe_text
from evidencesync.limits import MAX_PUBLIC_KEY

ED25519: Final = "ssh-ed25519"
SK_ED25519: Final = "sk-ssh-ed25519@openssh.com"
RSA: Final = "ssh-rsa"
ECDSA_PREFIX: Final = "ecdsa-sha2-"
MIN_RSA_BITS: Final = 3072
MAX_RSA_BITS: Final = 16384  # the largest that OpenSSL computes with
MAX_RSA_EXPONENT_BITS: Final = 64  # likewise, for moduli above 3072 bits
USER_PRESENT: Final = 0x01  # CTAP flag: the user touched the authenticator

_SIGNED_WITH: Final[dict[str, type[hashes.HashAlgorithm]]] = {"rsa-sha2-256": hashes.SHA256, "rsa-sha2-512": hashes.SHA512}
_Check = Callable[[str, WireReader, bytes], None]


class InvalidPublicKeyError(SignatureError):
    """Not a public key, or not one of a kind and size that may sign here."""

    slug = "invalid-public-key"
    default_hint = (
        "Usable are Ed25519 (also on a FIDO token), ECDSA P-256/384/521, and RSA of 3072 bits or more. "
        "A new one is made by: ssh-keygen -t ed25519"
    )


class PublicKey(msgspec.Struct, frozen=True):
    """One public key: its algorithm and its exact blob; keys are compared by blob. Raises InvalidPublicKeyError.

    The blob of a FIDO key contains the application string, so that is a part of the key.
    """

    algorithm: str
    blob: bytes

    def __post_init__(self) -> None:
        self._read()

    @classmethod
    def from_blob(cls, blob: bytes) -> PublicKey:
        """Parses a key blob, as in signatures and agent replies."""
        try:
            algorithm = WireReader(blob).text()
        except WireError as error:
            raise InvalidPublicKeyError(f"not a public key: {error.message}") from error
        return cls(algorithm, blob)

    @classmethod
    def from_line(cls, line: str | bytes) -> PublicKey:
        """Parses a line `ALGORITHM BASE64 [COMMENT]`, as in a .pub file."""
        try:
            text = line.decode("utf-8") if isinstance(line, bytes) else line
        except UnicodeDecodeError as error:
            raise InvalidPublicKeyError("a public key line is not UTF-8") from error
        words = text.strip().split(maxsplit=2)
        if not words:
            raise InvalidPublicKeyError("there is no public key: it is empty")
        if len(words) < 2 or "\n" in text.strip():
            raise InvalidPublicKeyError(f"not a public key line: {safe_text(text, 60)}")
        return cls(words[0], decode_base64(words[1]))

    @property
    def fingerprint(self) -> str:
        """The fingerprint as `ssh-keygen -l` prints it: `SHA256:` and the digest in base64 without padding."""
        digest = hashlib.sha256(self.blob).digest()
        return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")

    def line(self, comment: str = "") -> str:
        """Returns the key as one line of a .pub file, without a newline."""
        return f"{self.algorithm} {base64.b64encode(self.blob).decode('ascii')} {comment}".rstrip()

    def verify(self, signature: bytes, data: bytes) -> None:
        """Verifies an SSH signature blob (algorithm, signature, for FIDO keys flags and counter) over `data`.

        Raises SignatureError for a blob that is malformed or of another algorithm, and for a signature that does not verify.
        Of a valid ECDSA signature both forms verify: see `has_low_s`.
        """
        reader = WireReader(signature)
        algorithm = reader.text()
        try:
            self._read()(algorithm, reader, data)
        except InvalidSignature as error:
            raise SignatureError("the signature does not fit the signed bytes") from error
        except (ValueError, UnsupportedAlgorithm, InternalError) as error:
            raise SignatureError("the signature cannot be checked with this key") from error

    def _read(self) -> _Check:
        """Checks the blob, and returns what checks a signature. It is done for each signature: what is kept would be compared."""
        if len(self.blob) > MAX_PUBLIC_KEY:
            raise InvalidPublicKeyError("a public key is larger than any real one")
        try:
            reader = WireReader(self.blob)
            if reader.text() != self.algorithm:
                raise InvalidPublicKeyError("a public key's blob is of another algorithm than its name")
            check = _read_key(self.algorithm, reader)
            reader.end()
        except WireError as error:
            raise InvalidPublicKeyError(f"not a public key: {error.message}") from error
        return check


def decode_base64(text: str) -> bytes:
    """Decodes canonical base64 (no other characters, full padding, no extra bits). Raises InvalidPublicKeyError."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidPublicKeyError("a public key is not base64") from error
    if base64.b64encode(data) != text.encode("ascii"):
        raise InvalidPublicKeyError("a public key is not in the one form of base64")
    return data


def _read_key(algorithm: str, reader: WireReader) -> _Check:
    try:
        if algorithm == ED25519:
            return _read_ed25519(reader)
        if algorithm == SK_ED25519:
            return _read_sk_ed25519(reader)
        if algorithm == RSA:
            return _read_rsa(reader)
        if algorithm in _CURVES:
            return _read_ecdsa(algorithm, reader)
    except (ValueError, UnsupportedAlgorithm, InternalError) as error:
        raise InvalidPublicKeyError(f"a public key of type {safe_text(algorithm, 40)} has impossible numbers") from error
    raise InvalidPublicKeyError(f"a key of type {safe_text(algorithm, 40)} may not sign")


# --- Ed25519 -----------------------------------------------------------------------------------------------------------

_ED25519_PRIME: Final = 2**255 - 19
# The y coordinates of the eight points of small order. With one of them as a key, a signature proves nothing.
_ORDER_8: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_WEAK_Y: Final = frozenset({0, 1, _ED25519_PRIME - 1, _ORDER_8, _ED25519_PRIME - _ORDER_8})


def _ed25519_key(raw: bytes) -> Ed25519PublicKey:
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if len(raw) != 32 or y >= _ED25519_PRIME or y in _WEAK_Y:
        raise InvalidPublicKeyError("an Ed25519 key has an impossible or weak point")
    return Ed25519PublicKey.from_public_bytes(raw)


def _read_ed25519(reader: WireReader) -> _Check:
    key = _ed25519_key(reader.string())

    def check(algorithm: str, signature: WireReader, data: bytes) -> None:
        raw = signature.string()
        signature.end()
        if algorithm != ED25519 or len(raw) != 64:
            raise SignatureError("an Ed25519 key's signature is of another kind or length")
        key.verify(raw, data)

    return check


def _read_sk_ed25519(reader: WireReader) -> _Check:
    key = _ed25519_key(reader.string())
    application = reader.text()
    if not 1 <= len(application) <= 255:
        raise InvalidPublicKeyError("a FIDO key has no usable application string")
    application_digest = hashlib.sha256(application.encode("ascii")).digest()

    def check(algorithm: str, signature: WireReader, data: bytes) -> None:
        raw = signature.string()
        flags_and_counter = signature.take(5)
        signature.end()
        if algorithm != SK_ED25519 or len(raw) != 64:
            raise SignatureError("a FIDO key's signature is of another kind or length")
        if not flags_and_counter[0] & USER_PRESENT:
            raise SignatureError("the FIDO token signed without a touch of its user")
        key.verify(raw, application_digest + flags_and_counter + hashlib.sha256(data).digest())

    return check


# --- ECDSA -------------------------------------------------------------------------------------------------------------


class _Curve(msgspec.Struct, frozen=True):
    name: str
    curve: ec.EllipticCurve
    digest: hashes.HashAlgorithm
    order: int


_CURVES: Final[dict[str, _Curve]] = {
    ECDSA_PREFIX + curve.name: curve
    for curve in (
        _Curve(
            "nistp256",
            ec.SECP256R1(),
            hashes.SHA256(),
            0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
        ),
        _Curve(
            "nistp384",
            ec.SECP384R1(),
            hashes.SHA384(),
            0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
        ),
        _Curve(
            "nistp521",
            ec.SECP521R1(),
            hashes.SHA512(),
            int("01" + "FF" * 32 + "FA51868783BF2F966B7FCC0148F709A5D03BB5C9B8899C47AEBB6FB71E91386409", 16),
        ),
    )
}


def _read_ecdsa(name: str, reader: WireReader) -> _Check:
    curve = _CURVES[name]
    if reader.text() != curve.name:
        raise InvalidPublicKeyError("an ECDSA key names two different curves")
    point = reader.string()
    if point[:1] != b"\x04":
        raise InvalidPublicKeyError("an ECDSA key's point is not in the uncompressed form")
    key = ec.EllipticCurvePublicKey.from_encoded_point(curve.curve, point)
    numbers = key.public_numbers()
    half = curve.order.bit_length() // 2
    # OpenSSH refuses such points as well (sshkey_ec_validate_public); no proper key has one.
    if any(n.bit_length() <= half or n >= curve.order - 1 for n in (numbers.x, numbers.y)):
        raise InvalidPublicKeyError("an ECDSA key has a weak point")

    def check(algorithm: str, signature: WireReader, data: bytes) -> None:
        inner = WireReader(signature.string())
        signature.end()
        r, s = inner.mpint(), inner.mpint()
        inner.end()
        if algorithm != name or not (0 < r < curve.order and 0 < s < curve.order):
            raise SignatureError("an ECDSA key's signature is of another kind or out of range")
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(curve.digest))

    return check


def has_low_s(key: PublicKey, signature: bytes) -> bool:
    """Whether a signature blob is in the canonical low-s form. True for all algorithms but ECDSA.

    From an ECDSA signature (r, s) anybody can compute (r, n - s), which verifies as well: n is the order of the curve's group.
    Only the form with the lower s is canonical. Raises SignatureError for a blob that is not a signature by this key's algorithm.
    """
    return low_s_form(key, signature) == signature


def low_s_form(key: PublicKey, signature: bytes) -> bytes:
    """Returns the same signature in low-s form. OpenSSH and tokens write either form, at random."""
    curve = _CURVES.get(key.algorithm)
    if curve is None:
        return signature
    reader = WireReader(signature)
    algorithm, inner = reader.string(), WireReader(reader.string())
    reader.end()
    r, s = inner.mpint(), inner.mpint()
    inner.end()
    if not 0 < s < curve.order:
        raise SignatureError("an ECDSA key's signature is out of range")
    return write_string(algorithm) + write_string(write_mpint(r) + write_mpint(min(s, curve.order - s)))


# --- RSA ---------------------------------------------------------------------------------------------------------------


def _read_rsa(reader: WireReader) -> _Check:
    exponent, modulus = reader.mpint(), reader.mpint()
    bits = modulus.bit_length()
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        raise InvalidPublicKeyError(f"an RSA key has {bits} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are needed")
    if exponent < 3 or not exponent & 1 or not modulus & 1 or exponent.bit_length() > MAX_RSA_EXPONENT_BITS:
        raise InvalidPublicKeyError("an RSA key has an impossible exponent or modulus")
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()

    def check(algorithm: str, signature: WireReader, data: bytes) -> None:
        raw = signature.string()
        signature.end()
        digest = _SIGNED_WITH.get(algorithm)
        if digest is None or len(raw) != (bits + 7) // 8:
            raise SignatureError("an RSA key's signature is of another kind (SHA-1 is refused) or length")
        key.verify(raw, data, padding.PKCS1v15(), digest())

    return check


def pad_rsa_signature(key: PublicKey, signature: bytes) -> bytes:
    """Pads the number in an RSA signature blob to full length: some agents drop leading zeros. Other blobs stay as they are."""
    if key.algorithm != RSA:
        return signature
    blob, reader = WireReader(key.blob), WireReader(signature)
    blob.string()
    blob.mpint()
    length = (blob.mpint().bit_length() + 7) // 8
    algorithm, raw = reader.string(), reader.string()
    reader.end()
    return write_string(algorithm) + write_string(raw.rjust(length, b"\0"))
