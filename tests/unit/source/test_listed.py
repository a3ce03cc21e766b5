from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidencesync.acquire.dry_run import plan_acquisition
from evidencesync.acquire.source_access import leaves_nothing
from evidencesync.errors import UsageError
from evidencesync.source.filters import FilterRules
from evidencesync.source.listed import ListedNames, below
from evidencesync.source.root import resolve_source
from evidencesync.source.walker import walk
from tests.support.file_systems import mounted

NAMES = st.lists(st.sampled_from([b"a", b"b", b"\xff", b"x y"]), max_size=4).map(b"/".join)


EVERYTHING: dict[str, str | None] = dict.fromkeys(
    ["", "a", "a/deep", "a/deep/three", "a/one", "a/two", "b", "b/four", "b/gone", "five", "link"]
)


def build(root: Path) -> None:
    for name in ("a/one", "a/two", "a/deep/three", "b/four", "five"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    (root / "link").symlink_to("a")


def seen(root: Path, content: bytes, separator: bytes = b"\n", **rules: object) -> tuple[dict[str, str | None], list[str]]:
    """Each entry with its flag, and what was not reached."""
    listed = ListedNames.parse(content, separator)
    unreached: list[str] = []
    chosen = FilterRules.from_patterns(listed=listed, **rules)  # type: ignore[arg-type]
    steps = walk(root, chosen, unreached=lambda path: unreached.append(os.fsdecode(path)))
    return {os.fsdecode(found.path): found.flag for found in steps}, unreached


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"five\n", {"": None, "five": None}),
        (b"a/one", {"": None, "a": None, "a/one": None}),
        (b"./a/one\nfive/\n\n", {"": None, "a": None, "a/one": None, "five": None}),
        (b"b", {"": None, "b": None, "b/four": None}),
        (b"b\nb/four\n", {"": None, "b": None, "b/four": None}),
        (b"b/four\nb\n", {"": None, "b": None, "b/four": None}),
        (b"link\n", {"": None, "link": None}),
        (b"five\nfive\n", {"": None, "five": None}),
        (b"b\nb/gone\n", {"": None, "b": None, "b/four": None, "b/gone": "vanished"}),
        (b".\nb/gone\nb\na", {**EVERYTHING, "b/gone": "vanished"}),
        (b"not there\nfive", {"": None, "five": None, "not there": "vanished"}),
        (
            b"a/no/such/file\na/one",
            {"": None, "a": None, "a/no": "vanished", "a/no/such": "vanished", "a/no/such/file": "vanished", "a/one": None},
        ),
    ],
)
def test_what_is_listed_its_folders_and_nothing_else(tmp_path: Path, content: bytes, expected: dict[str, str | None]) -> None:
    build(tmp_path)
    assert seen(tmp_path, content) == (expected, [])
    assert list(expected) == list(seen(tmp_path, content)[0])  # in the manifest's order


def test_the_whole_source_can_be_listed(tmp_path: Path) -> None:
    build(tmp_path)
    everything = {os.fsdecode(found.path) for found in walk(tmp_path, FilterRules.none())}
    assert set(seen(tmp_path, b".\nfive\n")[0]) == everything


def test_a_link_on_the_way_is_not_followed_and_what_lies_behind_it_is_told(tmp_path: Path) -> None:
    build(tmp_path)
    found, unreached = seen(tmp_path, b"link/one\nfive/below\na/one\na/one/below/it")
    assert found == {"": None, "a": None, "a/one": None, "five": "skipped", "link": "skipped"}
    assert unreached == ["a/one/below/it", "five/below", "link/one"]


def test_patterns_apply_to_what_is_listed_too(tmp_path: Path) -> None:
    build(tmp_path)
    found, _ = seen(tmp_path, b"a\nfive", excludes=["two"], max_size=4)
    assert found == {
        "": None,
        "a": None,
        "a/deep": None,
        "a/deep/three": "skipped",
        "a/one": "skipped",
        "a/two": "skipped",
        "five": None,
    }


def test_names_of_any_bytes_can_be_listed(tmp_path: Path) -> None:
    top = os.fsencode(tmp_path)
    for name in (b"a\nb", b"\xff"):
        with open(top + b"/" + name, "wb"):
            pass
    assert seen(tmp_path, b"a\nb\0\xff\0", b"\0")[0] == {"": None, "a\nb": None, os.fsdecode(b"\xff"): None}


@pytest.mark.parametrize("content", [b"", b"\n\n", b"/etc/passwd", b"a/../../b", b"..", b"a\0b", b"n" * 256])
def test_a_list_that_leads_elsewhere_or_names_nothing_is_refused(content: bytes) -> None:
    with pytest.raises(UsageError):
        ListedNames.parse(content, b"\n")


@pytest.mark.parametrize(
    ("content", "separator", "hint"),
    [
        (b"notes.txt\r\nlogs/one.log\r\n", b"\n", "CR LF"),
        (b"\xef\xbb\xbfnotes.txt\n", b"\n", "byte order mark"),
        (b"notes.txt\nlogs/one.log\n", b"\0", "--files-from"),
        (b"notes.txt\n", b"\n", "relative to the source"),
        (b"notes.txt\0", b"\0", "relative to the source"),
        (b"odd\r\0notes.txt\n\0", b"\0", "relative to the source"),
    ],
)
def test_what_may_be_wrong_with_a_list_is_known(content: bytes, separator: bytes, hint: str) -> None:
    assert hint in ListedNames.parse(content, separator).hint


@pytest.mark.parametrize(
    ("content", "hint"),
    [("notes.txt\n".encode("utf-16"), "UTF-8"), (b"notes.txt\0x\0", "--files-from0"), (b"/mnt/notes.txt\n", "relative to")],
)
def test_a_list_of_another_form_is_refused_with_a_hint(content: bytes, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        ListedNames.parse(content, b"\n")
    assert hint in str(refused.value.hint)


def test_names_that_look_like_a_faulty_list_can_be_listed(tmp_path: Path) -> None:
    for name in ("odd\r", "\ufeffmarked"):
        (tmp_path / name).write_bytes(b"")
    assert seen(tmp_path, "\ufeffmarked\nodd\r\n".encode())[0] == {"": None, "odd\r": None, "\ufeffmarked": None}


def test_a_list_may_name_one_thing_in_many_ways(tmp_path: Path) -> None:
    build(tmp_path)
    found, _ = seen(tmp_path, b"./a/one\na//one\na/./one\na/one/\n")
    assert found == {"": None, "a": None, "a/one": None}


@pytest.mark.parametrize(
    ("content", "rules", "is_refused"),
    [
        (b"a/none\nnone\n", {}, True),
        (b"link/below\n", {}, True),
        (b"five\n", {"excludes": ["five"]}, True),
        (b"five\nnone\n", {}, False),
        (b"link\n", {}, False),
        (b"hollow\n", {}, False),
        (b"a\n", {"excludes": ["*"]}, True),
        (b".\n", {}, False),
        (None, {"excludes": ["*"]}, True),
        (None, {"excludes": ["*"], "includes": ["*/"]}, True),
        (None, {"excludes": ["*"], "includes": ["link"]}, False),
        (None, {"excludes": ["/[ab]", "five", "link"]}, True),
        (None, {"excludes": ["*.tmp"]}, False),
        (None, {}, False),
    ],
)
def test_what_counts_as_nothing(tmp_path: Path, content: bytes | None, rules: dict[str, Any], is_refused: bool) -> None:
    build(tmp_path)
    (tmp_path / "hollow").mkdir()
    listed = ListedNames.parse(content, b"\n") if content is not None else None
    chosen = FilterRules.from_patterns(listed=listed, **rules)
    found = plan_acquisition(resolve_source(tmp_path), chosen)
    assert leaves_nothing(chosen, found.tally.manifest, found.tally.listed_folders) == is_refused


def test_an_empty_source_is_nothing_whatever_the_rules(tmp_path: Path) -> None:
    chosen = FilterRules.from_patterns(["*"], max_size=1, one_file_system=True)
    assert leaves_nothing(chosen, plan_acquisition(resolve_source(tmp_path), chosen).tally.manifest)


def test_a_single_file_has_nothing_to_list(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(UsageError):
        list(walk(tmp_path / "f", FilterRules.from_patterns(listed=ListedNames.parse(b"f", b"\n"))))


def test_the_header_names_the_list_by_its_digest() -> None:
    content = b"./b\n\na/c\n"
    listed = ListedNames.parse(content, b"\n")
    rules = FilterRules.from_patterns(["*.tmp"], max_size=5, one_file_system=True, listed=listed)
    digest = hashlib.sha256(content).hexdigest()
    assert rules.lines() == ["exclude *.tmp", "max-size 5", "one-file-system", f"files-from 2 names, sha256 {digest}"]


@given(st.lists(NAMES, min_size=1, max_size=8).filter(any))
def test_every_listed_path_is_wanted_or_lies_in_a_folder_that_is(paths: list[bytes]) -> None:
    wanted = ListedNames.parse(b"\0".join(paths), b"\0").wanted
    told = dict(below(b"", wanted))
    assert {path for path, is_listed in told.items() if is_listed} == set(filter(None, paths))
    assert all(any(one.startswith(path + b"/") for one in paths) for path, is_listed in told.items() if not is_listed)
    assert list(told) == sorted(told, key=lambda path: path.split(b"/"))


def test_a_file_above_the_largest_size_is_listed_and_left_out(tmp_path: Path) -> None:
    for size in (4, 5, 6):
        (tmp_path / str(size)).write_bytes(bytes(size))
    (tmp_path / "link").symlink_to("x" * 50)
    flags = {found.path: found.flag for found in walk(tmp_path, FilterRules.from_patterns(max_size=5))}
    assert flags == {b"": None, b"4": None, b"5": None, b"6": "skipped", b"link": None}
    assert [found.flag for found in walk(tmp_path / "6", FilterRules.from_patterns(max_size=5))] == [None, "skipped"]


def test_what_is_mounted_below_is_one_skipped_folder(tmp_path: Path, require_program: Callable[[str], str]) -> None:
    with mounted("tmpfs", tmp_path, 1 << 20, require_program) as place:
        (place / "inside").write_bytes(b"")
        rules = FilterRules.from_patterns(one_file_system=True)
        flags = {found.path: found.flag for found in walk(tmp_path, rules)}
        assert flags == {b"": None, b"tmpfs": "skipped"}
        assert {found.path for found in walk(tmp_path, FilterRules.none())} == {b"", b"tmpfs", b"tmpfs/inside"}
        assert {found.path for found in walk(place, rules)} == {b"", b"inside"}
