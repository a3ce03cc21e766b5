"""Edits inside of large files: a real vault gets the bytes, each end counts them alike, and few of them travel."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.acquire.request import PushOutcome
from evidencesync.delta import refine
from evidencesync.delta.chunker import SegmentCutter
from evidencesync.delta.refine import cut_pieces, piece_digests, piece_key
from evidencesync.evidence.digest import blake3_of
from evidencesync.limits import KIB, MIB
from evidencesync.protocol.messages import ChunkData, Chunks, Close, Need, NeedPieces, Open, SegmentsStored
from evidencesync.protocol.outgoing_segments import OutgoingSegments
from evidencesync.protocol.packing import pack_bits, pack_pieces, unpack_bits, unpack_gaps
from tests.support.bench_of_evidence import Bench, copy_of, make_bench
from tests.support.hostile_client import HostileClient

IMAGE = random.Random(1).randbytes(24 * MIB)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = make_bench(tmp_path_factory.mktemp("template"))
    (made.source / "disk.img").write_bytes(IMAGE)
    made.push()
    return made


@pytest.fixture
def bench(template: Bench, tmp_path: Path) -> Bench:
    return copy_of(template, tmp_path)


def push_changed(bench: Bench, content: bytes) -> PushOutcome:
    """Pushes a changed image; what is kept is what was read, and both ends agree about what travelled."""
    (bench.source / "disk.img").write_bytes(content)
    outcome = bench.push(compress="never")
    kept = bench.acquisition(outcome.acquisition)
    assert (kept / "data" / "disk.img").read_bytes() == content
    traffic = json.loads((kept / "receipt.json").read_bytes())["transfer"]
    counted = (outcome.literal_bytes, outcome.reused_bytes, outcome.zero_bytes)
    assert counted == (traffic["literal_bytes"], traffic["reused_bytes"], traffic["zero_bytes"])
    assert outcome.literal_bytes + outcome.reused_bytes + outcome.zero_bytes >= len(content)  # more where bytes had to come twice
    return outcome


def wire_of(outcome: PushOutcome) -> int:
    return outcome.wire_sent + outcome.wire_received


def edited(count: int, align: int = 1) -> bytes:
    """The image with 4 KiB overwritten in some places."""
    chance = random.Random(count)
    content = bytearray(IMAGE)
    for _ in range(count):
        at = chance.randrange(len(content) - 4 * KIB) // align * align
        content[at : at + 4 * KIB] = chance.randbytes(4 * KIB)
    return bytes(content)


def shifted(count: int) -> bytes:
    """The image with some blocks of 64 KiB 100 bytes further back than they were."""
    chance = random.Random(count)
    content = IMAGE
    for number in range(count):
        at = (number + 1) * len(IMAGE) // (count + 1)
        content = content[:at] + content[at + 100 : at + 64 * KIB] + chance.randbytes(100) + content[at + 64 * KIB :]
    return content


def inserted(count: int) -> bytes:
    """The image with 100 bytes more in some places."""
    step = len(IMAGE) // count
    return b"".join(IMAGE[start : start + step] + bytes(range(100)) for start in range(0, len(IMAGE), step))


FIXED = 60 * KIB  # the handshake, the documents and their signatures, the names of segments and of some chunks


@pytest.mark.parametrize(
    ("change", "at_most"),
    [
        (lambda: edited(60), 60 * 7 * KIB),
        (lambda: edited(60, 4096), 60 * 6 * KIB),
        (lambda: edited(400), 400 * 7 * KIB),
        (lambda: edited(4000), 4000 * 5 * KIB),
        (lambda: shifted(20), 20 * 12 * KIB),
        (lambda: inserted(20), 20 * 6 * KIB),
        (lambda: IMAGE + b"one more line\n" * 1000, 40 * KIB),
    ],
    ids=["edits", "edits of pages", "many edits", "edits in every chunk", "shifted blocks", "inserts", "growth"],
)
def test_a_change_costs_little_more_than_itself(bench: Bench, change: Callable[[], bytes], at_most: int) -> None:
    assert wire_of(push_changed(bench, change())) <= at_most + FIXED


def test_what_changed_everywhere_is_compared_with_the_file_that_was_there_before(bench: Bench) -> None:
    """No chunk is as it was: without the file's name nothing would tell where to compare."""
    content = bytearray(IMAGE)
    for at in range(0, len(content), 12 * KIB):
        content[at] ^= 1
    outcome = push_changed(bench, bytes(content))
    assert outcome.literal_bytes <= len(content) // (12 * KIB) * 512 + 512


def test_fresh_data_beside_old_costs_hardly_more_than_itself(bench: Bench) -> None:
    fresh = random.Random(2).randbytes(12 * MIB)
    outcome = push_changed(bench, IMAGE[: 6 * MIB] + fresh + IMAGE[6 * MIB :])
    assert wire_of(outcome) <= len(fresh) * 1.01 + 100 * KIB + FIXED


def test_a_damaged_basis_is_found_and_the_chunk_fetched(bench: Bench) -> None:
    """The damage is in pieces that were compared before it, and in chunks around them."""
    content = edited(5)
    kept = bench.acquisition(1) / "data" / "disk.img"
    damaged = bytearray(IMAGE)
    for at in range(0, len(IMAGE), 300 * KIB):
        damaged[at] ^= 1
    kept.chmod(0o600)
    kept.write_bytes(damaged)
    push_changed(bench, content)


def test_digests_that_fit_by_accident_cost_a_chunk_and_nothing_else(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every piece of the basis seems to be the same; what is put together of them is not the chunk, and is asked for."""
    monkeypatch.setattr(refine, "piece_digests", lambda key, data, lengths: bytes(4 * len(lengths)))
    monkeypatch.setattr(
        "evidencesync.protocol.outgoing_segments.piece_digests", lambda key, data, lengths: bytes(4 * len(lengths))
    )
    outcome = push_changed(bench, edited(5))
    assert 5 * 16 * KIB <= outcome.literal_bytes <= 5 * 512 * KIB


def test_a_basis_that_vanishes_between_two_readings_is_no_harm(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = bench.acquisition(1) / "data" / "disk.img"
    needed = OutgoingSegments.on_need_pieces

    def need_pieces(self: OutgoingSegments, need: NeedPieces) -> None:
        kept.chmod(0o600)
        os.truncate(kept, 0)
        needed(self, need)

    monkeypatch.setattr(OutgoingSegments, "on_need_pieces", need_pieces)
    push_changed(bench, edited(5))


def test_a_sender_that_names_other_pieces_than_it_has_is_asked_for_the_chunk(bench: Bench) -> None:
    """He names those of the vault's own file. That buys him nothing: without the chunk's bytes nothing is stored."""
    cutter = SegmentCutter()
    cutter.buffer(len(IMAGE))[:] = IMAGE
    old = [*cutter.commit(len(IMAGE)), *cutter.finish()][1]
    parts = [bytes(part or b"") for part in old.parts]
    middle = len(parts) // 2
    theirs, mine = parts[middle], random.Random(3).randbytes(len(parts[middle]))
    parts[middle] = mine
    content = b"".join(parts)
    client = HostileClient(bench)
    client.shake_hands()
    listed = b"".join(len(part).to_bytes(4, "little") + blake3_of(part)[:16] for part in parts)
    client.send(Open(0, len(content)), Chunks(0, listed))
    need = client.hear(Need)
    only = [number == middle for number in range(len(parts))]
    assert unpack_bits(need.missing, need.count) == only
    gaps = unpack_gaps(need.gaps, [len(part) if wanted else 0 for part, wanted in zip(parts, only, strict=True)])
    cuts = [cut_pieces(theirs, gap.phase) for gap in gaps]
    assert [(gap.first, gap.count) for gap in gaps] == [(middle, 1)]
    client.send(pack_pieces(0, gaps, cuts, [piece_digests(piece_key(client.session), theirs, cut) for cut in cuts]))
    assert not any(client.hear(NeedPieces).missing)
    client.send(ChunkData(0, 0))
    again = client.hear(Need)
    assert (again.missing, again.gaps) == (pack_bits(only), b"")
    client.send(ChunkData(0, len(mine)))
    client.send_data(mine)
    assert client.hear(SegmentsStored).count == 1
    client.send(Close(0, len(content), blake3_of(content)))
    client.hang_up()
