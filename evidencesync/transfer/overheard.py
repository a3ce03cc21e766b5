"""What the near end of a pull knows of the manifest: what its own vault's end has read and checked."""

from __future__ import annotations

from evidencesync.custody.manifest import CheckedLine
from evidencesync.evidence.entry import Entry
from evidencesync.transfer.papers import ManifestMeter
from evidencesync.transfer.reading import MAX_LISTED_FLAGS, SourceTally


class Overheard:
    """Digests and counts of checked lines. `take` is called in the vault's thread; the rest is asked when that has said so."""

    def __init__(self) -> None:
        self.meter = ManifestMeter()
        self.tally = SourceTally()

    def take(self, lines: bytes, checked: list[CheckedLine]) -> None:
        """The next page, as it stands in the vault."""
        self.meter.feed(lines)
        for path, line in checked:
            if not isinstance(line, Entry):
                continue
            self.tally.manifest.add(line)
            if line.flags and len(self.tally.flagged) < MAX_LISTED_FLAGS:
                self.tally.flagged.extend((path, flag) for flag in line.flags)
