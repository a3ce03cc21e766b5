from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evidencesync.errors import MissingOrExtraError, NameClashError, PathEscapeError, StorageError
from evidencesync.files.disk import FOLDER_FLAGS
from evidencesync.files.folders import MAX_OPEN_FOLDERS, FolderStack, remove_tree
from evidencesync.files.kept_names import KeptNames
from evidencesync.vault.staged_files import StagedContent
from evidencesync.vault.tree import TreeReader, TreeWriter

ALL_NAMES = KeptNames()
TIME = 1_234_567_890_123_456_789


@contextmanager
def writing(folder: Path, names: KeptNames = ALL_NAMES) -> Iterator[TreeWriter]:
    folder.mkdir(exist_ok=True)
    writer = TreeWriter(os.open(folder, FOLDER_FLAGS), names)
    try:
        yield writer
    finally:
        writer.close()


@contextmanager
def reading(folder: Path) -> Iterator[TreeReader]:
    reader = TreeReader(os.open(folder, FOLDER_FLAGS))
    try:
        yield reader
    finally:
        reader.close()


@contextmanager
def content(folder: Path, data: bytes) -> Iterator[StagedContent]:
    fd = os.open(folder, FOLDER_FLAGS)
    staged = StagedContent(fd, "1", folder / "1")
    try:
        staged.append(data)
        staged.finish()
        yield staged
    finally:
        staged.close()
        os.close(fd)


def read(reader: TreeReader, path: bytes) -> bytes:
    fd, found = reader.open_file(path)
    try:
        return os.read(fd, found.st_size + 1)
    finally:
        os.close(fd)


def test_files_and_folders_get_dull_modes_and_their_times(tmp_path: Path) -> None:
    with writing(tmp_path / "data") as tree:
        tree.make_directory(b"", TIME)
        tree.make_directory(b"a", TIME + 1)
        tree.create_file(b"a/x", b"one", TIME + 2)
        tree.create_file(b"b", b"", TIME + 3)
        tree.finish()
    data = tmp_path / "data"
    for path, mode, mtime in ((data, 0o755, 0), (data / "a", 0o755, 1), (data / "a/x", 0o444, 2), (data / "b", 0o444, 3)):
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert path.stat().st_mtime_ns == TIME + mtime
    assert (data / "a/x").read_bytes() == b"one"


def test_a_tight_umask_changes_no_mode(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with writing(tmp_path / "data") as tree:
            tree.make_directory(b"a", None)
            tree.create_file(b"a/x", b"one", None)
            tree.finish()
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / "data" / name).stat().st_mode) for name in (".", "a", "a/x")] == [0o755, 0o755, 0o444]


def test_what_comes_late_leaves_the_folders_time_alone(tmp_path: Path) -> None:
    with writing(tmp_path / "data") as tree, content(tmp_path, b"large") as staged:
        tree.make_directory(b"a", TIME)
        tree.make_directory(b"b", TIME + 5)
        tree.create_file(b"b/y", b"y", None)
        tree.adopt(b"a/x", staged, TIME + 1)
        tree.create_file(b"b/z", b"z", None)
        tree.finish()
    data = tmp_path / "data"
    assert (data / "a/x").read_bytes() == b"large"
    assert stat.S_IMODE((data / "a/x").stat().st_mode) == 0o444
    assert ((data / "a").stat().st_mtime_ns, (data / "a/x").stat().st_mtime_ns) == (TIME, TIME + 1)
    assert (data / "b").stat().st_mtime_ns == TIME + 5


@pytest.mark.parametrize("mtime", [2**63 * 10**9, -(2**63) * 10**9, 2**62, -(10**18), 0])
def test_a_time_that_no_file_system_holds_is_no_reason_to_fail(tmp_path: Path, mtime: int) -> None:
    with writing(tmp_path / "data") as tree:
        tree.make_directory(b"a", mtime)
        tree.create_file(b"a/x", b"one", mtime)
        tree.finish()
    assert (tmp_path / "data/a/x").read_bytes() == b"one"


@pytest.mark.parametrize("path", [b"..", b".", b"../x", b"a/../x", b"/x", b"a//x", b"a/", b"", b"a\0b", b"./x"])
def test_a_name_that_is_not_plain_is_refused_by_every_method(tmp_path: Path, path: bytes) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").mkdir()
    (tmp_path / "old" / "a").mkdir(parents=True)
    (tmp_path / "old" / "x").write_bytes(b"old")
    with writing(tmp_path / "data") as tree, reading(tmp_path / "old") as old, content(tmp_path, b"1") as staged:
        fd = os.open(tmp_path / "old" / "x", os.O_RDONLY)
        refused: list[Callable[[], object]] = [
            lambda: tree.create_file(path, b"", None),
            lambda: tree.adopt(path, staged, None),
            lambda: tree.copy(path, fd, 3, None),
            lambda: tree.link(path, old, b"x", 3, None),
            lambda: old.open_file(path),
        ]
        if path:
            refused.append(lambda: tree.make_directory(path, None))
        for call in refused:
            with pytest.raises(PathEscapeError):
                call()
        os.close(fd)
    assert sorted(os.listdir(tmp_path)) == ["1", "data", "old"]
    assert os.listdir(tmp_path / "data") == ["a"]


def test_a_planted_symlink_is_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"untouched")
    data = tmp_path / "data"
    data.mkdir()
    (data / "folder").symlink_to(outside)
    (data / "file").symlink_to(outside / "victim")
    with writing(data) as tree, reading(data) as reader, content(tmp_path, b"large") as staged:
        through_the_folder: list[Callable[[], object]] = [
            lambda: tree.create_file(b"folder/new", b"x", None),
            lambda: tree.make_directory(b"folder/new", None),
            lambda: tree.adopt(b"folder/new", staged, None),
        ]
        for call in through_the_folder:
            with pytest.raises(StorageError):
                call()
        for call in (lambda: tree.create_file(b"file", b"x", None), lambda: tree.adopt(b"file", staged, None)):
            with pytest.raises(NameClashError):
                call()
        with pytest.raises(NameClashError):
            tree.make_directory(b"folder", None)
        for path in (b"file", b"folder/victim"):
            with pytest.raises(MissingOrExtraError):
                reader.open_file(path)
    assert os.listdir(outside) == ["victim"]
    assert (outside / "victim").read_bytes() == b"untouched"


@pytest.mark.parametrize("kind", ["folder", "fifo"])
def test_what_is_no_regular_file_is_not_opened_and_does_not_hang(tmp_path: Path, kind: str) -> None:
    (tmp_path / "data").mkdir()
    if kind == "fifo":
        os.mkfifo(tmp_path / "data" / "x")
    else:
        (tmp_path / "data" / "x").mkdir()
    with reading(tmp_path / "data") as reader, pytest.raises(MissingOrExtraError):
        reader.open_file(b"x")


def test_a_name_that_is_there_already_is_a_clash(tmp_path: Path) -> None:
    with writing(tmp_path / "data") as tree, content(tmp_path, b"2") as staged:
        tree.create_file(b"x", b"1", None)
        with pytest.raises(NameClashError):
            tree.create_file(b"x", b"2", None)
        with pytest.raises(NameClashError):
            tree.adopt(b"x", staged, None)
        tree.finish()
    assert (tmp_path / "data" / "x").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("names", "name"),
    [(KeptNames(letters=False), b"A"), (KeptNames(accents=False), "é".encode()), (KeptNames(ends=False), b"a.")],
)
def test_a_name_that_the_file_system_would_change_is_not_made(tmp_path: Path, names: KeptNames, name: bytes) -> None:
    with writing(tmp_path / "old") as old:
        old.create_file(b"a", b"1", None)
    with writing(tmp_path / "data", names) as tree, reading(tmp_path / "old") as kept, content(tmp_path, b"2") as staged:
        for attempt in (
            lambda: tree.make_directory(name, None),
            lambda: tree.create_file(name, b"1", None),
            lambda: tree.adopt(name, staged, None),
            lambda: tree.link(name, kept, b"a", 1, None),
            lambda: tree.copy(name, staged.require_open(), 1, None),
        ):
            with pytest.raises(NameClashError, match="would change the name"):
                attempt()
        tree.create_file(b"a", b"1", None)
        tree.finish()
    assert os.listdir(tmp_path / "data") == ["a"]


def test_a_name_too_long_for_the_file_system_is_said(tmp_path: Path) -> None:
    with writing(tmp_path / "data") as tree, pytest.raises(StorageError, match="cannot hold the name"):
        tree.create_file(b"n" * 300, b"", None)


def test_trees_deeper_than_path_max_can_be_made_read_and_removed(tmp_path: Path) -> None:
    depth = 4 * MAX_OPEN_FOLDERS + 7
    name = b"folder-of-a-good-length-0123456789"
    deep = [b"/".join([name] * level) for level in range(1, depth + 1)]
    assert len(deep[-1]) > 2 * 4096
    with writing(tmp_path / "data") as tree:
        for level, path in enumerate(deep):
            tree.make_directory(path, TIME + level)
        for path in reversed(deep):  # in walk order the files that sort last come on the way up
            tree.create_file(path + b"/z", path[-9:], TIME)
        tree.finish()
    with reading(tmp_path / "data") as reader:
        for level in (depth - 1, 0, depth // 2):
            assert read(reader, deep[level] + b"/z") == deep[level][-9:]
            folder, last = reader.locate(deep[level])
            assert os.stat(last, dir_fd=folder).st_mtime_ns == TIME + level
    fd = os.open(tmp_path, FOLDER_FLAGS)
    remove_tree(fd, "data")
    os.close(fd)
    assert os.listdir(tmp_path) == []


def test_few_descriptors_are_open_in_a_deep_tree(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only where the system has /proc")
    before = len(os.listdir("/proc/self/fd"))
    with writing(tmp_path / "data") as tree:
        path = b"d"
        for _ in range(3 * MAX_OPEN_FOLDERS):
            tree.make_directory(path, None)
            path += b"/d"
        assert len(os.listdir("/proc/self/fd")) - before <= MAX_OPEN_FOLDERS + 2
    assert len(os.listdir("/proc/self/fd")) == before


def test_removing_a_tree_follows_no_link_out_of_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    tree = tmp_path / "staging" / "a"
    tree.mkdir(parents=True)
    (tree / "link").symlink_to(outside)
    os.mkfifo(tree / "fifo")
    (tmp_path / "root-link").symlink_to(outside)
    fd = os.open(tmp_path, FOLDER_FLAGS)
    remove_tree(fd, "staging")
    remove_tree(fd, "not-there")
    with pytest.raises(StorageError):
        remove_tree(fd, "root-link")
    os.close(fd)
    assert sorted(os.listdir(tmp_path)) == ["outside", "root-link"]
    assert (outside / "kept").read_text() == "kept"


def test_a_link_is_made_only_for_the_same_size_and_time(tmp_path: Path) -> None:
    with writing(tmp_path / "old") as tree:
        tree.create_file(b"x", b"same", TIME)
        tree.finish()
    with writing(tmp_path / "new") as tree, reading(tmp_path / "old") as old:
        assert tree.link(b"linked", old, b"x", 4, TIME)
        assert not tree.link(b"touched", old, b"x", 4, TIME + 1)
        assert not tree.link(b"longer", old, b"x", 5, TIME)
        assert not tree.link(b"gone", old, b"y", 4, TIME)
        assert not tree.link(b"gone", old, b"no/y", 4, TIME)
        with pytest.raises(NameClashError):
            tree.link(b"linked", old, b"x", 4, TIME)
        tree.finish()
    assert os.listdir(tmp_path / "new") == ["linked"]
    assert (tmp_path / "new/linked").stat().st_ino == (tmp_path / "old/x").stat().st_ino


def test_a_symlink_in_a_published_tree_is_not_linked(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "x").symlink_to("/etc/passwd")
    size = (tmp_path / "old" / "x").lstat().st_size
    with writing(tmp_path / "new") as tree, reading(tmp_path / "old") as old:
        assert not tree.link(b"x", old, b"x", size, None)


@pytest.mark.parametrize("code", [errno.EPERM, errno.EMLINK, errno.EXDEV])
def test_a_file_system_that_makes_no_link_asks_for_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    with writing(tmp_path / "old") as tree:
        tree.create_file(b"x", b"same", TIME)
        tree.finish()
    monkeypatch.setattr(os, "link", refuse)
    with writing(tmp_path / "new") as tree, reading(tmp_path / "old") as old:
        assert not tree.link(b"x", old, b"x", 4, TIME)


def test_a_copy_has_an_inode_of_its_own_and_the_new_time(tmp_path: Path) -> None:
    with writing(tmp_path / "old") as tree:
        tree.create_file(b"x", b"same" * 100_000, TIME)
        tree.finish()
    with writing(tmp_path / "new") as tree, reading(tmp_path / "old") as old:
        fd, found = old.open_file(b"x")
        assert tree.copy(b"x", fd, found.st_size, TIME + 9) in ("reflinked", "copied")
        os.close(fd)
        tree.finish()
    assert (tmp_path / "new/x").read_bytes() == b"same" * 100_000
    assert (tmp_path / "new/x").stat().st_ino != (tmp_path / "old/x").stat().st_ino
    assert (tmp_path / "new/x").stat().st_mtime_ns == TIME + 9


def test_a_stack_that_lost_its_way_says_so_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with FolderStack(os.open(tmp_path, FOLDER_FLAGS)) as stack:
        with pytest.raises(FileNotFoundError):
            stack.enter(b"a/b/c/d")
        assert stack.path == b"a/b"
        assert stack.enter(b"a") == stack.fd
        assert os.listdir(stack.fd) == ["b"]
