"""Signatures over documents, in OpenSSH's SSHSIG form (PROTOCOL.sshsig), and a verifier that is stricter than most.

Exactly one form is taken: one armor block as `ssh-keygen -Y sign` writes it, nothing before or after it, version 1, no
reserved bytes, digest sha512, the very namespace that is asked for. What `ssh-keygen -Y verify` refuses is refused here.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final, Protocol

from evidencesync.custody.publickey import InvalidPublicKeyError, PublicKey, has_low_s, low_s_form
from evidencesync.custody.wire import WireError, WireReader, write_string, write_uint32
from evidencesync.errors import SignatureError, SigningKeyError
from evidencesync.evidence.display import safe_text
from evidencesync.limits import MAX_SIGNATURE

__all__ = [
    "InvalidPublicKeyError",
    "PublicKey",
    "SigningKey",
    "WireError",
    "decode_armor",
    "encode_armor",
    "encode_signature",
    "is_malleable",
    "sign_document",
    "signing_input",
    "verify_signature",
]

_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_HASH: Final = "sha512"
_HASH_SIZE: Final = 64
_BEGIN: Final = b"-----BEGIN SSH SIGNATURE-----\n"
_END: Final = b"-----END SSH SIGNATURE-----\n"
_COLUMNS: Final = 70
_MAX_NAMESPACE: Final = 128


class SigningKey(Protocol):
    """Whatever holds a private key: a key file, an agent, a vault."""

    @property
    def public_key(self) -> PublicKey:
        """The public part, by which the signature will be checked."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The SSH signature blob over `data`: algorithm and signature as strings; with RSA it is rsa-sha2-512.

        May wait for a person (a passphrase, a touch). Raises SigningKeyError.
        """
        ...


def encode_armor(blob: bytes) -> bytes:
    """The text form of a blob, byte for byte as ssh-keygen writes it: 70 columns, a newline at the end."""
    text = base64.b64encode(blob)
    lines = [text[start : start + _COLUMNS] + b"\n" for start in range(0, len(text), _COLUMNS)]
    return _BEGIN + b"".join(lines) + _END


def decode_armor(armored: bytes) -> bytes:
    """The blob of an armored signature. Raises SignatureError unless it is the one text that `encode_armor` makes."""
    if len(armored) > MAX_SIGNATURE:
        raise SignatureError(f"a signature is {len(armored)} bytes long; the limit is {MAX_SIGNATURE}")
    if not armored.startswith(_BEGIN) or not armored.endswith(b"\n" + _END):
        raise SignatureError("not an SSH signature, or one with something before or after it")
    try:
        blob = base64.b64decode(armored[len(_BEGIN) : -len(_END)].replace(b"\n", b""), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureError("a signature is not base64") from error
    if encode_armor(blob) != armored:
        raise SignatureError("a signature is not in the one form that ssh-keygen writes")
    return blob


def signing_input(namespace: str, sha512: bytes) -> bytes:
    """The bytes a key signs for a document whose SHA-512 is given (PROTOCOL.sshsig, clause 3)."""
    _check_request(namespace, sha512)
    return _MAGIC + _strings(namespace.encode("ascii"), b"", _HASH.encode("ascii"), sha512)


def encode_signature(public_key: PublicKey, namespace: str, signature_blob: bytes) -> bytes:
    """The armored signature as it stands in a .sig file."""
    envelope = _strings(public_key.blob, namespace.encode("ascii"), b"", _HASH.encode("ascii"), signature_blob)
    return encode_armor(_MAGIC + write_uint32(_VERSION) + envelope)


def sign_document(signer: SigningKey, namespace: str, sha512: bytes) -> bytes:
    """Signs a document by its SHA-512; the armored signature.

    What the signer returns is checked before it is believed, and put into the one form that counts: half of what OpenSSH and
    tokens make with ECDSA is in the other one. Raises SigningKeyError.
    """
    try:
        signed = low_s_form(signer.public_key, signer.sign(signing_input(namespace, sha512)))
        armored = encode_signature(signer.public_key, namespace, signed)
        verify_signature(armored, namespace, sha512, low_s=True)
    except SignatureError as error:
        raise SigningKeyError(f"the key's own signature does not verify: {error.message}") from error
    return armored


def verify_signature(armored: bytes, namespace: str, sha512: bytes, *, low_s: bool = False) -> PublicKey:
    """Checks one signature over a document's SHA-512 and returns the key that made it. It says nothing about trust.

    1. The armor is the one canonical text.  2. Magic and version 1.  3. A usable key, in its one form.
    4. The very namespace, nothing reserved, sha512.  5. Nothing follows.  6. The signature fits, by the key's own rules.
    7. With `low_s`: nobody can have made it from another one (`publickey.has_low_s`). Raises SignatureError.
    """
    _check_request(namespace, sha512)
    reader = WireReader(decode_armor(armored))  # 1
    if reader.take(len(_MAGIC)) != _MAGIC or reader.uint32() != _VERSION:  # 2
        raise SignatureError("not an SSH signature of version 1")
    public_key = PublicKey.from_blob(reader.string())  # 3
    found = reader.text()
    if found != namespace:  # 4
        raise SignatureError(f"the signature is for the namespace {safe_text(found, 80)}, not {namespace}")
    if reader.string():
        raise SignatureError("the signature uses a reserved field")
    if reader.text() != _HASH:
        raise SignatureError("the signature's digest is not sha512")
    signature_blob = reader.string()
    reader.end()  # 5
    public_key.verify(signature_blob, signing_input(namespace, sha512))  # 6
    if low_s and not has_low_s(public_key, signature_blob):  # 7
        raise SignatureError("the signature does not fit in its one form: an ECDSA signature has the lower of two numbers")
    return public_key


def is_malleable(armored: bytes) -> bool:
    """Whether a good signature is in the form of which anybody can make the other one. Raises SignatureError for none."""
    reader = WireReader(decode_armor(armored))
    reader.take(len(_MAGIC))
    reader.uint32()
    public_key = PublicKey.from_blob(reader.string())
    for _ in range(3):
        reader.string()
    return not has_low_s(public_key, reader.string())


def _check_request(namespace: str, sha512: bytes) -> None:
    if not namespace.isascii() or not namespace.isprintable() or not 1 <= len(namespace) <= _MAX_NAMESPACE:
        raise SignatureError("a signature needs a namespace of printable ASCII")
    if len(sha512) != _HASH_SIZE:
        raise SignatureError("a document's SHA-512 has 64 bytes")


def _strings(*fields: bytes) -> bytes:
    return b"".join(map(write_string, fields))
