"""Shows the progress of a restore: what is written of what must be, how long that takes, and what the link brings."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, Protocol

from evidencesync.cli.progress_display import describe_files
from evidencesync.cli.time_left import (
    MANY_HOLES,
    DataAndHoles,
    FoundLately,
    Meter,
    describe_amount,
    describe_left,
    describe_rate,
    then_read_back,
)
from evidencesync.evidence.display import safe_text

if TYPE_CHECKING:
    from evidencesync.restore.restore import RestoreProgress

_WIDTH: Final = 60
_STAGES: Final = {
    "looking": "reading the manifest",
    "writing": "writing",
    "syncing": "writing to the disk",
    "read-back": "reading back",
    "metadata": "setting metadata",
    "done": "done",
}


class FarBytes(Protocol):
    """What comes from a vault on another machine."""

    @property
    def received(self) -> int:
        """Bytes of files that have come."""

    @property
    def wire_received(self) -> int:
        """Bytes that have come over the network."""

    @property
    def is_lost(self) -> bool:
        """Whether the link is lost, and another one is tried."""


@dataclasses.dataclass(slots=True)
class RestoreView:
    """A restore. Holes are no part of the amount: they are neither sent nor written, and are hashed at a rate of their own."""

    progress: RestoreProgress
    reads_back: bool
    far: FarBytes | None = None
    """Of a vault on another machine."""
    _written: Meter = dataclasses.field(default_factory=Meter)
    _link: Meter = dataclasses.field(default_factory=Meter)
    _work: DataAndHoles = dataclasses.field(default_factory=DataAndHoles)
    _read: Meter = dataclasses.field(default_factory=Meter)
    _found: FoundLately = dataclasses.field(default_factory=FoundLately)

    def headline(self, now: float) -> str:
        """See View."""
        stage = self.progress.stage
        if self.far is not None and self.far.is_lost:
            return "the link is lost; trying to get it back"
        parts = [_STAGES[stage]]
        if stage == "writing":
            parts += [describe_amount(*self.extent()), *self._speed(now)]
        elif stage == "read-back":
            parts += self._read.describe(now, *self.extent())
        return "  ".join(parts)

    def _speed(self, now: float) -> list[str]:
        """The time left, then the rate: of the link where there is one, and not of what a basis gave."""
        done, total = self.extent()
        rates = describe_rate(self._written.rate(now, done))
        if self.far is not None:
            rates = [f"link {rate}" for rate in describe_rate(self._link.rate(now, self.far.wire_received))]
        left = self._seconds_left(now, done, total)
        if self._holes_left and self._work.reads_holes(now):
            return self._then(describe_left(left)) or self._work.describe_holes(self._holes_left)
        if stands := self._written.describe_standstill(now, done, total):
            return stands
        if self.far is not None and self._found.is_so(now, done - self.far.received):
            return [f"at least {text}" for text in describe_left(self._written.seconds_left(now, done, total or 0))] or rates
        return [*self._then(describe_left(left)), *rates]

    def _then(self, left: list[str]) -> list[str]:
        return then_read_back(left, self.progress.total_bytes) if self.reads_back else left

    def _seconds_left(self, now: float, done: int, total: int | None) -> float | None:
        """How long the rest takes, by what is sent or written alone: what a basis has comes in a moment."""
        came = done if self.far is None else self.far.received
        return self._work.seconds_left(now, (came, self.progress.hole_bytes), (max((total or 0) - done, 0), self._holes_left))

    @property
    def _holes_left(self) -> int:
        left = self.progress.total_hole_bytes - self.progress.hole_bytes
        return left if left >= MANY_HOLES else 0

    def extent(self) -> tuple[int, int | None]:
        """See View."""
        progress = self.progress
        if progress.stage != "writing":
            return progress.bytes, progress.total_bytes or None
        done = progress.bytes - progress.hole_bytes
        return done, max(progress.total_data_bytes, done) or None

    def place(self) -> str:
        """See View."""
        progress = self.progress
        parts = [describe_files(progress.files, progress.total_files)] if progress.stage in {"writing", "read-back"} else []
        if progress.stage == "writing" and progress.hole_bytes:
            parts.append(f"holes {describe_amount(progress.hole_bytes, progress.total_hole_bytes)} (not written)")
        if progress.stage in {"writing", "metadata"}:
            parts.append(safe_text(progress.path, _WIDTH))
        return "  ".join(filter(None, parts))
