"""A vault that holds something already, under attack, and what must be true of it afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bench_of_evidence import Bench, copy_of, make_bench
from tests.support.hostile_client import assert_unharmed, snapshot


@pytest.fixture(scope="session")
def unharmed(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A bench with one acquisition, to be copied."""
    bench = make_bench(tmp_path_factory.mktemp("unharmed"))
    (bench.source / "small").write_bytes(b"small evidence")
    (bench.source / "large").write_bytes(bytes(range(256)) * 1200)
    bench.push()
    return bench


@pytest.fixture
def victim(unharmed: Bench, tmp_path: Path) -> Iterator[Bench]:
    """A copy of it. After the test nothing of it may have changed, and an honest push must work."""
    bench = copy_of(unharmed, tmp_path)
    before = snapshot(tmp_path)
    yield bench
    assert_unharmed(bench, before)
