"""SeenChain: how far somebody has seen a custody chain, and whether what he is shown later is still that chain.

A chain cannot show by itself that its end was cut off. Whoever remembers a record that he has seen can: its digest stands for all
that were before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from evidencesync.limits import MAX_SEEN_DIGESTS


class Comparison(Enum):
    """What a chain is to one that was seen before."""

    EXTENDS = "it goes on where it was, or has not changed"
    OLDER_COPY = "every record it has is one that was seen, but later ones are missing: an older copy"
    SHORTER = "later records are missing; whether the rest is what it was cannot be told"
    FORKED = "it has another record under a number that was seen"


@dataclass(frozen=True, slots=True)
class KnownChain:
    """A chain up to the record `sequence`: digests (hexadecimal) of the last records without a gap, at least of that one."""

    sequence: int
    digests: tuple[str, ...]

    @classmethod
    def of(cls, sequence: int, digests: Sequence[str]) -> KnownChain:
        """That record and those before it, as far as they are worth keeping."""
        return cls(sequence, tuple(digests[-MAX_SEEN_DIGESTS:]))

    @property
    def sha256(self) -> str:
        """The digest of the last record."""
        return self.digests[-1]

    def digest_of(self, sequence: int) -> str | None:
        """The digest of a record; None where it is not known any more, or not yet."""
        place = len(self.digests) - 1 - (self.sequence - sequence)
        return self.digests[place] if 0 <= place < len(self.digests) else None

    def extended(self, *digests: str) -> KnownChain:
        """The same chain with the next records."""
        return KnownChain.of(self.sequence + len(digests), (*self.digests, *digests))

    def compare(self, present: KnownChain) -> Comparison:
        """What a chain that is there now is to this one, which was seen before.

        `present` must reach back to this one's last record, or be known to hang together from there: what is older than its
        digests counts as changed.
        """
        if present.sequence >= self.sequence:
            same = present.digest_of(self.sequence) == self.sha256
            return Comparison.EXTENDS if same else Comparison.FORKED
        known = self.digest_of(present.sequence)
        if known is None:
            return Comparison.SHORTER
        return Comparison.OLDER_COPY if known == present.sha256 else Comparison.FORKED
