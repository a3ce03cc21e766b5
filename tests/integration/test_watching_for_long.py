"""A watch that goes on for long: hundreds of changes, looks and pushes take no more room than the first few."""

from __future__ import annotations

import gc
import os
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from evidencesync.errors import EvidenceSyncError, LinkLostError
from evidencesync.localstate.watched import WatchedKey, WatchMemory
from evidencesync.source.changes import SourceSnapshot
from evidencesync.source.filters import FilterRules
from evidencesync.watch.watch import Decision, SourceObserver, WatchIntervals, open_observer, watch
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.soak import often

WARM_UP = 20
KIB = 1024


@pytest.fixture(autouse=True)
def threads_are_not_measured() -> Iterator[None]:
    """A measurement of coverage keeps what it needs for each thread, also when the thread has ended: each push starts some."""
    trace = threading.gettrace()
    threading.settrace(None)
    yield
    threading.settrace(trace)


class EnoughError(Exception):
    """The end of the test."""


def room_taken() -> tuple[int, int, int]:
    gc.collect()
    return len(os.listdir("/proc/self/fd")), threading.active_count(), tracemalloc.get_traced_memory()[0]


@dataclass
class LongWatch:
    """Real looks at a real source by a clock of its own: each wait makes another change. Every seventh push fails."""

    observer: SourceObserver
    source: Path
    memory: WatchMemory
    cycles: int
    bench: Bench | None = None
    now: float = 0.0
    count: int = 0
    tries: int = 0
    pushed_states: int = 0
    failures: int = 0
    gaps: int = 0
    rooms: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def is_notified(self) -> bool:
        return self.observer.is_notified

    def look(self) -> SourceSnapshot | None:
        return self.observer.look()

    def wait(self, seconds: float) -> bool:
        return self._change(seconds) and self.observer.wait(0)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        elsewhere = self.source.with_name("elsewhere")
        if elsewhere.exists():
            elsewhere.rename(self.source)

    def _change(self, seconds: float) -> bool:
        self.now += seconds
        self.count += 1
        if self.count == WARM_UP:
            tracemalloc.start()
            self.rooms.append(room_taken())
        elif self.count == self.cycles:
            self.rooms.append(room_taken())
            raise EnoughError
        self._make_a_change()
        return True

    def _make_a_change(self) -> None:
        if self.count % 25 == 24:
            self.source.rename(self.source.with_name("elsewhere"))
            return
        if self.count % 2:
            (self.source / "folder").mkdir(exist_ok=True)
        elif (self.source / "folder").exists():
            (self.source / "folder").rmdir()
        (self.source / "log").write_text(f"{self.count}\n")

    def push(self, sight: SourceSnapshot) -> None:
        self.tries += 1
        if self.bench is not None:
            self.bench.push()
        elif self.tries % 7 == 0:
            raise LinkLostError("lost")
        self.memory.remember(sight.digest, min(self.count + 1, 9999), "ab" * 32, "2026-11-23T12:00:00.000000Z")
        self.pushed_states += 1

    def pushed(self) -> None:
        """See Listener."""

    def unchanged(self) -> None:
        """See Listener."""

    def changed(self, sight: SourceSnapshot) -> None:
        """See Listener."""

    def gone(self) -> None:
        self.gaps += 1

    def back(self) -> None:
        """See Listener."""

    def failed(self, error: EvidenceSyncError, pause: float) -> None:
        self.failures += 1


@pytest.mark.parametrize(("cycles", "with_a_vault"), [(often(300, 8000), False), (often(40, 800), True)])
def test_hundreds_of_cycles_take_no_more_room_than_the_first(tmp_path: Path, cycles: int, with_a_vault: bool) -> None:
    bench = make_bench(tmp_path)
    source = bench.source
    key = WatchedKey(os.fsencode(source), "vault", bench.name)
    memory = WatchMemory(tmp_path / "state", key)
    memory.require_usable()
    try:
        with open_observer(os.fsencode(source), FilterRules.none()) as observer:
            long = LongWatch(observer, source, memory, cycles, bench if with_a_vault else None)
            with pytest.raises(EnoughError):
                watch(Decision(WatchIntervals(10, 900), None), long, long.push, long, lambda: long.now)
    finally:
        tracemalloc.stop()
    before, after = long.rooms
    assert after[:2] == before[:2]
    assert after[2] - before[2] < 256 * KIB  # of all cycles together; caches that fill up take some 60
    assert long.pushed_states > cycles // 2
    assert long.gaps >= cycles // 30 > 0
    assert (long.failures > 0) == (not with_a_vault)
    assert not with_a_vault or len(bench.acquisitions()) == long.pushed_states
