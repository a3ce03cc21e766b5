"""SumsWriter: SHA256SUMS and BLAKE3SUMS, written while entries arrive."""

from __future__ import annotations

from evidencesync.custody.documents import NotInSums
from evidencesync.custody.sums import b3sum_line, sha256sum_line
from evidencesync.evidence.digest import Blake3Digest, Sha256Digest
from evidencesync.vault.documents import StreamedDocument
from evidencesync.vault.layout import BLAKE3SUMS, DATA, MANIFEST, SHA256SUMS

_PREFIX = DATA.encode() + b"/"


class SumsWriter:
    """Both lists of an acquisition, relative to its folder. Raises as `StreamedDocument` does."""

    def __init__(self, acquisition_fd: int) -> None:
        self.sha256sums = StreamedDocument(acquisition_fd, SHA256SUMS)
        self.blake3sums = StreamedDocument(acquisition_fd, BLAKE3SUMS)
        self._left_out_sha256 = 0
        self._left_out_blake3 = 0

    @property
    def not_in_sums(self) -> NotInSums:
        """How many files one of the lists cannot carry."""
        return NotInSums(sha256sums=self._left_out_sha256, blake3sums=self._left_out_blake3)

    def add(self, path: bytes, blake3: Blake3Digest, sha256: Sha256Digest) -> None:
        """Adds a regular file below `data/`, by its evidence path."""
        self._add(_PREFIX + path, blake3, sha256)

    def finish(self, manifest: StreamedDocument) -> None:
        """Adds the manifest, which must be finished (so that no list is empty), and finishes both lists."""
        blake3, sha256 = bytes.fromhex(manifest.blake3_hex), bytes.fromhex(manifest.sha256_hex)
        self._add(MANIFEST.encode(), Blake3Digest(blake3), Sha256Digest(sha256))
        self.sha256sums.finish()
        self.blake3sums.finish()

    def close(self) -> None:
        """Closes both as they are."""
        self.sha256sums.close()
        self.blake3sums.close()

    def _add(self, name: bytes, blake3: Blake3Digest, sha256: Sha256Digest) -> None:
        line = sha256sum_line(sha256, name)
        if line is None:
            self._left_out_sha256 += 1
        else:
            self.sha256sums.append(line)
        line = b3sum_line(blake3, name)
        if line is None:
            self._left_out_blake3 += 1
        else:
            self.blake3sums.append(line)
