from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.bench_of_evidence import Bench, make_bench
from tests.unit.export.exporting import BROKEN_LINES, GOOD_NAMES, MISREAD, write_files


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """An acquisition that every format, and every program that reads it, takes whole. Nothing may be changed in it."""
    bench = make_bench(tmp_path_factory.mktemp("good"))
    write_files(bench.source, GOOD_NAMES)
    large = os.urandom(3 << 20)
    write_files(bench.source, {b"image.dd": large})
    os.utime(bench.source / "empty", ns=(-1_500_000_000, -1_500_000_000))
    os.utime(bench.source / "plain.txt", ns=(1, 2_000_000_000_123_456_789))
    (bench.source / "link").symlink_to("plain.txt")
    os.mkfifo(bench.source / "fifo")
    (bench.source / "hollow" / "er").mkdir(parents=True)
    bench.push()
    return bench


@pytest.fixture(scope="session")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """An acquisition with names that some programs stumble over."""
    bench = make_bench(tmp_path_factory.mktemp("odd"))
    write_files(bench.source, GOOD_NAMES | BROKEN_LINES | MISREAD)
    bench.push()
    return bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A vault of one's own, to be filled and broken."""
    return make_bench(tmp_path)
