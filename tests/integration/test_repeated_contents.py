"""What occurs more than once in one session: sent once, and stored once."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.transfer.intake import present
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.pulling import pull_from

KIB, MIB = 1024, 1024 * 1024
NOW = 1_900_000_000_000_000_000


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path)


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def fill(source: Path, size: int, *, links: int = 10, copies: int = 5) -> int:
    """So many names of one file, so many copies of another one: some with their times, some without. How many bytes differ."""
    (source / "linked").mkdir()
    (source / "copied").mkdir()
    first = source / "linked/0"
    first.write_bytes(noise(size))
    for number in range(1, links):
        os.link(first, source / f"linked/{number}")
    for number in range(copies):
        copy = source / f"copied/{number}"
        copy.write_bytes(noise(size, 2))
        os.utime(copy, ns=(0, 10**18 if number % 2 else 2 * 10**18))
    return 2 * size


def stored_bytes(folder: Path) -> int:
    """The bytes of all different inodes."""
    found = {(file.stat().st_dev, file.stat().st_ino): file.stat().st_size for file in folder.rglob("*") if file.is_file()}
    return sum(found.values())


def assert_sound(bench: Bench, number: int = 1) -> None:
    data = bench.acquisition(number) / "data"
    for file in bench.source.rglob("*"):
        if file.is_file():
            assert (data / file.relative_to(bench.source)).read_bytes() == file.read_bytes(), file
    assert audit_vault(bench.vault.layout.root, now_ns=NOW, all_digests=True).verdict == "pass"


SIZES = [3 * MIB + 7, 100 * KIB, 2 * KIB]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("take", [Bench.push, pull_from], ids=["push", "pull"])
def test_names_of_one_file_and_copies_of_another_are_sent_once_and_stored_once(
    bench: Bench, size: int, take: Callable[[Bench], object]
) -> None:
    different = fill(bench.source, size)
    outcome = take(bench)
    sent = outcome.wire_sent if take is Bench.push else outcome.wire_received  # type: ignore[attr-defined]
    assert outcome.literal_bytes == different  # type: ignore[attr-defined]
    assert sent < different + 10 * KIB + 15 * 500
    # Copies of two times need two inodes: links have one time.
    assert stored_bytes(bench.acquisition(1) / "data") == 3 * size
    assert_sound(bench)
