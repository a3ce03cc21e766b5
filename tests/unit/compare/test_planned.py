"""What a push would find is told from names, types, sizes and times, and nobody is called removed who was not looked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.acquire.dry_run import DryRun, survey
from evidencesync.compare import planned
from evidencesync.compare.planned import PlannedChange, PlannedChanges, compare_planned
from evidencesync.custody.manifest import WholeEntry, whole_entries
from evidencesync.evidence.entry import Entry
from evidencesync.source.filters import FilterRules
from evidencesync.source.listed import ListedNames
from evidencesync.source.root import resolve_source
from evidencesync.vault.catalog import read_published
from tests.support.bench_of_evidence import Bench, make_bench

NANOSECONDS = 1_700_000_000_123_456_789
Line = tuple[str, str, str, tuple[str, ...]]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = make_bench(tmp_path)
    for name in ("a", "b", "folder/c", "folder/deep/d"):
        path = made.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        os.utime(path, ns=(NANOSECONDS, NANOSECONDS))
    (made.source / "link").symlink_to("a")
    made.push()
    return made


def planned_of(
    bench: Bench, rules: FilterRules | None = None, after: Callable[[WholeEntry], WholeEntry] = lambda one: one
) -> tuple[PlannedChanges, list[Line]]:
    """The counts, and each change in short."""
    noted: list[PlannedChange] = []
    chosen = rules or FilterRules.none()
    found = compare_planned(
        whole_entries(read_published(bench.vault.layout.item(bench.name), 1)),
        map(after, survey(resolve_source(os.fsencode(bench.source)), chosen, DryRun())),
        noted.append,
        is_wanted=chosen.listed.wants if chosen.listed is not None else lambda _: True,
    )
    return found, [(one.kind, one.path.decode(), one.type, one.fields) for one in noted]


def test_an_untouched_source_is_the_same(bench: Bench) -> None:
    found, noted = planned_of(bench)
    assert noted == []
    assert found == PlannedChanges(same=8, same_bytes=sum(map(len, ("a", "b", "folder/c", "folder/deep/d"))))


def test_each_change_says_what_shows_it(bench: Bench) -> None:
    source = bench.source
    (source / "a").write_bytes(b"longer")
    os.utime(source / "a", ns=(NANOSECONDS, NANOSECONDS))
    os.utime(source / "b", ns=(NANOSECONDS, NANOSECONDS + 1))
    (source / "folder/c").unlink()
    (source / "folder/c").mkdir()
    (source / "link").unlink()
    (source / "new").write_bytes(b"12345")
    found, noted = planned_of(bench)
    assert noted == [
        ("changed", "a", "file", ("size",)),
        ("changed", "b", "file", ("time",)),
        ("changed", "folder/c", "directory", ("type",)),
        ("removed", "link", "symlink", ()),
        ("added", "new", "file", ()),
    ]
    assert (found.changed, found.removed, found.added, found.same) == (3, 1, 1, 4)
    assert (found.changed_bytes, found.added_bytes, found.most_bytes) == (7, 5, 12)


def test_what_was_not_read_the_last_time_would_travel(bench: Bench) -> None:
    before = [
        WholeEntry(b"", Entry("directory", path=""), None),
        WholeEntry(b"a", Entry("file", path="a", size=1, mtime="1.000000000", flags=["unreadable"]), None),
    ]
    after = [before[0], WholeEntry(b"a", Entry("file", path="a", size=1, mtime="1.000000000"), None)]
    noted: list[PlannedChange] = []
    found = compare_planned(iter(before), iter(after), noted.append)
    assert (noted, found.most_bytes) == ([PlannedChange("changed", b"a", "file", 1, ("content",))], 1)


def test_a_file_that_cannot_be_read_is_neither_the_same_nor_changed(bench: Bench) -> None:
    (bench.source / "a").write_bytes(b"longer")

    def refuse(one: WholeEntry) -> WholeEntry:
        return WholeEntry(one.path, Entry("file", path="a", size=6, flags=["unreadable"]), None) if one.path == b"a" else one

    found, noted = planned_of(bench, after=refuse)
    assert (noted, found.unread, found.most_bytes) == ([("unread", "a", "file", ())], 1, 0)


def test_what_lies_in_a_folder_that_cannot_be_read_is_not_removed() -> None:
    def entry(path: str, kind: str = "file", flag: str | None = None) -> WholeEntry:
        made = Entry(kind, path=path, flags=[flag] if flag else None)  # type: ignore[arg-type,list-item]
        return WholeEntry(path.encode(), made, None)

    folders = [entry("", "directory"), entry("x", "directory"), entry("x/y", "directory")]
    before = [*folders, entry("x/y/1"), entry("x/z"), entry("x2")]
    after = [folders[0], entry("x", "directory", "unreadable"), entry("x/y", "directory", "unreadable")]
    noted: list[PlannedChange] = []
    found = compare_planned(iter(before), iter(after), noted.append)
    assert [(one.kind, one.path) for one in noted] == [
        ("unread", b"x"),
        ("unread", b"x/y"),
        ("unread", b"x/y/1"),
        ("unread", b"x/z"),
        ("removed", b"x2"),
    ]
    assert (found.unread, found.removed) == (4, 1)


def test_what_a_filter_or_a_list_leaves_out_is_not_removed(bench: Bench) -> None:
    found, noted = planned_of(bench, FilterRules.from_patterns(["folder/", "b"]))
    assert (noted, found.removed, found.left_out) == ([], 0, 5)
    (bench.source / "folder/c").unlink()
    listed = FilterRules.from_patterns(listed=ListedNames.parse(b"folder\nb\nnowhere\n", b"\n"))
    found, noted = planned_of(bench, listed)
    assert (noted, found.removed, found.left_out) == ([("removed", "folder/c", "file", ())], 1, 2)


def test_a_listed_name_that_is_gone_is_removed(bench: Bench) -> None:
    (bench.source / "b").unlink()
    listed = FilterRules.from_patterns(listed=ListedNames.parse(b"b\n", b"\n"))
    assert planned_of(bench, listed)[1] == [("removed", "b", "file", ())]


@pytest.mark.parametrize("copies", [1, 2])
def test_only_one_file_with_name_size_and_time_of_a_removed_one_may_have_been_moved(bench: Bench, copies: int) -> None:
    (bench.source / "folder/deep/d").rename(bench.source / "folder/d")
    for number in range(1, copies):
        (bench.source / f"again{number}").mkdir()
        copy = bench.source / f"again{number}/d"
        copy.write_bytes((bench.source / "folder/d").read_bytes())
        os.utime(copy, ns=(NANOSECONDS, NANOSECONDS))
    found, _ = planned_of(bench)
    assert found.moves == ([(b"folder/deep/d", b"folder/d", len("folder/deep/d"))] if copies == 1 else [])
    assert found.removed == 1


def test_moves_are_not_looked_for_among_too_many(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planned, "_MOST_MOVES", 1)
    for name in ("x", "y"):
        (bench.source / name).write_bytes(b"1")
    found, _ = planned_of(bench)
    assert (found.moves, found.added) == (None, 2)


def test_a_manifest_in_whole_seconds_is_compared_in_seconds() -> None:
    root = WholeEntry(b"", Entry("directory", path=""), None)
    before = WholeEntry(b"a", Entry("file", path="a", size=1, mtime="5.000000000", blake3="0" * 64), None)
    after = WholeEntry(b"a", Entry("file", path="a", size=1, mtime="5.700000000"), None)
    for in_seconds, changed in ((True, 0), (False, 1)):
        found = compare_planned(iter([root, before]), iter([root, after]), lambda _: None, in_seconds=in_seconds)
        assert found.changed == changed


def test_a_device_always_counts_as_changed() -> None:
    one = WholeEntry(b"sdb.img", Entry("block-device", path="sdb.img", size=512, blake3="0" * 64), None)
    noted: list[PlannedChange] = []
    found = compare_planned(iter([one]), iter([one]), noted.append)
    assert (noted[0].fields, found.most_bytes) == (("content",), 512)
