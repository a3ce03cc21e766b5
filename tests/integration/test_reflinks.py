"""What a new version costs on the disk, on file systems that share blocks and on one that does not."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest

from evidencesync.custody.documents import Stored, Tally
from evidencesync.errors import NoSpaceError
from evidencesync.evidence.identity import Title
from evidencesync.vault.space import free_bytes
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.file_systems import SHARING, mounted, used_bytes
from tests.support.moments import LONG_AFTER_NS
from tests.support.small_segments import UNIT, cut_smaller

MIB = 1 << 20
BLOCK = 4096
SIZE = 16 * UNIT  # four segments of the largest size
DOCUMENTS = 1 * MIB  # an acquisition's documents, its index, and what the file system notes about shared blocks
NOTHING = Tally(0, 0)


@pytest.fixture(autouse=True)
def _smaller_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_smaller(monkeypatch)


@pytest.fixture(scope="module", params=SHARING)
def disk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    find_program = request.getfixturevalue("require_program")
    with mounted(request.param, tmp_path_factory.mktemp("disk"), 600 * MIB, find_program) as place:
        yield place


@dataclass
class Image:
    """An image that is acquired again and again, and the disk that its vault lies on."""

    bench: Bench
    disk: Path
    data: bytearray = field(repr=False)

    @property
    def path(self) -> Path:
        return self.bench.source / "image.dd"

    def acquire(self, bench: Bench | None = None, **changes: object) -> tuple[Stored, int]:
        """How the receipt says that it was stored, and what it took of the disk. What lies there is the source."""
        bench = bench or self.bench
        self.path.write_bytes(self.data)
        before = used_bytes(self.disk)
        outcome = bench.push(**changes)
        took = used_bytes(self.disk) - before
        assert (bench.acquisition(outcome.acquisition) / "data" / "image.dd").read_bytes() == self.data
        return outcome.stored, took

    def assert_sound(self) -> None:
        findings = audit_vault(self.bench.vault.layout.root, now_ns=LONG_AFTER_NS).findings
        assert [finding for finding in findings if finding.severity != "info"] == []


def make_image(folder: Path, disk: Path, size: int) -> Image:
    bench = make_bench(folder)
    return Image(bench, disk, bytearray(random.Random(1).randbytes(size)))


@pytest.fixture
def image(request: pytest.FixtureRequest, disk: Path, tmp_path: Path) -> Iterator[Image]:
    """An image that was acquired once. The source lies on another disk than the vault."""
    folder = disk / "bench"
    folder.mkdir()
    size = getattr(request, "param", SIZE)
    image = make_image(folder, disk, size)
    image.bench.source = tmp_path / "source"
    image.bench.source.mkdir()
    stored, took = image.acquire()
    assert (stored, took >= size) == (Stored(Tally(1, size), NOTHING, NOTHING, NOTHING), True)
    yield image
    shutil.rmtree(folder)


def test_an_edited_image_costs_its_edits(image: Image) -> None:
    noise = random.Random(2)
    edited = noise.sample(range(SIZE // BLOCK), 5)
    for block in edited:
        image.data[block * BLOCK : (block + 1) * BLOCK] = noise.randbytes(BLOCK)
    stored, took = image.acquire()
    written = 5 * BLOCK
    assert stored == Stored(Tally(0, written), NOTHING, Tally(1, SIZE - written), NOTHING)
    assert took < written + DOCUMENTS
    image.assert_sound()


def test_without_read_back_it_is_the_same(image: Image) -> None:
    image.data[7 * UNIT + 100 : 7 * UNIT + 200] = bytes(range(100))
    stored, took = image.acquire(read_back=False)
    assert stored == Stored(Tally(0, BLOCK), NOTHING, Tally(1, SIZE - BLOCK), NOTHING)
    assert took < DOCUMENTS
    image.assert_sound()


def test_a_byte_at_the_front_makes_it_a_file_of_its_own(image: Image) -> None:
    image.data[0:0] = b"x"
    stored, took = image.acquire()
    assert stored == Stored(Tally(1, SIZE + 1), NOTHING, NOTHING, NOTHING)
    assert took >= SIZE
    image.assert_sound()


def test_whole_blocks_at_the_front_cost_themselves(image: Image) -> None:
    image.data[0:0] = random.Random(3).randbytes(3 * BLOCK)
    stored, took = image.acquire()
    assert stored.reflinked.bytes >= SIZE - 4 * UNIT  # the first segment is cut anew, and may be found late
    assert took < SIZE + 3 * BLOCK - stored.reflinked.bytes + DOCUMENTS
    image.assert_sound()


def test_what_grew_costs_what_was_added(image: Image) -> None:
    image.data += random.Random(4).randbytes(UNIT + 1)
    stored, took = image.acquire()
    assert stored == Stored(Tally(0, UNIT + 1), NOTHING, Tally(1, SIZE), NOTHING)
    assert took < UNIT + DOCUMENTS
    image.data += b"and it grows from the middle of a block"
    stored, took = image.acquire()
    assert stored.written.bytes < 2 * BLOCK
    assert took < DOCUMENTS
    image.assert_sound()


def test_what_was_cut_off_costs_nothing(image: Image) -> None:
    del image.data[SIZE // 2 + 77 :]
    stored, took = image.acquire()
    assert stored == Stored(Tally(0, 77), NOTHING, Tally(1, SIZE // 2), NOTHING)
    assert took < DOCUMENTS
    image.assert_sound()


def test_zeros_stay_holes_in_every_version(image: Image) -> None:
    image.data[5 * UNIT : 9 * UNIT] = bytes(4 * UNIT)
    stored, took = image.acquire()
    assert 4 * UNIT <= stored.written.bytes <= 4 * UNIT + 8 * BLOCK  # and what is short beside them
    assert stored.reflinked == Tally(1, SIZE - stored.written.bytes)
    assert took < DOCUMENTS
    image.data[12 * UNIT] ^= 1
    stored, took = image.acquire()
    # What lies in both older versions is found in either, and a block is written where one is left for the other.
    assert stored.written.bytes <= 8 * BLOCK
    assert stored.reflinked == Tally(1, SIZE - stored.written.bytes)
    assert took < DOCUMENTS
    image.assert_sound()


def test_another_name_another_time_another_item(image: Image) -> None:
    bench, found = image.bench, image.path.stat()
    os.rename(image.path, bench.source / "renamed.dd")
    assert bench.push().stored == Stored(NOTHING, Tally(1, SIZE), NOTHING, NOTHING)
    os.utime(bench.source / "renamed.dd", ns=(found.st_atime_ns, found.st_mtime_ns + 10**9))
    assert bench.push().stored == Stored(NOTHING, NOTHING, Tally(1, SIZE), NOTHING)
    os.unlink(bench.source / "renamed.dd")
    other = replace(bench, name=msgspec.structs.replace(bench.name, item=Title("E2")))
    stored, took = image.acquire(other)
    assert stored == Stored(NOTHING, NOTHING, Tally(1, SIZE), NOTHING)
    assert took < DOCUMENTS
    image.data[7 * UNIT] ^= 1
    stored, took = image.acquire(other)
    assert stored == Stored(Tally(0, BLOCK), NOTHING, Tally(1, SIZE - BLOCK), NOTHING)
    assert took < DOCUMENTS
    image.assert_sound()


@pytest.mark.parametrize("image", [16 * MIB], indirect=True)
def test_a_disk_that_fills_up_while_blocks_are_shared_publishes_nothing(image: Image) -> None:
    filler = image.disk / "filler"
    with open(filler, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, free_bytes(image.disk) - 90 * MIB)
    try:
        used_bytes(image.disk)  # now it is on the disk
        assert 70 * MIB < free_bytes(image.disk) < 120 * MIB
        image.data[4 * MIB] ^= 1  # so that blocks are shared, and then 100 MiB are to be written
        image.data[12 * MIB : 12 * MIB] = random.Random(5).randbytes(100 * MIB)
        with pytest.raises(NoSpaceError):
            image.acquire()
        assert image.bench.acquisitions() == ["0001"]
    finally:
        filler.unlink()
    del image.data[32 * MIB :]
    stored, _ = image.acquire()
    # How much of it is shared depends on how soon answers come: what is sent unasked after so much that is new is not looked for,
    # and what the first attempt left counts as written.
    assert stored.reflinked.bytes + stored.written.bytes == len(image.data)
    image.assert_sound()


@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
def test_where_blocks_cannot_be_shared_they_are_written(kind: str, tmp_path: Path, require_program: Callable[[str], str]) -> None:
    with mounted(kind, tmp_path, 200 * MIB, require_program) as disk:
        folder = disk / "bench"
        folder.mkdir()
        image = make_image(folder, disk, 16 * UNIT)
        image.acquire()
        image.data[5 * UNIT] ^= 1
        stored, took = image.acquire()
        assert stored == Stored(Tally(1, 16 * UNIT), NOTHING, NOTHING, NOTHING)
        assert took >= 16 * UNIT
        image.data[0:0] = bytes(10 * UNIT)
        stored, took = image.acquire()
        assert stored == Stored(Tally(1, 26 * UNIT), NOTHING, NOTHING, NOTHING)
        assert 16 * UNIT <= took < 20 * UNIT
        other = replace(image.bench, name=msgspec.structs.replace(image.bench.name, item=Title("E2")))
        assert other.push().stored == Stored(NOTHING, NOTHING, NOTHING, Tally(1, 26 * UNIT))
        image.assert_sound()
