"""Finds contradictions between the times of a chain's records, and records dated after the check.

Wrong times are never an error: each signer uses the clock of their own machine. But a record that is dated before the one it
follows, or after the check itself, is reported: else a reader of the chain would take the times as facts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from evidencesync.custody.documents import CustodyRecord
from evidencesync.custody.times import BACKWARDS, SECOND
from evidencesync.evidence.number_format import duration_text, exact_time_text
from evidencesync.evidence.utc_time import parse_utc_time, shown_time
from evidencesync.verify.checks import Check
from evidencesync.verify.findings import Reporter

_OF_ACQUISITIONS: Final = frozenset({"acquired", "received"})  # compared with each other where acquisitions are checked


@dataclass(slots=True)
class Stopwatch:
    """Measures the time since a run began, also while the machine slept or its clock was set forward."""

    _steady_ns: int = field(default_factory=time.monotonic_ns)
    _clock_ns: int = field(default_factory=time.time_ns)

    def elapsed_ns(self) -> int:
        """Returns the larger of the two clocks' differences."""
        return max(time.monotonic_ns() - self._steady_ns, time.time_ns() - self._clock_ns, 0)


@dataclass(slots=True)
class ChainTimes:
    """Checks the times of one chain's records, in order; only of records at their right place."""

    _before: tuple[CustodyRecord, int] | None = None
    _latest: tuple[int, str, Reporter] | None = None
    _times: list[int] = field(default_factory=list)

    def add(self, report: Reporter, name: str, record: CustodyRecord) -> None:
        """Adds the next record. A warning where it is dated before the one that it follows."""
        before, at = self._before, parse_utc_time(record.time)
        self._before = record, at
        self._times.append(at)
        if self._latest is None or at > self._latest[0]:
            self._latest = at, name, report
        if before is None or before[0].sequence != record.sequence - 1 or {before[0].type, record.type} <= _OF_ACQUISITIONS:
            return
        apart = before[1] - at
        if apart > BACKWARDS:
            followed = f"record {before[0].sequence} before it at {exact_time_text(before[0].time)}"
            text = f"{name} is dated {exact_time_text(record.time)}, {followed}: {duration_text(apart / SECOND)} earlier"
            report.report(Check.TIME, "times-contradict", text, name)

    def finish(self, now_ns: int) -> None:
        """A warning where records are dated after `now_ns`, the time of the check. Call after the last record."""
        later = sum(at > now_ns + BACKWARDS for at in self._times)
        if later and self._latest is not None:
            at, name, report = self._latest
            few = "this record is" if later == 1 else f"{later} records of this chain are"
            text = f"{few} dated after this check, at {shown_time(now_ns)}; the latest is {name}, of {shown_time(at)}"
            report.report(Check.TIME, "times-contradict", text, name)
        self._times.clear()
