"""Signatures and lists of signers that are wrong, or odd, in one known way: what two judges are asked about.

Every way is tried on every kind of key. Many are signed anew after the change, so that nothing but the change is wrong.
"""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from evidencesync.custody.wire import write_string, write_uint32
from tests.support.signing_keys import SoftKey

NAMESPACE: Final = "manifest@evidencesync"
PRINCIPAL: Final = "ana@lab"
DOCUMENT: Final = b'{"format":"evidencesync-manifest/1"}\n'
AT: Final = 1_717_200_000  # 2024-06-01 00:00:00 UTC
BEGIN: Final = b"-----BEGIN SSH SIGNATURE-----\n"
END: Final = b"-----END SSH SIGNATURE-----\n"


@dataclass(frozen=True)
class Attack:
    """What both judges get. `way` says in which way it is odd."""

    way: str
    kind: str
    signature: bytes
    trusted: bytes
    revoked: bytes = b""
    namespace: str = NAMESPACE
    principal: str = PRINCIPAL
    at: int = AT


@dataclass(frozen=True)
class Envelope:
    """All parts of a signature, each to be changed alone. `signed_*` is what the key signs, where that is something else."""

    key: SoftKey
    magic: bytes = b"SSHSIG"
    version: int = 1
    public: bytes = b""
    namespace: bytes = NAMESPACE.encode()
    reserved: bytes = b""
    hash: bytes = b"sha512"
    after: bytes = b""
    signed: dict[str, bytes] = field(default_factory=dict)
    document: bytes = DOCUMENT
    blob: Callable[[bytes], bytes] | None = None  # changes the finished signature blob

    def data(self) -> bytes:
        """The bytes that the key signs."""
        name = self.signed.get("hash", self.hash)
        known = name.decode("ascii", "replace").lower()
        digest = hashlib.new(known if known in ("sha256", "sha384", "sha1", "md5") else "sha512", self.document).digest()
        parts = (self.signed.get("namespace", self.namespace), self.signed.get("reserved", self.reserved), name, digest)
        return self.signed.get("magic", b"SSHSIG") + b"".join(map(write_string, parts))

    def envelope(self) -> bytes:
        """The blob that is armored."""
        signature = self.key.sign(self.data())
        if self.blob is not None:
            signature = self.blob(signature)
        fields = (self.public or self.key.blob, self.namespace, self.reserved, self.hash, signature)
        return self.magic + write_uint32(self.version) + b"".join(map(write_string, fields)) + self.after


def armor(blob: bytes, columns: int = 70, end: bytes = b"\n") -> bytes:
    """The text form, with lines of any length."""
    text = base64.b64encode(blob)
    lines = b"".join(text[at : at + columns] + end for at in range(0, len(text), columns))
    return BEGIN.replace(b"\n", end) + lines + END.replace(b"\n", end)


def line_of(key: SoftKey, principals: str = PRINCIPAL, options: str = "") -> bytes:
    """A line of allowed_signers, without its end."""
    return f"{principals} {options}{key.algorithm} {base64.b64encode(key.blob).decode()}".encode()


Way = Callable[[random.Random, SoftKey], Attack]
WAYS: dict[str, Way] = {}


def way(make: Way) -> Way:
    """Puts a way on the list, under its function's name."""
    WAYS[make.__name__.lstrip("_").replace("_", " ")] = make
    return make


def from_trusted(key: SoftKey, armored: bytes, **more: object) -> Attack:
    """An attack whose signer is trusted, with whatever is to be otherwise."""
    attack = Attack("", key.kind, armored, line_of(key) + b"\n")
    return replace(attack, **more)  # type: ignore[arg-type]


def attack(number: int, seed: int, keys: list[SoftKey]) -> Attack:
    """The attack of this number: all ways in turn, and for each of them all keys."""
    names = list(WAYS)
    name = names[number % len(names)]
    key = keys[number // len(names) % len(keys)]
    return replace(WAYS[name](random.Random(seed * 1_000_003 + number), key), way=name)


def spoil(source: random.Random, data: bytes) -> bytes:
    """One small change somewhere."""
    at = source.randrange(len(data))
    match source.randrange(6):
        case 0:
            return data[:at] + bytes([data[at] ^ 1 << source.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[:at] + bytes([source.choice((0, 1, 0x7F, 0x80, 0xFF))]) + data[at + 1 :]
        case 2:
            return data[:at] + data[at + source.randrange(1, 9) :]
        case 3:
            return data[:at] + source.randbytes(source.randrange(1, 9)) + data[at:]
        case 4:
            other = source.randrange(len(data))
            return data[:at] + data[other : other + 8] + data[at + 8 :]
        case _:
            return data[:at]
