"""Reads the trust files that a command line or the settings name: allowed signers, and roots of time-stamping authorities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evidencesync.cli.settings import LoadedSettings
from evidencesync.errors import TrustFileError
from evidencesync.evidence.display import safe_text
from evidencesync.home import expand, read_named
from evidencesync.limits import MAX_TRUST_FILE

if TYPE_CHECKING:
    from evidencesync.custody.timestamp import Roots


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


def _read(file: Path, unreadable: str, too_large: str) -> bytes:
    try:
        data = read_named(expand(file), MAX_TRUST_FILE)
    except OSError as error:
        raise TrustFileError(f"{unreadable}: {error.strerror}") from error
    if len(data) > MAX_TRUST_FILE:
        raise TrustFileError(f"{too_large} ({MAX_TRUST_FILE} bytes)")
    return data
