"""`diff`, `show --files` and `list`: what is said about acquisitions, and that it is true."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.cli_program import ITEM, Done, Lab, schema_errors

EVIL = "bad\x1b[31m\udcff[bold]name"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab.make(tmp_path)


def diff(lab: Lab, *arguments: str) -> Done:
    return lab.run("diff", "vault", "1", "2", *ITEM, *arguments)


def paths(listed: list[dict[str, object]], name: str = "path") -> list[object]:
    return [one[name] if one[name] is not None else one[f"{name}_b64"] for one in listed]


def test_each_kind_of_difference_is_told_apart(lab: Lab) -> None:
    image = os.urandom(3 << 20)
    for name, data in {"image": image, "stays": b"s", "gone": b"g", "mode": b"m", "a/moved": b"moved", "log": b"1\n"}.items():
        lab.write(name, data)
    os.setxattr(lab.folder / "evidence" / "mode", "user.k", b"1")
    (lab.folder / "evidence" / "link").symlink_to("here")
    assert lab.push().code == 0
    folder = lab.folder / "evidence"
    times = (folder / "image").stat()
    lab.write("image", image[: 2 << 20] + b"X" + image[(2 << 20) + 1 :])
    os.utime(folder / "image", ns=(times.st_atime_ns, times.st_mtime_ns))
    (folder / "gone").unlink()
    (folder / "a" / "moved").rename(folder / "b")
    lab.write(EVIL, b"new")
    (folder / "mode").chmod(0o600)
    os.setxattr(folder / "mode", "user.k", b"2")
    (folder / "link").unlink()
    (folder / "link").symlink_to("there")
    lab.write("log", b"1\n2\n")
    os.utime(folder / "log", ns=(0, -1_500_000_000))
    assert lab.push().code == 0
    done = diff(lab, "--json")
    said = done.document
    assert (done.code, schema_errors(said, "diff-output")) == (0, [])
    assert (paths(said["added"]), paths(said["removed"])) == (["YmFkG1szMW3/W2JvbGRdbmFtZQ=="], ["gone"])
    assert [(one["before"], one["after"], one["size"]) for one in said["moved"]] == [("a/moved", "b", 5)]
    changed = {one["path"]: one for one in said["changed"]}
    assert changed.keys() == {"image", "link", "log"}
    assert changed["log"]["ranges"] == [[0, 4]]
    assert changed["link"]["ranges"] is None
    target = {one["field"]: (one["before"], one["after"]) for one in changed["link"]["fields"]}["target"]
    assert target == ("here", "there")
    (offset, length), *more = changed["image"]["ranges"]
    assert not more
    assert offset <= 2 << 20 < offset + length <= (2 << 20) + (512 << 10)
    metadata = {
        one["path"]: {field["field"]: (field["before"], field["after"]) for field in one["fields"]} for one in said["metadata"]
    }
    assert metadata["mode"]["mode"] == ("0644", "0600")
    assert metadata["mode"]["xattrs.user.k"] == ("MQ==", "Mg==")
    assert said["counts"]["same"] == 1
    text = diff(lab)
    assert text.code == 0
    assert "> a/moved -> b" in text.out
    assert " -> 1969-12-31 23:59:58.500000000 UTC\n" in text.out
    assert "\x1b" not in text.out
    assert "1 added (+), 1 removed (-), 1 moved (>), 3 changed (*)" in text.out
    back = lab.run("diff", "vault", "2", "1", *ITEM, "--json").document["counts"]
    assert (back["added"], back["removed"], back["moved"], back["changed"]) == (1, 1, 1, 3)


def test_the_ranges_hold_every_byte_that_differs(lab: Lab) -> None:
    before = os.urandom(1 << 20) + bytes(1 << 20) + os.urandom(1 << 20)
    after = bytearray(before)
    edits = [(0, 5), (700_000, 1), ((1 << 20) + 300_000, 100), (len(before) - 1, 1)]
    for offset, length in edits:
        after[offset : offset + length] = bytes(byte ^ 0x55 for byte in after[offset : offset + length])
    after += b"tail" * 1000
    lab.write("image", before)
    assert lab.push().code == 0
    lab.write("image", bytes(after))
    assert lab.push().code == 0
    (changed,) = diff(lab, "--json").document["changed"]
    ranges = changed["ranges"]
    assert all(end <= start for (_, end), (start, _) in zip([(a, a + n) for a, n in ranges], ranges[1:], strict=False))
    differing = [at for at in range(len(before)) if before[at] != after[at]]
    assert all(any(offset <= at < offset + length for offset, length in ranges) for at in differing)
    assert any(offset <= len(before) and offset + length == len(after) for offset, length in ranges)
    assert sum(length for _, length in ranges) == changed["changed_bytes"] < len(after) // 2


def test_moves_are_found_under_the_same_name_first_and_never_twice(lab: Lab) -> None:
    for name in ("one/x", "one/y", "one/z"):
        lab.write(name, b"same content")
    lab.write("one/empty", b"")
    assert lab.push().code == 0
    (lab.folder / "evidence" / "two").mkdir()
    for before, after in (("one/y", "two/a"), ("one/z", "two/z"), ("one/empty", "two/empty")):
        (lab.folder / "evidence" / before).rename(lab.folder / "evidence" / after)
    lab.write("two/more", b"same content")
    assert lab.push().code == 0
    said = diff(lab, "--json").document
    assert {(one["before"], one["after"]) for one in said["moved"]} == {("one/z", "two/z"), ("one/y", "two/a")}
    assert paths(said["added"]) == ["two", "two/empty", "two/more"]
    assert paths(said["removed"]) == ["one/empty"]


def test_a_folder_that_was_moved_is_one_line_and_each_file_of_it_with_v(lab: Lab) -> None:
    for number in range(5):
        lab.write(f"mail/2025/{number}", b"x" * (1000 + number))
    lab.write("notes", b"its own")
    assert lab.push().code == 0
    folder = lab.folder / "evidence"
    (folder / "archive").mkdir()
    (folder / "mail/2025").rename(folder / "archive/2025")
    (folder / "notes").rename(folder / "archive/notes")
    assert lab.push().code == 0
    shown = [line for line in diff(lab).out.splitlines() if line.startswith(">")]
    assert shown == ["> mail/ -> archive/  (5 files, 5.0 kB; -v names them)", "> notes -> archive/notes  (7 B)"]
    named = [line for line in diff(lab, "-v").out.splitlines() if line.startswith(">")]
    assert len(named) == 6
    assert "> mail/2025/3 -> archive/2025/3  (1.0 kB)" in named


def test_a_file_that_was_not_read_says_so(lab: Lab) -> None:
    assert lab.push("--allow-empty").code == 0
    lab.write("closed", b"secret").chmod(0)
    assert lab.push(unprivileged=True).code == 3
    assert "+ closed  (file, which was not read)" in diff(lab).out


def test_lists_are_bounded_and_counts_are_not(lab: Lab) -> None:
    lab.write("first", b"")
    assert lab.push().code == 0
    for number in range(50):
        lab.write(f"{number:02}", b"%d" % number)
    assert lab.push().code == 0
    said = diff(lab, "--limit", "7", "--json").document
    assert (said["counts"]["added"], paths(said["added"])) == (50, [f"{number:02}" for number in range(7)])
    assert "+ ... and 43 more (--limit)" in diff(lab, "--limit", "7").out
    assert lab.run("diff", "vault", "1", "3", *ITEM).code == 10


def test_files_are_shown_page_by_page(lab: Lab) -> None:
    for name in ("a/1", "a/2", "a.txt", "b", EVIL):
        lab.write(name, name.encode("utf-8", "surrogateescape"))
    os.utime(lab.folder / "evidence" / "b", ns=(0, -(10**18) * 5))
    (lab.folder / "evidence" / "link").symlink_to("/etc/\x1b]0;x")
    assert lab.push().code == 0
    whole = lab.run("show", "vault", *ITEM, "--files", "--json").document
    assert schema_errors(whole, "show-files-output") == []
    seen: list[object] = []
    after: tuple[str, ...] = ()
    while True:
        page = lab.run("show", "vault", *ITEM, "--files", "--limit", "2", *after, "--json").document
        assert page["total"] == whole["total"] == 8
        seen += page["entries"]
        if page["next"] is None and page["next_b64"] is None:
            break
        after = ("--after", page["next"] if page["next"] is not None else EVIL)
    assert seen == whole["entries"]
    text = lab.run("show", "vault", *ITEM, "--files")
    assert "\x1b" not in text.out
    assert "8 entries of 8; times are UTC" in text.out
    below = lab.run("show", "vault", *ITEM, "--files", "--below", "a/", "--json").document
    assert paths(below["entries"][1:]) == ["a", "a/1", "a/2"]
    assert lab.run("show", "vault", *ITEM, "--files", "--below", "c").code == 10
    assert lab.run("show", "vault", *ITEM, "--below", "a").code == 2


def test_a_source_with_an_odd_name_is_shown_and_not_obeyed(lab: Lab) -> None:
    source = os.fsencode(lab.folder) + b"/odd \xff\x1b[31m\n"
    os.mkdir(source)
    assert lab.push("--allow-empty", source=source).code == 0
    shown = lab.run("show", "vault", *ITEM)
    assert shown.code == 0
    assert "/odd \\xff\\x1b[31m\\x0a\n" in shown.out
    assert "\x1b" not in shown.out


def test_what_a_filter_left_out_of_one_acquisition_is_neither_added_nor_removed(lab: Lab) -> None:
    for name in ("kept", "folder/a", "folder/b"):
        lab.write(name, name.encode())
    assert lab.push().code == 0
    assert lab.push("--exclude", "folder").code == 0
    said = diff(lab, "--json").document
    assert schema_errors(said, "diff-output") == []
    assert (said["added"], said["removed"], said["counts"]["filtered"]) == ([], [], 3)
    assert "3 not compared: a filter left them out of one of the two" in diff(lab).out


def test_entries_of_a_copied_source_that_differ_in_passing_times_alone_are_one_line(lab: Lab) -> None:
    for name in ("a", "b", "c"):
        lab.write(name, b"x")
    assert lab.push().code == 0
    folder = lab.folder / "evidence"
    times = folder.stat()
    for name in ("a", "b", "c"):
        (folder / name).chmod(0o600)
    assert lab.push().code == 0
    folder.chmod(times.st_mode)  # another ctime, and the same mode
    (folder / "a").chmod(0o600)
    (folder / "b").chmod(0o600)
    (folder / "c").chmod(0o640)
    assert lab.push().code == 0
    shown = lab.run("diff", "vault", "2", "3", *ITEM).out.splitlines()
    assert "m 3 entries with nothing but another ctime (-v names them)" in shown
    assert next(line for line in shown if line.startswith("m ")) == "m c"
    every = lab.run("diff", "vault", "2", "3", *ITEM, "-v").out.splitlines()
    assert {"m .", "m a", "m b", "m c"} <= {*every}
