"""RowsInMemory: a spool for recipes that are small."""

from __future__ import annotations

from evidencesync.delta.recipe import Recipe


class RowsInMemory:
    """What a staging area's spool is, without a file."""

    def __init__(self) -> None:
        self._packed = bytearray()

    @property
    def size(self) -> int:
        return len(self._packed)

    def append(self, packed: bytes) -> None:
        """Adds at the end."""
        self._packed += packed

    def read_at(self, offset: int, length: int) -> bytes:
        """Gives back what was added."""
        return bytes(self._packed[offset : offset + length])


def encode(recipe: Recipe) -> bytes:
    """A recipe as it stands in `chunks.bin`, in one piece."""
    return b"".join(recipe.encoded())
