"""Sources that the kernel cannot read all of: what can be read is kept, and what cannot is on the map, and in the exit code."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from evidencesync.acquire.request import PushOutcome
from evidencesync.custody import manifest
from evidencesync.errors import SourceGapsError
from evidencesync.evidence.entry import Entry, ReadError
from evidencesync.limits import KIB, MIB
from evidencesync.source import salvage
from evidencesync.source.salvage import GIVEN_UP, Salvage
from evidencesync.verify.audit import audit_vault
from tests.support.bad_disk import BadFile, bad_disk, loop_device
from tests.support.bench_of_evidence import Bench
from tests.support.file_systems import mounted
from tests.support.moments import LONG_AFTER_NS

FindProgram = Callable[[str], str]
SIZE = 12 * MIB
SECTOR = 512
# One sector, some in a row across a step's border, an area of more than a block, the last sector of all.
BAD = [(5 * SECTOR, 6 * SECTOR), (64 * KIB - SECTOR, 64 * KIB + 3 * SECTOR), (5 * MIB, 10 * MIB), (SIZE - SECTOR, SIZE)]


@pytest.fixture(autouse=True)
def _busy_machine_is_no_failing_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A salvage has so much time for a block: what it does when that is over is shown with a clock of the test's own."""
    monkeypatch.setattr(salvage, "Salvage", partial(Salvage, clock=lambda: 0.0))


def content(size: int = SIZE) -> bytearray:
    return bytearray(random.Random(size).randbytes(size))


def without(data: bytes | bytearray, bad: list[tuple[int, int]]) -> bytes:
    kept = bytearray(data)
    for start, end in bad:
        kept[start:end] = bytes(end - start)
    return bytes(kept)


def bad_ranges(entry: Entry) -> list[tuple[int, int]]:
    return [(error.offset, error.offset + error.length) for error in entry.read_errors or []]


def stored(bench: Bench, name: str) -> bytes:
    """What lies in the vault, and passes every check there."""
    verdict = audit_vault(bench.vault.layout.root, now_ns=LONG_AFTER_NS, all_digests=True)
    assert verdict.verdict == "pass"
    data = (bench.acquisition(1) / "data" / name).read_bytes()
    entry = bench.entries(1)[name.encode()]
    assert (entry.size, entry.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    return data


def assert_counted(outcome: PushOutcome, entry: Entry) -> None:
    assert entry.flags == ["unreadable"]
    assert outcome.tally.manifest.flags == {"unreadable": 1}
    assert outcome.tally.partial == 1
    assert outcome.tally.bad_ranges == len(entry.read_errors or [])
    assert outcome.tally.bad_bytes == sum(error.length for error in entry.read_errors or [])


def test_a_disk_with_bad_sectors_is_read_down_to_the_sector_as_ddrescue_does(
    bench: Bench, tmp_path: Path, require_program: FindProgram
) -> None:
    disk = BadFile(content(), BAD)
    with bad_disk(tmp_path / "bad", {"disk": disk}) as folder, loop_device(folder.place / "disk", require_program) as device:
        outcome = bench.push(source=os.fsencode(device))
        _rescue(require_program("ddrescue"), device, tmp_path)
    entry = bench.entries(1)[f"{device.name}.img".encode()]
    assert bad_ranges(entry) == BAD
    assert {(error.errno, error.fill) for error in entry.read_errors or []} == {(errno.EIO, "zero")}
    assert_counted(outcome, entry)
    data = stored(bench, f"{device.name}.img")
    assert data == without(disk.data, BAD)
    assert data == (tmp_path / "rescued").read_bytes()
    assert bad_ranges(entry) == _mapped(tmp_path / "map")
    acquired = json.loads((bench.acquisition(1) / "acquired.json").read_text())
    assert acquired["details"]["bytes_not_readable"] == str(outcome.tally.bad_bytes)


def test_it_is_what_dd_makes_of_it(bench: Bench, tmp_path: Path, require_program: FindProgram) -> None:
    size, bad = MIB, [(5 * SECTOR, 7 * SECTOR), (500 * SECTOR, 501 * SECTOR)]
    disk = BadFile(content(size), bad)
    with bad_disk(tmp_path / "bad", {"disk": disk}) as folder, loop_device(folder.place / "disk", require_program) as device:
        bench.push(source=os.fsencode(device))
        by_dd = tmp_path / "by-dd"
        options = [f"if={device}", f"of={by_dd}", f"bs={SECTOR}", "conv=noerror,sync", "iflag=direct"]
        subprocess.run(["dd", *options], check=False, capture_output=True)
    assert stored(bench, f"{device.name}.img") == by_dd.read_bytes()


def test_a_disk_with_sectors_of_4_kib_loses_whole_ones(bench: Bench, tmp_path: Path, require_program: FindProgram) -> None:
    disk = BadFile(content(MIB), [(5 * SECTOR, 6 * SECTOR)])
    with (
        bad_disk(tmp_path / "bad", {"disk": disk}) as folder,
        loop_device(folder.place / "disk", require_program, sector=4096) as device,
    ):
        bench.push(source=os.fsencode(device))
    assert bad_ranges(bench.entries(1)[f"{device.name}.img".encode()]) == [(0, 4096)]


def test_a_map_longer_than_a_line_goes_on_in_further_lines(
    bench: Bench, tmp_path: Path, require_program: FindProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "LIST_CAP_PER_LINE", 100)  # what a line may hold in earnest, 250 bad sectors would fit
    bad = [(at * 4 * SECTOR, at * 4 * SECTOR + SECTOR) for at in range(250)]
    disk = BadFile(content(MIB), bad)
    with bad_disk(tmp_path / "bad", {"disk": disk}) as folder, loop_device(folder.place / "disk", require_program) as device:
        outcome = bench.push(source=os.fsencode(device))
    assert outcome.tally.bad_ranges == len(bad)
    lines = [json.loads(line) for line in (bench.acquisition(1) / "manifest.jsonl").read_text().splitlines()]
    lists = [line["read_errors"] for line in lines if "read_errors" in line]
    assert [len(part) for part in lists] == [100, 100, 50]
    assert [(error["offset"], error["offset"] + error["length"]) for part in lists for error in part] == bad
    assert stored(bench, f"{device.name}.img") == without(disk.data, bad)


def test_a_disk_that_ends_before_its_size_keeps_what_was_read(bench: Bench, tmp_path: Path, require_program: FindProgram) -> None:
    data = content()
    (tmp_path / "backing").write_bytes(data)
    with loop_device(tmp_path / "backing", require_program) as device:
        os.truncate(tmp_path / "backing", 7 * MIB)
        outcome = bench.push(source=os.fsencode(device))
    entry = bench.entries(1)[f"{device.name}.img".encode()]
    first, last = entry.read_errors or []
    assert (first.offset, first.offset + first.length, last.offset + last.length) == (7 * MIB, last.offset, SIZE)
    assert (first.errno, last.errno) == (errno.EIO, GIVEN_UP)  # behind a whole block of nothing no single sectors are tried
    assert_counted(outcome, entry)
    assert stored(bench, f"{device.name}.img") == without(data, [(7 * MIB, SIZE)])


def test_a_device_that_goes_away_ends_as_unreadable_from_there(bench: Bench, tmp_path: Path) -> None:
    disk = BadFile(content(), [(6 * MIB, SIZE)], error=errno.ENXIO)
    with bad_disk(tmp_path / "bad", {"disk": disk}) as folder:
        outcome = bench.push(source=os.fsencode(folder.place / "disk"))
    entry = bench.entries(1)[b"disk"]
    (end,) = entry.read_errors or []
    assert 6 * MIB - 128 * KIB <= end.offset <= 6 * MIB
    assert end == ReadError(end.offset, SIZE - end.offset, errno.ENXIO, "skip")
    assert_counted(outcome, entry)
    assert stored(bench, "disk") == disk.data[: end.offset]


def test_a_medium_that_is_found_gone_while_it_is_salvaged_is_read_no_further(bench: Bench, tmp_path: Path) -> None:
    def answer(file: BadFile, _: int, length: int) -> None:
        file.error = errno.ENXIO if length <= 64 * KIB else errno.EIO

    disk = BadFile(content(40 * MIB), [(5 * MIB, 40 * MIB)], before_read=answer)
    with bad_disk(tmp_path / "bad", {"disk": disk}) as folder:
        outcome = bench.push(source=os.fsencode(folder.place / "disk"))
    entry = bench.entries(1)[b"disk"]
    *_, last = entry.read_errors or []
    assert (last.fill, last.offset + last.length) == ("skip", 40 * MIB)
    assert last.offset < 12 * MIB
    assert_counted(outcome, entry)
    assert len(stored(bench, "disk")) == last.offset


def test_a_file_system_that_finds_its_checksums_wrong_loses_no_more_than_its_block(
    bench: Bench, tmp_path: Path, require_program: FindProgram
) -> None:
    data = content(2 * MIB)
    with mounted("btrfs", tmp_path, 128 * MIB, require_program) as place:
        (place / "log").write_bytes(data)
        subprocess.run([require_program("umount"), str(place)], check=True)
        image = tmp_path / "btrfs.img"
        raw = image.read_bytes()
        found = raw.find(bytes(data[MIB : MIB + 64]))
        with image.open("r+b") as file:
            file.seek(found)
            file.write(b"damaged")
        subprocess.run([require_program("mount"), "-o", "loop,ro", str(image), str(place)], check=True)
        outcome = bench.push(source=os.fsencode(place))
    entry = bench.entries(1)[b"log"]
    assert bad_ranges(entry) == [(MIB, MIB + 4096)]
    assert_counted(outcome, entry)
    assert stored(bench, "log") == without(data, [(MIB, MIB + 4096)])


@pytest.mark.parametrize("size", [20_000, 3 * MIB])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENODATA, errno.EREMOTEIO, errno.EILSEQ])
def test_bad_bytes_of_a_file_become_zeros(bench: Bench, tmp_path: Path, size: int, number: int) -> None:
    files = {"bad": BadFile(content(size), [(9000, 9001)], error=number), "good": BadFile(content(500))}
    with bad_disk(tmp_path / "bad", files) as folder:
        outcome = bench.push(source=os.fsencode(folder.place))
    entry = bench.entries(1)[b"bad"]
    assert entry.read_errors == [ReadError(8192, 4096, number, "zero")]
    assert_counted(outcome, entry)
    assert stored(bench, "bad") == without(files["bad"].data, [(8192, 12288)])
    assert stored(bench, "good") == files["good"].data
    assert bench.entries(1)[b"good"].flags is None


@pytest.mark.parametrize("size", [20_000, 3 * MIB])
def test_with_fail_nothing_is_published(bench: Bench, tmp_path: Path, size: int) -> None:
    files = {"a": BadFile(content(3 * MIB)), "bad": BadFile(content(size), [(9000, 9001)])}
    with bad_disk(tmp_path / "bad", files) as folder, pytest.raises(SourceGapsError, match="bad"):
        bench.push(source=os.fsencode(folder.place), on_read_error="fail")
    assert bench.acquisitions() == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EINVAL])
def test_a_refusal_is_no_bad_sector(bench: Bench, tmp_path: Path, number: int) -> None:
    files = {"bad": BadFile(content(3 * MIB), [(0, 3 * MIB)], error=number), "good": BadFile(content(500))}
    with bad_disk(tmp_path / "bad", files) as folder:
        with pytest.raises(SourceGapsError, match="bad"):
            bench.push(source=os.fsencode(folder.place), on_read_error="fail")
        assert bench.acquisitions() == []
        bench.push(source=os.fsencode(folder.place))
    assert bench.entries(1)[b"bad"].flags == ["unreadable"]
    assert bench.entries(1)[b"bad"].blake3 is None
    assert stored(bench, "good") == files["good"].data


def test_a_medium_with_more_gaps_than_anybody_can_look_through_is_read_no_further(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salvage, "MAX_READ_ERRORS", 3)
    file = BadFile(content(40 * MIB), [(at * 5 * MIB, at * 5 * MIB + 1) for at in range(1, 8)])
    with bad_disk(tmp_path / "bad", {"bad": file}) as folder:
        outcome = bench.push(source=os.fsencode(folder.place))
    entry = bench.entries(1)[b"bad"]
    *before, last = entry.read_errors or []
    assert [error.offset for error in before] == [at * 5 * MIB for at in (1, 2, 3)]
    assert 20 * MIB - 128 * KIB <= last.offset <= 20 * MIB
    assert (last.fill, last.offset + last.length) == ("skip", 40 * MIB)
    assert_counted(outcome, entry)
    assert len(stored(bench, "bad")) == last.offset


@pytest.mark.parametrize("size", [20_000, 9 * MIB])
def test_a_file_of_which_nothing_can_be_read_has_no_content(bench: Bench, tmp_path: Path, size: int) -> None:
    files = {"bad": BadFile(content(size), [(0, size)]), "good": BadFile(content(MIB))}
    with bad_disk(tmp_path / "bad", files) as folder:
        outcome = bench.push(source=os.fsencode(folder.place))
    entry = bench.entries(1)[b"bad"]
    assert (entry.flags, entry.blake3, entry.size, entry.read_errors) == (["unreadable"], None, None, None)
    assert (outcome.tally.partial, outcome.tally.bad_bytes) == (0, 0)
    assert stored(bench, "good") == files["good"].data


def test_what_can_be_read_at_the_second_try_is_no_gap(bench: Bench, tmp_path: Path) -> None:
    file = BadFile(content(3 * MIB), [(9000, 9001)], heals_after=3)
    with bad_disk(tmp_path / "bad", {"bad": file}) as folder:
        bench.push(source=os.fsencode(folder.place))
    assert file.failures == 4
    assert stored(bench, "bad") == file.data
    assert bench.entries(1)[b"bad"].flags is None


def test_a_second_image_of_a_failing_disk_costs_what_is_new_of_it(
    bench: Bench, tmp_path: Path, require_program: FindProgram
) -> None:
    disk = BadFile(content(), BAD[:2])
    with bad_disk(tmp_path / "bad", {"disk": disk}) as folder, loop_device(folder.place / "disk", require_program) as device:
        bench.push(source=os.fsencode(device))
        disk.bad = BAD[:3]
        again = bench.push(source=os.fsencode(device))
    assert again.literal_bytes < 600 * KIB
    assert bad_ranges(bench.entries(2)[f"{device.name}.img".encode()]) == BAD[:3]


def test_what_had_arrived_when_an_image_was_given_up_is_not_sent_again(
    bench: Bench, tmp_path: Path, require_program: FindProgram
) -> None:
    disk = BadFile(content(40 * MIB), [(39 * MIB, 39 * MIB + SECTOR)])
    with bad_disk(tmp_path / "bad", {"disk": disk}) as folder, loop_device(folder.place / "disk", require_program) as device:
        with pytest.raises(SourceGapsError):
            bench.push(source=os.fsencode(device), on_read_error="fail")
        outcome = bench.push(source=os.fsencode(device))
    assert outcome.leftovers == 1
    assert outcome.literal_bytes < 24 * MIB
    assert stored(bench, f"{device.name}.img") == without(disk.data, disk.bad)


def _rescue(program: str, device: Path, folder: Path) -> None:
    options = ["--idirect", "--retry-passes=1", "--sector-size=512"]
    subprocess.run([program, *options, device, folder / "rescued", folder / "map"], check=True, capture_output=True)
    with open(folder / "rescued", "r+b") as file:
        file.truncate(SIZE)


def _mapped(path: Path) -> list[tuple[int, int]]:
    """The bad ranges of ddrescue's map, with those that touch made one."""
    rows = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")][1:]
    ranges: list[tuple[int, int]] = []
    for start, length, status in rows:
        if status == "+":
            continue
        begin, end = int(start, 16), int(start, 16) + int(length, 16)
        if ranges and ranges[-1][1] == begin:
            begin = ranges.pop()[0]
        ranges.append((begin, end))
    return ranges
