from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from evidencesync.delta.recipe import Recipe, RecipeBuilder
from evidencesync.delta.rows import ZERO_DIGEST, Row, is_hook, segment_digest
from evidencesync.evidence.digest import ChunkDigest, SegmentDigest, blake3_of, chunk_digest_of
from evidencesync.vault import catalog
from evidencesync.vault.index import index as module
from evidencesync.vault.index import recipes
from evidencesync.vault.index.case_index import CaseIndex
from evidencesync.vault.index.index import Index, catch_up, rebuild
from evidencesync.vault.layout import ItemLayout, Location, Scope
from evidencesync.vault.vault import Vault
from tests.support.rows_in_memory import RowsInMemory
from tests.unit.vault.acquiring import Acquirer, item_name

CHUNK = 64 * 1024
FILES = {b"a/small": b"small", b"empty": b"", b"copy": b"small"}


@pytest.fixture
def index(vault: Vault) -> Iterator[Index]:
    opened = vault.index()
    yield opened
    opened.close()


def image(seed: int, chunks: int) -> tuple[bytes, Recipe]:
    """A content of equal chunks with a run of zeros in its middle, in segments of 16 rows; and its recipe."""
    parts = [bytes([seed]) + number.to_bytes(4, "big") + bytes([number % 251]) * (CHUNK - 5) for number in range(chunks)]
    parts[chunks // 2] = bytes(4 * CHUNK)
    data = b"".join(parts)
    builder = RecipeBuilder(RowsInMemory())
    for start in range(0, chunks, 16):
        builder.add_segment(
            [Row(len(part), chunk_digest_of(part) if any(part) else ZERO_DIGEST) for part in parts[start : start + 16]]
        )
    return data, builder.finish(blake3_of(data))


def chunks_of(recipe: Recipe) -> list[ChunkDigest]:
    return [row.digest for segment in recipe.segments() for row in segment.rows() if not row.is_zeros]


def found_segments(index: Index, recipe: Recipe, mine: Scope) -> dict[SegmentDigest, tuple[Location, int, list[Row]]]:
    """All segments of a recipe that are found, asked for in another order than theirs."""
    found = {segment.digest: index.find_segment(segment.digest, mine) for segment in reversed(list(recipe.segments()))}
    return {digest: place for digest, place in found.items() if place is not None}


def add(index: Index, vault: Vault, acquirer: Acquirer) -> None:
    """Lets the index catch up with an item's case."""
    result = catch_up(vault.layout, index, acquirer.name.case.folder)
    assert result.left_out == ()


def scope(acquirer: Acquirer, reach: str = "item") -> Scope:
    assert reach in ("item", "case")
    return Scope(reach, acquirer.name.case.folder, acquirer.name.item.folder)  # type: ignore[arg-type]  # was just checked


def other_item(acquirer: Acquirer, case: str, item: str) -> Acquirer:
    return Acquirer(acquirer.vault, acquirer.examiner, item_name(case, item))


def test_nothing_is_known_before_anything_is_published(index: Index, acquirer: Acquirer) -> None:
    assert index.known(scope(acquirer, "case")) == 0
    assert index.find_contents([blake3_of(b"small")], scope(acquirer)) == {}
    assert index.find_segment(SegmentDigest(bytes(16)), scope(acquirer)) is None
    assert index.find_chunks([ChunkDigest(bytes(16))], scope(acquirer)) == {}
    assert index.notices == []


def test_contents_are_found_where_they_lie(index: Index, vault: Vault, acquirer: Acquirer) -> None:
    acquirer.acquire(FILES)
    add(index, vault, acquirer)
    wanted = [blake3_of(b"small"), blake3_of(b""), blake3_of(b"unknown")]
    found = index.find_contents(wanted, scope(acquirer))
    assert set(found) == set(wanted[:2])
    location = found[blake3_of(b"small")]
    data = vault.layout.item(acquirer.name).acquisition(location.acquisition) / "data"
    assert (data / os.fsdecode(location.path)).read_bytes() == b"small"
    assert (location.size, location.case, location.item) == (5, acquirer.name.case.folder, acquirer.name.item.folder)
    assert index.known(scope(acquirer)) == 2


def test_a_later_acquisition_is_where_an_unchanged_content_is_found(index: Index, vault: Vault, acquirer: Acquirer) -> None:
    acquirer.acquire(FILES)
    acquirer.acquire({b"moved": b"small", b"new": b"new"})
    add(index, vault, acquirer)
    found = index.find_contents([blake3_of(b"small"), blake3_of(b"")], scope(acquirer))
    assert (found[blake3_of(b"small")].acquisition, found[blake3_of(b"small")].path) == (2, b"moved")
    assert found[blake3_of(b"")].acquisition == 1
    assert index.known(scope(acquirer)) == 3


def test_many_contents_in_one_question(index: Index, vault: Vault, acquirer: Acquirer) -> None:
    files = {b"%05d" % number: b"%d" % number for number in range(1000)}
    acquirer.acquire(files)
    add(index, vault, acquirer)
    found = index.find_contents([blake3_of(data) for data in files.values()], scope(acquirer))
    assert {location.path for location in found.values()} == set(files)


@pytest.mark.parametrize(("reach", "expected"), [("item", 1), ("case", 2)])
def test_no_lookup_reaches_further_than_its_scope(
    index: Index, vault: Vault, acquirer: Acquirer, reach: str, expected: int
) -> None:
    images = [image(seed, 40) for seed in (1, 2, 3)]
    acquirers = [
        acquirer,
        other_item(acquirer, acquirer.name.case.text, "other item"),
        other_item(acquirer, "other case", acquirer.name.item.text),
    ]
    for (data, recipe), one in zip(images, acquirers, strict=True):
        one.acquire({b"image": data}, recipes=[recipe])
        add(index, vault, one)
    mine = scope(acquirer, reach)
    contents = [recipe.content for _, recipe in images]
    assert set(index.find_contents(contents, mine)) == set(contents[:expected])
    for number, (_, recipe) in enumerate(images):
        assert bool(found_segments(index, recipe, mine)) == (number < expected)
        assert bool(index.find_chunks(chunks_of(recipe), mine)) == (number < expected)


def test_a_content_of_two_items_is_found_in_ones_own(index: Index, vault: Vault, acquirer: Acquirer) -> None:
    data, recipe = image(1, 40)
    second = other_item(acquirer, acquirer.name.case.text, "another")
    for one in (acquirer, second):
        one.acquire({b"image": data}, recipes=[recipe])
        add(index, vault, one)
    for one in (acquirer, second):
        mine = scope(one, "case")
        assert index.find_contents([recipe.content], mine)[recipe.content].item == one.name.item.folder
        assert {place[0].item for place in found_segments(index, recipe, mine).values()} == {one.name.item.folder}


def check_bytes(data: bytes, offset: int, length: int, digest: ChunkDigest) -> None:
    assert chunk_digest_of(data[offset : offset + length]) == digest


def test_segments_and_chunks_are_found_at_their_offsets(index: Index, vault: Vault, acquirer: Acquirer) -> None:
    data, recipe = image(1, 400)
    acquirer.acquire({b"image": data}, recipes=[recipe])
    add(index, vault, acquirer)
    found = found_segments(index, recipe, scope(acquirer))
    assert {digest: (offset, rows) for digest, (_, offset, rows) in found.items()} == {
        segment.digest: (segment.offset, segment.rows()) for segment in recipe.segments()
    }
    chunks = chunks_of(recipe)
    assert any(map(is_hook, chunks))
    places = index.find_chunks(chunks, scope(acquirer))
    assert set(places) == set(chunks)
    for digest, (location, offset, length) in places.items():
        assert location.path == b"image"
        check_bytes(data, offset, length, digest)


def test_a_chunk_that_is_no_hook_is_found_beside_one_and_beside_a_found_segment(
    index: Index, vault: Vault, acquirer: Acquirer
) -> None:
    data, recipe = image(1, 64)
    acquirer.acquire({b"image": data}, recipes=[recipe])
    add(index, vault, acquirer)
    chunks = chunks_of(recipe)
    hook = next(digest for digest in chunks if is_hook(digest))
    plain = [digest for digest in chunks if not is_hook(digest)]
    assert index.find_chunks(plain[:1], scope(acquirer)) == {}
    assert set(index.find_chunks([hook, plain[0]], scope(acquirer))) == {hook, plain[0]}
    fresh = vault.index()
    try:
        fresh.find_segment(next(recipe.segments()).digest, scope(acquirer))
        assert set(fresh.find_chunks(plain[:1], scope(acquirer))) == {plain[0]}
    finally:
        fresh.close()


def test_windows_of_a_long_recipe_have_the_right_offsets_and_are_bounded(
    index: Index, vault: Vault, acquirer: Acquirer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "WINDOW_ROWS", 32)
    monkeypatch.setattr(recipes, "MAX_WINDOWS", 3)
    data, recipe = image(1, 500)
    acquirer.acquire({b"image": data}, recipes=[recipe])
    add(index, vault, acquirer)
    chunks = chunks_of(recipe)
    seen = 0
    for start in range(0, len(chunks), 64):
        for digest, (_, offset, length) in index.find_chunks(chunks[start : start + 64], scope(acquirer)).items():
            check_bytes(data, offset, length, digest)
            seen += 1
    assert seen > 300
    assert len(index._windows) <= 3


def test_adding_twice_changes_nothing(index: Index, vault: Vault, acquirer: Acquirer) -> None:
    acquirer.acquire(FILES)
    add(index, vault, acquirer)
    known = index.known(scope(acquirer))
    assert index.add_acquisition(acquirer.name.case.folder, acquirer.name.item.folder, 1, iter(()))
    add(index, vault, acquirer)
    assert index.known(scope(acquirer)) == known


def database(vault: Vault, acquirer: Acquirer) -> Path:
    return vault.layout.index / f"{acquirer.name.case.folder}.sqlite"


FILES_OF_AN_INDEX = 500


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["zeros", "text", "torn", "empty", "older", "foreign", "no tables", "symlink", "folder"])
def test_an_index_that_is_of_no_use_is_made_anew_and_loses_nothing(vault: Vault, acquirer: Acquirer, damage: str) -> None:
    acquirer.acquire({b"%d" % number: b"%d" % number for number in range(FILES_OF_AN_INDEX)})
    first = vault.index()
    add(first, vault, acquirer)
    first.close()
    path = database(vault, acquirer)
    spoil(path, damage)
    second = vault.index()
    try:
        assert len(second.find_contents([blake3_of(b"1")], scope(acquirer))) <= 1
        result = catch_up(vault.layout, second, acquirer.name.case.folder)
        if damage == "folder":
            assert result.left_out
            assert second.notices
            return
        found = second.find_contents([blake3_of(b"%d" % number) for number in range(FILES_OF_AN_INDEX)], scope(acquirer))
        if damage == "torn" and len(found) < FILES_OF_AN_INDEX:  # found out half-way; the next run makes it anew
            catch_up(vault.layout, second, acquirer.name.case.folder)
            found = second.find_contents([blake3_of(b"%d" % number) for number in range(FILES_OF_AN_INDEX)], scope(acquirer))
        assert len(found) == FILES_OF_AN_INDEX
    finally:
        second.close()
    assert not path.is_symlink()


def spoil(path: Path, damage: str) -> None:
    size = path.stat().st_size
    if damage in ("zeros", "text"):
        path.write_bytes(bytes(size) if damage == "zeros" else b"hello" * 1000)
    elif damage == "torn":
        with open(path, "r+b") as file:
            file.seek(4096)
            file.write(os.urandom(size - 8192))
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage in ("older", "foreign", "no tables"):
        statements = {"older": "PRAGMA user_version = 0", "foreign": "PRAGMA application_id = 7", "no tables": "DROP TABLE hooks"}
        with sqlite3.connect(path) as db:
            db.execute(statements[damage])
        db.close()
        if damage == "no tables":
            with sqlite3.connect(path) as db:
                db.execute("DROP TABLE contents")
            db.close()
    else:
        path.unlink()
        if damage == "folder":
            path.mkdir()
        else:
            (path.parent / "elsewhere").write_bytes(b"victim")
            path.symlink_to("elsewhere")


def test_a_symlinked_index_leaves_its_target_alone(vault: Vault, acquirer: Acquirer) -> None:
    acquirer.acquire(FILES)
    (vault.layout.index / "elsewhere").write_bytes(b"victim")
    database(vault, acquirer).symlink_to("elsewhere")
    index = vault.index()
    add(index, vault, acquirer)
    index.close()
    assert (vault.layout.index / "elsewhere").read_bytes() == b"victim"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE contents SET path = 'text'",
        "UPDATE contents SET acquisition = -1",
        "UPDATE contents SET acquisition = 10000",
        "UPDATE contents SET size = 'x'",
        "UPDATE items SET folder = '../../..'",
        "UPDATE recipes SET position = -5",
        "UPDATE recipes SET position = 3",
        "UPDATE recipes SET position = 123456789",
        "UPDATE recipes SET acquisition = 77",
        "UPDATE segments SET offset = 'x'",
        "UPDATE hooks SET row = 99999999",
        "UPDATE hooks SET offset = 0",
    ],
)
def test_nonsense_in_an_index_does_no_harm(vault: Vault, acquirer: Acquirer, statement: str) -> None:
    data, recipe = image(1, 64)
    acquirer.acquire({b"image": data}, recipes=[recipe])
    first = vault.index()
    add(first, vault, acquirer)
    first.close()
    with sqlite3.connect(database(vault, acquirer)) as db:
        db.execute(statement)
    db.close()
    index = vault.index()
    mine = scope(acquirer, "case")
    index.find_contents([recipe.content], mine)
    for digest, (_, _, rows) in found_segments(index, recipe, mine).items():
        assert segment_digest(rows) == digest
    index.find_chunks(chunks_of(recipe), mine)
    assert index.known(mine) >= 0
    index.close()


def test_a_published_manifest_that_is_damaged_is_left_out_and_named(vault: Vault, acquirer: Acquirer) -> None:
    acquirer.acquire(FILES)
    second = acquirer.acquire({b"x": b"x"})
    manifest = second.path / "manifest.jsonl"
    manifest.chmod(0o644)
    manifest.write_bytes(manifest.read_bytes().replace(b'"path":"x"', b'"path":".."'))
    index = vault.index()
    try:
        result = rebuild(vault.layout, index)
        assert (result.cases, result.acquisitions, len(result.left_out)) == (1, 1, 1)
        assert result.left_out[0].endswith("/2")
        assert index.known(scope(acquirer)) == 2
    finally:
        index.close()


def test_damaged_recipes_leave_the_acquisition_out(vault: Vault, acquirer: Acquirer) -> None:
    data, recipe = image(1, 40)
    published = acquirer.acquire({b"image": data}, recipes=[recipe])
    chunks = published.path / "chunks.bin"
    chunks.chmod(0o644)
    chunks.write_bytes(chunks.read_bytes()[:-7])
    index = vault.index()
    try:
        assert rebuild(vault.layout, index).acquisitions == 0
        assert index.known(scope(acquirer)) == 0
    finally:
        index.close()


def test_an_index_of_what_is_no_longer_there_is_made_anew(vault: Vault, acquirer: Acquirer) -> None:
    published = acquirer.acquire(FILES)
    index = vault.index()
    try:
        add(index, vault, acquirer)
        published.path.rename(vault.layout.root / "removed")
        add(index, vault, acquirer)
        assert index.known(scope(acquirer)) == 0
    finally:
        index.close()


def test_an_index_may_be_asked_from_several_threads(vault: Vault, acquirer: Acquirer, index: Index) -> None:
    acquirer.acquire(FILES)
    add(index, vault, acquirer)
    results: list[int] = []

    def ask() -> None:
        results.extend(len(index.find_contents([blake3_of(b"small")], scope(acquirer))) for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [1] * 200


def test_the_index_folder_is_made_again_when_somebody_removed_it(vault: Vault, acquirer: Acquirer) -> None:
    acquirer.acquire(FILES)
    vault.layout.index.rmdir()
    index = vault.index()
    try:
        add(index, vault, acquirer)
        assert index.known(scope(acquirer)) == 2
    finally:
        index.close()
    assert stat.S_IMODE(vault.layout.index.stat().st_mode) == 0o700


def test_an_index_to_which_another_session_adds_meanwhile_is_not_taken_for_a_foreign_one(
    vault: Vault, acquirer: Acquirer, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thrown away beside others, it would be an I/O error for them."""
    acquirer.acquire({b"a": b"a"})
    add(index, vault, acquirer)
    thrown_away: list[str] = []
    monkeypatch.setattr(Index, "forget", lambda _, case: thrown_away.append(case))
    numbers = catalog.acquisition_numbers

    def others_publish(item: ItemLayout) -> list[int]:
        monkeypatch.setattr(module, "acquisition_numbers", numbers)
        found = numbers(item)
        acquirer.acquire({b"a": b"b"})
        theirs = vault.index()
        add(theirs, vault, acquirer)
        theirs.close()
        return found

    monkeypatch.setattr(module, "acquisition_numbers", others_publish)
    assert catch_up(vault.layout, index, acquirer.name.case.folder).left_out == ()
    assert thrown_away == []
    assert len(index.acquisitions(acquirer.name.case.folder)) == 2


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY_DBMOVED, sqlite3.SQLITE_FULL])
def test_where_another_process_makes_the_index_anew_an_acquisition_is_added_again(
    vault: Vault, acquirer: Acquirer, index: Index, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """And is not said to be unreadable. A disk that is full stays full."""
    acquirer.acquire({b"a": b"a"})
    adding = CaseIndex.add

    def refused(*_: object) -> bool:
        monkeypatch.setattr(CaseIndex, "add", adding)
        error = sqlite3.OperationalError("the file was moved")
        error.sqlite_errorcode = code
        raise error

    monkeypatch.setattr(CaseIndex, "add", refused)
    left_out = catch_up(vault.layout, index, acquirer.name.case.folder).left_out
    assert bool(left_out) == (code == sqlite3.SQLITE_FULL)
