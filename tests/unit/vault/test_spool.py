"""Rows of a recipe wait in a nameless file, however many they are, and come back as they were added."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evidencesync.delta.recipe import RecipeBuilder
from evidencesync.delta.rows import ZERO_DIGEST, Row
from evidencesync.errors import StorageError
from evidencesync.evidence.digest import Blake3Digest, ChunkDigest
from evidencesync.vault import staged_files as module
from evidencesync.vault.index.recipes import iter_long_recipes
from evidencesync.vault.item import lock_item
from evidencesync.vault.staged_files import SpooledRows
from evidencesync.vault.staging import Staging
from evidencesync.vault.vault import Vault
from tests.support.soak import often
from tests.unit.vault.acquiring import Acquirer

MOST = 256 * 1024 + 512 * 24  # the buffer, and the longest segment


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=often(25, 1000))
@given(parts=st.lists(st.binary(max_size=50), max_size=30), buffer=st.integers(1, 60), data=st.data())
def test_what_was_added_comes_back_at_its_place(folder: int, parts: list[bytes], buffer: int, data: st.DataObject) -> None:
    spool, whole = SpooledRows(folder), b""
    before, module._BUFFER = module._BUFFER, buffer  # type: ignore[misc]  # put back below
    try:
        for part in parts:
            spool.append(part)
            whole += part
            offset, length = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, len(whole)))
            assert spool.read_at(offset, length) == whole[offset : offset + length]
        assert spool.size == len(whole)
    finally:
        module._BUFFER = before  # type: ignore[misc]  # as it was
        spool.close()


def test_a_recipe_of_eighty_gigabytes_is_never_in_memory(vault: Vault, acquirer: Acquirer) -> None:
    """Counted, not measured: what the spool buffers, and the longest block that is taken from it."""
    with lock_item(acquirer.item()) as item, Staging.create(item, "0" * 32) as staging:
        builder, held = RecipeBuilder(staging.rows), 0
        for number in range(2500):
            builder.add_segment([Row(65_536, ChunkDigest(number.to_bytes(16, "little")))] * 511 + [Row(5, ZERO_DIGEST)])
            held = max(held, staging.rows.buffered)
        recipe = builder.finish(Blake3Digest(b"\1" * 32))
        blocks = list(map(len, recipe.blocks()))
        assert 0 < held <= MOST
        assert max(blocks) <= MOST
        assert sum(blocks) == 2500 * 512 * 24
        staging.append_recipe(recipe)
        staging.recipes.flush()
        assert staging.recipes.size == 8 + 44 + 2500 * 512 * 24
        chunks = item.layout.incoming / ("0" * 32) / "acquisition" / "chunks.bin"
        with open(chunks, "rb") as file:
            ((_, kept),) = iter_long_recipes(file)
            assert sum(segment.length for segment in kept.segments()) == recipe.size


def test_recipes_one_after_the_other_share_the_spool(folder: int) -> None:
    spool = SpooledRows(folder)
    made = []
    for number in range(5):
        builder = RecipeBuilder(spool)
        rows = [Row(number + 1, ChunkDigest(bytes([number, at]) + bytes(14))) for at in range(1, 4)]
        builder.add_segment(rows)
        made.append((rows, builder.finish(Blake3Digest(bytes(32)))))
    for rows, recipe in made:
        assert [segment.rows() for segment in recipe.segments()] == [rows]
    spool.close()
    spool.close()


def test_the_file_has_no_name_so_that_nothing_is_left_when_the_process_ends(folder: int, tmp_path: Path) -> None:
    spool = SpooledRows(folder)
    spool.append(bytes(MOST))
    assert os.listdir(tmp_path) == []
    spool.close()


def test_what_the_disk_does_not_take_is_an_error_and_what_was_taken_before_stays(folder: int) -> None:
    spool = SpooledRows(folder)
    spool.append(b"\1" * 300_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    try:
        with pytest.raises(StorageError):
            spool.append(b"\2" * 300_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert spool.read_at(299_999, 2) == b"\1\2"
    assert spool.size == 600_000
    spool.close()
