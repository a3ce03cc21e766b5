from __future__ import annotations

import errno
import os
import resource
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evidencesync.errors import InternalError, SourceNotFoundError, UsageError
from evidencesync.source import walker
from evidencesync.source.filters import FilterRules
from evidencesync.source.root import resolve_source
from evidencesync.source.walker import Found, walk
from tests.support.soak import often

AsNobody = Callable[[str, Path], object]
ALL = FilterRules.none()

ODD_NAMES = [
    b"-rf",
    b"--",
    b" leading and trailing ",
    b"new\nline",
    b"carriage\rreturn",
    b"\x1b[31mred\x1b[0m",
    b"\xff\xfe not UTF-8",
    "rtl-\u202egnp.exe".encode(),
    "Ärger".encode(),
    "A\u0308rger".encode(),
    b"back\\slash",
    b"CON",
    b'a:b*c?d"e<f>g|h',
    b"n" * 255,
    b"...",
    b"~",
]


def paths(root: Path | bytes, rules: FilterRules = ALL) -> list[bytes]:
    return [found.path for found in walk(root, rules)]


def by_path(root: Path | bytes, rules: FilterRules = ALL) -> dict[bytes, Found]:
    return {found.path: found for found in walk(root, rules)}


def reference(root: Path) -> list[bytes]:
    """The slow way: every path that os.walk knows, sorted by its names as a tuple."""
    top = os.fsencode(root)
    listed: list[tuple[bytes, ...]] = [()]
    for folder, folders, files in os.walk(top):
        below = os.path.relpath(folder, top)
        above = () if below == b"." else tuple(below.split(b"/"))
        listed.extend((*above, name) for name in [*folders, *files])
    return [b"/".join(parts) for parts in sorted(listed)]


def make_chain(root: Path, names: list[bytes]) -> None:
    """Folders one inside the other, each with a file before and after the next, however long the path gets."""
    fd = os.open(root, os.O_RDONLY)
    for name in names:
        for beside in (b"!first", b"~last"):
            os.close(os.open(beside, os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def chain_paths(names: list[bytes]) -> list[bytes]:
    before, after = [b""], list[bytes]()
    prefix = b""
    for name in names:
        before += [prefix + b"!first", prefix + name]
        after.insert(0, prefix + b"~last")
        prefix += name + b"/"
    return before + after


def test_folders_come_before_their_contents_and_names_in_the_order_of_their_bytes(scratch: Path) -> None:
    for name in ("a", "a/b", "a/b/z", "B", "zz"):
        (scratch / name).mkdir()
    for name in ("a-b", "a.b", "a0", "a/b.c", "a/b/c", "a/b-", "é", "B/x"):
        (scratch / name).write_bytes(b"")
    assert paths(scratch) == reference(scratch)
    assert paths(scratch)[:4] == [b"", b"B", b"B/x", b"a"]
    assert paths(scratch).index(b"a/b/c") < paths(scratch).index(b"a-b")  # not the order of the joined paths


TREES = st.recursive(
    st.none(),
    lambda below: st.dictionaries(
        st.binary(min_size=1, max_size=8).filter(lambda name: not {0, 0x2F} & set(name) and name not in (b".", b"..")),
        below,
        max_size=5,
    ),
    max_leaves=25,
)


@pytest.mark.slow
@settings(max_examples=often(25, 1200), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([b"a", b"a-", b"a.", b"b\n", b"\xff"]), TREES, max_size=5))
def test_any_tree_is_walked_whole_and_in_order(tree: dict[bytes, object]) -> None:
    def build(folder: bytes, below: dict[bytes, object]) -> None:
        for name, content in below.items():
            path = folder + b"/" + name
            if isinstance(content, dict):
                os.mkdir(path)
                build(path, content)
            else:
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY))

    with tempfile.TemporaryDirectory() as folder:
        build(os.fsencode(folder), tree)
        for open_folders in (2, 256):
            walked = list(walk(folder, ALL, open_folders=open_folders))
            assert [found.path for found in walked] == reference(Path(folder))
            assert all(found.flag is None and found.stat is not None for found in walked)


def test_odd_names_come_back_as_the_bytes_they_are(scratch: Path) -> None:
    top = os.fsencode(scratch)
    for name in ODD_NAMES:
        os.mkdir(top + b"/" + name)
        os.close(os.open(top + b"/" + name + b"/" + name, os.O_CREAT | os.O_WRONLY))
    assert paths(scratch) == reference(scratch)
    assert {found.name for found in walk(scratch, ALL) if found.entry_type == "file"} == set(ODD_NAMES)


def test_every_kind_of_entry_is_named_and_none_is_opened(scratch: Path) -> None:
    (scratch / "file").write_bytes(b"x")
    (scratch / "folder").mkdir()
    os.mkfifo(scratch / "fifo")  # opening it for reading would hang
    (scratch / "link").symlink_to("folder")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(scratch / "socket"))
        kinds = {found.path: found.entry_type for found in walk(scratch, ALL)}
    assert kinds == {
        b"": "directory",
        b"fifo": "fifo",
        b"file": "file",
        b"folder": "directory",
        b"link": "symlink",
        b"socket": "socket",
    }


def test_a_device_is_recorded_as_one() -> None:
    found = next(found for found in walk(b"/dev", FilterRules.from_patterns(["/*/"])) if found.path == b"null")
    assert (found.entry_type, found.flag) == ("character-device", None)


def test_symbolic_links_are_never_followed(scratch: Path) -> None:
    outside = scratch / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"x")
    source = scratch / "source"
    source.mkdir()
    (source / "loop").symlink_to(".")
    (source / "up").symlink_to("..")
    (source / "absolute").symlink_to(outside)
    (source / "dangling").symlink_to("nowhere")
    walked = by_path(source)
    assert sorted(walked) == [b"", b"absolute", b"dangling", b"loop", b"up"]
    assert {found.entry_type for path, found in walked.items() if path} == {"symlink"}


def test_a_path_deeper_than_path_max_is_walked_to_its_end(scratch: Path) -> None:
    names = [b"%03d-" % number + b"d" * 200 for number in range(40)]
    make_chain(scratch, names)
    walked = paths(scratch)
    assert walked == chain_paths(names)
    assert max(map(len, walked)) > 2 * 4096


@pytest.mark.slow
def test_descriptors_stay_bounded_however_deep_the_tree(scratch: Path, open_descriptors: Callable[[], int]) -> None:
    names = [b"d%d" % number for number in range(250)]
    make_chain(scratch, names)
    before, most, walked = open_descriptors(), 0, []
    for found in walk(scratch, ALL, open_folders=8):
        walked.append(found.path)
        if len(walked) % 50 == 0:
            most = max(most, open_descriptors() - before)
            assert os.stat(found.name, dir_fd=found.dir_fd, follow_symlinks=False).st_ino == found.stat.st_ino  # type: ignore[union-attr]
    assert walked == chain_paths(names)
    assert 0 < most <= 10
    assert open_descriptors() == before


def test_a_walk_that_is_given_up_leaves_nothing_open(scratch: Path, open_descriptors: Callable[[], int]) -> None:
    make_chain(scratch, [b"d"] * 20)
    before = open_descriptors()
    steps = walk(scratch, ALL)
    for _ in range(15):
        next(steps)
    assert open_descriptors() > before
    steps.close()  # type: ignore[attr-defined]
    assert open_descriptors() == before


def test_a_folder_that_was_moved_while_the_walk_was_deeper_is_lost_and_said_so(scratch: Path) -> None:
    names = [b"d%d" % number for number in range(10)]
    make_chain(scratch, names)
    flags = {}
    for found in walk(scratch, ALL, open_folders=2):
        flags[found.path] = found.flag
        if found.path.endswith(b"d9"):
            (scratch / "d0" / "d1").rename(scratch / "gone")
            (scratch / "d0" / "d1").mkdir()  # another folder under the same name must not be taken for it
            (scratch / "d0" / "d1" / "~last").write_bytes(b"planted")
    assert set(flags) == set(chain_paths(names))
    assert flags[b"d0/d1/~last"] == "vanished"
    assert flags[b"d0/d1/d2/~last"] == "vanished"
    assert flags[b"d0/~last"] is None  # its own folder was found again
    assert flags[b"~last"] is None


def test_an_unreadable_folder_is_flagged_and_the_walk_goes_on(scratch: Path, as_nobody: AsNobody) -> None:
    for name in ("closed", "listed", "open"):
        (scratch / name / "below").mkdir(parents=True)
        (scratch / name / "file").write_bytes(b"x")
        (scratch / name / "link").symlink_to("file")
    (scratch / "closed").chmod(0o000)
    (scratch / "listed").chmod(0o444)  # names can be read, nothing can be looked at
    script = "answer = [[f.path.decode(), f.entry_type, f.flag, f.errno, f.stat is None] for f in walk(root, FilterRules.none())]"
    assert as_nobody(script, scratch) == [
        ["", "directory", None, 0, False],
        ["closed", "directory", "unreadable", errno.EACCES, False],
        ["listed", "directory", None, 0, False],
        ["listed/below", "directory", "unreadable", errno.EACCES, True],
        ["listed/file", "file", "unreadable", errno.EACCES, True],
        ["listed/link", "symlink", "unreadable", errno.EACCES, True],
        ["open", "directory", None, 0, False],
        ["open/below", "directory", None, 0, False],
        ["open/file", "file", None, 0, False],
        ["open/link", "symlink", None, 0, False],
    ]


def test_a_root_that_cannot_be_opened_is_an_error(scratch: Path, as_nobody: AsNobody) -> None:
    closed = scratch / "closed"
    closed.mkdir()
    closed.chmod(0o000)
    script = """
try:
    answer = [f.path.decode() for f in walk(root, FilterRules.none())]
except SourceNotFoundError as error:
    answer = error.message
"""
    assert as_nobody(script, closed) == f"cannot open the source {closed}: Permission denied"


def test_what_vanishes_after_it_was_listed_is_flagged_with_the_type_that_was_listed(scratch: Path) -> None:
    for name in ("a", "file", "link", "folder"):
        (scratch / name).mkdir() if name == "folder" else (scratch / name).write_bytes(b"")
    (scratch / "link").unlink()
    (scratch / "link").symlink_to("a")
    steps = walk(scratch, ALL)
    assert [next(steps).path, next(steps).path] == [b"", b"a"]
    (scratch / "file").unlink()
    (scratch / "link").unlink()
    (scratch / "folder").rmdir()
    rest = [(found.path, found.entry_type, found.flag, found.errno, found.stat) for found in steps]
    assert rest == [
        (b"file", "file", "vanished", errno.ENOENT, None),
        (b"folder", "directory", "vanished", errno.ENOENT, None),
        (b"link", "symlink", "vanished", errno.ENOENT, None),
    ]


def test_a_folder_that_becomes_a_link_after_it_was_looked_at_is_not_followed(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scratch / "outside").mkdir()
    (scratch / "outside" / "secret").write_bytes(b"x")
    source = scratch / "source"
    (source / "folder").mkdir(parents=True)
    lstat = os.lstat

    def swap_afterwards(path: bytes, *, dir_fd: int | None = None) -> os.stat_result:
        status = lstat(path, dir_fd=dir_fd)
        if path == b"folder":
            (source / "folder").rmdir()
            (source / "folder").symlink_to(scratch / "outside")
        return status

    monkeypatch.setattr(os, "lstat", swap_afterwards)
    walked = [(found.path, found.flag) for found in walk(source, ALL)]
    assert walked == [(b"", None), (b"folder", "vanished")]


def test_what_lies_beyond_a_limit_makes_its_folder_unreadable_and_loses_nothing_else(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_chain(scratch, [b"d"] * 5)
    (scratch / "much too long a name").write_bytes(b"")
    monkeypatch.setattr(walker, "MAX_DEPTH", 3)
    monkeypatch.setattr(walker, "MAX_NAME", 10)
    walked = {found.path: (found.flag, found.errno) for found in walk(scratch, ALL)}
    assert walked[b""] == ("unreadable", errno.ENAMETOOLONG)
    assert walked[b"d/d"] == (None, 0)
    assert walked[b"d/d/d"] == ("unreadable", errno.ENAMETOOLONG)
    assert max(path.count(b"/") for path in walked) == 2
    assert {b"!first", b"~last", b"d/d/~last"} <= set(walked)
    monkeypatch.setattr(walker, "MAX_PATH", 4)
    assert max(map(len, paths(scratch))) == 3


def test_running_out_of_descriptors_is_never_recorded_as_evidence(scratch: Path, open_descriptors: Callable[[], int]) -> None:
    make_chain(scratch, [b"d"] * 40)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    steps = walk(scratch, ALL)
    next(steps)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 5, hard))
    try:
        with pytest.raises(InternalError):
            list(steps)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_single_file_is_a_bare_root_and_the_file(scratch: Path) -> None:
    (scratch / "disk.img").write_bytes(b"image")
    (scratch / "beside").write_bytes(b"other")
    root, file = list(walk(scratch / "disk.img", ALL))
    assert (root.path, root.entry_type, root.stat, root.flag) == (b"", "directory", None, None)
    assert (file.path, file.entry_type, file.flag) == (b"disk.img", "file", None)
    assert file.stat is not None
    assert file.stat.st_size == 5


@pytest.mark.parametrize("instead", ["link", "nothing"])
def test_a_single_file_that_is_gone_when_it_is_looked_at_is_flagged(scratch: Path, instead: str) -> None:
    (scratch / "file").write_bytes(b"")
    steps = walk(scratch / "file", ALL)
    next(steps)
    (scratch / "file").unlink()
    if instead == "link":
        (scratch / "file").symlink_to("/etc/passwd")
    assert [(found.path, found.flag, found.stat) for found in steps] == [(b"file", "vanished", None)]


def test_a_folder_that_vanishes_under_the_walk_keeps_what_was_listed(scratch: Path) -> None:
    make_chain(scratch, [b"d", b"e"])
    flags = {}
    for found in walk(scratch, ALL):
        flags[found.path] = found.flag
        if found.path == b"d":
            subprocess.run(["rm", "-r", scratch / "d"], check=True)
    assert flags[b"d"] is None
    assert {path: flag for path, flag in flags.items() if path.startswith(b"d/")} == {
        b"d/!first": "vanished",
        b"d/e": "vanished",
        b"d/~last": "vanished",
    }
    assert flags[b"~last"] is None


def test_the_walk_can_start_at_the_root_of_the_machine() -> None:
    steps = walk(b"/", FilterRules.from_patterns(["/*/"]))
    first = next(steps)
    assert (first.path, first.flag) == (b"", None)
    assert first.stat is not None
    assert first.stat.st_ino == os.lstat("/").st_ino
    steps.close()  # type: ignore[attr-defined]


def test_a_link_named_as_the_source_is_resolved_once_and_said(scratch: Path) -> None:
    (scratch / "real").mkdir()
    (scratch / "real" / "file").write_bytes(b"")
    (scratch / "link").symlink_to("real")
    (scratch / "again").symlink_to("link")
    for named in ("link", "again"):
        assert paths(scratch / named) == [b"", b"file"]
        source = resolve_source(scratch / named)
        assert source.path == os.fsencode(scratch / "real")
        assert source.note == f"the source was named through a symbolic link: {scratch / named} leads to {scratch / 'real'}"
    assert resolve_source(scratch / "real").note is None
    assert resolve_source(os.fsencode(scratch / "link") + b"/").note is not None


@pytest.mark.parametrize("named", [b"", b"/nowhere/at/all", b"nul\0byte"])
def test_a_source_that_is_not_there_is_an_error(named: bytes) -> None:
    with pytest.raises(SourceNotFoundError):
        list(walk(named, ALL))


def test_a_source_of_another_kind_is_refused(scratch: Path) -> None:
    os.mkfifo(scratch / "fifo")
    (scratch / "loop").symlink_to("loop")
    with pytest.raises(UsageError):
        list(walk(scratch / "fifo", ALL))
    with pytest.raises(SourceNotFoundError):
        list(walk(scratch / "loop", ALL))


def test_the_walk_agrees_with_find(scratch: Path) -> None:
    make_chain(scratch, [b"x", b"y z", b"\xff"])
    (scratch / "link").symlink_to("x")
    listed = subprocess.run(["find", scratch, "-mindepth", "1", "-printf", r"%P\0"], capture_output=True, check=True).stdout
    assert sorted(paths(scratch)[1:]) == sorted(listed.split(b"\0")[:-1])


def test_a_found_entry_can_be_opened_by_its_folders_descriptor(scratch: Path) -> None:
    (scratch / "d" / "e").mkdir(parents=True)
    for found in walk(scratch, ALL):
        assert found.stat is not None
        here = os.stat(found.name, dir_fd=found.dir_fd, follow_symlinks=False)
        assert here.st_ino == found.stat.st_ino == os.fstat(found.folder_fd).st_ino
        assert stat.S_ISDIR(here.st_mode)
