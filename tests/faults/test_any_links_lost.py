"""Any evidence, any losses: links that are cut anywhere, of a first acquisition and of the one after it."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from evidencesync.acquire import connect
from evidencesync.connection import read_ahead
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.cut_links import FlakyBench
from tests.support.invented_evidence import change, invent
from tests.support.soak import seeds

MANY = 1000


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "FIRST_PAUSE", 0.002)
    monkeypatch.setattr(connect, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(read_ahead, "SILENCE_SECONDS", 15.0)


def losses(chance: random.Random) -> list[dict[str, Any] | None]:
    """Links that are lost early or late, by what was sent or by what was heard; the last one holds."""
    cuts: list[dict[str, Any] | None] = []
    for _ in range(chance.randrange(1, 6)):
        way, most = chance.choice([("sent", 24), ("sent", 24), ("received", 14)])
        after = int(2 ** chance.uniform(2, most))
        # Whoever is silent in the middle of a handshake is waited for, and nobody else is kept out by it.
        cuts.append({way: after, "silent": after > 4096 and chance.random() < 0.3})
    return [*cuts, None]


def assert_acquired(bench: Bench, number: int) -> None:
    """The acquisition has what the source has: every file, and no other."""
    data = bench.acquisition(number) / "data"
    assert _files(data) == _files(bench.source)
    verdict = audit_vault(bench.vault.layout.root, now_ns=time.time_ns())
    assert (verdict.verdict, [finding.slug for finding in verdict.findings if finding.severity == "error"]) == ("pass", [])
    assert os.listdir(bench.vault.layout.item(bench.name).incoming) == []


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
    }


@pytest.mark.parametrize("seed", seeds(8, 3000))
def test_whatever_is_acquired_and_whenever_links_are_lost_the_result_is_the_source(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    bench = make_bench(tmp_path)
    invent(bench.source, chance)
    for number in (1, 2):
        flaky = FlakyBench(bench)
        outcome = flaky.push(losses(chance), retries=MANY, compress=chance.choice(["auto", "never"]))
        flaky.join()
        assert outcome.acquisition == number
        assert bool(outcome.interruptions) == (flaky.links > 1)
        assert outcome.interruptions < flaky.links  # one may take several links to end
        assert_acquired(bench, number)
        change(bench.source, chance)
