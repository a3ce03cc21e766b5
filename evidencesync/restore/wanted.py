"""Selects the wanted entries of an acquisition, and reads its manifest as often as needed."""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Final

from evidencesync.custody.manifest import WholeEntry, read_manifest, whole_entries
from evidencesync.errors import DigestMismatchError, NotThereError, PathEscapeError, UsageError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.evidence.path import EvidencePath
from evidencesync.files.disk import document_blocks, opened_file, storing
from evidencesync.vault.layout import MANIFEST

_GLOB: Final = re.compile(rb"[*?\[]")
_EXACT: Final = (
    "A path is exact, from the source on; a folder stands for all that is in it, and * for itself. "
    "See what there is: evidencesync show VAULT --case C --item I --files"
)
_MOST_NEAR: Final = 3  # paths that a hint names
_MOST_WANTED: Final = 8  # paths of a command line for which near ones are looked for
_MOST_BESIDE: Final = 2000  # names that are compared letter by letter


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
        self._near = {path: _NearPaths(path) for path in sorted(self.missing)[:_MOST_WANTED]}

    def takes(self, path: bytes) -> bool:
        """Whether the next entry is wanted."""
        if self._all:
            return True
        if path in self._named:
            self.missing.discard(path)
            self._near.pop(path, None)
            if not (self._inside and path.startswith(self._inside)):
                self._inside = path + b"/"
            return True
        for near in self._near.values():
            near.see(path)
        return bool(self._inside and path.startswith(self._inside)) or path in self._above

    def check_found(self) -> None:
        """Raises NotThereError when something that was named was not in the manifest, which was read to its end."""
        if self.missing:
            first = min(self.missing)
            more = f", and {len(self.missing) - 1} more" if len(self.missing) > 1 else ""
            near = self._near[first].hint() if first in self._near else ""
            raise NotThereError(f"the acquisition has no {safe_text(first, 200)}{more}", hint=near + _EXACT)


class _NearPaths:
    """Paths that may have been meant by one that is not there: the first few, for a hint alone."""

    def __init__(self, wanted: bytes) -> None:
        self._folder, _, name = wanted.rpartition(b"/")
        self._name = name.lower()
        self._pattern = re.compile(fnmatch.translate(_text(wanted))) if _GLOB.search(wanted) else None
        self._found: list[str] = []
        self._beside: list[str] = []

    def see(self, path: bytes) -> None:
        """Keeps a path of the acquisition that has the same name elsewhere, fits as a pattern, or lies beside."""
        folder, _, name = path.rpartition(b"/")
        if folder == self._folder and path and len(self._beside) < _MOST_BESIDE:
            self._beside.append(_text(name))
        if len(self._found) < _MOST_NEAR and (name.lower() == self._name or self._fits(path, name)):
            self._found.append(_text(path))

    def _fits(self, path: bytes, name: bytes) -> bool:
        pattern = self._pattern
        return pattern is not None and (pattern.match(_text(path)) is not None or pattern.match(_text(name)) is not None)

    def hint(self) -> str:
        """Names them; empty if there is none."""
        folder = f"{_text(self._folder)}/" if self._folder else ""
        beside = [folder + name for name in difflib.get_close_matches(_text(self._name), self._beside, _MOST_NEAR)]
        near = dict.fromkeys([*self._found, *beside])
        shown = [safe_text(path.encode("utf-8", "surrogateescape"), 120) for path in [*near][:_MOST_NEAR]]
        return f"It has {', '.join(shown)}. " if shown else ""


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _plain(path: bytes) -> bytes:
    """A path that a person has typed, without a leading `./` and a trailing `/`."""
    given = path
    while path.startswith(b"./"):
        path = path[2:].lstrip(b"/")
    path = path.rstrip(b"/")
    path = b"" if path == b"." else path
    if given.startswith(b"/") or not given:
        inner = shell_text(given.lstrip(b"/")) if given.strip(b"/") else "notes/today.txt"
        hint = f"Paths are relative to the source, as in: {inner}"
        raise UsageError(f"not a path in an acquisition: {safe_text(given, 200)}", hint=hint)
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
