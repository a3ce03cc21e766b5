"""A clock that somebody sets in the middle of a transfer: nobody is accused, and the documents do not contradict each other."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from evidencesync.acquire import reading
from evidencesync.acquire.push import push
from evidencesync.acquire.request import PushOutcome
from evidencesync.connection import process as clocks
from evidencesync.connection.link import local_pair
from evidencesync.connection.process import SteadyClock, set_seconds
from evidencesync.connection.progress import Progress
from evidencesync.evidence.utc_time import parse_utc_time
from evidencesync.ingest.receive import receive
from evidencesync.protocol.framing import decode_message, encode_message
from evidencesync.protocol.messages import Hello, Message, Welcome
from evidencesync.vault.ledger import iter_records
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.patience import PATIENCE_SECONDS

SECOND = 1_000_000_000
CENTURY_SECONDS = 100 * 365 * 86_400


class SetClock:
    """A system's clock that somebody sets."""

    def __init__(self) -> None:
        self.wrong_ns = 0

    def __call__(self) -> int:
        return time.time_ns() + self.wrong_ns


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = make_bench(tmp_path)
    (made.source / "a").write_bytes(b"one")
    (made.source / "b").write_bytes(b"two" * 100_000)
    return made


def push_with(bench: Bench, sender: SteadyClock, vault: SteadyClock) -> PushOutcome:
    ours, theirs = local_pair()
    thread = threading.Thread(target=lambda: receive(theirs, bench.vault, "a test", may_reconnect=False, now=vault), daemon=True)
    thread.start()
    try:
        return push(ours, bench.request(), Progress(), now=sender)
    finally:
        thread.join(PATIENCE_SECONDS)


@pytest.mark.parametrize("seconds", [CENTURY_SECONDS, -CENTURY_SECONDS, 86_400, -86_400])
@pytest.mark.parametrize("whose", ["sender", "vault"])
def test_a_clock_that_is_set_in_mid_push_changes_no_verdict(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, seconds: int, whose: str
) -> None:
    walls = {"sender": SetClock(), "vault": SetClock()}
    run = reading.SourceReading.run

    def set_and_read(self: reading.SourceReading) -> None:
        run(self)
        walls[whose].wrong_ns = seconds * SECOND

    monkeypatch.setattr(reading.SourceReading, "run", set_and_read)
    before = time.time_ns()
    outcome = push_with(bench, SteadyClock(walls["sender"]), SteadyClock(walls["vault"]))
    after = time.time_ns()

    item = bench.vault.item(bench.name)
    acquired, received = list(iter_records(item.ledger))
    for moment in (acquired.record.time, received.record.time, item.header(1).started):
        assert before - SECOND <= parse_utc_time(moment) <= after + SECOND
    stated = acquired.record.details.get("clock_set_seconds")
    assert stated == (f"{seconds:+d}" if whose == "sender" else None)
    assert abs(outcome.clock_offset_ns) < 60 * SECOND
    verdict = audit_vault(bench.vault.layout.root, now_ns=time.time_ns() + SECOND)
    assert (verdict.verdict, [one.slug for one in verdict.findings if one.severity == "error"]) == ("pass", [])


@pytest.mark.parametrize("seconds", [CENTURY_SECONDS, -CENTURY_SECONDS])
def test_a_sender_whose_clock_is_a_century_off_is_taken_and_the_manifest_says_so(bench: Bench, seconds: int) -> None:
    wall = SetClock()
    wall.wrong_ns = seconds * SECOND
    outcome = push_with(bench, SteadyClock(wall), SteadyClock())
    assert outcome.clock_offset_ns == pytest.approx(-seconds * SECOND, abs=60 * SECOND)
    assert bench.vault.item(bench.name).header(1).clock.peer_offset_seconds is not None


@pytest.mark.parametrize("clock", [2**63 - 1, -(2**63), 4_923_000_000 * SECOND])
def test_no_reading_of_a_clock_breaks_the_protocol(clock: int) -> None:
    said: list[Message] = [
        Hello([1], "x", "push", b"", "p", clock),
        Welcome(1, "x", "0" * 32, b"k", bytes(32), "p", clock),
    ]
    for message in said:
        kind, body = encode_message(message)
        assert decode_message(kind, memoryview(body)) == message


def test_a_steady_clock_goes_on_by_the_time_that_passes() -> None:
    wall, passed = [1_000 * SECOND], [50 * SECOND]
    clock = SteadyClock(lambda: wall[0], lambda: passed[0])
    assert clock() == 1_000 * SECOND
    passed[0] += 7 * SECOND
    wall[0] += 7 * SECOND + 1
    assert clock() == 1_007 * SECOND
    assert (clock.set_ns(), set_seconds(clock)) == (1, 0)
    wall[0] -= 3_600 * SECOND
    assert clock() == 1_007 * SECOND
    assert set_seconds(clock) == -3_600
    assert set_seconds(time.time_ns) == 0


def test_time_in_which_the_machine_sleeps_counts_where_the_system_counts_it() -> None:
    def counted() -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic_ns()

    before = counted()
    assert before <= clocks._elapsed_ns() <= counted()
