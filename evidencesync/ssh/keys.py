"""Loads keys to sign with: from OpenSSH key files, encrypted or not, and from ssh-agent.

Source: OpenSSH's PROTOCOL.key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from evidencesync.custody.publickey import InvalidPublicKeyError, PublicKey, decode_base64
from evidencesync.custody.sshsig import SigningKey
from evidencesync.custody.wire import WireError, WireReader, write_mpint, write_string
from evidencesync.errors import NoHomeError, PassphraseError, SigningKeyError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.home import expand, home_folder, read_named
from evidencesync.limits import MAX_PRIVATE_KEY
from evidencesync.ssh.likely_keys import likely_keys
from evidencesync.ssh.private_files import require_private
from evidencesync.ssh_agent import AgentSigner, agent_holds, choose_from_agent

AGENT: Final = "agent"
PUTTY: Final = b"PuTTY-User-Key-File-"
"""What a key file of PuTTY begins with."""
AskPassphrase = Callable[[str], str]
"""Asks a person for a passphrase with a prompt; may raise InterruptedRunError."""

_PASSPHRASE_TRIES: Final = 3
_OPENSSH_FILE: Final = re.compile(
    rb"\s*-----BEGIN OPENSSH PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]+?)\s*-----END OPENSSH PRIVATE KEY-----\s*"
)
_OPENSSH_MAGIC: Final = b"openssh-key-v1\0"
_PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def load_signer(choice: str | None, identity: Path | None, ask_passphrase: AskPassphrase | None) -> SigningKey:
    """The signer that `--sign-key FILE|agent` names; by default the identity, else `~/.ssh/id_ed25519`.

    A `.pub` file, a FIDO key's file, and `agent` with an identity choose that key in the agent. An encrypted file whose key is in
    the agent is signed with by the agent; else its passphrase is asked for, three times at most (never if `ask_passphrase` is
    None). `agent` alone needs an agent with exactly one usable key.
    Raises SigningKeyError, ExposedKeyError for a file that others can read, and PassphraseError.
    """
    if choice == AGENT:
        return choose_from_agent(None if identity is None else _public_part(identity))
    path = expand(choice) if choice is not None else identity
    if path is None:
        path = _default_key()
    data = _read(path)
    public = _public_line(data)
    if public is not None:
        return _by_public_part(path, public)
    return _from_file(path, data, ask_passphrase)


def _by_public_part(path: Path, public: PublicKey) -> SigningKey:
    """The agent's signer for the key of a `.pub` file. Raises SigningKeyError, which names the private key if it lies beside."""
    try:
        return choose_from_agent(public)
    except SigningKeyError as error:
        private = path.with_suffix("") if path.suffix == ".pub" else None
        named = shell_text(str(private)) if private is not None and os.path.lexists(private) else None
        hint = f"The private key lies beside it: name {named}" if named else "Name the file of the private key."
        text = f"{safe_text(str(path), 120)} is a public key, which signs only with an ssh-agent: {error.message}"
        raise SigningKeyError(text, hint=hint) from error


def _default_key() -> Path:
    """The default key file. Raises SigningKeyError if it does not exist, NoHomeError."""
    try:
        path = home_folder() / ".ssh" / "id_ed25519"
    except NoHomeError as error:
        raise NoHomeError(f"there is no key to sign with: no --sign-key, no identity, and {error.message}") from error
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        text = "there is no key to sign with: no --sign-key, no identity, no ~/.ssh/id_ed25519"
        raise SigningKeyError(text, hint=f"{SigningKeyError.default_hint} {likely_keys(path, public=False)}") from error
    except OSError:
        pass  # reading it will fail, and say why
    return path


# --- Key files ---------------------------------------------------------------------------------------------------------


class KeySigner(msgspec.Struct, frozen=True):
    """A private key in this process's memory."""

    public_key: PublicKey
    _private: _PrivateKey

    def __repr__(self) -> str:
        return f"KeySigner({self.public_key.fingerprint})"

    @classmethod
    def from_private(cls, private: _PrivateKey) -> KeySigner:
        """A signer for a private key. Raises SigningKeyError for a kind or size that may not sign."""
        try:
            line = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
            return cls(PublicKey.from_line(line), private)
        except ValueError as error:
            raise SigningKeyError("the key is on a curve that may not sign") from error
        except InvalidPublicKeyError as error:
            raise SigningKeyError(error.message, hint=error.hint) from error

    @classmethod
    def from_bytes(cls, data: bytes, passphrase: str | None = None) -> KeySigner:
        """A signer for the bytes of a private key file. Raises PassphraseError for a missing or wrong passphrase."""
        return cls.from_private(_decode_private(data, passphrase))

    def sign(self, data: bytes) -> bytes:
        """The SSH signature blob over `data`."""
        private = self._private
        if isinstance(private, ed25519.Ed25519PrivateKey):
            return _signature(self.public_key.algorithm, private.sign(data))
        if isinstance(private, rsa.RSAPrivateKey):
            return _signature("rsa-sha2-512", private.sign(data, padding.PKCS1v15(), hashes.SHA512()))
        r, s = decode_dss_signature(private.sign(data, ec.ECDSA(_curve_digest(private))))
        return _signature(self.public_key.algorithm, write_mpint(r) + write_mpint(s))


def _signature(algorithm: str, raw: bytes) -> bytes:
    return write_string(algorithm.encode("ascii")) + write_string(raw)


def _curve_digest(private: ec.EllipticCurvePrivateKey) -> hashes.HashAlgorithm:
    """RFC 5656, clause 6.2.1."""
    if private.key_size <= 256:
        return hashes.SHA256()
    return hashes.SHA384() if private.key_size <= 384 else hashes.SHA512()


def _from_file(path: Path, data: bytes, ask_passphrase: AskPassphrase | None) -> SigningKey:
    shown = safe_text(str(path), 120)
    if data.startswith(PUTTY):
        made = shell_text("puttygen", str(path), "-O", "private-openssh", "-o", str(path.with_suffix("")) + "_openssh")
        raise SigningKeyError(f"{shown} is a key file of PuTTY", hint=f"Write it as OpenSSH does, and name that file: {made}")
    outside = _openssh_public(data)
    if outside is not None and outside.algorithm.startswith("sk-"):
        return choose_from_agent(outside)  # the file holds a handle only; the token signs, and the agent speaks with it
    kind = _openssh_kind(data)
    if outside is None and kind.startswith("sk-"):
        text = f"{shown} is no key but the handle of one on a FIDO token, of a kind that may not sign: {safe_text(kind, 60)}"
        raise SigningKeyError(text, hint=InvalidPublicKeyError.default_hint)
    try:
        return KeySigner.from_bytes(data)
    except PassphraseError:
        pass  # it is encrypted
    except SigningKeyError as error:
        raise SigningKeyError(f"{shown}: {error.message}", hint=error.hint) from error
    if outside is not None and agent_holds(outside):
        return AgentSigner(outside)
    if ask_passphrase is None:
        hint = f"Load it into an agent (ssh-add {shell_text(str(path))}), then run the same command again."
        raise PassphraseError(f"{shown} is encrypted, and nobody can be asked for its passphrase", hint=hint)
    question = f"Passphrase for {shown}: "
    for _ in range(_PASSPHRASE_TRIES):
        try:
            return KeySigner.from_bytes(data, ask_passphrase(question))
        except PassphraseError:
            question = f"Wrong passphrase for {shown}. Once more: "
        except SigningKeyError as error:
            raise SigningKeyError(f"{shown}: {error.message}", hint=error.hint) from error
    raise PassphraseError(f"wrong passphrase for {shown}")


def _decode_private(data: bytes, passphrase: str | None) -> _PrivateKey:
    """Decodes a private key. Raises PassphraseError for a missing or wrong passphrase, else SigningKeyError."""
    password = passphrase.encode("utf-8") if passphrase else None
    is_openssh = b"BEGIN OPENSSH PRIVATE KEY" in data
    load = serialization.load_ssh_private_key if is_openssh else serialization.load_pem_private_key
    if password is not None and not _is_encrypted(data):
        password = None
    try:
        private = load(data, password)
    except TypeError as error:  # how cryptography says that a password is needed
        raise PassphraseError("the key is encrypted") from error
    except UnsupportedAlgorithm as error:
        raise SigningKeyError("the key is of a kind, or encrypted in a way, that is not supported here") from error
    except (ValueError, InternalError) as error:
        if password is not None:
            raise PassphraseError("the passphrase is wrong, or the file is damaged") from error
        raise SigningKeyError("not a private key that can sign", hint=InvalidPublicKeyError.default_hint) from error
    if not isinstance(private, (ed25519.Ed25519PrivateKey, ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise SigningKeyError("the key is of a kind that may not sign")
    return private


def _is_encrypted(data: bytes) -> bool:
    blob = _openssh_blob(data)
    if blob is None:
        return b"ENCRYPTED" in data
    return not blob.startswith(_OPENSSH_MAGIC + write_string(b"none"))


def _openssh_blob(data: bytes) -> bytes | None:
    match = _OPENSSH_FILE.fullmatch(data)
    if match is None:
        return None
    try:
        return decode_base64(b"".join(match[1].split()).decode("ascii"))
    except InvalidPublicKeyError:
        return None  # cryptography will say what is wrong with the file


def _openssh_public(data: bytes) -> PublicKey | None:
    """The public key outside the encrypted part of an OpenSSH private key file; None if it may not sign, or for another file."""
    try:
        blob = _openssh_public_blob(data)
        return PublicKey.from_blob(blob) if blob is not None else None
    except (WireError, InvalidPublicKeyError):
        return None  # cryptography will say what is wrong with the file


def _openssh_kind(data: bytes) -> str:
    """The kind of that key, whether it may sign or not; empty for another file."""
    try:
        blob = _openssh_public_blob(data)
        return WireReader(blob).text() if blob is not None else ""
    except WireError:
        return ""


def _openssh_public_blob(data: bytes) -> bytes | None:
    """Raises WireError."""
    blob = _openssh_blob(data)
    if blob is None or not blob.startswith(_OPENSSH_MAGIC):
        return None
    reader = WireReader(blob[len(_OPENSSH_MAGIC) :])
    for _ in ("cipher", "kdf", "kdf options"):
        reader.string()
    return reader.string() if reader.uint32() == 1 else None  # ssh-keygen writes one key a file


def _public_line(data: bytes) -> PublicKey | None:
    """The key of a .pub file; None for anything else."""
    if b"PRIVATE KEY" in data:
        return None
    try:
        return PublicKey.from_line(data)
    except InvalidPublicKeyError:
        return None  # then it is read as a private key, with that error


def _public_part(path: Path) -> PublicKey:
    """The public key of an identity file, for which no passphrase is needed. Raises SigningKeyError if there is none."""
    data = _read(path)
    public = _public_line(data) or _openssh_public(data)
    if public is not None:
        return public
    beside = path.with_name(path.name + ".pub")
    public = _public_line(_read(beside)) if os.path.exists(beside) else None
    if public is None:
        raise SigningKeyError(f"{safe_text(str(path), 120)} names no public key to look for in the agent")
    return public


def _read(path: Path) -> bytes:
    shown = safe_text(str(path), 120)
    try:
        data = read_named(path, MAX_PRIVATE_KEY, lambda fd, found: require_private(fd, found, path))
    except FileNotFoundError as error:
        raise SigningKeyError(f"the key file {shown} does not exist", hint=likely_keys(path, public=False)) from error
    except OSError as error:
        raise SigningKeyError(f"the key {shown} cannot be read: {error.strerror or 'unknown reason'}") from error
    if len(data) > MAX_PRIVATE_KEY:
        raise SigningKeyError(f"{shown} is too large for a key")
    return data
