"""Evidence is read from afar: what a reader may not have, however it asks, and what it may not make the vault's end do."""

from __future__ import annotations

import os
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from evidencesync.connection.sender_connection import SINGLE_SESSION
from evidencesync.errors import (
    EvidenceSyncError,
    NotThereError,
    PathEscapeError,
    ProtocolError,
    UntrustedSignerError,
)
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.limits import MAX_EVIDENCE_PART, MAX_EVIDENCE_PARTS, MAX_FILE_SIZE, MIB
from evidencesync.protocol.document_messages import DocumentsAsk
from evidencesync.protocol.evidence_messages import EvidenceAsk, EvidenceParts, Patch, PatchAsk, Rows, RowsAsk
from evidencesync.protocol.framing import encode_frame
from tests.support.bench_of_evidence import Bench, copy_of, make_bench, new_signer
from tests.support.evidence_reader import EvidenceReader, parts_of
from tests.support.patience import wait_until

SECRET = b"of another case"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A vault with two cases; the reader asks for the first one's."""
    folder = tmp_path_factory.mktemp("template")
    made = make_bench(folder)
    (made.source / "folder").mkdir()
    (made.source / "a").write_bytes(b"evidence")
    (made.source / "folder" / "large").write_bytes(os.urandom(3 * MIB + 17))
    made.push()
    (folder / "other").mkdir()
    (folder / "other" / "secret").write_bytes(SECRET)
    replace(made, source=folder / "other", name=ItemName(Title("OTHER"), Title("X1"))).push()
    return made


@pytest.fixture
def bench(template: Bench, tmp_path: Path) -> Bench:
    return copy_of(template, tmp_path)


def test_what_is_asked_for_comes_in_its_order(bench: Bench) -> None:
    reader = EvidenceReader(bench)
    size = 3 * MIB + 17
    large = parts_of(b"folder/large", size, MAX_EVIDENCE_PART)
    asked = [(b"a", 2, 3), *reversed(large), (b"a", 0, 8), (b"folder/large", 5, 10)]
    reader.ask(*asked)
    reader.ask((b"a", 7, 1))
    data = (bench.source / "folder" / "large").read_bytes()
    ranges = [data[offset : offset + length] for _, offset, length in reversed(large)]
    assert reader.answers(*asked) == [b"ide", *ranges, b"evidence", data[5:15]]
    assert reader.answers((b"a", 7, 1)) == [b"e"]


def test_rows_of_chunks_come_as_they_are_stored(bench: Bench) -> None:
    reader = EvidenceReader(bench)
    name = bench.name
    reader.send(RowsAsk(name.case.text, name.item.text, 1), RowsAsk(name.case.text, name.item.text, 7))
    assert reader.rows() == (bench.acquisition(1) / "chunks.bin").read_bytes() != b""
    assert reader.rows() == b""


@pytest.mark.parametrize(
    "path",
    [
        b"../manifest.jsonl",
        b"../../../../../OTHER/X1/acquisitions/0001/data/secret",
        b"folder/../../receipt.json",
        b"/etc/passwd",
        b"./a",
        b"folder//large",
        b"folder/.",
        b"..",
        b"a\0b",
    ],
)
def test_a_path_that_leads_out_ends_the_session(bench: Bench, path: bytes) -> None:
    reader = EvidenceReader(bench)
    reader.ask((path, 0, 1))
    assert isinstance(reader.ended(), PathEscapeError)


def patch_ask(bench: Bench, path: bytes, pieces: bytes) -> PatchAsk:
    return PatchAsk(bench.name.case.text, bench.name.item.text, 1, path, 0, 8, pieces)


def test_a_patch_is_made_of_the_evidence_and_of_nothing_else(bench: Bench) -> None:
    for path, error in ((b"../manifest.jsonl", PathEscapeError), (b"a", ProtocolError)):
        reader = EvidenceReader(bench)
        reader.send(patch_ask(bench, path, b"123456" if error is PathEscapeError else b"1234567"))
        assert isinstance(reader.ended(), error)
    reader = EvidenceReader(bench)
    reader.send(patch_ask(bench, b"none", b"123456"), patch_ask(bench, b"a", b"123456"))
    gone, made = reader.hear(Patch), reader.hear(Patch)
    assert gone.lack is not None
    assert (gone.lack[0], made) == ("gone", Patch([(8, 0, 0)], 8, None))


@pytest.mark.parametrize("place", ["link", "linked/secret", "linked/../secret"])
def test_no_link_is_followed(bench: Bench, tmp_path: Path, place: str) -> None:
    """A vault has no links among its files. Somebody who could make one there gets nothing by it."""
    data = bench.acquisition(1) / "data"
    (data / "link").symlink_to(tmp_path / "other" / "secret")
    (data / "linked").symlink_to(tmp_path / "other")
    reader = EvidenceReader(bench)
    asked = (place.encode(), 0, len(SECRET))
    reader.ask(asked)
    try:
        assert reader.answers(asked) == ["gone"]
    except PathEscapeError:
        assert ".." in place


def test_a_folder_that_is_a_link_leads_to_no_other_acquisition(bench: Bench) -> None:
    acquisitions = bench.acquisition(1).parent
    (acquisitions / "0002").symlink_to(bench.vault.layout.cases / "OTHER" / "X1" / "acquisitions" / "0001")
    reader = EvidenceReader(bench)
    reader.ask((b"secret", 0, 1), acquisition=2)
    assert isinstance(reader.ended(), NotThereError)


def test_what_is_no_file_is_gone(bench: Bench) -> None:
    os.mkfifo(bench.acquisition(1) / "data" / "fifo")
    reader = EvidenceReader(bench)
    asked = [(b"fifo", 0, 1), (b"folder", 0, 1), (b"a/b", 0, 1), (b"no such", 0, 1), (b"a", 0, 8)]
    reader.ask(*asked)
    assert reader.answers(*asked) == ["gone", "gone", "gone", "gone", b"evidence"]


def test_a_part_beyond_the_end_is_said_to_be_and_the_others_come(bench: Bench) -> None:
    reader = EvidenceReader(bench)
    asked = [(b"a", 1, 8), (b"a", 8, 1), (b"a", MAX_FILE_SIZE, 1), (b"a", 0, 8)]
    reader.ask(*asked)
    assert reader.answers(*asked) == ["shorter", "shorter", "shorter", b"evidence"]


def test_a_file_that_cannot_be_read_is_said_to_be_and_the_others_come(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(fd: int, offset: int, length: int) -> bytes:
        if length == 3:
            raise OSError(5, "Input/output error")
        return os.pread(fd, length, offset)

    monkeypatch.setattr("evidencesync.ingest.evidence._read_at", failing)
    reader = EvidenceReader(bench)
    asked = [(b"a", 0, 3), (b"a", 0, 8)]
    reader.ask(*asked)
    assert reader.answers(*asked) == ["unreadable", b"evidence"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"acquisition": 2}, NotThereError),
        ({"acquisition": 0}, NotThereError),
        ({"acquisition": 2**32 - 1}, NotThereError),
        ({"item": "no such"}, NotThereError),
        ({"case": "no such"}, NotThereError),
        ({"case": "../OTHER"}, EvidenceSyncError),
        ({"case": "..", "item": "vault"}, EvidenceSyncError),
        ({"item": "a\x1bb"}, ProtocolError),
    ],
)
def test_an_acquisition_that_is_not_there_ends_the_session(
    bench: Bench, changes: dict[str, object], error: type[Exception]
) -> None:
    reader = EvidenceReader(bench)
    reader.ask((b"a", 0, 1), **changes)  # type: ignore[arg-type]
    assert isinstance(reader.ended(), error)


def test_a_million_parts_in_one_message_are_none(bench: Bench) -> None:
    reader = EvidenceReader(bench)
    known = EvidenceAsk("C1", "I1", 1, [(b"a", 0, 1)] * MAX_EVIDENCE_PARTS)
    reader.send(known)
    reader = EvidenceReader(bench)
    reader.send_bytes(
        encode_frame(64, b"\x94\xa2C1\xa2I1\x01\xdd" + (1_000_000).to_bytes(4, "big"), b"\x93\xc4\x01a\x00\x01" * 1000)
    )
    assert isinstance(reader.ended(), ProtocolError)


@pytest.mark.parametrize("message", [EvidenceParts(1, []), Rows(0)])
def test_an_answer_is_no_question(bench: Bench, message: EvidenceParts | Rows) -> None:
    reader = EvidenceReader(bench)
    reader.send(message)
    assert isinstance(reader.ended(), ProtocolError)


def test_data_is_no_question(bench: Bench) -> None:
    reader = EvidenceReader(bench)
    reader.send_data(b"x")
    assert isinstance(reader.ended(), ProtocolError)


def test_a_key_that_the_vault_does_not_trust_gets_no_evidence(bench: Bench) -> None:
    reader = EvidenceReader(replace(bench, signer=new_signer()))
    reader.ask((b"a", 0, 1))
    assert isinstance(reader.ended(), UntrustedSignerError)


@pytest.mark.parametrize("asks_for_rows", [False, True])
def test_a_server_that_shows_no_evidence_shows_none_to_anybody(bench: Bench, *, asks_for_rows: bool) -> None:
    reader = EvidenceReader(bench, host=msgspec.structs.replace(SINGLE_SESSION, shows_evidence=False))
    if asks_for_rows:
        reader.send(RowsAsk(bench.name.case.text, bench.name.item.text, 1))
    else:
        reader.ask((b"a", 0, 1))
    assert isinstance(reader.ended(), UntrustedSignerError)


def test_a_reader_that_asks_and_does_not_read_takes_no_more_memory(bench: Bench) -> None:
    """512 MiB are asked for in each of 40 messages; what is held is what a link takes, a few parts, and some questions."""
    reader = EvidenceReader(bench)
    part = (b"folder/large", 0, MAX_EVIDENCE_PART)
    tracemalloc.start()
    try:
        asking = threading.Thread(target=lambda: [reader.ask(*[part] * MAX_EVIDENCE_PARTS) for _ in range(40)], daemon=True)
        asking.start()
        wait_until(lambda: reader.link.wire_received > 8 * MIB)
        asking.join(30)
        assert not asking.is_alive()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        reader.link.close()
        reader.joined()
    assert most < 40 * MIB


def test_documents_and_evidence_are_answered_over_one_link(bench: Bench) -> None:
    reader = EvidenceReader(bench)
    reader.ask((b"a", 0, 8))
    assert reader.answers((b"a", 0, 8)) == [b"evidence"]
    reader.send(DocumentsAsk(bench.name.case.text, bench.name.item.text, [1]))
    reader.link.close()
    reader.joined()
