"""The authorities that somebody believes when they say what time it was: files of root certificates."""

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


def load_roots(settings: LoadedSettings, named: Sequence[Path] | None) -> Roots | None:
    """All certificates of the files that were named, else of the settings' file; None where there are none at all.

    Raises TrustFileError for a file that cannot be read as one.
    """
    settled = settings.path(settings.values.tsa_root)
    files = list(named) if named else [settled] if settled is not None else []
    roots: Roots | None = None
    for file in files:
        from evidencesync.custody.timestamp import Roots

        shown = f"the file of root certificates {safe_text(str(file), 200)}"
        found = Roots.parse(_read(file, shown), shown)
        roots = found if roots is None else roots + found
    return roots


def _read(file: Path, shown: str) -> bytes:
    try:
        data = read_named(expand(file), MAX_TRUST_FILE)
    except OSError as error:
        raise TrustFileError(f"{shown} cannot be read: {error.strerror}") from error
    if len(data) > MAX_TRUST_FILE:
        raise TrustFileError(f"{shown} is larger than any list of certificates ({MAX_TRUST_FILE} bytes)")
    return data
