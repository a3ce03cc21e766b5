from __future__ import annotations

import base64
import errno
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from evidencesync.custody.entries import FieldRules, WalkOrder
from evidencesync.evidence.entry import Entry, ReadError
from evidencesync.evidence.utc_time import parse_file_time
from evidencesync.source.details import attribute_name
from evidencesync.source.filters import FilterRules
from evidencesync.source.metadata import EntryMaker
from evidencesync.source.reader import open_file, read_small
from evidencesync.source.walker import walk

AsNobody = Callable[[str, Path], object]
ALL = FilterRules.none()
HEX = "ab" * 32


def entries(root: Path, maker: EntryMaker | None = None, rules: FilterRules = ALL) -> dict[bytes, Entry]:
    maker = maker or EntryMaker()
    return {found.path: maker.make_entry(found) for found in walk(root, rules)}


def one(path: Path, maker: EntryMaker | None = None) -> Entry:
    return entries(path, maker)[os.fsencode(path.name)]


def need_attributes(path: Path) -> None:
    try:
        os.setxattr(path, b"user.probe", b"")
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        pytest.skip("only where the system has user.*-attributes")
    os.removexattr(path, b"user.probe")


def test_every_field_is_what_stat_says(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "file").chmod(0o6751)
    os.utime(tmp_path / "file", ns=(1_600_000_000_000_000_001, 1_500_000_000_123_456_789))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder").chmod(0o1777)
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    os.link(tmp_path / "file", tmp_path / "twice")
    made = entries(tmp_path)
    assert len(made) == 6
    form = "%n|0%a|%u|%g|%U|%G|%.9Y|%.9X|%.9Z|%.9W|%i|%d|%h"
    names = [os.fsdecode(path) or "." for path in made]
    shown = subprocess.run(["stat", "--printf", form + r"\0", *names], cwd=tmp_path, capture_output=True, text=True, check=True)
    for line in shown.stdout.split("\0")[:-1]:
        name, mode, uid, gid, user, group, mtime, atime, ctime, btime, inode, device, links = line.split("|")
        entry = made[b"" if name == "." else name.encode()]
        assert (entry.mode, entry.uid, entry.gid) == (mode[-4:], int(uid), int(gid))
        assert (entry.user, entry.group) == (user, group)
        if name != "link":  # reading its target may have touched it before stat could look
            assert entry.atime == atime
        assert (entry.mtime, entry.ctime) == (mtime, ctime)
        if btime != "-" and not btime.startswith("0"):  # an older stat can not tell
            assert entry.btime == btime
        assert (entry.inode, entry.device, entry.links) == (inode, device, int(links))


def test_entries_are_valid_lines_and_each_value_is_in_its_own_field(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    os.link(tmp_path / "file", tmp_path / "twice")
    maker = EntryMaker()
    errors = [ReadError(offset=1, length=2, errno=5, fill="zero")]
    made = [
        maker.make_entry(found, size=12, blake3_hex=HEX, sha256_hex="cd" * 32, flags=("changed-while-read",), read_errors=errors)
        for found in walk(tmp_path, ALL)
        if found.path
    ]
    for entry in made:
        assert msgspec.json.decode(msgspec.json.encode(entry), type=Entry) == entry
    again = made[1]
    status = (tmp_path / "twice").stat()
    assert (again.type, again.path, again.path_b64) == ("file", "twice", None)
    assert (again.size, again.blake3, again.sha256) == (12, HEX, "cd" * 32)
    assert (again.mode, again.uid, again.gid) == (f"{status.st_mode & 0o7777:04o}", status.st_uid, status.st_gid)
    assert parse_file_time(again.mtime or "") == status.st_mtime_ns
    assert parse_file_time(again.ctime or "") == status.st_ctime_ns
    assert (again.inode, again.device, again.links) == (str(status.st_ino), str(status.st_dev), 2)
    assert (again.hardlink_to, again.target, again.device_number, again.holes) == ("file", None, None, None)
    assert (again.read_errors, again.flags) == (errors, ["changed-while-read"])


def test_times_before_the_epoch_and_far_away_are_exact(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_bytes(b"")
    for nanoseconds in (-1, -1_500_000_001, 0, 1, 999_999_999, 1_000_000_000, 2**33 * 10**9 + 7):
        os.utime(path, ns=(0, nanoseconds))
        kept = path.stat().st_mtime_ns  # what the file system could hold
        assert parse_file_time(one(path).mtime or "") == kept


def test_odd_names_and_targets_travel_as_base64(tmp_path: Path) -> None:
    top = os.fsencode(tmp_path)
    os.symlink(b"\xff/\n", top + b"/esc\x1b")
    os.symlink("plain/ü", top + b"/ok")
    made = entries(tmp_path)
    assert (made[b"ok"].path, made[b"ok"].target, made[b"ok"].target_b64) == ("ok", "plain/ü", None)
    odd = made[b"esc\x1b"]
    assert (odd.path, odd.path_b64) == (None, base64.b64encode(b"esc\x1b").decode())
    assert (odd.target, odd.target_b64) == (None, base64.b64encode(b"\xff/\n").decode())
    assert made[b""].path == ""


def test_links_to_one_inode_name_the_first_across_folders(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "one").write_bytes(b"x")
    for name in ("a/two", "b/three", "c/four"):
        os.link(tmp_path / "a" / "one", tmp_path / name)
    os.symlink("x", tmp_path / "c" / "link")
    os.link(tmp_path / "c" / "link", tmp_path / "c" / "link again", follow_symlinks=False)
    maker = EntryMaker()
    made = {}
    for found in walk(tmp_path, ALL):
        made[found.path] = maker.make_entry(found)
    assert {path: entry.hardlink_to for path, entry in made.items() if entry.hardlink_to} == {
        b"a/two": "a/one",
        b"b/three": "a/one",
        b"c/four": "a/one",
        b"c/link again": "c/link",
    }
    assert not maker._links._first  # every link was seen: nothing is remembered
    assert not maker._links._missing


def test_a_link_whose_other_name_has_no_content_refers_to_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    for name in ("b", "c", "d"):
        os.link(tmp_path / "a", tmp_path / name)
    maker, made = EntryMaker(), {}
    for found in walk(tmp_path, FilterRules.from_patterns(["/a"])):
        flags = ("unreadable",) if found.path == b"b" else ()
        made[found.path] = maker.make_entry(found, flags=flags)  # type: ignore[arg-type]
    assert (made[b"a"].flags, made[b"b"].flags) == (["skipped"], ["unreadable"])
    assert [made[name].hardlink_to for name in (b"a", b"b", b"c", b"d")] == [None, None, None, "c"]


def test_what_shares_a_number_and_nothing_else_is_no_hard_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As below a file system that unites several others, and passes their inode numbers on."""
    (tmp_path / "file").write_bytes(b"x")
    for name, target in (("link", "file"), ("other link", "nothing")):
        (tmp_path / name).symlink_to(target)
    for name in ("file", "link", "other link"):
        os.link(tmp_path / name, tmp_path / f"{name} again", follow_symlinks=False)
    monkeypatch.setattr("evidencesync.source.metadata._inode_of", lambda status: (1, 1, stat.S_IFMT(status.st_mode)))
    made = entries(tmp_path)
    assert made[b"link"].hardlink_to is None
    assert made[b"other link"].hardlink_to is None or made[b"other link"].flags == ["changed-while-read"]


def test_folders_have_many_links_and_are_no_hard_links(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    assert all(entry.hardlink_to is None for entry in entries(tmp_path).values())


def test_devices_have_their_numbers() -> None:
    maker = EntryMaker()
    steps = walk(b"/dev", FilterRules.from_patterns(["/*/"]))
    entry = next(maker.make_entry(found) for found in steps if found.path == b"null")
    assert (entry.type, entry.device_number, entry.size) == ("character-device", "1:3", None)


def test_owners_without_a_name_are_numbers_only() -> None:
    maker = EntryMaker()
    assert maker._user(4_000_000_001) is None
    assert maker._group(4_000_000_001) is None
    assert maker._user(0) == "root"


def test_attributes_are_taken_by_name_and_from_the_open_file_alike(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    need_attributes(path)
    os.setxattr(path, b"user.note", b"\x00\xff")
    os.setxattr(path, b"user.empty", b"")
    os.setxattr(path, b"user.odd\xff\n", b"1")
    os.setxattr(tmp_path / "folder", b"user.on folder", b"2")
    expected = {
        "base64:" + base64.b64encode(b"user.odd\xff\n").decode(): "MQ==",
        "user.empty": "",
        "user.note": "AP8=",
    }
    maker = EntryMaker()
    for found in walk(tmp_path, ALL):
        entry = maker.make_entry(found)
        if found.path == b"file":
            assert entry.xattrs == expected
            small = read_small(found, 100, maker.details)
            assert small is not None
            with open_file(found) as opened:
                assert opened.details(maker.details) == small.details
            assert maker.make_entry(found, details=small.details) == entry
        elif found.path:
            assert entry.xattrs == {"user.on folder": "Mg=="}
        else:
            assert entry.xattrs is None
    assert maker.details.unread == 0
    assert {attribute_name(name) for name in expected} == {b"user.note", b"user.empty", b"user.odd\xff\n"}


@pytest.mark.parametrize("name", ["base64:!", "base64:dXNlci5ub3Rl", "user.\x1b"])
def test_an_attributes_name_has_one_form(name: str) -> None:
    with pytest.raises(ValueError, match="attribute's name"):
        attribute_name(name)


def test_attributes_that_a_manifest_can_not_hold_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    need_attributes(path)
    os.setxattr(path, b"user." + b"\xff" * 250, b"")  # longer in base64 than a name may be
    os.setxattr(path, b"user.short", b"")
    maker = EntryMaker()
    assert one(path, maker).xattrs == {"user.short": ""}
    assert maker.details.unread == 1


def test_what_is_made_is_what_a_manifest_admits(scratch: Path) -> None:
    for name in ("b/c", "b-", "ü\u202e"):
        (scratch / name).mkdir(parents=True)
    (scratch / "b" / "link").symlink_to("../nowhere")
    (scratch / "b" / "one").write_bytes(b"")
    os.link(scratch / "b" / "one", scratch / "b-" / "two")
    os.mkfifo(scratch / "fifo")
    need_attributes(scratch / "b")
    for attribute in (b"user.b", b"user.\xff", b"user.a\n", b"user.base64:"):
        os.setxattr(scratch / "b", attribute, b"value")
    for rules in (ALL, FilterRules.from_patterns(["link", "one"])):
        order, fields, maker, admitted = WalkOrder(), FieldRules(), EntryMaker(), 0
        for found in walk(scratch, rules):
            content = found.entry_type == "file" and found.flag is None
            digests = {"size": 0, "blake3_hex": HEX, "sha256_hex": HEX} if content else {}
            entry = maker.make_entry(found, **digests)  # type: ignore[arg-type]
            assert order.admit(entry) == found.path
            fields.admit(entry, single=order.single)
            admitted += 1
        assert admitted == 9


def test_what_is_not_asked_for_is_not_taken(tmp_path: Path) -> None:
    maker = EntryMaker(birth_times=False, attributes=False)
    (tmp_path / "file").write_bytes(b"")
    entry = one(tmp_path / "file", maker)
    assert (entry.btime, entry.xattrs) == (None, None)


def test_what_is_skipped_or_vanished_is_not_looked_at_again(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "gone").write_bytes(b"")
    made = entries(tmp_path, rules=FilterRules.from_patterns(["link"]))
    assert (made[b"link"].flags, made[b"link"].target, made[b"link"].btime) == (["skipped"], None, None)
    assert made[b"link"].mode == "0777"
    steps = walk(tmp_path, ALL)
    next(steps)
    (tmp_path / "gone").unlink()
    assert EntryMaker().make_entry(next(steps)) == Entry(type="file", path="gone", flags=["vanished"])


def test_a_link_that_is_replaced_before_it_is_read_is_flagged(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("one")
    for replace, flag in (
        (lambda: None, "vanished"),
        (lambda: (tmp_path / "link").write_bytes(b""), "vanished"),
    ):
        steps = walk(tmp_path, ALL)
        next(steps)
        found = next(steps)
        (tmp_path / "link").unlink()
        replace()
        entry = EntryMaker().make_entry(found)
        assert (entry.type, entry.target, entry.flags) == ("symlink", None, [flag])
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to("one")


def test_flags_are_each_said_once_in_one_order(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    found = next(found for found in walk(tmp_path, ALL) if found.path)
    entry = EntryMaker().make_entry(
        msgspec.structs.replace(found, flag="unreadable", dir_fd=-1), flags=("unreadable", "changed-while-read")
    )
    assert entry.flags == ["changed-while-read", "unreadable"]


def test_the_bare_root_of_a_single_file_has_a_type_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert entries(tmp_path / "file")[b""] == Entry(type="directory", path="")


def test_attributes_that_may_not_be_read_are_counted(scratch: Path, as_nobody: AsNobody) -> None:
    (scratch / "file").write_bytes(b"")
    need_attributes(scratch / "file")
    os.setxattr(scratch / "file", b"user.note", b"1")
    (scratch / "file").chmod(0o000)
    script = """
maker = EntryMaker()
made = [maker.make_entry(found) for found in walk(root, FilterRules.none())]
answer = [made[1].xattrs, maker.details.unread]
"""
    assert as_nobody(script, scratch) == [None, 1]


def test_a_file_system_without_attributes_or_birth_times_is_asked_once() -> None:
    maker = EntryMaker()
    for _ in range(2):
        entry = entries(Path("/proc/version"), maker)[b"version"]
        assert (entry.btime, entry.xattrs) == (None, None)
    assert maker.details.unread == 0
