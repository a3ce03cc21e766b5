"""Where a content lies in a vault, and how far one may look for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from evidencesync.evidence.digest import Blake3Digest
from evidencesync.evidence.identity import ItemName
from evidencesync.vault.settings import Lookup

PRESENT: Final = 1 << 30
"""In place of an acquisition's number: the one that is being made. Published ones begin at 1; what was left over is below 0."""


class Location(NamedTuple):
    """A published file that had this content when it was published. `case` and `item` are folder names.

    Comes from a cache that nothing protects: whoever reads the bytes hashes them.
    """

    case: str
    item: str
    acquisition: int
    path: bytes
    size: int
    blake3: Blake3Digest


@dataclass(frozen=True, slots=True)
class Scope:
    """For whom a lookup is made (`case` and `item` are folder names), and how far it may look."""

    reach: Lookup
    case: str
    item: str

    def is_own_case(self, location: Location) -> bool:
        """Whether a location is in the case that the lookup is made for. If not, a claim to know its bytes needs proof."""
        return location.case == self.case

    @classmethod
    def of(cls, name: ItemName, reach: Lookup) -> Scope:
        """The scope of a transfer into an item."""
        return cls(reach, name.case.folder, name.item.folder)
