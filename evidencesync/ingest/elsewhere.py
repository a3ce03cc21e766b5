"""What other cases have, for a sender who proves that he has it as well.

Here is decided what a transfer into one case may make of another. Three things hold:

- Nothing counts as found before the proof was checked against the bytes in the vault. Without a good one the answer is the
  one that a digest gets which no case has.
- Only whole segments and whole small contents are found. Chunks, pieces and pages are looked for in the own case alone.
- What is found is read, and written anew in the own case: no link and no shared blocks. It is never a place to go on from or to
  compare with, and that it is damaged is not told to the sender.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence

from evidencesync.delta.possession import Possession
from evidencesync.delta.rows import Row
from evidencesync.errors import ProtocolError
from evidencesync.evidence.digest import Blake3Digest, SegmentDigest
from evidencesync.ingest.basis import Basis, TreeKey
from evidencesync.limits import LEAST_PROVEN, PROOF
from evidencesync.vault.index.index import Index
from evidencesync.vault.layout import Location, Scope
from evidencesync.vault.tree import TreeReader

Claimed = tuple[Blake3Digest, int, bytes]
"""Digest and size of a small content, and the proof that came with them."""


class Elsewhere:
    """Lookups beyond the case. Used by one thread.

    It has an index and a basis of its own, so that nothing that is found here changes what is found, counted or said there.
    `working` is called once for each question, whatever comes of it: what the other end hears says nothing.
    """

    def __init__(
        self,
        index: Index,
        scope: Scope,
        open_tree: Callable[[TreeKey], TreeReader],
        possession: Possession,
        working: Callable[[], None],
    ) -> None:
        self.basis = Basis(open_tree, from_disk=False, working=_say_nothing)  # what is taken from it is read back in its copy
        self._index = index
        self._scope = scope
        self._possession = possession
        self._working = working

    def prepare(self) -> None:
        """Brings up to date which case has what. May take about a second for each TiB that is new in the vault."""
        self._index.known(self._scope)

    def close(self) -> None:
        """Closes everything."""
        self.basis.close()
        self._index.close()

    def find_segment(self, digest: SegmentDigest, size: int, proof: bytes) -> tuple[Location, int, list[Row]] | None:
        """Where another case has a segment of this name and size, and its rows, if the proof is good."""
        self._working()
        found = self._index.find_segment(digest, self._scope) if proof else None
        if found is None or self._scope.is_own_case(found[0]):
            return None
        location, offset, rows = found
        if sum(row.length for row in rows) != size or sum(row.length for row in rows if not row.is_zeros) < LEAST_PROVEN:
            return None
        parts: list[bytes] = []
        for row in rows:
            data = b"" if row.is_zeros else self.basis.read(location, offset, row.length)
            if data is None:
                return None
            parts.append(data)
            offset += row.length
        good = hmac.compare_digest(self._possession.of_segment(digest, parts), proof)
        return found if good else None

    def find_contents(self, claimed: Sequence[Claimed]) -> dict[Blake3Digest, Location]:
        """Where other cases have whole small contents, those whose proof is good."""
        found = self._index.find_contents([digest for digest, _, _ in claimed], self._scope)
        return {digest: found[digest] for digest, size, proof in claimed if self._has_proved(found.get(digest), size, proof)}

    def _has_proved(self, location: Location | None, size: int, proof: bytes) -> bool:
        self._working()
        if location is None or self._scope.is_own_case(location) or location.size != size:
            return False
        read = self.basis.read_whole(location)
        return read is not None and hmac.compare_digest(self._possession.of_content(read[0]), proof)


def claims(digests: Sequence[Blake3Digest], sizes: Sequence[int], proofs: bytes) -> list[Claimed]:
    """A page's small contents with their proofs; those that are too small have none. Raises ProtocolError."""
    proven = [(digest, size) for digest, size in zip(digests, sizes, strict=True) if size >= LEAST_PROVEN]
    if len(proofs) != PROOF * len(proven):
        raise ProtocolError("the proofs of a page do not fit its lines")
    return [(*content, proofs[PROOF * number : PROOF * (number + 1)]) for number, content in enumerate(proven)]


def _say_nothing() -> None:
    return
