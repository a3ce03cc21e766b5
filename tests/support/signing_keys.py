"""Keys of every kind in software, also those that we refuse: they sign what no honest signer would."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evidencesync.custody.publickey import SK_ED25519
from evidencesync.custody.wire import write_mpint, write_string, write_uint32

RSA_DIGESTS: Final[dict[str, hashes.HashAlgorithm]] = {
    "rsa-sha2-256": hashes.SHA256(),
    "rsa-sha2-512": hashes.SHA512(),
    "ssh-rsa": hashes.SHA1(),
}
_CURVES: Final[dict[int, tuple[ec.EllipticCurve, hashes.HashAlgorithm]]] = {
    256: (ec.SECP256R1(), hashes.SHA256()),
    384: (ec.SECP384R1(), hashes.SHA384()),
    521: (ec.SECP521R1(), hashes.SHA512()),
}


@dataclass(frozen=True)
class SoftKey:
    """A key: its kind for people, its public blob, and how it signs. `sign(data)` gives the fields of a signature blob."""

    kind: str
    blob: bytes
    fields: Callable[[bytes], list[bytes]]
    tail: bytes = b""  # what follows the fields: a FIDO token's flags and counter

    @property
    def algorithm(self) -> str:
        """The name that the public blob begins with."""
        length = int.from_bytes(self.blob[:4], "big")
        return self.blob[4 : 4 + length].decode("ascii")

    def sign(self, data: bytes) -> bytes:
        """An SSH signature blob over `data`."""
        return b"".join(map(write_string, self.fields(data))) + self.tail


def ed25519_key(seed: int = 1) -> SoftKey:
    """An Ed25519 key."""
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed] * 32))
    raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    blob = write_string(b"ssh-ed25519") + write_string(raw)
    return SoftKey("ed25519", blob, lambda data: [b"ssh-ed25519", private.sign(data)])


def token_key(flags: int = 1, counter: int = 7, application: bytes = b"ssh:", seed: int = 2) -> SoftKey:
    """A FIDO token in software: Ed25519 with an application string, flags and a counter (PROTOCOL.u2f)."""
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed] * 32))
    raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    blob = write_string(SK_ED25519.encode()) + write_string(raw) + write_string(application)
    tail = bytes([flags]) + write_uint32(counter)

    def fields(data: bytes) -> list[bytes]:
        signed = hashlib.sha256(application).digest() + tail + hashlib.sha256(data).digest()
        return [SK_ED25519.encode(), private.sign(signed)]

    return SoftKey("sk-ed25519", blob, fields, tail)


def ecdsa_key(bits: int) -> SoftKey:
    """An ECDSA key on the NIST curve of that size."""
    curve, digest = _CURVES[bits]
    private = ec.derive_private_key(0xC0FFEE + bits, curve)
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    name = f"ecdsa-sha2-nistp{bits}".encode()
    blob = write_string(name) + write_string(f"nistp{bits}".encode()) + write_string(point)

    def fields(data: bytes) -> list[bytes]:
        r, s = decode_dss_signature(private.sign(data, ec.ECDSA(digest)))
        return [name, write_mpint(r) + write_mpint(s)]

    return SoftKey(f"nistp{bits}", blob, fields)


def rsa_key(bits: int, algorithm: str = "rsa-sha2-512") -> SoftKey:
    """A fresh RSA key."""
    return rsa_signer(rsa.generate_private_key(public_exponent=65537, key_size=bits), algorithm)


def rsa_signer(private: rsa.RSAPrivateKey, algorithm: str) -> SoftKey:
    """An RSA key that signs with this algorithm."""
    numbers = private.public_key().public_numbers()
    blob = write_string(b"ssh-rsa") + write_mpint(numbers.e) + write_mpint(numbers.n)

    def fields(data: bytes) -> list[bytes]:
        return [algorithm.encode(), private.sign(data, padding.PKCS1v15(), RSA_DIGESTS[algorithm])]

    return SoftKey(f"rsa{private.key_size}", blob, fields)


def all_keys() -> list[SoftKey]:
    """One or more of each kind: RSA of every size with each digest."""
    keys = [ed25519_key(), token_key(), *(ecdsa_key(bits) for bits in _CURVES)]
    for bits in (2048, 3072, 4096):
        private = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        keys += [rsa_signer(private, algorithm) for algorithm in ("rsa-sha2-512", "rsa-sha2-256")]
    return keys
