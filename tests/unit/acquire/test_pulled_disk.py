"""A source whose disk was pulled since it was seen: the empty folder below it is another one, and is not acquired."""

from __future__ import annotations

from pathlib import Path

import pytest

from evidencesync.errors import SourceNotFoundError
from evidencesync.source.changes import look
from evidencesync.source.filters import FilterRules
from tests.support.bench_of_evidence import Bench, make_bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = make_bench(tmp_path)
    (made.source / "file").write_bytes(b"evidence")
    return made


@pytest.mark.parametrize("name", ["", "file"])
def test_a_source_is_acquired_from_the_file_system_on_which_it_was_seen(bench: Bench, name: str) -> None:
    bench.source = bench.source / name
    seen = look(bytes(bench.source), FilterRules.none())
    assert seen is not None
    assert seen.file_system == bench.source.stat().st_dev
    assert bench.push(file_system=seen.file_system).acquisition == 1


@pytest.mark.parametrize("name", ["", "file"])
def test_a_source_on_another_file_system_than_the_one_that_was_seen_is_not_there(bench: Bench, name: str) -> None:
    bench.source = bench.source / name
    with pytest.raises(SourceNotFoundError, match="disk of the source"):
        bench.push(file_system=bench.source.stat().st_dev + 1)
    assert bench.acquisitions() == []
