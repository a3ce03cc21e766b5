"""Reads manifests on the vault's disk: earlier ones for their pages, and the staged one for checks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from evidencesync.custody.manifest import CheckedLine, read_manifest
from evidencesync.errors import StorageError
from evidencesync.evidence.digest import ChunkDigest
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.files.disk import READ_FLAGS, document_blocks, reading, storing
from evidencesync.ingest.pages import PreviousManifest
from evidencesync.limits import MAX_MANIFEST_LINE
from evidencesync.protocol.pages import page_positions
from evidencesync.vault.item import ItemState
from evidencesync.vault.layout import MANIFEST
from evidencesync.vault.resume.leftovers import Leftovers
from evidencesync.vault.staging import Staging


def previous_manifest(state: ItemState) -> list[PreviousManifest]:
    """Returns the previous acquisition's manifest, so that pages of unchanged files need not travel; [] before the first.

    Raises StorageError, MissingOrExtraError where it cannot be read: then it is no basis, and nothing else follows.
    """
    if state.previous_manifest is None:
        return []
    return [_manifest_at(state.previous_manifest, state.next_acquisition - 1)]


def leftover_manifests(leftovers: Leftovers) -> list[PreviousManifest]:
    """Returns the manifests that interrupted sessions of the item had received; each page once, from the latest that has it.

    So memory does not grow with the number of sessions that began with the same pages.
    """
    found: list[PreviousManifest] = []
    seen: set[ChunkDigest] = set()
    for acquisition, path in leftovers.manifests():
        try:
            manifest = _manifest_at(path, acquisition)
        except StorageError:
            continue  # not needed: its pages travel again
        manifest.positions = {digest: place for digest, place in manifest.positions.items() if digest not in seen}
        seen.update(manifest.positions)
        if manifest.positions:
            found.append(manifest)
    return found


def _manifest_at(manifest: Path, acquisition: int) -> PreviousManifest:
    shown = f"read {safe_text(os.fsencode(manifest), 300)}"
    with storing(shown), _opened(manifest) as file:
        positions = page_positions(iter(lambda: _honest_line(file), b""))

    def read(offset: int, length: int) -> bytes:
        with storing(shown), _opened(manifest) as file:
            file.seek(offset)
            return file.read(length)

    return PreviousManifest(acquisition, positions, read)


def _opened(manifest: Path) -> BinaryIO:
    return reading(os.open(manifest, READ_FLAGS))


def _honest_line(file: BinaryIO) -> bytes:
    """Returns the next line; b"" (the end) where it is too long: then this is no manifest, and no page can be found in it."""
    line = file.readline(MAX_MANIFEST_LINE + 1)
    return line if len(line) <= MAX_MANIFEST_LINE else b""


def staged_lines(staging: Staging) -> Iterator[CheckedLine]:
    """Yields the lines of the staged manifest, read from its file."""
    with reading(os.open(MANIFEST, READ_FLAGS, dir_fd=staging.acquisition_fd)) as file:
        yield from read_manifest(document_blocks(file))


def not_verified(lines: Iterator[CheckedLine], verified: bytearray) -> Iterator[CheckedLine]:
    """Yields the lines of contents that were not read from the disk yet. `verified` has one byte for each content."""
    contents = 0
    for path, line in lines:
        if isinstance(line, Entry) and line.blake3 is not None:
            if not verified[contents]:
                yield path, line
            contents += 1
