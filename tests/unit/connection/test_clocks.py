"""Clocks that differ: measured when a push begins, written into the manifest, and told by `verify` where they contradict."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from evidencesync.acquire.push import push
from evidencesync.acquire.request import PushOutcome
from evidencesync.connection.link import local_pair
from evidencesync.connection.progress import Progress
from evidencesync.evidence.number_format import duration_text
from evidencesync.evidence.utc_time import parse_file_time
from evidencesync.ingest.receive import receive
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.patience import PATIENCE_SECONDS

HOUR_NS = 3600 * 1_000_000_000


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = make_bench(tmp_path)
    (made.source / "a").write_bytes(b"one")
    return made


def push_to_a_wrong_clock(bench: Bench, ahead_ns: int) -> PushOutcome:
    ours, theirs = local_pair()

    def serve() -> None:
        receive(theirs, bench.vault, "a test", may_reconnect=False, now=lambda: time.time_ns() + ahead_ns)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        return push(ours, bench.request(), Progress())
    finally:
        thread.join(PATIENCE_SECONDS)


@pytest.mark.parametrize("hours", [-3, 0, 3, 72])
def test_how_far_the_vaults_clock_is_off_is_measured_recorded_and_told(bench: Bench, hours: int) -> None:
    outcome = push_to_a_wrong_clock(bench, hours * HOUR_NS)
    assert outcome.clock_offset_ns == pytest.approx(hours * HOUR_NS, abs=60 * 1e9)
    header = bench.vault.item(bench.name).header(1)
    assert header.clock.peer_offset_seconds is not None
    assert parse_file_time(header.clock.peer_offset_seconds) == outcome.clock_offset_ns

    verdict = audit_vault(bench.vault.layout.root, now_ns=time.time_ns() + 100 * HOUR_NS)
    assert verdict.verdict == "pass"
    told = [one.message for one in verdict.findings if one.slug == "times-contradict" and one.acquisition is not None]
    assert len(told) == (hours in (-3, 72))
    far = duration_text(abs(outcome.clock_offset_ns) / 1e9)
    measured = f"the vault's clock was about {far} {'ahead' if hours > 0 else 'behind'}"
    assert all(f"{measured}, as the manifest says" in one for one in told)
    assert all("earlier" in one if hours < 0 else "later" in one for one in told)
