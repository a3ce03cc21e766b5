"""What keeps the index small and its lookups cheap: sizes, what is asked in which order, and how many files are opened."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evidencesync.delta.recipe import Recipe, RecipeBuilder
from evidencesync.delta.rows import Row, segment_digest
from evidencesync.evidence.digest import Blake3Digest, ChunkDigest
from evidencesync.vault.index.index import BEYOND_CASES, Index, rebuild
from evidencesync.vault.layout import Location, Scope, VaultLayout
from tests.support.rows_in_memory import RowsInMemory, encode

CHUNK = 65_536
Segments = list[list[Row]]
Found = tuple[Location, int, list[Row]]


@pytest.fixture
def layout(tmp_path: Path) -> VaultLayout:
    return VaultLayout(tmp_path)


@pytest.fixture
def index(layout: VaultLayout) -> Iterator[Index]:
    opened = Index(layout)
    yield opened
    opened.close()


def segments(seed: int, count: int) -> Segments:
    chance = random.Random(seed)
    return [[Row(CHUNK, ChunkDigest(chance.randbytes(16))) for _ in range(40)] for _ in range(count)]


def recipe_of(parts: Segments, seed: int) -> Recipe:
    builder = RecipeBuilder(RowsInMemory())
    for part in parts:
        builder.add_segment(part)
    return builder.finish(Blake3Digest(random.Random(-seed - 1).randbytes(32)))


def published(index: Index, layout: VaultLayout, where: tuple[str, str, int], *recipes: Recipe) -> None:
    """Puts a chunks.bin where it belongs, and adds it. There is no evidence: an index never looks at it."""
    case, item, number = where
    folder = layout.case(case) / item / "acquisitions" / f"{number:04d}"
    folder.mkdir(parents=True)
    (folder / "chunks.bin").write_bytes(b"ESCHUNK1" + b"".join(map(encode, recipes)))
    contents = [(recipe.content, b"%d.dd" % at, recipe.size) for at, recipe in enumerate(recipes)]
    assert index.add_acquisition(case, item, number, contents), index.notices


def looked_up(index: Index, parts: Segments, scope: Scope) -> list[Found | None]:
    return [index.find_segment(segment_digest(part), scope) for part in parts]


@pytest.mark.slow
def test_an_image_takes_less_than_a_thousandth_of_its_size_and_a_similar_one_only_what_differs(
    index: Index, layout: VaultLayout
) -> None:
    parts, new = segments(1, 2000), segments(2, 40)
    first = recipe_of(parts, 1)
    published(index, layout, ("C", "I", 1), first)
    path = layout.index / "C.sqlite"
    size = path.stat().st_size
    assert size < first.size / 10_000
    for number in range(2, 22):
        published(index, layout, ("C", "I", number), recipe_of(parts[:-2] + new[number * 2 - 4 : number * 2 - 2], number))
    assert path.stat().st_size < size * 1.2


def test_an_unchanged_image_is_found_in_order_in_one_file_also_where_segments_are_in_it_twice(
    index: Index, layout: VaultLayout
) -> None:
    parts = segments(1, 30)
    parts = [*parts, *parts[:10], *parts[5:], parts[0]]
    published(index, layout, ("C", "I", 1), recipe_of(segments(3, 5) + parts[:7], 2), recipe_of(parts, 1))
    found = looked_up(index, parts, Scope("item", "C", "I"))
    assert [place[1] for place in found if place is not None] == [number * 40 * CHUNK for number in range(len(parts))]
    assert {place[0].path for place in found if place is not None} == {b"1.dd"}


def test_going_on_after_the_last_segment_does_not_lead_out_of_the_scope(index: Index, layout: VaultLayout) -> None:
    parts = segments(1, 6)
    published(index, layout, ("C", "other", 1), recipe_of(parts, 1))
    assert index.find_segment(segment_digest(parts[0]), Scope("case", "C", "mine")) is not None
    assert index.find_segment(segment_digest(parts[1]), Scope("item", "C", "mine")) is None
    assert index.find_segment(segment_digest(parts[1]), Scope("case", "D", "mine")) is None
    assert index.find_segment(segment_digest(parts[1]), Scope("case", "C", "mine")) is not None


def test_a_content_of_twenty_items_gives_one_row_and_ones_own_where_there_is_one(index: Index, layout: VaultLayout) -> None:
    recipe = recipe_of(segments(1, 3), 1)
    for number in range(20):
        published(index, layout, ("C", f"I{number}", 1), recipe)
    for mine in ("I0", "I7", "I19"):
        found = index.find_contents([recipe.content], Scope("case", "C", mine))
        assert found[recipe.content].item == mine
        rows = index._open["C"]._select("contents", [recipe.content[:16]], mine, only_item=False)
        assert len(list(rows)) == 1
    assert index.find_contents([recipe.content], Scope("case", "C", "new"))[recipe.content].item in {f"I{n}" for n in range(20)}


def test_a_lookup_does_not_wait_for_a_session_that_adds(index: Index, layout: VaultLayout) -> None:
    recipe = recipe_of(segments(1, 3), 1)
    published(index, layout, ("C", "I", 1), recipe)
    writer = sqlite3.connect(layout.index / "C.sqlite", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    other = Index(layout)
    assert set(other.find_contents([recipe.content], Scope("case", "C", "I"))) == {recipe.content}
    assert other.notices == []
    other.close()
    writer.close()


# Many cases.


def test_only_the_own_case_is_opened_and_found_in(index: Index, layout: VaultLayout) -> None:
    recipes = [recipe_of(segments(number, 3), number) for number in range(30)]
    for number, recipe in enumerate(recipes):
        published(index, layout, (f"C{number}", "I", 1), recipe)
    index.close()
    scope = Scope("case", "C3", "I")
    assert index.known(scope) == 1
    found = index.find_contents([recipes[3].content, recipes[20].content], scope)
    assert [location.case for location in found.values()] == ["C3"]
    assert index.find_segment(segment_digest(segments(11, 3)[1]), scope) is None
    assert index.find_chunks([row.digest for row in segments(12, 3)[0]], scope) == {}
    assert set(index._open) == {"C3"}


def test_what_an_earlier_version_kept_over_all_cases_is_removed_when_the_index_is_made_anew(
    index: Index, layout: VaultLayout
) -> None:
    published(index, layout, ("A", "I", 1), recipe_of(segments(1, 3), 1))
    (layout.index / BEYOND_CASES).write_bytes(b"SQLite format 3\0")
    assert index.known(Scope("case", "A", "I")) == 1
    rebuild(layout, index)
    assert BEYOND_CASES not in os.listdir(layout.index)


@pytest.mark.slow
def test_an_add_that_is_killed_leaves_the_index_as_it_was(index: Index, layout: VaultLayout, tmp_path: Path) -> None:
    recipe = recipe_of(segments(1, 3), 1)
    published(index, layout, ("C", "I", 1), recipe)
    index.close()
    program = f"""
import os, random, signal, sys
from evidencesync.vault.index.case_index import CaseIndex
from pathlib import Path
def contents():
    chance = random.Random(1)
    for number in range(250_000):
        if number == 240_000:
            os.kill(os.getpid(), signal.SIGKILL)
        yield chance.randbytes(32), b"x" * 100 + b"%d" % number, 1
CaseIndex(Path({str(layout.index / "C.sqlite")!r}), "C", 1024).add("I", 2, contents(), [])
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    assert (layout.index / "C.sqlite-journal").exists()  # it was in the middle of writing
    assert index.acquisitions("C") == {("I", 1)}
    assert index.known(Scope("case", "C", "I")) == 1
    assert index.notices == []


def test_what_comes_after_the_end_of_a_recipe_is_looked_for_in_the_index(index: Index, layout: VaultLayout) -> None:
    first, second = segments(1, 3), segments(2, 3)
    published(index, layout, ("C", "I", 1), recipe_of(first, 1))
    published(index, layout, ("C", "I", 2), recipe_of(second, 2))
    found = looked_up(index, [*first, *second, first[0]], Scope("item", "C", "I"))
    assert [place[0].acquisition for place in found if place is not None] == [1, 1, 1, 2, 2, 2, 1]
