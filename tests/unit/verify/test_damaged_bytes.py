"""A changed bit is found in every kind of file, and its place is named."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from evidencesync.custody.manifest import CheckedLine
from evidencesync.evidence.digest import Sha256Digest
from evidencesync.evidence.path import from_json_fields
from evidencesync.files import large_hash
from evidencesync.vault import file_checks
from evidencesync.verify import contents
from tests.unit.vault import acquiring
from tests.unit.verify.sample import FIRST, IMAGE, ITEM, SECOND, ZEROS, ZEROS_AT, Made, edit, flip, only, slugs

MAX_CHUNK = 256 * 1024


def stored_files(made: Made) -> list[Path]:
    return sorted(Path(folder) / name for folder, _, names in os.walk(made.path / "cases") for name in names)


@pytest.mark.slow
def test_one_bit_flipped_in_any_file_is_found_and_the_file_is_named(made: Made) -> None:
    files = stored_files(made)
    assert len(files) == 2 * (11 + len(FIRST)) + 8
    for file in files:
        data = file.read_bytes()
        named = os.fsencode(file.relative_to(made.path))
        for offset in sorted({0, len(data) // 2, len(data) - 1}) if data else []:
            flip(file, offset, offset % 8)
            verdict = made.audit()
            edit(file, data)
            assert verdict.verdict == "fail", (file, offset)
            assert verdict.exit_code in (30, 31, 32, 34)
            places = [one for one in verdict.findings if one.severity == "error" and (one.path or one.path_b64)]
            paths = {from_json_fields(one.path, one.path_b64) for one in places}
            assert named in paths, (file, offset, verdict.findings)
    assert made.audit().verdict == "pass"


def damaged_ranges(made: Made, number: int) -> list[tuple[int, int]]:
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code, slugs(verdict)) == ("fail", 30, {"file-damaged"})
    assert {one.path for one in verdict.findings} == {f"{ITEM}/acquisitions/{number:04d}/data/image.bin"}
    assert {(one.check, one.case, one.item, one.acquisition) for one in verdict.findings} == {(7, "2026/117", "3-a", number)}
    return [(one.offset or 0, one.length or 0) for one in verdict.findings]


@pytest.mark.parametrize("number", [1, 2])
def test_the_damaged_chunk_is_named_also_by_an_earlier_acquisitions_recipe(made: Made, number: int) -> None:
    flip(made.acquisition(number) / "data" / "image.bin", 123_456)
    ((offset, length),) = damaged_ranges(made, number)
    assert offset <= 123_456 < offset + length <= offset + MAX_CHUNK


def test_damage_in_two_places_gives_two_ranges(made: Made) -> None:
    image = made.acquisition(1) / "data" / "image.bin"
    flip(image, 5)
    flip(image, len(IMAGE) - 1)
    first, second = damaged_ranges(made, 1)
    assert first[0] == 0
    assert sum(first) < second[0]
    assert sum(second) == len(IMAGE)


def test_damage_that_spans_chunks_is_one_range(made: Made) -> None:
    image = made.acquisition(1) / "data" / "image.bin"
    data = bytearray(IMAGE)
    data[100_000:600_000] = bytes(byte ^ 0xFF for byte in data[100_000:600_000])
    edit(image, bytes(data))
    ((offset, length),) = damaged_ranges(made, 1)
    assert 100_000 - MAX_CHUNK < offset <= 100_000
    assert 600_000 <= offset + length < 600_000 + MAX_CHUNK


def test_damage_in_a_run_of_zeros_names_that_run(made: Made) -> None:
    flip(made.acquisition(1) / "data" / "image.bin", ZEROS_AT + ZEROS // 2)
    assert damaged_ranges(made, 1) == [(ZEROS_AT, ZEROS)]


def test_damage_in_a_small_file_names_all_of_it(made: Made) -> None:
    flip(made.acquisition(1) / "data" / "logs" / "day 1.log", 2500)
    found = only(made.audit(), "file-damaged")
    assert (found.offset, found.length) == (0, 5000)


def test_no_recipe_is_believed_that_no_receipt_vouches_for(made: Made) -> None:
    flip(made.acquisition(1) / "data" / "image.bin", 0)
    flip(made.acquisition(1) / "chunks.bin", 60)
    verdict = made.audit()
    assert slugs(verdict) == {"file-damaged", "document-damaged"}
    found = only(verdict, "file-damaged")
    assert (found.offset, found.length) == (0, len(IMAGE))


def test_a_file_that_was_cut_off_is_called_that_with_the_missing_range(made: Made) -> None:
    edit(made.acquisition(1) / "data" / "image.bin", IMAGE[:1_000_000])
    verdict = made.audit()
    assert (verdict.exit_code, slugs(verdict)) == (30, {"file-truncated"})
    found = only(verdict, "file-truncated")
    assert (found.offset, found.length) == (1_000_000, len(IMAGE) - 1_000_000)


def test_a_file_that_was_cut_off_and_changed_says_both(made: Made) -> None:
    edit(made.acquisition(1) / "data" / "image.bin", b"X" + IMAGE[1:1_000_000])
    verdict = made.audit()
    assert slugs(verdict) == {"file-truncated", "file-damaged"}
    assert only(verdict, "file-damaged").offset == 0


def test_a_file_that_was_made_longer_is_called_that(made: Made) -> None:
    edit(made.acquisition(2) / "data" / "a.txt", SECOND[b"a.txt"] + b"more")
    found = only(made.audit(), "file-extended")
    assert (found.offset, found.length) == (6, 4)


def test_a_large_file_is_hashed_in_blocks_as_well(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "LARGE", 1000)
    monkeypatch.setattr(large_hash, "_BLOCK", 4099)
    assert made.audit(all_digests=True).verdict == "pass"
    flip(made.acquisition(1) / "data" / "image.bin", 1_234_567)
    ((offset, length),) = damaged_ranges(made, 1)
    assert offset <= 1_234_567 < offset + length


def test_helper_processes_find_what_threads_find(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(made.acquisition(1) / "data" / "logs" / "day 1.log", 1)
    flip(made.acquisition(2) / "data" / "a.txt", 1)
    here = made.audit().findings
    monkeypatch.setattr(file_checks, "_BATCH_FILES", 2)
    monkeypatch.setattr(file_checks, "_HELPERS_FROM", 1)
    assert made.audit().findings == here


@pytest.mark.parametrize("large", [False, True])
def test_a_disk_that_cannot_read_makes_the_verdict_incomplete_and_names_the_place(
    made: Made, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    """No real disk fails on demand: the system call does."""
    bad = (made.acquisition(1) / "data" / "image.bin").stat().st_ino
    read, preadv = os.read, os.preadv

    def failing_read(fd: int, length: int) -> bytes:
        if os.fstat(fd).st_ino == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(fd, length)

    def failing_preadv(fd: int, buffers: list[bytearray], offset: int) -> int:
        if os.fstat(fd).st_ino == bad and offset >= 8192:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "read", failing_read)
    monkeypatch.setattr(os, "preadv", failing_preadv)
    if large:
        monkeypatch.setattr(contents, "LARGE", 1000)
        monkeypatch.setattr(large_hash, "_BLOCK", 4096)
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code) == ("incomplete", 3)
    found = only(verdict, "unreadable")
    assert found.offset == (8192 if large else 0)
    assert (found.path or "").endswith("data/image.bin")


def test_a_wrong_sha256_is_only_found_by_checking_all_digests(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sender and vault agree on a SHA-256 that was never true, and sign for it."""
    wrong = Sha256Digest(bytes(32))
    lines = acquiring.manifest_lines

    def wrong_lines(files: Mapping[bytes, bytes]) -> list[CheckedLine]:
        return [
            (path, replace(line, sha256=wrong.hex()) if line.sha256 else line)  # type: ignore[union-attr]
            for path, line in lines(files)
        ]

    monkeypatch.setattr(acquiring, "manifest_lines", wrong_lines)
    monkeypatch.setattr(acquiring, "read_back", lambda *_: None)
    acquiring.Acquirer(made.open(), made.examiner).acquire({b"x": b"content"})
    assert made.audit().verdict == "pass"
    verdict = made.audit(all_digests=True)
    assert (verdict.verdict, verdict.exit_code) == ("fail", 30)
    assert "SHA-256" in only(verdict, "file-damaged").message
