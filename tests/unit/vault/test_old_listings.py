"""A network file system may list a folder as it was some time ago. An acquisition that a chain records is looked up by name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from evidencesync.cli.catalog import list_output
from evidencesync.errors import ChainError, MissingOrExtraError, NotThereError
from evidencesync.exit_codes import ExitCode
from evidencesync.localstate.heads import HeadMemory
from evidencesync.vault import item as vault_item
from tests.support.bench_of_evidence import Bench, make_bench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Two acquisitions, of which listings lack the last one from now on."""
    bench = make_bench(tmp_path)
    (bench.source / "a.txt").write_text("a")
    bench.push()
    bench.push()
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: [name for name in listdir(folder) if name != "0002"])
    monkeypatch.setattr(vault_item, "_PATIENCE_SECONDS", 0)
    return bench


def test_an_acquisition_that_a_listing_lacks_is_there(bench: Bench, tmp_path: Path) -> None:
    item = bench.vault.item(bench.name)
    assert item.state().next_acquisition == 3
    assert (item.choose_acquisition(None), item.choose_acquisition(2)) == (2, 2)
    assert item.require_all_acquisitions() == [1, 2]
    output, problems = list_output(bench.vault, HeadMemory(tmp_path / "state"))
    assert [one.acquisition for one in output.items[0].acquisitions] == [1, 2]
    assert problems == set()


def test_an_acquisition_that_is_gone_is_gone_whatever_is_looked_for(bench: Bench, tmp_path: Path) -> None:
    item = bench.vault.item(bench.name)
    shutil.rmtree(item.layout.acquisition(2))
    with pytest.raises(ChainError):
        item.state()
    with pytest.raises(MissingOrExtraError):
        item.choose_acquisition(None)
    with pytest.raises(NotThereError):
        item.choose_acquisition(9999)
    with pytest.raises(MissingOrExtraError):
        item.require_all_acquisitions()
    assert list_output(bench.vault, HeadMemory(tmp_path / "state"))[1] == {ExitCode.MISSING_OR_EXTRA}
