"""A disk that fills up: the reserve is kept, the numbers are true, and what has arrived is used when there is room."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from evidencesync.errors import NoSpaceError
from evidencesync.evidence.number_format import size_text
from evidencesync.exit_codes import ExitCode
from evidencesync.limits import ENTRIES_RESERVE, MIB, SPACE_RESERVE
from evidencesync.vault.space import Room, check_space, free_bytes, free_entries
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.file_systems import mounted

SIZE = 144 * MIB


@pytest.fixture
def disk(tmp_path: Path, require_program: Callable[[str], str]) -> Iterator[Path]:
    with mounted("ext4", tmp_path, SIZE, require_program) as place:
        yield place


@pytest.fixture
def bench(disk: Path, tmp_path: Path) -> Bench:
    """The vault on the small disk, the source elsewhere."""
    (disk / "bench").mkdir()
    made = make_bench(disk / "bench")
    source = tmp_path / "source"
    source.mkdir()
    return replace(made, source=source)


def fill(disk: Path, leave: int) -> Path:
    filler = disk / "filler"
    fd = os.open(filler, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(fd, 0, free_bytes(disk) - leave)
    finally:
        os.close(fd)
    return filler


@pytest.mark.parametrize("kind", ["one large file", "many small files"])
def test_the_reserve_is_left_and_what_has_arrived_is_used_when_there_is_room(bench: Bench, disk: Path, kind: str) -> None:
    if kind == "one large file":
        (bench.source / "image").write_bytes(os.urandom(24 * MIB))
    else:
        for number in range(240):
            (bench.source / f"{number}").write_bytes(os.urandom(100_000))
    filler = fill(disk, SPACE_RESERVE + 12 * MIB)
    with pytest.raises(NoSpaceError) as caught:
        bench.push()
    assert caught.value.exit_code is ExitCode.NO_SPACE
    free = free_bytes(disk)
    assert SPACE_RESERVE <= free < SPACE_RESERVE + 12 * MIB
    sizes = re.findall(r"[0-9.]+ [kMG]?B\b", caught.value.message)
    assert sizes[-1] == size_text(SPACE_RESERVE)
    assert all(float(size.split()[0]) > 0 for size in sizes)
    assert "evidencesync clean" in (caught.value.hint or "")
    filler.unlink()
    done = bench.push()
    assert bench.acquisitions() == ["0001"]
    assert done.literal_bytes < 20 * MIB


def test_a_file_that_cannot_fit_is_refused_before_it_is_sent(bench: Bench, disk: Path) -> None:
    image = bench.source / "image"
    image.write_bytes(os.urandom(72 * MIB))
    bench = replace(bench, source=image)
    before = free_bytes(disk)
    fill_to = SPACE_RESERVE + 40 * MIB
    fill(disk, fill_to)
    assert before > fill_to
    with pytest.raises(NoSpaceError, match=r"75\.5 MB more are needed"):
        bench.push()
    assert free_bytes(disk) > fill_to - MIB


@pytest.mark.parametrize("content", ["a hole", "zeros", "half zeros"])
def test_a_file_that_may_fit_is_not_refused_for_its_size(bench: Bench, disk: Path, content: str) -> None:
    image = bench.source / "image"
    with image.open("wb") as file:
        if content == "a hole":
            file.truncate(400 * MIB)
        else:
            file.write(bytes(70 * MIB) if content == "zeros" else os.urandom(8 * MIB) + bytes(60 * MIB) + os.urandom(4 * MIB))
    fill(disk, SPACE_RESERVE + 30 * MIB)
    replace(bench, source=image).push()
    assert bench.acquisitions() == ["0001"]


def test_a_disk_that_has_less_than_the_reserve_takes_nothing_and_says_so(bench: Bench, disk: Path) -> None:
    (bench.source / "note").write_bytes(b"x")
    fill(disk, SPACE_RESERVE - MIB)
    with pytest.raises(NoSpaceError) as caught:
        bench.push()
    assert "0 more" not in caught.value.message
    assert size_text(SPACE_RESERVE) in caught.value.message


def test_a_disk_that_states_no_size_is_not_called_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A tmpfs without a limit, and file systems of other programs that say nothing of their room."""
    nothing = os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: nothing)
    check_space(tmp_path, 1 << 50)
    full = os.statvfs_result((4096, 4096, 1000, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    with pytest.raises(NoSpaceError):
        check_space(tmp_path, 1)


def test_room_is_asked_for_again_before_the_reserve_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    free = [SPACE_RESERVE + 100 * MIB]
    monkeypatch.setattr("evidencesync.vault.space.free_bytes", lambda _: free[0])
    room = Room(0)
    written = 0
    with pytest.raises(NoSpaceError):
        for _ in range(10_000):
            room.take(MIB)
            written += MIB
            free[0] -= 2 * MIB  # somebody else writes as fast
    assert free[0] >= SPACE_RESERVE
    assert written >= 40 * MIB


def test_the_last_inodes_are_left_for_records_and_the_error_says_that_bytes_are_not_what_lacks(
    bench: Bench, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):
        (bench.source / f"{number}").write_bytes(b"%d" % number)
        (bench.source / f"folder {number}").mkdir()
    others = (free_entries(disk) or 0) - ENTRIES_RESERVE - 300  # what others have taken: on the disk it would take seconds
    with monkeypatch.context() as patch:
        patch.setattr("evidencesync.vault.space.free_entries", lambda folder: (free_entries(folder) or 0) - others)
        with pytest.raises(NoSpaceError, match="inodes") as caught:
            bench.push()
    assert "df -i" in (caught.value.hint or "")
    assert ENTRIES_RESERVE <= (free_entries(disk) or 0) - others < ENTRIES_RESERVE + 300
    bench.push()
    assert bench.acquisitions() == ["0001"]


def test_a_disk_that_has_no_inodes_for_records_takes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.source / "note").write_bytes(b"x")
    monkeypatch.setattr("evidencesync.vault.space.free_entries", lambda _: ENTRIES_RESERVE - 1)
    with pytest.raises(NoSpaceError, match=f"can hold {ENTRIES_RESERVE - 1:,} more"):
        bench.push()
    monkeypatch.setattr("evidencesync.vault.space.free_entries", lambda _: None)  # Btrfs, FAT, ...
    bench.push()


def test_inodes_are_asked_for_again_before_the_reserve_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    free = [ENTRIES_RESERVE + 10_000]
    monkeypatch.setattr("evidencesync.vault.space.free_bytes", lambda _: 1 << 40)
    monkeypatch.setattr("evidencesync.vault.space.free_entries", lambda _: free[0])
    room = Room(0)
    made = 0
    with pytest.raises(NoSpaceError):
        for _ in range(10_000):
            room.take(0, 1)
            made += 1
            free[0] -= 2  # somebody else makes as many
    assert free[0] >= ENTRIES_RESERVE
    assert made >= 4_000


@pytest.mark.parametrize("kind", ["folders", "links"])
def test_a_manifest_that_grows_leaves_the_reserve_too(
    bench: Bench, disk: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries that have no content take room in the documents alone, or as a folder."""
    for number in range(3000 if kind == "folders" else 1500):
        if kind == "folders":
            (bench.source / f"{number}").mkdir()
        else:
            (bench.source / f"{number}").symlink_to("x" * 1000)
    monkeypatch.setattr("evidencesync.vault.space.free_entries", lambda _: None)
    filler = fill(disk, SPACE_RESERVE + MIB)
    with pytest.raises(NoSpaceError):
        bench.push()
    assert free_bytes(disk) >= SPACE_RESERVE - MIB // 2  # what the file system needs for itself is not asked for
    filler.unlink()
    bench.push()
    assert bench.acquisitions() == ["0001"]


def test_the_sizes_are_those_of_the_disk_in_words_of_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evidencesync.vault.space.free_bytes", lambda _: 1234)
    with pytest.raises(NoSpaceError, match=r"has 1\.2 kB free, and 67\.1 MB are kept"):
        check_space(0, 0)
    with pytest.raises(NoSpaceError, match=r"has 1\.2 kB free; 77 B more are needed, and 67\.1 MB are kept"):
        check_space(0, 77)
