from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidencesync.errors import InternalError, SourceReadError
from evidencesync.source.details import DetailReader
from evidencesync.source.filters import FilterRules
from evidencesync.source.reader import OpenedFile, open_file, read_small
from evidencesync.source.walker import Found, walk
from tests.support.soak import often

AsNobody = Callable[[str, Path], object]
LIMIT = 128 * 1024


def stand_at(path: Path | bytes) -> tuple[Found, object]:
    """The file as the walk found it, and the walk, which must be kept: its descriptors live as long as it stands there."""
    steps = walk(path, FilterRules.none())
    next(steps)
    return next(steps), steps


def read_all(opened: OpenedFile, buffer_size: int = 64 * 1024) -> bytes:
    buffer, parts = bytearray(buffer_size), []
    while got := opened.read_into(buffer):
        parts.append(bytes(buffer[:got]))
    return b"".join(parts)


def tick(path: Path) -> None:
    """Waits until the kernel's coarse clock gives the next change another time than the last change of a file."""
    probe = path.with_name("tick")
    while True:
        probe.touch()
        if probe.stat().st_ctime_ns > path.stat().st_ctime_ns:
            break
    probe.unlink()


@settings(max_examples=often(20, 800), deadline=None)
@given(content=st.binary(max_size=5000), buffer_size=st.integers(1, 6000))
def test_any_buffer_gives_the_same_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes, buffer_size: int) -> None:
    path = tmp_path_factory.getbasetemp() / "content"
    path.write_bytes(content)
    found, walked = stand_at(path)
    with open_file(found) as opened:
        assert opened.size == len(content)
        assert read_all(opened, buffer_size) == content
        assert opened.offset == len(content)
        assert not opened.changed()
    small = read_small(found, LIMIT)
    assert small is not None
    assert (small.data, small.changed, small.noatime) == (content, False, True)
    assert walked is not None


def test_a_buffer_is_filled_as_far_as_the_file_goes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(range(10)))
    found, walked = stand_at(tmp_path / "f")
    buffer = bytearray(b"\xff" * 8)
    with open_file(found) as opened:
        assert [opened.read_into(memoryview(buffer)[:6]), opened.read_into(buffer), opened.read_into(buffer)] == [6, 4, 0]
    assert buffer == bytes([6, 7, 8, 9, 4, 5, 0xFF, 0xFF])
    assert walked is not None


def test_a_file_above_the_limit_is_left_to_the_streaming_way(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 101)
    found, walked = stand_at(tmp_path / "f")
    assert read_small(found, 100) is None
    small = read_small(found, 101)
    assert small is not None
    assert len(small.data) == 101
    assert walked is not None


def test_a_number_of_the_kernel_is_read_whole_though_it_can_be_read_only_once() -> None:
    """Of such a file a second read gets nothing: with room for one byte, one digit would be all that is acquired."""
    content = Path("/proc/sys/kernel/pid_max").read_bytes()
    assert len(content) > 1
    found, walked = stand_at(b"/proc/sys/kernel/pid_max")
    small = read_small(found, LIMIT)
    assert small is not None
    assert small.data == content
    assert walked is not None


def test_a_file_that_says_it_is_empty_is_read_to_its_end() -> None:
    content = Path("/proc/version").read_bytes()
    found, walked = stand_at(b"/proc/version")
    assert found.stat is not None
    assert found.stat.st_size == 0
    small = read_small(found, LIMIT)
    assert small is not None
    assert small.data == content
    assert read_small(found, len(content) - 1) is None
    with open_file(found) as opened:
        assert read_all(opened, 7) == content
    assert walked is not None


def test_what_is_appended_while_reading_is_not_read_and_shows(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a" * 1000)
    found, walked = stand_at(path)
    with open_file(found) as opened:
        first = bytearray(600)
        assert opened.read_into(first) == 600
        with path.open("ab") as writer:
            writer.write(b"b" * 1000)
        assert read_all(opened) == b"a" * 400
        assert opened.changed()
    assert walked is not None


def test_a_file_that_grew_since_the_walk_saw_it_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a")
    found, walked = stand_at(path)
    path.write_bytes(b"ab")
    small = read_small(found, LIMIT)
    assert small is not None
    assert (small.data, small.changed) == (b"ab", True)
    assert walked is not None


def test_a_file_that_is_cut_short_while_reading_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a" * 1000)
    found, walked = stand_at(path)
    with open_file(found) as opened:
        opened.read_into(bytearray(100))
        os.truncate(path, 300)
        assert read_all(opened) == b"a" * 200
        assert opened.changed()
    assert walked is not None


def test_an_edit_with_the_time_put_back_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"guilty!!")
    found, walked = stand_at(path)
    before = path.stat()
    with open_file(found) as opened:
        tick(path)
        with path.open("r+b") as writer:
            writer.write(b"innocent")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_mtime_ns == before.st_mtime_ns
        read_all(opened)
        assert opened.changed()
    assert walked is not None


def test_another_file_under_the_same_name_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    found, walked = stand_at(path)
    (tmp_path / "other").write_bytes(b"two")
    (tmp_path / "other").rename(path)
    small = read_small(found, LIMIT)
    assert small is not None
    assert (small.data, small.changed) == (b"two", True)
    assert walked is not None


@pytest.mark.parametrize("way", ["small", "open"])
@pytest.mark.parametrize("instead", ["link", "fifo", "folder", "nothing"])
def test_what_has_taken_a_files_name_is_not_read(tmp_path: Path, instead: str, way: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    path = tmp_path / "file"
    path.write_bytes(b"x")
    found, walked = stand_at(path)
    path.unlink()
    if instead == "link":
        path.symlink_to("secret")
    elif instead == "fifo":
        os.mkfifo(path)  # opening it must not wait for a writer
    elif instead == "folder":
        path.mkdir()
    with pytest.raises(SourceReadError) as caught:
        read_small(found, LIMIT) if way == "small" else open_file(found)
    assert caught.value.vanished
    assert caught.value.exit_code == 3
    assert walked is not None


@pytest.mark.parametrize("number", [errno.ENXIO, errno.ENODEV])
def test_a_file_that_a_disk_does_not_open_has_not_vanished(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    found, walked = stand_at(path)

    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(SourceReadError) as caught:
            open_file(found)
    assert (caught.value.vanished, caught.value.errno) == (False, number)
    path.unlink()
    os.mknod(path, 0o140600)  # a socket: open(2) says ENXIO
    with pytest.raises(SourceReadError) as caught:
        open_file(found)
    assert caught.value.vanished
    assert walked is not None


def test_only_regular_files_are_ever_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    found = next(found for found in walk(tmp_path, FilterRules.none()) if found.path)
    with pytest.raises(InternalError):
        open_file(found)


def test_a_read_that_fails_tells_where_and_why() -> None:
    found, walked = stand_at(b"/proc/self/mem")  # the kernel answers EIO for the page at 0, which is never mapped
    with open_file(found) as opened, pytest.raises(SourceReadError) as caught:
        opened.read_into(bytearray(4096))
    assert (caught.value.errno, caught.value.offset, caught.value.vanished) == (errno.EIO, 0, False)
    with pytest.raises(SourceReadError) as caught:
        read_small(found, LIMIT)
    assert (caught.value.errno, caught.value.vanished) == (errno.EIO, False)
    assert walked is not None


def test_bytes_before_a_failing_one_are_delivered_and_reading_may_go_on_behind_it() -> None:
    # /proc/self/mem again: a mapped page is readable, the unmapped one before it is not.
    content = bytearray(b"evidence" * 1024)
    import ctypes

    address = ctypes.addressof((ctypes.c_char * len(content)).from_buffer(content))
    found, walked = stand_at(b"/proc/self/mem")
    buffer = bytearray(64)
    with open_file(found) as opened:
        with pytest.raises(SourceReadError):
            opened.read_into(buffer)
        opened.offset = address
        assert opened.read_into(buffer) == 64
    assert buffer == bytes(content[:64])
    assert walked is not None


def test_unreadable_files_say_so(scratch: Path, as_nobody: AsNobody) -> None:
    (scratch / "file").write_bytes(b"x")
    (scratch / "file").chmod(0o000)
    script = """
answer = []
for found in walk(root, FilterRules.none()):
    if found.entry_type == "file":
        for read in (open_file, lambda found: read_small(found, 100)):
            try:
                read(found)
            except SourceReadError as error:
                answer.append([error.errno, error.vanished, error.message])
"""
    assert as_nobody(script, scratch) == [[errno.EACCES, False, "cannot read file: Permission denied"]] * 2


def test_reading_what_belongs_to_someone_else_says_that_its_access_time_may_change(scratch: Path, as_nobody: AsNobody) -> None:
    if os.geteuid() != 0:  # then root's own files are someone else's
        root, expected = Path("/etc/hostname"), [True, False, False]
    else:
        (scratch / "file").write_bytes(b"x")
        root, expected = scratch / "file", [True, False, False]
    script = """
steps = walk(root, FilterRules.none())
answer = [next(steps).noatime]
found = next(steps)
answer += [read_small(found, 10**6).noatime, open_file(found).noatime]
"""
    assert as_nobody(script, root) == expected
    if os.geteuid() == 0:
        assert as_nobody("answer = [f.noatime for f in walk(root, FilterRules.none())]", scratch) == [False, True]


def test_every_way_out_closes_the_file(tmp_path: Path, open_descriptors: Callable[[], int]) -> None:
    (tmp_path / "f").write_bytes(b"x" * 100)
    found, walked = stand_at(tmp_path / "f")
    before = open_descriptors()
    read_small(found, LIMIT, DetailReader())
    read_small(found, 10)
    with open_file(found) as opened:
        opened.close()
    opened.close()
    (tmp_path / "f").unlink()
    os.mkfifo(tmp_path / "f")
    for read in (open_file, lambda found: read_small(found, LIMIT)):
        with pytest.raises(SourceReadError):
            read(found)
    assert open_descriptors() == before
    assert walked is not None
