"""Makes and verifies signatures over documents, in OpenSSH's SSHSIG format (PROTOCOL.sshsig).

The verifier accepts exactly one form: one armor block as `ssh-keygen -Y sign` writes it, nothing before or after it, version 1,
no reserved bytes, digest sha512, the expected namespace. What `ssh-keygen -Y verify` refuses is refused here, too.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final, Protocol

from evidencesync.custody.publickey import PublicKey, has_low_s, low_s_form
from evidencesync.custody.wire import WireReader, write_string, write_uint32
from evidencesync.errors import SignatureError, SigningKeyError
from evidencesync.evidence.display import safe_text
from evidencesync.limits import MAX_SIGNATURE

_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_HASH: Final = "sha512"
_HASH_SIZE: Final = 64
_BEGIN: Final = b"-----BEGIN SSH SIGNATURE-----\n"
_END: Final = b"-----END SSH SIGNATURE-----\n"
_COLUMNS: Final = 70
_MAX_NAMESPACE: Final = 128


class SigningKey(Protocol):
    """A private key: in a file, in an agent, or of a vault."""

    @property
    def public_key(self) -> PublicKey:
        """The public key that verifies its signatures."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Returns the SSH signature blob over `data`: algorithm and signature as strings; with RSA it is rsa-sha2-512.

        May wait for a person (a passphrase, a touch of the token). Raises SigningKeyError.
        """
        ...


def encode_armor(blob: bytes) -> bytes:
    """Armors a blob, byte for byte as ssh-keygen does: 70 columns, a newline at the end."""
    text = base64.b64encode(blob)
    lines = [text[start : start + _COLUMNS] + b"\n" for start in range(0, len(text), _COLUMNS)]
    return _BEGIN + b"".join(lines) + _END


def decode_armor(armored: bytes) -> bytes:
    """Returns the blob of an armored signature. Raises SignatureError unless the text is exactly what `encode_armor` makes."""
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
    """Returns the bytes that a key signs for a document with this SHA-512 (PROTOCOL.sshsig, clause 3)."""
    _check_request(namespace, sha512)
    return _MAGIC + _strings(namespace.encode("ascii"), b"", _HASH.encode("ascii"), sha512)


def encode_signature(public_key: PublicKey, namespace: str, signature_blob: bytes) -> bytes:
    """Returns the armored signature, as in a .sig file."""
    envelope = _strings(public_key.blob, namespace.encode("ascii"), b"", _HASH.encode("ascii"), signature_blob)
    return encode_armor(_MAGIC + write_uint32(_VERSION) + envelope)


def sign_document(signer: SigningKey, namespace: str, sha512: bytes) -> bytes:
    """Signs a document by its SHA-512, and returns the armored signature.

    The signer's blob is verified before it is used, and converted to low-s form: half of the ECDSA signatures of OpenSSH and of
    tokens are in the other form. Raises SigningKeyError.
    """
    try:
        signed = low_s_form(signer.public_key, signer.sign(signing_input(namespace, sha512)))
        armored = encode_signature(signer.public_key, namespace, signed)
        verify_signature(armored, namespace, sha512, low_s=True)
    except SignatureError as error:
        raise SigningKeyError(f"the key's own signature does not verify: {error.message}") from error
    return armored


def verify_signature(armored: bytes, namespace: str, sha512: bytes, *, low_s: bool = False) -> PublicKey:
    """Verifies a signature over a document's SHA-512 and returns the key that made it. Trust is not checked here.

    1. The armor is the canonical text.  2. Magic and version 1.  3. A usable key, in its canonical form.
    4. The expected namespace, nothing reserved, sha512.  5. Nothing follows.  6. The signature verifies, by the key's rules.
    7. With `low_s`: it is in low-s form (`publickey.has_low_s`), so it was not computed from another one. Raises SignatureError.
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
    """Whether a valid signature is not in low-s form. Raises SignatureError for bytes that are not a signature."""
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
