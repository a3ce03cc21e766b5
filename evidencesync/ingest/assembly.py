"""One larger content, from its first byte to its last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from evidencesync.delta.recipe import Recipe, RecipeBuilder, RowSpool
from evidencesync.evidence.digest import Blake3Digest, Buffer, Sha256Digest, feed_zeros, new_blake3, new_sha256
from evidencesync.files.holes import HOLE_STEP
from evidencesync.ingest.basis import Basis
from evidencesync.ingest.present import PresentContent
from evidencesync.ingest.reusing import Place, ReusingWriter
from evidencesync.vault.content import StagedContent
from evidencesync.vault.location import Location
from evidencesync.vault.resume.leftovers import is_leftover


@dataclass(frozen=True, slots=True)
class AssembledContent:
    """A complete content. `staged` has its bytes, or `existing` is a published file that has them all.

    `shared` of its bytes lie in blocks of published files. `sha256` is there when the published file was read from the disk for
    both digests. `present` is how later contents of this session find it.
    """

    blake3: Blake3Digest
    size: int
    recipe: Recipe
    staged: StagedContent | None
    shared: int
    existing: Location | None
    sha256: Sha256Digest | None
    present: PresentContent


class Assembly:
    """The content that is being assembled, in order.

    A file that an interrupted session had begun is gone on with. As long as everything is found in order in one published
    file, nothing is written: in the end that file is linked. After that, blocks are shared with published files where that can
    be done (see ReusingWriter), and the rest is written.
    """

    def __init__(
        self,
        new_content: Callable[[], StagedContent],
        take_over: Callable[[Location], StagedContent | None],
        basis: Basis,
        rows: RowSpool,
        *,
        from_disk: bool,
    ) -> None:
        self.size = 0
        self.recipe = RecipeBuilder(rows)
        self.blake3 = new_blake3()
        self.sha256 = new_sha256() if from_disk else None
        self.existing: Location | None = None
        self._new_content = new_content
        self._take_over = take_over
        self._basis = basis
        self._taken: Location | None = None
        self._writer: ReusingWriter | None = None

    @property
    def shared(self) -> int:
        """Bytes that lie in blocks of a published file."""
        return 0 if self._writer is None else self._writer.shared

    def add(self, data: bytes | memoryview, place: Place | None = None) -> None:
        """The next bytes. `place` is where they were found; their digest was checked."""
        if self._is_here(place):
            self._keep(len(data))
        elif not self._stays(place):
            self._writable().append(data, _published(place))
        self._digest(data)

    def add_zeros(self, length: int, place: Place | None = None) -> None:
        """A run of zeros: a hole, but part of the digest. `place` is where they were seen to be."""
        if self._is_here(place):
            self._keep(length)
        elif not self._stays(place):
            self._writable().append_zeros(length)
        for start in range(0, length, HOLE_STEP):  # hashing them all may take longer than the other end would wait
            self._basis.working()
            feed_zeros(self._digest, min(HOLE_STEP, length - start))

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

    def _is_here(self, place: Place | None) -> bool:
        """Whether the staged file has it already, because it is one that an interrupted session had begun.

        Such a file is taken over by the first bytes that are found at its beginning.
        """
        if place is None or not is_leftover(place[0]) or place[1] != self.size:
            return False
        if self._writer is None and self.existing is None and not self.size:
            staged = self._take_over(place[0])
            if staged is not None:
                self._writer, self._taken = ReusingWriter(staged, self._basis), place[0]
        return self._taken == place[0]

    def _keep(self, length: int) -> None:
        if self._writer is not None:
            self._writer.settle()
            self._writer.staged.keep(length)

    def _stays(self, place: Place | None) -> bool:
        """Whether what lies there continues the one published file."""
        if place is None or self._writer is not None or place[1] != self.size or is_leftover(place[0]):
            return False
        if self.existing is not None and self.existing != place[0]:
            return False
        self.existing = place[0]
        return True

    def _digest(self, data: Buffer) -> None:
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


def _published(place: Place | None) -> Place | None:
    """Where blocks may be shared from: not with what will be removed as soon as this is published."""
    return None if place is None or is_leftover(place[0]) else place
