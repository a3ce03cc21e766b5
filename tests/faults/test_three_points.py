"""A fault between any two of the three points, at which every content is compared: each is found and named.

Source (while it is read), arrival (as it was assembled), disk (as it is read back); and later, by `verify`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evidencesync.custody.receipt import decode_receipt
from evidencesync.delta.chunker import Segment
from evidencesync.errors import DigestMismatchError, EvidenceSyncError
from evidencesync.evidence.digest import blake3_of
from evidencesync.exit_codes import ExitCode
from evidencesync.ingest import session as ingest_session
from evidencesync.protocol.sender import Sender
from evidencesync.vault import publish as vault_publish
from evidencesync.vault.staging import Staging
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, make_bench

SMALL, LARGE = b"small evidence", os.urandom(700_000)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = make_bench(tmp_path)
    (bench.source / "small").write_bytes(SMALL)
    (bench.source / "large").write_bytes(LARGE)
    return bench


def flip(file: Path) -> None:
    """Changes one bit of a stored file, whose mode forbids it."""
    file.chmod(0o644)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    file.chmod(0o444)


def refused(bench: Bench, **changes: Any) -> EvidenceSyncError:
    with pytest.raises(EvidenceSyncError) as raised:
        bench.push(**changes)
    assert bench.acquisitions() == []
    return raised.value


def test_a_small_file_that_changes_between_its_digest_and_the_wire_is_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Sender.add_page

    def corrupt(sender: Sender, lines: bytes, contents: list[bytes]) -> None:
        send(sender, lines, [data.replace(b"small", b"smell") for data in contents])

    monkeypatch.setattr(Sender, "add_page", corrupt)
    error = refused(bench)
    assert isinstance(error, DigestMismatchError)
    assert error.message.endswith(": small")


def test_a_large_file_that_changes_between_its_digest_and_the_wire_is_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Sender.add_segment

    def corrupt(sender: Sender, segment: Segment) -> None:
        wrong = bytearray(segment.parts[0] or b"")
        wrong[len(wrong) // 2] ^= 1
        segment.parts[0] = memoryview(wrong)
        add(sender, segment)

    monkeypatch.setattr(Sender, "add_segment", corrupt)
    error = refused(bench)
    assert isinstance(error, DigestMismatchError)
    assert f"{len(LARGE)} bytes, BLAKE3 {blake3_of(LARGE).hex()}" in error.message  # no page has named it yet


@pytest.mark.parametrize("name", ["small", "large"])
@pytest.mark.parametrize("when", ["before it is synced", "after it is synced"])
def test_what_changes_between_arrival_and_read_back_is_found_and_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str, when: str
) -> None:
    sync: Callable[[Staging], None] = Staging.sync

    def corrupt(staging: Staging) -> None:
        if when == "after it is synced":
            sync(staging)
        (file,) = bench.vault.layout.item(bench.name).incoming.glob(f"*/*/data/{name}")
        flip(file)
        if when == "before it is synced":
            sync(staging)

    monkeypatch.setattr(Staging, "sync", corrupt)
    error = refused(bench)
    assert isinstance(error, DigestMismatchError)
    assert error.message.startswith(f"the disk does not give back what was written: {name}")


@pytest.mark.parametrize("document", ["manifest.jsonl", "SHA256SUMS", "BLAKE3SUMS", "chunks.bin"])
def test_a_document_that_changes_on_the_disk_is_found_and_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, document: str
) -> None:
    sync: Callable[[Staging], None] = Staging.sync

    def corrupt(staging: Staging) -> None:
        sync(staging)
        (file,) = bench.vault.layout.item(bench.name).incoming.glob(f"*/*/{document}")
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.chmod(0o644)
        file.write_bytes(data)

    monkeypatch.setattr(Staging, "sync", corrupt)
    assert refused(bench).exit_code in (ExitCode.DIGEST, ExitCode.SIGNATURE)


@pytest.mark.parametrize("name", ["small", "large"])
def test_what_changes_after_read_back_is_found_and_named_by_verify(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:

    def corrupt(staging: Staging, documents: dict[str, bytes]) -> Any:
        published = vault_publish.publish(staging, documents)
        flip(published.path / "data" / name)
        return published

    monkeypatch.setattr(ingest_session, "publish", corrupt)
    bench.push()
    verdict = audit_vault(bench.vault.layout.root, now_ns=time.time_ns())
    (finding,) = [one for one in verdict.findings if one.severity == "error"]
    assert (verdict.exit_code, finding.slug) == (30, "file-damaged")
    assert finding.path is not None
    assert finding.path.endswith(f"data/{name}")
    size = len(SMALL if name == "small" else LARGE)
    assert finding.offset is not None
    assert finding.offset <= size // 2


def test_a_receipt_claims_no_point_that_was_not_taken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the disk was read back, and nobody had asked for it")

    monkeypatch.setattr(ingest_session, "read_back", never)
    outcome = bench.push(read_back=False)
    points = decode_receipt(outcome.documents.receipt).points
    assert (points.source.taken, points.arrival.taken, points.disk.taken) == (True, True, False)
    assert (points.disk.digests, points.disk.files, points.disk.bytes) == ([], 0, 0)
    assert "not taken" in points.disk.method
    assert points.arrival.digests == ["blake3"]
    monkeypatch.undo()
    points = decode_receipt(bench.push().documents.receipt).points
    assert (points.disk.taken, points.disk.digests, points.disk.files) == (True, ["blake3", "sha256"], 2)


def test_without_read_back_what_changes_on_the_way_to_the_disk_is_left_to_verify(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync: Callable[[Staging], None] = Staging.sync

    def corrupt(staging: Staging) -> None:
        (file,) = bench.vault.layout.item(bench.name).incoming.glob("*/*/data/small")
        flip(file)
        sync(staging)

    monkeypatch.setattr(Staging, "sync", corrupt)
    assert not decode_receipt(bench.push(read_back=False).documents.receipt).points.disk.taken
    assert audit_vault(bench.vault.layout.root, now_ns=time.time_ns()).exit_code == 30
