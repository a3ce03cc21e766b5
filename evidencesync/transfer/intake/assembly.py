"""One larger content, from its first byte to its last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from evidencesync.delta.recipe import Recipe, RecipeBuilder, RowSpool
from evidencesync.errors import DigestMismatchError
from evidencesync.evidence.digest import Blake3Digest, Sha256Digest, new_blake3, new_sha256
from evidencesync.limits import MIB
from evidencesync.transfer.intake.basis import Basis
from evidencesync.vault.content import StagedContent
from evidencesync.vault.location import Location

_ZEROS: Final = bytes(1 * MIB)


@dataclass(frozen=True, slots=True)
class AssembledContent:
    """A complete content. `staged` has its bytes, or `existing` is a published file that has them all.

    `sha256` is there when the published file was read from the disk for both digests.
    """

    blake3: Blake3Digest
    size: int
    recipe: Recipe
    staged: StagedContent | None
    existing: Location | None
    sha256: Sha256Digest | None


class Assembly:
    """The content that is being assembled.

    As long as every segment is found in order in one published file, nothing is written: in the end that file is linked.
    """

    def __init__(self, new_content: Callable[[], StagedContent], basis: Basis, rows: RowSpool, *, from_disk: bool) -> None:
        self.size = 0
        self.recipe = RecipeBuilder(rows)
        self.blake3 = new_blake3()
        self.sha256 = new_sha256() if from_disk else None
        self.existing: Location | None = None
        self.staged: StagedContent | None = None
        self._new_content = new_content
        self._basis = basis

    def follows(self, whole: tuple[Location, int] | None) -> bool:
        """Whether a segment that lies there continues the one published file."""
        if whole is None or self.staged is not None or whole[1] != self.size:
            return False
        return self.existing is None or self.existing == whole[0]

    def keep_in_place(self, location: Location, data: bytes) -> None:
        """The next bytes, found where they belong in a published file."""
        self.existing = location
        self._digest(data)

    def keep_zeros_in_place(self, location: Location, length: int) -> None:
        """The next bytes are zeros, and were seen to be in a published file."""
        self.existing = location
        self._digest_zeros(length)

    def write(self, data: bytes | memoryview) -> None:
        """The next bytes, to be written."""
        self._writable().append(data)
        self._digest(data)

    def write_zeros(self, length: int) -> None:
        """A run of zeros: a hole, but part of the digest."""
        self._writable().append_zeros(length)
        self._digest_zeros(length)

    def in_staging(self) -> StagedContent:
        """The content as a file of its own, where no published file is the same from end to end."""
        return self._writable()

    def _digest_zeros(self, length: int) -> None:
        for start in range(0, length, len(_ZEROS)):
            self._digest(memoryview(_ZEROS)[: min(len(_ZEROS), length - start)])

    def _digest(self, data: bytes | memoryview) -> None:
        self.size += len(data)
        self.blake3.update(data)
        if self.sha256 is not None and self.staged is None:
            self.sha256.update(data)

    def _writable(self) -> StagedContent:
        if self.staged is None:
            staged = self.staged = self._new_content()
            if self.existing is not None and self.size:
                fd = self._basis.fd_of(self.existing)
                if fd is None:
                    raise DigestMismatchError("a published file has vanished while it was being used")
                staged.append_from(fd, 0, self.size)
            self.existing = None
        return self.staged
