"""How contents came to lie in a new acquisition, counted."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class StoredTally:
    """How contents came to lie in the new acquisition: files and bytes."""

    files: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """Counts one content."""
        self.files += 1
        self.bytes += size


@dataclass(slots=True)
class Tallies:
    """The four ways."""

    written: StoredTally = field(default_factory=StoredTally)
    linked: StoredTally = field(default_factory=StoredTally)
    reflinked: StoredTally = field(default_factory=StoredTally)
    copied: StoredTally = field(default_factory=StoredTally)

    def add_assembled(self, size: int, shared: int) -> None:
        """Counts an assembled content: once as a file, its bytes by whether they lie in blocks of a published file."""
        if not shared:
            self.written.add(size)
            return
        self.reflinked.add(shared)
        self.written.bytes += size - shared
