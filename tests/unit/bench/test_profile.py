"""The profile times steps that exist, and counts a push at both ends."""

from __future__ import annotations

from pathlib import Path

from evidencesync.acquire import reading
from tests.bench.profile import WORKS, Profile, push_once
from tests.bench.steps import STEPS, Stopwatch


def test_a_push_is_measured_at_both_ends_and_nothing_stays_replaced(tmp_path: Path) -> None:
    read_small = vars(reading)["read_small"]
    unchanged = next(work for work in WORKS if work.name == "B-unchanged")
    bench = unchanged.prepare(tmp_path, 10)
    with Stopwatch(STEPS) as watch:
        assert vars(reading)["read_small"] is not read_small
        push_once(bench, watch, read_back=False)
    assert vars(reading)["read_small"] is read_small
    assert {thread.partition(",")[0] for thread in watch.threads.values()} == {"near", "vault"}
    assert watch.spent["near, source", "open, read, close"] > 0
    assert watch.spent["vault, main", "link"] > 0


def test_the_table_names_every_large_step(tmp_path: Path) -> None:
    fresh = next(work for work in WORKS if work.name == "A-fresh")
    lines = Profile(tmp_path, read_back=False).steps(fresh, 4 << 20, 1)
    assert {"cut", "BLAKE3", "create, write, close"} <= {line.rpartition(" ")[0].strip() for line in lines}
