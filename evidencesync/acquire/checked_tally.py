"""What the near end of a pull knows of the manifest: what its own vault's end has read and checked."""

from __future__ import annotations

from evidencesync.acquire.reading import SourceTally
from evidencesync.acquire.session_recorder import SessionRecorder
from evidencesync.acquire.signing import ManifestHasher
from evidencesync.custody.manifest import CheckedLine
from evidencesync.evidence.entry import Entry


class CheckedTally:
    """Digests and counts of checked lines. `take` is called in the vault's thread; the rest is asked when that has said so."""

    def __init__(self, recorder: SessionRecorder) -> None:
        self._recorder = recorder
        self.meter = ManifestHasher()
        self.tally = SourceTally()
        self.root: Entry | None = None
        """The manifest's first entry: what was named as the source, as it is there."""

    def take(self, lines: bytes, checked: list[CheckedLine]) -> None:
        """The next page, as it stands in the vault."""
        self.meter.feed(lines)
        self._recorder.add_manifest(lines)
        for path, line in checked:
            self.tally.note_gaps(line.read_errors or ())
            if not isinstance(line, Entry):
                continue
            if self.root is None:
                self.root = line
            self.tally.partial += line.read_errors is not None
            self.tally.manifest.add(line)
            for flag in line.flags or ():
                self.tally.note_flag(path, flag)
