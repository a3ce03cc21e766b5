from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.source.filters import FilterRules
from evidencesync.source.metadata import EntryMaker
from evidencesync.source.origin import describe_origin
from evidencesync.source.reader import open_file, read_small
from evidencesync.source.root import resolve_source
from evidencesync.source.walker import walk

LONG_AGO = 1_000_000_000_000_000_000  # reading a file this old moves its access time, on a relatime mount too

AsNobody = Callable[[str, Path], object]
Snapshot = dict[str, tuple[object, ...]]


def build(root: Path) -> dict[str, str]:
    """A tree of everything, all of it read last long ago; returns the digests of its files."""
    digests = {}
    for name in ("a/one", "a/b/two", "empty", "large", "a/\x1b[0m"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = os.urandom(0 if name == "empty" else 300_000 if name == "large" else 1000)
        path.write_bytes(content)
        digests[name] = hashlib.sha256(content).hexdigest()
    (root / "link").symlink_to("a/one")
    (root / "to folder").symlink_to("a")
    os.mkfifo(root / "fifo")
    os.link(root / "a/one", root / "twice")
    digests["twice"] = digests["a/one"]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    with contextlib.suppress(OSError):  # a file system without attributes: nothing of them to keep
        os.setxattr(root / "a/one", "user.note", b"value")
    for folder, folders, files in os.walk(root, topdown=False):
        for name in [*folders, *files]:
            os.utime(Path(folder, name), ns=(LONG_AGO, LONG_AGO + 1), follow_symlinks=False)
    os.utime(root, ns=(LONG_AGO, LONG_AGO + 1))
    return digests


def snapshot(root: Path) -> Snapshot:
    """Everything that can be seen of a tree without reading any of it: the names must be known."""
    taken: Snapshot = {}
    for name in NAMES:
        path = root / name
        status = path.lstat()
        attributes = {key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)}
        taken[name] = (
            status.st_mode, status.st_ino, status.st_nlink, status.st_uid, status.st_gid, status.st_size, status.st_blocks,
            status.st_mtime_ns, status.st_ctime_ns, attributes, status.st_atime_ns,
        )  # fmt: skip
    return taken


NAMES = (
    "", "a", "a/b", "a/b/two", "a/one", "a/\x1b[0m", "empty", "fifo", "large", "link", "socket", "to folder", "twice",
)  # fmt: skip


def read_everything(root: Path, maker: EntryMaker) -> tuple[list[str], dict[str, str]]:
    names, digests = [], {}
    buffer = bytearray(64 * 1024)
    for found in walk(root, FilterRules.none()):
        name = os.fsdecode(found.path)
        names.append(name)
        assert found.noatime
        if found.entry_type == "file":
            small = read_small(found, 100_000, maker.details)
            if small is not None:
                assert (small.changed, small.noatime) == (False, True)
                digests[name] = hashlib.sha256(small.data).hexdigest()
            digest = hashlib.sha256()
            with open_file(found) as opened:
                assert opened.noatime
                while got := opened.read_into(buffer):
                    digest.update(buffer[:got])
                assert not opened.changed()
            assert digests.setdefault(name, digest.hexdigest()) == digest.hexdigest()
        maker.make_entry(found)
    return names, digests


def test_walking_and_reading_leaves_no_trace(tmp_path: Path) -> None:
    root = tmp_path / "source"
    written = build(root)
    before = snapshot(root)
    maker = EntryMaker()
    describe_origin(resolve_source(root))
    names, digests = read_everything(root, maker)
    after = snapshot(root)
    assert set(names) == set(NAMES)
    assert digests == written
    # A symbolic link's access time is the one thing that reading it may change; each such change is counted.
    touched = {name for name in NAMES if before[name][-1] != after[name][-1]}
    assert touched <= {"link", "to folder"}
    assert maker.touched == len(touched)
    assert {name: seen[:-1] for name, seen in after.items()} == {name: seen[:-1] for name, seen in before.items()}


def test_the_test_above_could_fail(tmp_path: Path) -> None:
    root = tmp_path / "source"
    build(root)
    before = snapshot(root)
    (root / "a/one").read_bytes()
    os.listdir(root / "a")
    after = snapshot(root)
    if not os.statvfs(root).f_flag & (os.ST_NOATIME | os.ST_RDONLY):
        assert {name for name in NAMES if before[name] != after[name]} == {"a", "a/one", "twice"}
    else:
        pytest.skip("only where the system has access times")


def test_a_gentle_walk_asks_no_folder_whose_access_time_it_cannot_spare(scratch: Path, as_nobody: AsNobody) -> None:
    if os.geteuid() != 0:
        pytest.skip("only where the system has root to make what belongs to somebody else")
    root = scratch / "source"
    (root / "below").mkdir(parents=True)
    (root / "below/file").touch()
    for path in (root / "below", root):
        os.utime(path, ns=(LONG_AGO, LONG_AGO + 1))
    names = "answer = [os.fsdecode(found.path) for found in walk(root, FilterRules.none(), gentle=%s)]"
    assert as_nobody(names % True, root) == [""]
    assert root.stat().st_atime_ns == LONG_AGO
    assert [found.path for found in walk(root, FilterRules.none(), gentle=True)] == [b"", b"below", b"below/file"]
    assert as_nobody(names % False, root) == ["", "below", "below/file"]
    assert root.stat().st_atime_ns != LONG_AGO
