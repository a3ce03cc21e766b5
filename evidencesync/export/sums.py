"""Makes SHA256SUMS and BLAKE3SUMS anew, where an acquisition was fetched: all that they list is in the signed manifest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from evidencesync.custody.sums import b3sum_line, entry_lines, sha256sum_line
from evidencesync.errors import DigestMismatchError
from evidencesync.evidence.digest import Blake3Digest, Sha256Digest, new_blake3, new_sha256
from evidencesync.export.acquisition import AcquisitionReader
from evidencesync.export.tree import joined_lines
from evidencesync.files.disk import document_blocks
from evidencesync.vault.layout import BLAKE3SUMS, DATA, MANIFEST, SHA256SUMS

SUMS: Final = frozenset({SHA256SUMS, BLAKE3SUMS})


def remade_sums(acquisition: AcquisitionReader, name: str) -> Iterator[bytes]:
    """Yields one of both lists. At its end, raises DigestMismatchError unless it is the one that the receipt names."""
    digest = new_sha256()
    for block in joined_lines(_lines(acquisition, name)):
        digest.update(block)
        yield block
    receipt = acquisition.receipt
    if digest.digest().hex() != (receipt.sha256sums_sha256 if name == SHA256SUMS else receipt.blake3sums_sha256):
        raise DigestMismatchError(f"{name} is not what the receipt names", hint="Run: evidencesync verify VAULT")


def _lines(acquisition: AcquisitionReader, name: str) -> Iterator[bytes]:
    place = 0 if name == SHA256SUMS else 1
    for path, entry in acquisition.entries():
        if entry.blake3 is not None and (line := entry_lines(DATA, path, entry)[place]) is not None:
            yield line
    manifest = MANIFEST.encode()
    if name == SHA256SUMS:
        yield sha256sum_line(Sha256Digest(bytes.fromhex(acquisition.manifest_sha256)), manifest) or b""
        return
    whole = new_blake3()
    with acquisition.open_document(MANIFEST) as file:
        for block in document_blocks(file):
            whole.update(block)
    yield b3sum_line(Blake3Digest(whole.digest()), manifest) or b""
