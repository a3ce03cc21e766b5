"""A capture over links that are lost: what the vault has stored of it is neither sent again nor lost, whoever serves the next."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from evidencesync.acquire import capture_log
from evidencesync.acquire.capture import CaptureAccess, CaptureReading, CaptureRequest, from_here
from evidencesync.acquire.capture_log import CaptureLog
from evidencesync.acquire.reading import SourceEvent, SourceRead, StreamBegun, StreamEnded
from evidencesync.acquire.spool import Spool
from evidencesync.connection.progress import Progress
from evidencesync.delta.chunker import Segment, SegmentCutter
from evidencesync.delta.rows import segment_digest
from evidencesync.errors import EvidenceSyncError, SessionGoneError
from evidencesync.evidence.digest import blake3_of
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.protocol.outgoing_segments import StoredBefore
from evidencesync.source.command import CommandLine, LocalCommand
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.cut_links import FlakyBench
from tests.support.patience import PATIENCE_SECONDS

MEMORY = os.urandom(9_000_000) + bytes(3_000_000) + os.urandom(8_000_000)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path)


@contextmanager
def captured(data: bytes, *, expected: int | None = None, spool: Spool | None = None) -> Iterator[CaptureAccess]:
    """Standard input on which this comes."""
    near, far = os.pipe()

    def write() -> None:
        with open(far, "wb", buffering=0) as pipe:
            left = memoryview(data)
            while left:
                left = left[pipe.write(left) :]

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    request = CaptureRequest(b"memory", None, None, expected)
    with closing(CaptureAccess(request, lambda: near, from_here, may_go_on=True, spool=spool)) as access:
        yield access
    os.close(near)
    writer.join(PATIENCE_SECONDS)


def push(flaky: FlakyBench, cuts: list[dict[str, Any] | None], data: bytes, **changes: Any) -> None:
    with captured(data) as access:
        flaky.source_access = access
        flaky.push_when_free(cuts, described="standard input", **changes)
    flaky.join()


@pytest.mark.parametrize("may_reconnect", [True, False])
def test_a_link_that_is_cut_ten_times_costs_nothing_of_a_capture(
    bench: Bench, require_program: Callable[[str], str], *, may_reconnect: bool
) -> None:
    """With and without a process of the vault that waits: a further session finds what the one before it has stored."""
    flaky = FlakyBench(bench, may_reconnect=may_reconnect)
    push(flaky, [{"sent": 3_000_000}] * 10 + [None], MEMORY)
    assert flaky.links == 11
    entry, stored = bench.entries(1)[b"memory"], bench.acquisition(1) / "data" / "memory"
    summed = subprocess.run([require_program("sha256sum"), stored], check=True, capture_output=True, text=True).stdout.split()[0]
    assert entry.sha256 == summed == hashlib.sha256(MEMORY).hexdigest()
    assert (entry.flags, entry.capture and entry.capture.end) == (None, "end-of-data")
    assert os.listdir(bench.vault.layout.item(bench.name).incoming) == []


def test_a_further_session_states_when_the_capture_began(bench: Bench) -> None:
    flaky = FlakyBench(bench, may_reconnect=False)
    push(flaky, [{"sent": 3_000_000}, None], MEMORY)
    began = bench.vault.item(bench.name).header(1).started
    capture = bench.entries(1)[b"memory"].capture
    assert capture is not None
    assert began <= capture.started <= capture.ended


def test_what_the_vault_has_lost_of_a_capture_ends_it_and_is_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    flaky = FlakyBench(bench, may_reconnect=False)
    incoming = bench.vault.layout.item(bench.name).incoming

    def lose() -> None:
        for journal in incoming.glob("*/journal"):
            journal.unlink()

    with captured(MEMORY) as access:
        kept, flaky.source_access = access.reading, access

        def reading(*arguments: Any) -> Any:
            lose()
            return kept(*arguments)

        monkeypatch.setattr(access, "reading", reading)
        with pytest.raises(SessionGoneError, match="does not have any more what it had stored"):
            flaky.push([{"sent": 9_000_000}, None], described="standard input")
    flaky.join()
    assert bench.acquisitions() == []


def test_another_capture_takes_nothing_of_one_that_was_left(bench: Bench) -> None:
    """It cannot be collected twice: what the vault has of it stays, however alike it begins."""
    flaky = FlakyBench(bench, may_reconnect=False)
    with pytest.raises(EvidenceSyncError):
        push(flaky, [{"sent": 9_000_000}], MEMORY, retries=1)
    flaky.join()
    (left,) = bench.vault.layout.item(bench.name).incoming.glob("*/contents/00000000")
    before = left.read_bytes()
    assert MEMORY.startswith(before[:4_000_000])
    push(flaky, [None], MEMORY[:10_000_000] + b"another end")
    assert left.read_bytes() == before


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Spool, Path]]:
    """A spool, and very little memory beside it."""
    monkeypatch.setattr(capture_log, "_MOST_HELD", 1 << 20)
    place = tmp_path / "spool"
    fd = os.open(place, os.O_RDWR | os.O_CREAT, 0o600)
    yield Spool(fd, pytest.fail), place
    os.close(fd)


def segments_of(data: bytes) -> list[Segment]:
    cutter = SegmentCutter()
    cutter.buffer(len(data))[:] = data
    return [*cutter.commit(len(data)), *cutter.finish()]


def test_what_does_not_fit_into_memory_comes_out_of_the_spool_as_it_went_in(spool: tuple[Spool, Path]) -> None:
    log, made = CaptureLog(may_go_on=True, spool=spool[0]), segments_of(MEMORY)
    log.add(StreamBegun(len(MEMORY), b"memory"), 0)
    for segment in made:  # nobody takes any of them: without a spool this would wait for ever
        log.add(segment, segment.held_bytes)
    log.add(StreamEnded(len(MEMORY), blake3_of(MEMORY)), 0)
    log.add(SourceRead(), 0)
    events = [event for event, _ in log.events()]
    assert [event.rows() for event in events if isinstance(event, Segment)] == [segment.rows() for segment in made]
    log.drop_stored(3)
    assert log.keep_rest() == (sum(segment.total_bytes for segment in made[:3]), len(MEMORY))
    begins = sum(segment.total_bytes for segment in made[:3])
    assert spool[1].read_bytes()[begins:] == MEMORY[begins:]
    log.drop_stored(len(made))
    assert log.keep_rest() is None
    names = [event for event, _ in log.events() if isinstance(event, StoredBefore)]
    assert [name.digest for name in names] == [segment_digest(segment.rows()) for segment in made]


def test_a_capture_out_of_a_spool_is_acquired_whole(bench: Bench, spool: tuple[Spool, Path]) -> None:
    flaky = FlakyBench(bench, may_reconnect=False)
    with captured(MEMORY, spool=spool[0]) as flaky.source_access:
        flaky.push_when_free([{"sent": 4_000_000}, {"sent": 4_000_000}, None], described="standard input")
    flaky.join()
    assert bench.entries(1)[b"memory"].sha256 == hashlib.sha256(MEMORY).hexdigest()


def test_what_was_never_sent_is_in_the_spool_at_its_own_place(bench: Bench, spool: tuple[Spool, Path]) -> None:
    flaky = FlakyBench(bench, may_reconnect=False)
    with captured(MEMORY, spool=spool[0]) as access:
        flaky.source_access = access
        with pytest.raises(EvidenceSyncError):
            flaky.push([{"sent": 9_000_000}], retries=1, described="standard input")
        access.close()
        rest = access.keep_rest()
    flaky.join()
    assert rest is not None
    begins, ends = rest
    assert begins < ends == spool[1].stat().st_size
    assert spool[1].read_bytes()[begins:] == MEMORY[begins:ends]
    (left,) = bench.vault.layout.item(bench.name).incoming.glob("*/contents/00000000")
    assert left.read_bytes()[:begins] == MEMORY[:begins]


def test_the_first_stream_is_the_outputs_however_little_that_was() -> None:
    """What is left of a capture in a vault has no name there: its number says what it is."""
    events: list[SourceEvent] = []
    line = CommandLine(shell="printf little; head -c 300000 /dev/zero >&2")
    request = CaptureRequest(b"output", line, None, None)
    progress = Progress()
    reading = CaptureReading(
        request, lambda: LocalCommand(line), lambda event, _: events.append(event), progress, lambda: format_utc_time(0)
    )
    reading.run()
    assert [event.path for event in events if isinstance(event, StreamBegun)] == [b"output", b"output.stderr"]


def test_an_output_without_a_stream_of_its_own_is_acquired(bench: Bench) -> None:
    line = CommandLine(shell="printf little; head -c 300000 /dev/zero >&2")
    access = CaptureAccess(CaptureRequest(b"output", line, None, None), lambda: LocalCommand(line), from_here)
    flaky = FlakyBench(bench)
    with closing(access) as flaky.source_access:
        flaky.push([None], described=line.text)
    flaky.join()
    assert {path: entry.size for path, entry in bench.entries(1).items() if path} == {b"output": 6, b"output.stderr": 300_000}
