"""SumsWriter: SHA256SUMS and BLAKE3SUMS, written while entries arrive."""

from __future__ import annotations

from collections.abc import Iterable

from evidencesync.custody.documents import NotInSums
from evidencesync.custody.manifest import CheckedLine
from evidencesync.custody.sums import b3sum_line, entry_lines, sha256sum_line
from evidencesync.evidence.digest import Blake3Digest, Sha256Digest
from evidencesync.evidence.entry import Entry
from evidencesync.vault.documents import StreamedDocument
from evidencesync.vault.layout import BLAKE3SUMS, DATA, MANIFEST, SHA256SUMS


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

    def add(self, lines: Iterable[CheckedLine]) -> None:
        """Adds the regular files below `data/` among a manifest's lines."""
        pairs = [entry_lines(DATA, path, line) for path, line in lines if isinstance(line, Entry) and line.blake3 is not None]
        sha256_lines = [line for line, _ in pairs if line is not None]
        blake3_lines = [line for _, line in pairs if line is not None]
        self._left_out_sha256 += len(pairs) - len(sha256_lines)
        self._left_out_blake3 += len(pairs) - len(blake3_lines)
        self.sha256sums.append(b"".join(sha256_lines))
        self.blake3sums.append(b"".join(blake3_lines))

    def finish(self, manifest: StreamedDocument) -> None:
        """Adds the manifest, which must be finished (so that no list is empty), and finishes both lists."""
        name = MANIFEST.encode()
        self.sha256sums.append(sha256sum_line(Sha256Digest(bytes.fromhex(manifest.sha256_hex)), name) or b"")
        self.blake3sums.append(b3sum_line(Blake3Digest(bytes.fromhex(manifest.blake3_hex)), name) or b"")
        self.sha256sums.finish()
        self.blake3sums.finish()

    def close(self) -> None:
        """Closes both as they are."""
        self.sha256sums.close()
        self.blake3sums.close()
