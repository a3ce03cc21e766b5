"""Sparse files: their holes are neither read nor sent nor stored, and count in every digest like any other zeros."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from evidencesync.acquire.push import push
from evidencesync.acquire.source_access import count_source
from evidencesync.connection.progress import Progress
from evidencesync.errors import DigestMismatchError
from evidencesync.files import holes
from evidencesync.files.holes import HOLE_STEP, Extent, HoleFinder
from evidencesync.limits import KIB
from evidencesync.source.filters import FilterRules
from evidencesync.source.root import resolve_source
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench
from tests.support.moments import LONG_AFTER_NS
from tests.support.patience import PATIENCE_SECONDS

UNIT = 256 * KIB
SIZE = 200 * UNIT
PLACES = [(5 * UNIT, 300 * KIB), (90 * UNIT + 7, 20_000), (150 * UNIT, 2 * UNIT)]
DATA = sum(size for _, size in PLACES)


@pytest.fixture(autouse=True)
def _steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much shorter as the file is."""
    monkeypatch.setattr(holes, "HOLE_STEP", HOLE_STEP // 4)


def make_sparse(path: Path) -> None:
    chance = random.Random(11)
    with path.open("wb") as file:
        for offset, size in PLACES:
            os.pwrite(file.fileno(), chance.randbytes(size), offset)
        file.truncate(SIZE)


def write(path: Path, offset: int, data: bytes) -> None:
    """What a failing disk does: the file is changed behind everybody's back, its times stay."""
    status = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), data, offset)
    path.chmod(0o444)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def assert_kept(bench: Bench, number: int, name: str = "disk.img") -> Path:
    """What lies in the vault has both digests of the manifest, takes no more room than its data, and passes a check."""
    stored = bench.acquisition(number) / "data" / name
    entry = bench.entries(number)[name.encode()]
    content = stored.read_bytes()
    assert (entry.size, entry.blake3, entry.sha256) == (
        len(content),
        blake3(content).hexdigest(),
        hashlib.sha256(content).hexdigest(),
    )
    assert stored.stat().st_blocks * 512 < DATA + 2 * UNIT
    verdict = audit_vault(bench.vault.layout.root, now_ns=LONG_AFTER_NS, all_digests=True)
    assert verdict.verdict == "pass"
    return stored


def test_a_hole_is_neither_read_nor_sent_nor_stored_at_either_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    make_sparse(bench.source / "disk.img")
    read: dict[str, int] = {}
    real = os.preadv

    def counted(fd: int, buffers: list[memoryview], offset: int) -> int:
        got = real(fd, buffers, offset)
        where = os.readlink(f"/proc/self/fd/{fd}")
        read[where] = read.get(where, 0) + got
        return got

    monkeypatch.setattr(os, "preadv", counted)
    outcome = bench.push()
    assert len(read) == 2  # the source, and what was read back
    assert all(DATA <= got < DATA + 256 * KIB for got in read.values())
    assert outcome.literal_bytes < DATA + 256 * KIB
    assert outcome.zero_bytes == SIZE - outcome.literal_bytes
    assert outcome.wire_sent < DATA + 300 * KIB
    stored = assert_kept(bench, 1)
    assert stored.read_bytes() == (bench.source / "disk.img").read_bytes()


def test_the_display_tells_holes_from_what_was_read(bench: Bench) -> None:
    make_sparse(bench.source / "disk.img")
    progress = Progress()
    count_source(resolve_source(bench.request().source), FilterRules.none(), progress, lambda: False)
    ours, thread = bench.serve()
    push(ours, bench.request(), progress)
    thread.join(PATIENCE_SECONDS)
    assert progress.arrived_bytes + progress.zero_bytes == SIZE
    assert progress.total_bytes is not None
    assert progress.total_hole_bytes == progress.hole_bytes
    assert progress.to_arrive(progress.total_bytes) == progress.arrived_bytes < DATA + 256 * KIB
    assert SIZE - DATA - 64 * KIB < progress.hole_bytes <= SIZE - DATA


def test_zeros_that_were_written_and_holes_are_the_same_content(bench: Bench) -> None:
    make_sparse(bench.source / "disk.img")
    first = bench.push()
    data = (bench.source / "disk.img").read_bytes()
    (bench.source / "disk.img").unlink()
    (bench.source / "disk.img").write_bytes(data)
    second = bench.push()
    assert second.literal_bytes == 0
    assert (second.zero_bytes, second.reused_bytes) == (first.zero_bytes, first.literal_bytes)
    assert_kept(bench, 2)


def test_an_unchanged_sparse_file_is_linked(bench: Bench) -> None:
    make_sparse(bench.source / "disk.img")
    bench.push()
    assert bench.push().literal_bytes == 0
    assert assert_kept(bench, 2).stat().st_ino == (bench.acquisition(1) / "data" / "disk.img").stat().st_ino


def test_what_comes_before_a_change_is_copied_with_its_holes(bench: Bench) -> None:
    make_sparse(bench.source / "disk.img")
    bench.push()
    with (bench.source / "disk.img").open("r+b") as file:
        os.pwrite(file.fileno(), b"new", 199 * UNIT)
    assert bench.push().literal_bytes < UNIT
    assert_kept(bench, 2)


@pytest.mark.parametrize("read_back", [True, False])
def test_a_byte_that_was_written_into_a_hole_of_the_vault_is_found(bench: Bench, read_back: bool) -> None:
    make_sparse(bench.source / "disk.img")
    bench.push()
    write(bench.acquisition(1) / "data" / "disk.img", 60 * UNIT, b"\1")
    verdict = audit_vault(bench.vault.layout.root, now_ns=LONG_AFTER_NS)
    assert verdict.exit_code == 30
    (finding,) = [one for one in verdict.findings if one.slug == "file-damaged"]
    offset, length = finding.offset or 0, finding.length or 0
    assert offset <= 60 * UNIT < offset + length
    assert bench.push(read_back=read_back).damaged == 1
    stored = bench.acquisition(2) / "data" / "disk.img"
    assert stored.read_bytes() == (bench.source / "disk.img").read_bytes()
    assert stored.stat().st_blocks * 512 < DATA + UNIT


def test_a_published_file_that_was_cut_short_is_no_hole(bench: Bench) -> None:
    make_sparse(bench.source / "disk.img")
    bench.push()
    stored = bench.acquisition(1) / "data" / "disk.img"
    stored.chmod(0o644)
    os.truncate(stored, 160 * UNIT)
    bench.push()
    assert (bench.acquisition(2) / "data" / "disk.img").read_bytes() == (bench.source / "disk.img").read_bytes()


def test_what_a_disk_lost_and_gives_as_a_hole_is_not_acknowledged(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system lost a range of what was written, and says so by a hole: the read-back must not take it for sound."""
    make_sparse(bench.source / "disk.img")
    real = HoleFinder.next_extent

    def lost(finder: HoleFinder, offset: int, end: int) -> Extent:
        found = real(finder, offset, end)
        staged = "/data/disk.img" in os.readlink(f"/proc/self/fd/{finder._fd}")
        return found._replace(is_hole=True) if staged and found.length and 150 * UNIT <= offset < 152 * UNIT else found

    monkeypatch.setattr(HoleFinder, "next_extent", lost)
    with pytest.raises(DigestMismatchError):
        bench.push()
    assert bench.acquisitions() == []


def filled(path: Path) -> None:
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), os.urandom(UNIT), 100 * UNIT)


def filled_behind(path: Path) -> None:
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), os.urandom(UNIT), 20 * UNIT)


def punched(path: Path) -> None:
    os.truncate(path, 150 * UNIT)
    os.truncate(path, SIZE)


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def cut_in_the_hole(path: Path) -> None:
    os.truncate(path, 120 * UNIT)


def cut_where_we_are(path: Path) -> None:
    os.truncate(path, 1 * UNIT)


@pytest.mark.parametrize("change", [filled, filled_behind, punched, grown, cut_in_the_hole, cut_where_we_are])
def test_a_writer_who_races_is_noticed_and_what_was_hashed_is_what_was_sent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    path = bench.source / "disk.img"
    make_sparse(path)
    real = HoleFinder.next_extent
    changed: list[int] = []

    def racing(finder: HoleFinder, offset: int, end: int) -> Extent:
        if not changed and offset > 50 * UNIT and os.readlink(f"/proc/self/fd/{finder._fd}").endswith("source/disk.img"):
            changed.append(offset)
            change(path)
        return real(finder, offset, end)

    monkeypatch.setattr(HoleFinder, "next_extent", racing)
    outcome = bench.push()
    assert len(changed) == 1
    assert outcome.tally.manifest.flags == {"changed-while-read": 1}
    stored = assert_kept(bench, 1)
    assert stored.stat().st_size in (SIZE, 120 * UNIT, changed[0])
