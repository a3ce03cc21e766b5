"""One of everything, pushed: the manifest says of each entry what the system says, and the vault holds it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.corpus.builder import build, busy, demolish
from tests.corpus.lister import differences, list_folder, read_manifest
from tests.support.bench_of_evidence import Bench, make_bench


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that any account can reach; pytest's own cannot be removed when it is full of such things."""
    folder = Path(tempfile.mkdtemp(prefix="everything-"))
    folder.chmod(0o755)
    yield folder
    demolish(folder)


@pytest.fixture
def bench(place: Path) -> Bench:
    made = make_bench(place)
    build(made.source, privileged=os.geteuid() == 0)
    return made


def test_a_manifest_says_of_each_entry_what_the_system_says(bench: Bench) -> None:
    before = list_folder(bench.source)
    with busy(bench.source):
        outcome = bench.push()
    _, entries, footer = read_manifest(bench.acquisition(1) / "manifest.jsonl")
    assert differences(before, entries) == []
    assert outcome.tally.manifest.flags == footer["flags"] == {}
    assert differences(before, list_folder(bench.source)) == []
