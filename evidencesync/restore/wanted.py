"""Selects the wanted entries of an acquisition, and reads its manifest as often as needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from evidencesync.custody.manifest import WholeEntry, read_manifest, whole_entries
from evidencesync.errors import DigestMismatchError, NotThereError, PathEscapeError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.path import EvidencePath
from evidencesync.files.disk import document_blocks, opened_file, storing
from evidencesync.vault.layout import MANIFEST


class PathSelection:
    """The entries that are asked for: all, or files and folders by their paths, with the folders that lead to them.

    Ask in the manifest's order. Raises UsageError for a path that no entry can have.
    """

    def __init__(self, paths: Sequence[bytes]) -> None:
        named = {_plain(path) for path in paths}
        self._all = not named or b"" in named
        self._named = named
        self._above = {b"/".join(parts[:depth]) for parts in (path.split(b"/") for path in named) for depth in range(len(parts))}
        self._inside = b""
        self.missing = set() if self._all else set(named)

    def takes(self, path: bytes) -> bool:
        """Whether the next entry is wanted."""
        if self._all:
            return True
        if path in self._named:
            self.missing.discard(path)
            if not (self._inside and path.startswith(self._inside)):
                self._inside = path + b"/"
            return True
        return bool(self._inside and path.startswith(self._inside)) or path in self._above

    def check_found(self) -> None:
        """Raises NotThereError when something that was named was not in the manifest, which was read to its end."""
        if self.missing:
            first = min(self.missing)
            more = f", and {len(self.missing) - 1} more" if len(self.missing) > 1 else ""
            raise NotThereError(
                f"the acquisition has no {safe_text(first, 200)}{more}",
                hint="See what there is: evidencesync show VAULT --case C --item I --files",
            )


def _plain(path: bytes) -> bytes:
    """A path that a person has typed, without a leading `./` and a trailing `/`."""
    given = path
    while path.startswith(b"./"):
        path = path[2:].lstrip(b"/")
    path = path.rstrip(b"/")
    path = b"" if path == b"." else path
    if given.startswith(b"/") or not given:
        raise UsageError(f"not a path in an acquisition: {safe_text(given, 200)}", hint="Paths are relative to the source.")
    try:
        return EvidencePath(path).raw
    except PathEscapeError as error:
        raise UsageError(error.message, hint="Paths are relative to the source, without `..`.") from error


class AcquiredManifest:
    """The manifest of a published acquisition. Its signatures were checked before; here its digest must be the same."""

    def __init__(self, folder_fd: int, manifest_sha256: str) -> None:
        """The descriptor of the acquisition's folder stays the caller's."""
        self._folder_fd = folder_fd
        self._sha256 = manifest_sha256

    def entries(self, selection: PathSelection) -> Iterator[WholeEntry]:
        """Yields every wanted entry in the manifest's order. Reads the file again each time.

        Raises DigestMismatchError at its end if the manifest is not the one that was checked, and what a malformed manifest
        raises: the caller must keep nothing that it did before.
        """
        digest = hashlib.sha256()
        with opened_file(MANIFEST, self._folder_fd) as file, storing(f"read {MANIFEST}"):
            yield from whole_entries(read_manifest(document_blocks(file, digest.update)), selection.takes)
        if digest.hexdigest() != self._sha256:
            raise DigestMismatchError("the manifest was changed while it was used", hint="Run: evidencesync verify VAULT")
