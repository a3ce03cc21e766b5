"""What a report finds in manifests: what was filtered is neither gone nor a gap."""

from __future__ import annotations

from pathlib import Path

import pytest

from evidencesync.compare.acquisitions import compare_acquisitions
from evidencesync.limits import MAX_REPORT_DIFFERENCES
from evidencesync.report.document import PathPair
from evidencesync.report.manifests import count_differences, survey
from evidencesync.source.filters import FilterRules
from evidencesync.vault.layout import ItemLayout
from tests.support.bench_of_evidence import Bench, make_bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A folder `in`, and beside it what sorts before and after what is in it."""
    bench = make_bench(tmp_path)
    (bench.source / "in" / "deep").mkdir(parents=True)
    for name in ("in.txt", "in/a.txt", "in/deep/b.txt", "inside.txt"):
        (bench.source / name).write_text(name)
    return bench


def layout(bench: Bench) -> ItemLayout:
    return bench.vault.layout.item(bench.name)


@pytest.mark.parametrize("filtered_first", [False, True])
def test_what_lies_in_a_folder_that_a_filter_left_out_is_neither_gone_nor_new(bench: Bench, *, filtered_first: bool) -> None:
    rules = [FilterRules.none(), FilterRules.from_patterns(["in/"])]
    for one in reversed(rules) if filtered_first else rules:
        bench.push(rules=one)
    found = count_differences(layout(bench), 1, 2)
    assert (found.counts, found.listed) == ({"filtered": 4, "same": 3}, [])


def test_what_differs_beside_a_folder_that_was_left_out_is_said(bench: Bench) -> None:
    bench.push()
    (bench.source / "inside.txt").write_text("other")
    (bench.source / "in.txt").unlink()
    bench.push(rules=FilterRules.from_patterns(["in/"]))
    found = count_differences(layout(bench), 1, 2)
    assert {(one.file.path, one.kind) for one in found.listed} == {("inside.txt", "content"), ("in.txt", "removed")}


def test_a_renamed_folder_is_moved_and_only_the_first_of_many_paths_are_named(bench: Bench) -> None:
    for number in range(30):
        (bench.source / "in" / f"{number:02}.txt").write_text(f"content {number}")
    bench.push()
    (bench.source / "in").rename(bench.source / "renamed")
    bench.push()
    found = count_differences(layout(bench), 1, 2)
    compared = compare_acquisitions(layout(bench), 1, 2, 0)
    counts = {kind: found.counts.get(kind, 0) for kind in ("moved", "added", "removed")}
    assert counts == {"moved": compared.moved_count, "added": compared.added_count, "removed": compared.removed_count}
    assert counts == {"moved": 32, "added": 2, "removed": 2}  # the two folders have no content by which to find them
    moved = [one for one in found.listed if one.kind == "moved"]
    assert len(moved) == MAX_REPORT_DIFFERENCES
    assert (moved[0].file.path, moved[0].to) == ("in/00.txt", PathPair("renamed/00.txt", None))


def test_what_was_filtered_is_counted_by_type_and_is_no_flagged_entry(bench: Bench) -> None:
    bench.push(rules=FilterRules.from_patterns(["in/", "in.txt"]))
    found = survey(layout(bench), 1)
    assert (found.filtered, found.flagged, found.flagged_count) == ({"directory": 1, "file": 1}, [], 0)


def test_what_neither_acquisition_has_read_is_not_called_the_same(bench: Bench) -> None:
    rules = FilterRules.from_patterns(["in/", "*.db"])
    (bench.source / "locked.db").write_bytes(b"1")
    bench.push(rules=rules)
    bench.push(rules=rules)
    found = count_differences(layout(bench), 1, 2)
    assert (found.counts, found.listed) == ({"not-read": 2, "same": 3}, [])
