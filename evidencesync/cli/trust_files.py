"""Reads the trust files that a command line or the settings name: public keys, allowed signers, and roots of authorities."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from evidencesync.cli.settings import LoadedSettings
from evidencesync.errors import SignatureError, SigningKeyError, TrustFileError, UsageError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.home import expand, read_named
from evidencesync.limits import MAX_PUBLIC_KEY, MAX_TRUST_FILE

if TYPE_CHECKING:
    from evidencesync.custody.publickey import PublicKey
    from evidencesync.custody.timestamp import Roots

_PUBLIC_HINT: Final = "Name the public part of an SSH key, the one that ends in .pub."
_OTHER_FORMS: Final = {
    b"PuTTY-User-Key-File-": "puttygen {} -L > {}",
    b"---- BEGIN SSH2 PUBLIC KEY": "ssh-keygen -i -f {} > {}",
}
"""How other programs begin a file of a key, and what makes a .pub file of it."""
_KEYS_IN_LINES: Final = re.compile(rb"(?:^|(?<=[ \t]))((?:ssh|ecdsa|sk)-[\w.@-]+[ \t]+AAAA[\w+/]+=*)[ \t]*([^\n]*)", re.MULTILINE)
_NAME_IN_COMMENT: Final = re.compile(r"[^\s@]+@[^\s@]+")


def load_trusted(file: Path) -> bytes:
    """Reads the allowed_signers file of `--trusted`. Raises TrustFileError."""
    shown = safe_text(str(file), 200)
    return _read(file, f"the trusted signers {shown} cannot be read", f"{shown} is larger than any list of signers")


def load_roots(settings: LoadedSettings, named: Sequence[Path] | None) -> Roots | None:
    """Reads all root certificates of the files of `--tsa-root`, or of the settings' file. None if neither names a file.

    Raises TrustFileError for a file that cannot be read, or that holds no certificates.
    """
    from_settings = settings.path(settings.values.tsa_root)
    files = list(named) if named else [from_settings] if from_settings is not None else []
    roots: Roots | None = None
    for file in files:
        from evidencesync.custody.timestamp import Roots

        shown = f"the file of root certificates {safe_text(str(file), 200)}"
        data = _read(file, f"{shown} cannot be read", f"{shown} is larger than any list of certificates")
        found = Roots.parse(data, shown)
        roots = found if roots is None else roots + found
    return roots


def load_public_key(file: Path) -> PublicKey:
    """The key of a .pub file. Raises SigningKeyError."""
    return _load_key(file)[0]


def named_key(file: Path, principal: str | None) -> tuple[PublicKey, str]:
    """The key of a .pub file, and its signer's name: the key's comment, if none is given. Raises SigningKeyError, UsageError.

    `ssh-keygen` writes the user and the machine there. What other programs write names nobody, nor does a name like the vault's.
    """
    from evidencesync.custody.principals import looks_like_vault

    key, comment = _load_key(file)
    if principal is not None:
        return key, principal
    if not _NAME_IN_COMMENT.fullmatch(comment) or looks_like_vault(comment):
        has = f"has the comment {safe_text(comment, 80)}" if comment else "has no comment"
        raise UsageError(
            f"{safe_text(str(file), 200)} {has}, which names nobody", hint="Name its owner: --principal NAME, such as ana@lab."
        )
    return key, comment


def _load_key(file: Path) -> tuple[PublicKey, str]:
    from evidencesync.custody.publickey import PublicKey

    shown = safe_text(str(file), 200)
    try:
        data = read_named(expand(file), MAX_PUBLIC_KEY).removeprefix(BOM_UTF8)
    except FileNotFoundError as error:
        from evidencesync.ssh.likely_keys import likely_keys

        raise SigningKeyError(f"there is no public key {shown}", hint=likely_keys(expand(file), public=True)) from error
    except OSError as error:
        raise SigningKeyError(f"the public key {shown} cannot be read: {error.strerror}", hint=_PUBLIC_HINT) from error
    if b"PRIVATE KEY" in data:
        beside = expand(Path(f"{file}.pub"))
        hint = f"Its public part is beside it: {shell_text(str(beside))}" if beside.is_file() else _PUBLIC_HINT
        raise SigningKeyError(f"{shown} is a private key, which stays with its owner", hint=hint)
    if (makes := next((makes for begins, makes in _OTHER_FORMS.items() if data.startswith(begins)), None)) is not None:
        made = makes.format(shell_text(str(file)), shell_text(f"{file.with_suffix('')}.pub"))
        raise SigningKeyError(f"{shown} is not written as OpenSSH writes a public key", hint=f"Make one that is: {made}")
    try:
        return PublicKey.from_line(data), b" ".join(data.split()[2:]).decode("utf-8")
    except SignatureError as error:
        if (held := _KEYS_IN_LINES.findall(data)) and (len(held) > 1 or not _KEYS_IN_LINES.match(data)):
            raise _more_than_a_key(file, held) from error
        raise SigningKeyError(f"{shown}: {error.message}", hint=error.hint or _PUBLIC_HINT) from error


def _more_than_a_key(file: Path, held: Sequence[tuple[bytes, bytes]]) -> SigningKeyError:
    """The error for a file of lines such as authorized_keys has. The hint takes the first key out of it."""
    blob, comment = (part.decode("utf-8", "replace") for part in held[0])
    named = comment if _NAME_IN_COMMENT.fullmatch(comment) and safe_text(comment) == comment else blob[-12:]
    new = f"{named.partition('@')[0].rpartition('/')[2]}.pub"
    take = f"{shell_text('grep', '-o', f'{blob[:20]}.*{named}', str(file))} > {shell_text(new)}"
    count = "a key with options" if len(held) == 1 else f"{len(held)} keys"
    return SigningKeyError(
        f"{safe_text(str(file), 200)} holds {count}, as authorized_keys does, and one public key is meant",
        hint=f"Write that one into a file of its own, and name it; for the first of them: {take}",
    )


def _read(file: Path, unreadable: str, too_large: str) -> bytes:
    try:
        data = read_named(expand(file), MAX_TRUST_FILE).removeprefix(BOM_UTF8)  # of an editor on Windows
    except OSError as error:
        raise TrustFileError(f"{unreadable}: {error.strerror}", hint="Look at the path, and who may read it.") from error
    if len(data) > MAX_TRUST_FILE:
        raise TrustFileError(f"{too_large} ({MAX_TRUST_FILE} bytes)")
    return data
