"""The comparison's histories are what their rows say, and its rows compare with what is there."""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from tests.bench.histories import IMAGES, WORKS
from tests.bench.rows import ROWS
from tests.bench.rows_back import BACK
from tests.bench.work import History, Sizes, Workshop

MIB = 1 << 20
pytestmark = pytest.mark.slow


def history(tmp_path: Path, name: str, image: int = 64 * MIB) -> History:
    return WORKS[name].make(Workshop(tmp_path / "sources", Sizes(image=image, files=1000)))


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_ratio_is_by_a_lane_of_its_row() -> None:
    for row in ROWS:
        names = [lane.contender.name for lane in row.lanes]
        assert len(set(names)) == len(names)
        assert {ratio.against for lane in row.lanes for ratio in lane.ratios} <= set(names), row.name
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_what_comes_back_is_the_last_of_what_is_there_and_a_basis_the_first(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, Sizes(image=8 * MIB, files=20))
    for row in BACK:
        made = row.work.make(shop)
        assert [step.source for step in made.sent] == [made.known[-1].source], row.name
        assert len({step.source for step in made.known}) == (2 if "older" in row.name else 1), row.name
        shop.clear()


def test_what_changed_has_another_time_or_size_in_whole_seconds(tmp_path: Path) -> None:
    """Else rsync would leave it out, and look better than it is."""
    for name in WORKS:
        made = history(tmp_path / name, name, 16 * MIB)
        steps = (*made.known, *made.sent)
        begun = contents(steps[0].source)
        for step in steps[1:]:
            for path, digest in contents(step.source).items():
                first = steps[0].source / path
                if begun.get(path, digest) != digest:
                    one, other = first.stat(), (step.source / path).stat()
                    assert (one.st_size, int(one.st_mtime)) != (other.st_size, int(other.st_mtime)), f"{name}: {path}"


def test_moved_files_have_all_their_contents_and_no_old_path(tmp_path: Path) -> None:
    made = history(tmp_path, "moved")
    before, after = contents(made.known[0].source), contents(made.sent[0].source)
    assert Counter(before.values()) == Counter(after.values())
    assert not before.keys() & after.keys()


def test_rotated_logs_move_on_by_one(tmp_path: Path) -> None:
    made = history(tmp_path, "rotated")
    before, after = contents(made.known[0].source), contents(made.sent[0].source)
    assert [after[f"app.log.{number}"] for number in (1, 2, 3)] == [
        before[name] for name in ("app.log", "app.log.1", "app.log.2")
    ]
    assert after["app.log"] not in before.values()


def test_another_machine_and_another_case_have_the_same_files(tmp_path: Path) -> None:
    for name, same_case in (("other-item", True), ("other-case", False)):
        made = history(tmp_path, name)
        first, second = made.known[0], made.sent[0]
        assert first.source == second.source
        assert first.item != second.item
        assert (first.case == second.case) is same_case


def test_similar_images_differ_in_two_per_cent_of_their_blocks(tmp_path: Path) -> None:
    made = history(tmp_path, "images", 256 * MIB)
    base = (made.known[0].source / "disk.img").read_bytes()
    assert len(made.sent) == IMAGES - 1
    assert len({step.item for step in (*made.known, *made.sent)}) == IMAGES
    for step in made.sent:
        image = (step.source / "disk.img").read_bytes()
        changed = sum(image[at : at + 4096] != base[at : at + 4096] for at in range(0, len(base), 4096))
        assert len(image) == len(base)
        assert 0.01 < changed * 4096 / len(base) <= 0.021


def test_a_log_grows_at_its_end_alone(tmp_path: Path) -> None:
    made = history(tmp_path, "growing")
    days = [(step.source / "app.log").read_bytes() for step in (*made.known, *made.sent)]
    for earlier, later in itertools.pairwise(days):
        assert later.startswith(earlier)
        assert len(later) > len(earlier)


def test_a_database_in_use_is_still_one(tmp_path: Path) -> None:
    made = history(tmp_path, "database")
    first, second = contents(made.known[0].source), contents(made.sent[0].source)
    assert first.keys() == second.keys() == {"app.db"}
    assert first != second
    database = sqlite3.connect(made.sent[0].source / "app.db")
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_a_second_build_has_most_blocks_of_the_first_in_other_places(tmp_path: Path) -> None:
    made = history(tmp_path, "builds", 256 * MIB)
    first, second = ((step.source / "disk.img").read_bytes() for step in (*made.known, *made.sent))
    blocks = {first[at : at + 4096] for at in range(0, len(first), 4096)}
    kept = sum(second[at : at + 4096] in blocks for at in range(0, len(second), 4096)) * 4096 / len(second)
    in_place = sum(second[at : at + 4096] == first[at : at + 4096] for at in range(0, len(second), 4096)) * 4096 / len(second)
    assert len(first) == len(second)
    assert 0.7 < kept < 0.99
    assert in_place < 0.5


def test_a_shifted_block_is_moved_and_nothing_else(tmp_path: Path) -> None:
    made = history(tmp_path, "shifted")
    first, second = ((step.source / "disk.img").read_bytes() for step in (*made.known, *made.sent))
    quarter, block = len(first) // 4, 64 << 10
    assert len(first) == len(second)
    assert first[:quarter] == second[:quarter]
    assert first[quarter + block : 3 * quarter + block] == second[quarter : 3 * quarter]
    assert first[quarter : quarter + block] == second[3 * quarter : 3 * quarter + block]
