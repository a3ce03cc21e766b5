"""One larger content, from its first byte to its last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from evidencesync.delta.recipe import Recipe, RecipeBuilder
from evidencesync.evidence.digest import Blake3Digest, Sha256Digest, new_blake3, new_sha256
from evidencesync.limits import MIB
from evidencesync.transfer.intake.basis import Basis
from evidencesync.transfer.intake.reusing import Place, ReusingWriter
from evidencesync.vault.content import StagedContent
from evidencesync.vault.location import Location

_ZEROS: Final = bytes(1 * MIB)


@dataclass(frozen=True, slots=True)
class AssembledContent:
    """A complete content. `staged` has its bytes, or `existing` is a published file that has them all.

    `shared` of its bytes lie in blocks of published files. `sha256` is there when the published file was read from the disk for
    both digests.
    """

    blake3: Blake3Digest
    size: int
    recipe: Recipe
    staged: StagedContent | None
    shared: int
    existing: Location | None
    sha256: Sha256Digest | None


class Assembly:
    """The content that is being assembled, in order.

    As long as everything is found in order in one published file, nothing is written: in the end that file is linked. After
    that, blocks are shared with published files where that can be done (see ReusingWriter), and the rest is written.
    """

    def __init__(self, new_content: Callable[[], StagedContent], basis: Basis, *, from_disk: bool) -> None:
        self.size = 0
        self.recipe = RecipeBuilder()
        self.blake3 = new_blake3()
        self.sha256 = new_sha256() if from_disk else None
        self.existing: Location | None = None
        self._new_content = new_content
        self._basis = basis
        self._writer: ReusingWriter | None = None

    @property
    def shared(self) -> int:
        """Bytes that lie in blocks of a published file."""
        return 0 if self._writer is None else self._writer.shared

    def add(self, data: bytes | memoryview, place: Place | None = None) -> None:
        """The next bytes. `place` is where they were found; their digest was checked."""
        if not self._stays(place):
            self._writable().append(data, place)
        self._digest(data)

    def add_zeros(self, length: int, place: Place | None = None) -> None:
        """A run of zeros: a hole, but part of the digest. `place` is where they were seen to be."""
        if not self._stays(place):
            self._writable().append_zeros(length)
        for start in range(0, length, len(_ZEROS)):
            self._digest(memoryview(_ZEROS)[: min(len(_ZEROS), length - start)])

    def in_staging(self) -> StagedContent:
        """All of it so far, as a file of its own."""
        writer = self._writable()
        writer.settle()
        return writer.staged

    def discard(self) -> None:
        """Removes what was written."""
        if self._writer is not None:
            self._writer.staged.discard()

    def close(self) -> None:
        """Lets go of the staged file, and leaves it as it is."""
        if self._writer is not None:
            self._writer.staged.close()

    def _stays(self, place: Place | None) -> bool:
        """Whether what lies there continues the one published file."""
        if place is None or self._writer is not None or place[1] != self.size:
            return False
        if self.existing is not None and self.existing != place[0]:
            return False
        self.existing = place[0]
        return True

    def _digest(self, data: bytes | memoryview) -> None:
        self.size += len(data)
        self.blake3.update(data)
        if self.sha256 is not None and self._writer is None:
            self.sha256.update(data)

    def _writable(self) -> ReusingWriter:
        if self._writer is None:
            self._writer = ReusingWriter(self._new_content(), self._basis)
            if self.existing is not None and self.size:
                self._writer.begin_with(self.existing, self.size)
            self.existing = None
        return self._writer
