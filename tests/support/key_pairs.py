"""Key pairs in files, as ssh-keygen writes them, without ssh-keygen: hundreds of tests begin with one."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


def write_key_pair(path: Path, comment: str) -> Ed25519PrivateKey:
    """A new Ed25519 key without a passphrase at `path`, and beside it its public half with the comment."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    for file, data, mode in (
        (path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), 0o600),
        (path.with_name(f"{path.name}.pub"), public + f" {comment}\n".encode(), 0o644),
    ):
        file.write_bytes(data)
        file.chmod(mode)
    return key
