"""What occurs more than once in one session: sent once, and stored once."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.acquire import connect
from evidencesync.delta.rows import Row, segment_digest
from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.digest import blake3_of, chunk_digest_of
from evidencesync.ingest import session_contents
from evidencesync.ingest.basis import Basis
from evidencesync.protocol import flow
from evidencesync.protocol.messages import (
    ChunkData,
    Chunks,
    Close,
    Open,
    Published,
    SegmentAnswer,
    SegmentOffer,
    SegmentsStored,
)
from evidencesync.protocol.packing import encode_wire_rows
from evidencesync.vault.layout import THIS_SESSION, Location
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench
from tests.support.cut_links import FlakyBench
from tests.support.hostile_client import ROOT, HostileClient, entry_of
from tests.support.moments import LONG_AFTER_NS
from tests.support.pulling import pull_from

KIB, MIB = 1024, 1024 * 1024
NOW = LONG_AFTER_NS


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "FIRST_PAUSE", 0.002)
    monkeypatch.setattr(connect, "LONGEST_PAUSE", 0.05)


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def fill(source: Path, size: int, *, links: int = 10, copies: int = 5) -> int:
    """So many names of one file, so many copies of another one: some with their times, some without. How many bytes differ."""
    (source / "linked").mkdir()
    (source / "copied").mkdir()
    first = source / "linked/0"
    first.write_bytes(noise(size))
    for number in range(1, links):
        os.link(first, source / f"linked/{number}")
    for number in range(copies):
        copy = source / f"copied/{number}"
        copy.write_bytes(noise(size, 2))
        os.utime(copy, ns=(0, 10**18 if number % 2 else 2 * 10**18))
    return 2 * size


def stored_bytes(folder: Path) -> int:
    """The bytes of all different inodes."""
    found = {(file.stat().st_dev, file.stat().st_ino): file.stat().st_size for file in folder.rglob("*") if file.is_file()}
    return sum(found.values())


def assert_sound(bench: Bench, number: int = 1) -> None:
    data = bench.acquisition(number) / "data"
    for file in bench.source.rglob("*"):
        if file.is_file():
            assert (data / file.relative_to(bench.source)).read_bytes() == file.read_bytes(), file
    assert audit_vault(bench.vault.layout.root, now_ns=NOW, all_digests=True).verdict == "pass"


SIZES = [2 * MIB + 7, 3 * KIB]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("take", [Bench.push, pull_from], ids=["push", "pull"])
def test_names_of_one_file_and_copies_of_another_are_sent_once_and_stored_once(
    bench: Bench, size: int, take: Callable[[Bench], object]
) -> None:
    different = fill(bench.source, size)
    outcome = take(bench)
    sent = outcome.wire_sent if take is Bench.push else outcome.wire_received  # type: ignore[attr-defined]
    assert outcome.literal_bytes == different  # type: ignore[attr-defined]
    assert sent < different + 10 * KIB + 15 * 500
    # Copies of two times need two inodes: links have one time.
    assert stored_bytes(bench.acquisition(1) / "data") == 3 * size
    assert_sound(bench)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_new_in_a_later_acquisition_is_sent_once_though_the_vault_is_asked(bench: Bench, size: int) -> None:
    """All of it fits into the sender's window: the first has not arrived when the second is named."""
    for number in range(40):
        (bench.source / f"old {number}").write_bytes(noise(200 * KIB if number < 3 else 500, 100 + number))
    bench.push()
    different = fill(bench.source, size)
    outcome = bench.push()
    assert outcome.literal_bytes == different
    assert stored_bytes(bench.acquisition(2) / "data") == 3 * size + 3 * 200 * KIB + 37 * 500
    assert_sound(bench, 2)
    assert bench.push().literal_bytes == 0


@pytest.mark.parametrize("size", SIZES)
def test_a_sender_who_does_not_ask_sends_all_and_it_is_stored_once(
    bench: Bench, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow.RepeatMemory, "has", lambda _self, _key: False)
    fill(bench.source, size)
    outcome = bench.push()
    assert outcome.literal_bytes == 15 * size
    assert stored_bytes(bench.acquisition(1) / "data") == 3 * size
    assert_sound(bench)


@pytest.mark.parametrize("size", SIZES)
def test_a_vault_that_remembers_nothing_gets_all_and_is_not_asked_for_ever(
    bench: Bench, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("find_segment", "find_small", "find_file"):
        monkeypatch.setattr(session_contents.SessionContents, name, lambda *_: None)
    fill(bench.source, size)
    outcome = bench.push()
    assert outcome.literal_bytes > 12 * size
    assert stored_bytes(bench.acquisition(1) / "data") == 15 * size
    assert_sound(bench)


def test_what_was_forgotten_is_asked_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_contents.SessionContents.__init__, "__defaults__", (8 * KIB,))
    for size, links in ((MIB, 3), (1500, 3)):
        folder = bench.source / f"{size}"
        folder.mkdir()
        fill(folder, size, links=links, copies=2)
        for number in range(100):
            (folder / f"zz {number:03}").write_bytes(noise(1500, 1000 + number))
    os.link(bench.source / "1500/linked/0", bench.source / "zzz")
    bench.push()
    assert_sound(bench)


@pytest.mark.parametrize("size", SIZES)
def test_what_this_session_has_stored_is_not_believed(bench: Bench, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are not what they were are asked for; and no published file is called damaged for it."""
    fill(bench.source, size, links=3, copies=3)
    read, read_whole = Basis.read, Basis.read_whole

    def wrong(self: Basis, location: Location, offset: int, length: int) -> bytes | None:
        data = read(self, location, offset, length)
        return data if location.acquisition != THIS_SESSION or data is None else bytes(len(data))

    def wrong_whole(self: Basis, location: Location) -> tuple[bytes, os.stat_result] | None:
        found = read_whole(self, location)
        return found if location.acquisition != THIS_SESSION or found is None else (bytes(len(found[0])), found[1])

    monkeypatch.setattr(Basis, "read", wrong)
    monkeypatch.setattr(Basis, "read_whole", wrong_whole)
    outcome = bench.push()
    assert (outcome.literal_bytes, outcome.damaged) == (6 * size, 0)
    monkeypatch.undo()
    assert_sound(bench)


def test_equal_parts_of_different_files_are_sent_once(bench: Bench) -> None:
    common = noise(4 * MIB)
    for number in range(4):
        (bench.source / f"{number}").write_bytes(common + noise(100 * KIB, 50 + number))
    outcome = bench.push()
    assert outcome.literal_bytes < 2 * len(common)
    assert_sound(bench)


@pytest.mark.parametrize("cut", [200_000, 2_300_000, 4_100_000])
def test_a_run_that_was_interrupted_goes_on_and_is_sound(bench: Bench, cut: int) -> None:
    small = bench.source / "a small"
    small.mkdir()
    different = fill(bench.source, 2 * MIB) + fill(small, 50 * KIB)
    flaky = FlakyBench(bench, may_reconnect=False)
    with pytest.raises(EvidenceSyncError):
        flaky.push([{"sent": cut}], retries=0, compress="never")
    flaky.join()
    outcome = bench.push()
    assert outcome.literal_bytes <= different
    assert_sound(bench)
    assert stored_bytes(bench.acquisition(1) / "data") <= 4 * (2 * MIB + 50 * KIB)


@pytest.mark.parametrize("cut", [200_000, 2_300_000])
def test_a_link_that_was_lost_sends_nothing_twice_that_was_stored(bench: Bench, cut: int) -> None:
    small = bench.source / "a small"
    small.mkdir()
    different = fill(bench.source, 2 * MIB) + fill(small, 50 * KIB)
    flaky = FlakyBench(bench)
    outcome = flaky.push([{"sent": cut}, *[None] * 50], retries=50, compress="never")
    flaky.join()
    assert outcome.literal_bytes <= 2 * different
    assert stored_bytes(bench.acquisition(1) / "data") <= 4 * (2 * MIB + 50 * KIB)
    assert_sound(bench)


def test_a_copy_that_is_named_before_the_first_is_whole_is_known(bench: Bench) -> None:
    """On a far link the rest of the first content is still on its way then."""
    parts = noise(200 * KIB), noise(200 * KIB, 2)
    rows = [encode_wire_rows([Row(len(part), chunk_digest_of(part))]) for part in parts]
    names = [segment_digest([Row(len(part), chunk_digest_of(part))]) for part in parts]
    whole = b"".join(parts)
    client = HostileClient(bench)
    client.shake_hands()
    client.send(Open(0, len(whole)), Chunks(0, rows[0]), Chunks(1, rows[1]))
    client.send(ChunkData(0, len(parts[0])))
    client.send_data(parts[0])
    assert client.hear(SegmentsStored).count == 1
    client.send(Close(0, len(whole), blake3_of(whole)), Open(1, len(whole)))
    client.send(*(SegmentOffer(number + 2, name, len(parts[number]), b"") for number, name in enumerate(names)))
    assert [client.hear(SegmentAnswer) for _ in names] == [SegmentAnswer(2, known=True), SegmentAnswer(3, known=True)]
    client.send(ChunkData(1, len(parts[1])))
    client.send_data(parts[1])
    client.send(Close(1, len(whole), blake3_of(whole)))
    client.send(client.finish(client.send_manifest([ROOT, entry_of(b"a", content=whole), entry_of(b"b", content=whole)])))
    assert client.hear(Published).damaged == 0
    assert stored_bytes(bench.acquisition(1) / "data") == len(whole)


def test_memory_of_what_was_sent_and_what_came_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "_REMEMBERED", 10)
    sent = flow.RepeatMemory()
    for number in range(100):
        sent.add((number, 0))
    assert [number for number in range(100) if sent.has((number, 0))] == list(range(90, 100))
    for _ in range(8):
        sent.record_answer(known=False)
    assert not sent.has((99, 0))


def test_an_unchanged_file_behind_new_ones_does_not_travel_again(bench: Bench) -> None:
    """After several answers that the vault has nothing of it, a sender sends the rest of a content without asking."""
    size = 8 * MIB
    (bench.source / "old").write_bytes(random.Random(1).randbytes(size))
    bench.push()
    new = random.Random(2).randbytes(3 * size)
    for name in ("a", "b"):
        (bench.source / name).write_bytes(new)
    assert bench.push().literal_bytes == len(new)


def same_beginnings(source: Path) -> None:
    """Images of three disks that were set up alike: two of the same size, and one that is the beginning of both."""
    common = noise(6 * MIB, 1)
    (source / "b").write_bytes(common + noise(3 * MIB, 2))
    (source / "c").write_bytes(common + noise(3 * MIB, 3))
    (source / "a").write_bytes(common)


@pytest.mark.parametrize("take", [Bench.push, pull_from], ids=["push", "pull"])
def test_unchanged_files_with_the_same_beginning_are_linked(bench: Bench, take: Callable[[Bench], object]) -> None:
    """The beginning of each is found in another one first."""
    same_beginnings(bench.source)
    for number in (1, 2, 3):
        (bench.source / "new").write_text(str(number))
        take(bench)
    for name in "abc":
        assert len({(bench.acquisition(number) / "data" / name).stat().st_ino for number in (1, 2, 3)}) == 1, name
    assert_sound(bench, 3)


@pytest.mark.parametrize("damaged", ["abc", "c"])
def test_a_damaged_file_with_the_same_beginning_is_not_linked(bench: Bench, damaged: str) -> None:
    """Its own beginning was not read before, but that of another one."""
    same_beginnings(bench.source)
    bench.push()
    for name in damaged:
        stored = bench.acquisition(1) / "data" / name
        stored.chmod(0o600)
        with stored.open("r+b") as file:
            file.seek(100_000)
            file.write(b"flipped")
    bench.push()
    for name in "abc":
        assert (bench.acquisition(2) / "data" / name).read_bytes() == (bench.source / name).read_bytes(), name
