"""Attack: to learn, or to get, what another case has, by its digests alone. And what a proof of possession is good for."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evidencesync.connection import busy_server
from evidencesync.delta.possession import Possession
from evidencesync.errors import ExitCode, ProtocolError
from evidencesync.evidence.digest import blake3_of
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.ingest import session as ingest_session
from evidencesync.limits import LEAST_PROVEN
from evidencesync.protocol.messages import ChunkData, Open, PageAnswer, PageOffer, SegmentAnswer, Want, encode_message
from evidencesync.protocol.packing import unpack_bits
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.cut_links import FlakyBench
from tests.support.hostile_client import ROOT, assert_unharmed, entry_of, snapshot
from tests.support.two_cases import (
    ANY_PROOF,
    IMAGE,
    MIB,
    MINE,
    NO_PROOF,
    OTHERS,
    SMALL,
    Asker,
    Knowledge,
    cut,
    fill_others_case,
    knowledge_of_nothing,
    knowledge_of_the_other_case,
    segment_proof,
)

SEGMENTS = cut(IMAGE)
LARGE_ENOUGH = [content for _, content in sorted(SMALL.items()) if len(content) >= LEAST_PROVEN]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = make_bench(tmp_path, "vault")
    fill_others_case(made)
    return made


@pytest.fixture
def victim(bench: Bench) -> Iterator[Bench]:
    """The bench, of which nothing may have changed after the test, and into which an honest push must work."""
    bench.name, bench.source = ItemName(MINE.case, Title("E0")), bench.source / "empty"
    bench.source.mkdir()
    bench.push()
    before = snapshot(bench.vault.layout.root.parent)
    yield bench
    bench.source = bench.source.parent
    assert_unharmed(bench, before)


def enter(bench: Bench, name: ItemName = MINE) -> Asker:
    bench.name = name
    asker = Asker(bench)
    asker.enter()
    return asker


def transcript_of(bench: Bench, known: Knowledge, proof: bytes) -> list[tuple[int, bytes]]:
    """All that somebody hears who asks for everything; the vault says that it is alive whenever it has occasion to."""
    with pytest.MonkeyPatch.context() as patch:
        asker = enter(bench)
        patch.setattr(ingest_session, "_STATUS_SECONDS", 0.0)
        asker.ask_everything(known, proof)
        asker.hang_up()
    return asker.transcript


def proofs_of(possession: Possession) -> list[bytes]:
    return [possession.of_content(content) for content in LARGE_ENOUGH]


def lacked(want: Want) -> list[bool]:
    return unpack_bits(want.missing, want.count)


# What is not learned.


@pytest.mark.parametrize("proof", [NO_PROOF, ANY_PROOF], ids=["without a proof", "with a wrong one"])
def test_who_knows_only_digests_hears_to_the_byte_what_he_hears_of_digests_that_no_case_has(bench: Bench, proof: bytes) -> None:
    known = knowledge_of_the_other_case(bench)
    heard = transcript_of(bench, known, proof)
    assert heard == transcript_of(bench, knowledge_of_nothing(known), proof)
    assert len(heard) > 2 * len(known.segments)


def test_the_first_answer_does_not_count_what_other_cases_have(bench: Bench) -> None:
    asker = Asker(bench)
    ready = asker.enter()
    assert (ready.known_contents, ready.lookup) == (0, "vault")
    asker.hang_up()


@pytest.mark.parametrize("beside", [0, 2], ids=["before", "after"])
def test_a_segment_that_was_proved_does_not_open_what_lies_beside_it(bench: Bench, beside: int) -> None:
    """In the own case the rows beside a known segment are compared in pieces; of another case that would tell of bytes."""
    unknown = knowledge_of_nothing(knowledge_of_the_other_case(bench)).segments
    gaps = []
    for name in (MINE, ItemName(OTHERS.case, Title("E2"))):
        asker = enter(bench, name)
        asker.send(Open(0, len(IMAGE)))
        for number in range(3):
            proved = number == beside
            rows = SEGMENTS[number].rows() if proved else unknown[number]
            proof = segment_proof(asker.possession, SEGMENTS[number]) if proved else NO_PROOF
            assert asker.offer(number, rows, proof) == proved
        gaps.append(asker.list_rows(1, unknown[1]).gaps)
        asker.hang_up()
    assert gaps[0] == b""
    assert gaps[1] != b""


def test_chunks_of_another_case_are_lacked_even_beside_a_segment_that_was_proved(bench: Bench) -> None:
    asker = enter(bench)
    asker.send(Open(0, len(IMAGE)))
    assert asker.offer(0, SEGMENTS[0].rows(), segment_proof(asker.possession, SEGMENTS[0]))
    need = asker.list_rows(1, SEGMENTS[1].rows())
    assert all(unpack_bits(need.missing, need.count))
    asker.hang_up()


def test_what_can_be_guessed_is_not_looked_for_elsewhere(bench: Bench) -> None:
    """Whoever tries all PINs has, with each, the bytes that he asks about."""
    asker = enter(bench)
    asker.begin_manifest()
    known = knowledge_of_the_other_case(bench)
    want = asker.list_small(1, known.small, proofs_of(asker.possession))
    assert [entry.path for entry, missing in zip(known.small, lacked(want), strict=True) if missing] == ["pin"]
    asker.hang_up()


# What is not obtained.


def test_a_content_that_was_not_proved_does_not_come_into_the_own_case(victim: Bench) -> None:
    asker = enter(victim, victim.name)
    manifest = asker.send_manifest([ROOT, *knowledge_of_the_other_case(victim).small])
    assert all(lacked(asker.hear(Want)))
    asker.send(asker.finish(manifest))
    assert asker.hang_up().exit_code is ExitCode.LINK_LOST  # the vault still waits for what it asked for


def test_a_proof_is_of_no_use_in_another_session(bench: Bench) -> None:
    first = enter(bench)
    first.send(Open(0, len(IMAGE)))
    proof = segment_proof(first.possession, SEGMENTS[0])
    assert first.offer(0, SEGMENTS[0].rows(), proof)
    proofs = proofs_of(first.possession)
    first.hang_up()

    second = enter(bench, ItemName(Title("2027/1"), Title("E1")))
    second.send(Open(0, len(IMAGE)))
    assert not second.offer(0, SEGMENTS[0].rows(), proof)
    second.begin_manifest()
    assert all(lacked(second.list_small(1, knowledge_of_the_other_case(bench).small, proofs)))
    second.hang_up()


def test_a_proof_is_of_no_use_for_another_segment(bench: Bench) -> None:
    asker = enter(bench)
    asker.send(Open(0, len(IMAGE)))
    assert not asker.offer(0, SEGMENTS[0].rows(), segment_proof(asker.possession, SEGMENTS[1]))
    asker.hang_up()


@pytest.mark.parametrize("name", [MINE, ItemName(OTHERS.case, Title("E2"))], ids=["elsewhere", "in the own case"])
def test_a_digest_under_which_a_file_of_another_size_lies_is_not_known(bench: Bench, name: ItemName) -> None:
    """Else an image of any size would be read into memory for a small file."""
    asker = enter(bench, name)
    asker.begin_manifest()
    entry = entry_of(b"f", content=IMAGE, size=5000)
    asker.transcript.clear()
    asker.send_small(1, [entry], [asker.possession.of_content(IMAGE)])
    asker.send(PageOffer(2, bytes(16)))
    asker.hear(PageAnswer)
    assert encode_message(Want(1, 1, b"\1")) in asker.transcript
    asker.hang_up()


@pytest.mark.parametrize("count", [1, 3])
def test_proofs_that_do_not_fit_their_page_end_the_session(victim: Bench, count: int) -> None:
    asker = enter(victim, victim.name)
    asker.begin_manifest()
    with pytest.raises(ProtocolError, match="do not fit"):
        asker.list_small(1, knowledge_of_the_other_case(victim).small, [ANY_PROOF] * count)
    assert asker.ended().exit_code is ExitCode.PEER


@pytest.mark.parametrize("lookup", ["item", "case"])
def test_where_the_policy_ends_at_the_case_no_proof_reaches_further(tmp_path: Path, lookup: str) -> None:
    bench = make_bench(tmp_path, lookup)  # type: ignore[arg-type]
    fill_others_case(bench)
    asker = enter(bench)
    assert asker.ready is not None
    assert asker.ready.lookup == lookup
    asker.send(Open(0, len(IMAGE)))
    assert not asker.offer(0, SEGMENTS[0].rows(), segment_proof(asker.possession, SEGMENTS[0]))
    asker.begin_manifest()
    assert all(lacked(asker.list_small(1, knowledge_of_the_other_case(bench).small, proofs_of(asker.possession))))
    asker.hang_up()
    assert bench.push().literal_bytes > 12 * MIB
    assert json.loads((bench.acquisition(1) / "receipt.json").read_bytes())["lookup"] == lookup
    bench.name = ItemName(MINE.case, Title("E10"))
    assert (bench.push().literal_bytes < MIB) == (lookup == "case")


# What a proof is good for.


def test_who_has_the_bytes_need_not_send_them_and_gets_files_of_his_own(bench: Bench) -> None:
    outcome = bench.push()
    assert outcome.literal_bytes < 2 * LEAST_PROVEN
    others = bench.vault.layout.item(OTHERS).acquisition(1) / "data"
    for name, content in {b"image": IMAGE, **SMALL}.items():
        path = bench.acquisition(1) / "data" / os.fsdecode(name)
        assert path.read_bytes() == content
        assert path.stat().st_nlink == 1
        assert not os.path.samefile(path, others / os.fsdecode(name))
    receipt = json.loads((bench.acquisition(1) / "receipt.json").read_bytes())
    assert receipt["lookup"] == "vault"
    assert receipt["stored"]["linked"]["files"] == receipt["stored"]["reflinked"]["files"] == 0
    assert receipt["stored"]["copied"]["files"] == len(LARGE_ENOUGH)
    assert audit_vault(bench.vault.layout.root, now_ns=time.time_ns()).verdict == "pass"


def test_what_the_own_case_has_needs_no_proof(bench: Bench) -> None:
    asker = enter(bench, ItemName(OTHERS.case, Title("E2")))
    asker.send(Open(0, len(IMAGE)))
    assert all(asker.offer(number, segment.rows(), NO_PROOF) for number, segment in enumerate(SEGMENTS))
    asker.hang_up()


def test_damage_in_another_case_is_not_taken_over_and_not_told(bench: Bench) -> None:
    others = bench.vault.layout.item(OTHERS).acquisition(1) / "data"
    for name, at in (("image", 5 * MIB), ("report", 100)):
        path = others / name
        path.chmod(0o644)
        with path.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1]))
    outcome = bench.push()
    assert outcome.damaged == 0
    assert len(SMALL[b"report"]) < outcome.literal_bytes < len(IMAGE)
    data = bench.acquisition(1) / "data"
    assert (data / "image").read_bytes() == IMAGE
    assert (data / "report").read_bytes() == SMALL[b"report"]
    findings = audit_vault(bench.vault.layout.root, now_ns=time.time_ns()).findings
    damaged = [finding for finding in findings if finding.severity == "error"]
    assert len(damaged) == 2
    assert {finding.case for finding in damaged} == {OTHERS.case.text}


def test_damage_after_the_proof_is_found_before_the_bytes_are_used(bench: Bench) -> None:
    image = bench.vault.layout.item(OTHERS).acquisition(1) / "data" / "image"
    new = os.urandom(100_000)
    asker = enter(bench)
    asker.send(Open(0, len(IMAGE) + len(new)))
    rows = cut(new)[0].rows()
    assert len(rows) >= 1
    first = rows[:1]
    assert not asker.offer(0, first, NO_PROOF)
    assert asker.list_rows(0, first).gaps == b""
    assert asker.offer(1, SEGMENTS[0].rows(), segment_proof(asker.possession, SEGMENTS[0]))
    image.chmod(0o644)
    image.write_bytes(b"\0" * len(IMAGE))
    asker.send(ChunkData(0, first[0].length))
    asker.send_data(new[: first[0].length])
    assert asker.hear(SegmentAnswer) == SegmentAnswer(1, known=False)
    need = asker.list_rows(1, SEGMENTS[0].rows())
    assert all(unpack_bits(need.missing, need.count))
    asker.hang_up()


def test_twenty_machines_in_cases_of_their_own_send_what_is_theirs(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, "vault")
    system = bench.source / "usr"
    system.mkdir()
    for number in range(60):
        (system / f"lib{number}").write_bytes(os.urandom(5_000 + 1_000 * number))
    (system / "kernel").write_bytes(os.urandom(3 * MIB))
    (system / "zeros").write_bytes(bytes(2 * MIB))
    wire: list[int] = []
    for machine in range(20):
        bench.name = ItemName(Title(f"case {machine}"), Title("disk"))
        (bench.source / "hostname").write_bytes(b"machine %d" % machine)
        (bench.source / "home").write_bytes(os.urandom(30_000))
        wire.append(bench.push().wire_sent)
    assert wire[0] > 5 * MIB
    assert max(wire[1:]) < 30_000 + 20_000
    assert blake3_of((bench.acquisition(1) / "data" / "usr" / "kernel").read_bytes()) == blake3_of(
        (system / "kernel").read_bytes()
    )


@pytest.mark.parametrize("after", [1_500, 2_500])
def test_proofs_hold_over_all_links_of_a_session(bench: Bench, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    monkeypatch.setattr(busy_server, "FIRST_PAUSE", 0.01)
    flaky = FlakyBench(bench)
    outcome = flaky.push([{"sent": after}, None])
    flaky.join()
    assert flaky.links == 2
    assert outcome.literal_bytes < 2 * LEAST_PROVEN
    assert (bench.acquisition(1) / "data" / "image").read_bytes() == IMAGE
