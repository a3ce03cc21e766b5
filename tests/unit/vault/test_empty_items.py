"""What a first transfer leaves that never published anything is removed, and nothing that holds or has held evidence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from evidencesync.errors import LockedError
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.files.disk import locked_folder
from evidencesync.vault.resume.empty_items import find_empty_items, remove_empty_items
from tests.support.bench_of_evidence import Bench, make_bench

NEW = ItemName(Title("New"), Title("X"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = make_bench(tmp_path)
    (bench.source / "a.txt").write_text("a")
    bench.push()
    return bench


def test_an_item_in_which_nothing_was_published_goes_with_its_case(bench: Bench) -> None:
    bench.vault.item(NEW, create=True)
    (bench.vault.layout.cases / "Empty").mkdir()
    assert find_empty_items(bench.vault) == ["Empty", "New/X"]
    assert remove_empty_items(bench.vault, ["Empty", "New/X"]) == ["Empty", "New/X"]
    assert [one.name for one in bench.vault.layout.cases.iterdir()] == [Title("2026/11").folder]
    assert find_empty_items(bench.vault) == []


@pytest.mark.parametrize("what", ["staging", "a strange file", "a file for a folder", "a lock"])
def test_an_item_that_is_in_use_stays(bench: Bench, what: str) -> None:
    item = bench.vault.item(NEW, create=True)
    if what == "a lock":
        with locked_folder(item.layout.root, "the item"):
            assert find_empty_items(bench.vault) == []
            assert remove_empty_items(bench.vault, ["New/X"]) == []
            with pytest.raises(LockedError), item.locked():
                pass
        return
    if what == "a file for a folder":
        item.layout.incoming.rmdir()
        item.layout.incoming.touch()
    else:
        (item.layout.incoming / "s" if what == "staging" else item.layout.root / "s").write_text("x")
    assert find_empty_items(bench.vault) == []
    assert remove_empty_items(bench.vault, ["New/X"]) == []
    assert item.layout.custody.is_dir()


def test_an_item_that_has_lost_what_the_vault_has_stated_is_left_for_verify(bench: Bench) -> None:
    (layout,) = (bench.vault.item(name).layout for name in bench.vault.items())
    for folder in (layout.acquisitions, layout.custody):
        shutil.rmtree(folder)
        folder.mkdir()
    assert find_empty_items(bench.vault) == []
