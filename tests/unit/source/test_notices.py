"""What the kernel is asked to tell of a source: hints that cost nothing and leave nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from evidencesync.source import changes as module
from evidencesync.source.changes import ChangeNotices, is_silent, look
from evidencesync.source.filters import FilterRules

AT_ONCE = 0.0
LONG = 30.0  # only ever waited for by a test that fails


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "sub" / "deeper").mkdir(parents=True)
    (root / "sub" / "log").write_bytes(b"one\n")
    return root


@pytest.fixture
def notices() -> Iterator[ChangeNotices]:
    made = ChangeNotices()
    yield made
    made.close()


def look_at(notices: ChangeNotices, source: Path) -> None:
    notices.begin()
    look(os.fsencode(source), FilterRules.none(), notices.add)
    notices.end()


def test_what_changes_anywhere_below_is_told_until_the_next_look(notices: ChangeNotices, source: Path) -> None:
    look_at(notices, source)
    assert notices.complete
    assert not notices.wait(AT_ONCE)
    with (source / "sub" / "log").open("ab") as file:
        file.write(b"two\n")
    assert notices.wait(LONG)
    look_at(notices, source)
    assert not notices.wait(AT_ONCE)
    (source / "sub" / "deeper" / "new").mkdir()
    assert notices.wait(LONG)
    look_at(notices, source)
    (source / "sub" / "deeper" / "new" / "file").touch()
    assert notices.wait(LONG)


def test_looking_and_reading_tell_nothing(notices: ChangeNotices, source: Path) -> None:
    look_at(notices, source)
    look(os.fsencode(source), FilterRules.none())
    (source / "sub" / "log").read_bytes()
    os.listdir(source)
    assert not notices.wait(AT_ONCE)


def test_being_told_follows_no_link_and_changes_no_access_time(notices: ChangeNotices, source: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    os.symlink(outside, source / "link")
    places = [source, source / "sub", source / "sub" / "deeper", outside]
    for place in places:
        os.utime(place, (0, place.stat().st_mtime))
    look_at(notices, source)
    assert [place.stat().st_atime for place in places] == [0] * len(places)
    (outside / "x").touch()
    assert not notices.wait(AT_ONCE)


def test_a_single_file_is_told_of_by_itself(notices: ChangeNotices, source: Path) -> None:
    look_at(notices, source / "sub" / "log")
    assert notices.complete
    (source / "sub" / "neighbour").touch()
    assert not notices.wait(AT_ONCE)
    with (source / "sub" / "log").open("ab") as file:
        file.write(b"two\n")
    assert notices.wait(LONG)


def test_a_queue_that_overflows_is_one_more_reason_to_look(notices: ChangeNotices, source: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    look_at(notices, source)
    for number in range(limit // 2 + 200):
        descriptor = os.open(source / "sub" / f"{number % 7}", os.O_CREAT | os.O_WRONLY)
        os.close(descriptor)
        os.unlink(source / "sub" / f"{number % 7}")
    assert notices.wait(LONG)
    look_at(notices, source)
    assert notices.complete
    assert not notices.wait(AT_ONCE)
    (source / "sub" / "after").touch()
    assert notices.wait(LONG)


def test_a_source_that_goes_is_told_of_and_no_longer_watched(notices: ChangeNotices, source: Path) -> None:
    look_at(notices, source)
    source.rename(source.with_name("elsewhere"))
    assert notices.wait(LONG)
    look_at(notices, source)
    assert not notices.complete
    (source.with_name("elsewhere") / "x").touch()
    notices.begin()
    assert not notices.wait(AT_ONCE)


def test_where_there_is_no_room_for_all_folders_only_looking_counts(
    notices: ChangeNotices, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WATCHES", 2)
    look_at(notices, source)
    assert not notices.complete
    monkeypatch.setattr(module, "MOST_WATCHES", 3)
    look_at(notices, source)
    assert notices.complete


def test_where_the_kernel_gives_no_queue_waiting_still_works(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notices = ChangeNotices()
    notices.close()
    look_at(notices, source)
    assert not notices.complete
    assert not notices.wait(0.001)


def test_hundreds_of_looks_at_folders_that_come_and_go_keep_one_descriptor(notices: ChangeNotices, source: Path) -> None:
    look_at(notices, source)
    before = os.listdir("/proc/self/fd")
    for number in range(300):
        (source / f"{number}").mkdir()
        look_at(notices, source)
        (source / f"{number}").rmdir()
    look_at(notices, source)
    assert len(os.listdir("/proc/self/fd")) == len(before)
    (descriptor,) = [fd for fd in before if _is_inotify(fd)]
    told = Path(f"/proc/self/fdinfo/{descriptor}").read_text().count("inotify wd:")
    assert told == 3


def _is_inotify(fd: str) -> bool:
    try:
        return "inotify" in os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("file_system", "silent"),
    [("ext4", False), ("xfs", False), ("btrfs", False), ("tmpfs", False), ("nfs4", True), ("cifs", True), ("fuse.sshfs", True)],
)
def test_file_systems_of_other_machines_do_not_tell(file_system: str, silent: bool) -> None:
    assert is_silent(file_system) == silent
    assert is_silent(None)
