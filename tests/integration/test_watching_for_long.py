"""A watch that goes on for long: hundreds of changes, looks and pushes take no more room than the first few."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from evidencesync.errors import EvidenceSyncError, LinkLostError
from evidencesync.localstate.watched import WatchedKey, WatchMemory
from evidencesync.source.changes import SourceSnapshot
from evidencesync.source.filters import FilterRules
from evidencesync.watch.watch import Decision, SourceObserver, WatchIntervals, open_observer, watch
from tests.integration.cli_program import REPOSITORY
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.soak import often

WARM_UP = 20
KIB = 1024


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


@pytest.mark.parametrize(("cycles", "with_a_vault"), [(often(60, 8000), False), (often(30, 800), True)])
def test_hundreds_of_cycles_take_no_more_room_than_the_first(tmp_path: Path, cycles: int, with_a_vault: bool) -> None:
    """In a process of its own: one that has run other tests has tables of megabytes, one of which may just be enlarged."""
    call = (
        f"from {__name__} import go_on_for_long; from pathlib import Path; go_on_for_long(Path.cwd(), {cycles}, {with_a_vault})"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", call], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def go_on_for_long(folder: Path, cycles: int, with_a_vault: bool) -> None:
    """Watches a source through so many cycles, and compares the room that the last ones take with that of the first."""
    bench = make_bench(folder)
    source = bench.source
    key = WatchedKey(os.fsencode(source), "vault", bench.name)
    memory = WatchMemory(folder / "state", key)
    memory.require_usable()
    with open_observer(os.fsencode(source), FilterRules.none()) as observer:
        long = LongWatch(observer, source, memory, cycles, bench if with_a_vault else None)
        with pytest.raises(EnoughError):
            watch(Decision(WatchIntervals(10, 900), None), long, long.push, long, lambda: long.now)
    before, after = long.rooms
    assert after[:2] == before[:2], (before, after)
    assert after[2] - before[2] < 256 * KIB, (before, after)  # of all cycles together; caches that fill up take some 60
    assert long.pushed_states > cycles // 2
    assert long.gaps >= cycles // 30 > 0
    assert (long.failures > 0) == (not with_a_vault)
    assert not with_a_vault or len(bench.acquisitions()) == long.pushed_states
