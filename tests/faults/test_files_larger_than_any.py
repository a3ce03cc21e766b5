"""A sparse file costs nothing and may state any size: one that is larger than a manifest can state stops nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evidencesync.acquire.connect import connect_for_pull
from evidencesync.acquire.pull import pull
from evidencesync.connection.progress import Progress
from evidencesync.limits import MAX_FILE_SIZE
from evidencesync.serve import source_server
from evidencesync.source import reader
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.pulling import far_end, link_to, pull_from

MIB = 1 << 20


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = make_bench(tmp_path)
    (made.source / "huge").touch()
    os.truncate(made.source / "huge", MIB + 1)
    (made.source / "largest").touch()
    os.truncate(made.source / "largest", MIB)
    (made.source / "small").write_bytes(b"one")
    monkeypatch.setattr(reader, "MAX_FILE_SIZE", MIB)  # few file systems have room for a file of nine petabytes
    return made


@pytest.mark.parametrize("pulls", [False, True])
def test_it_is_recorded_as_unreadable_and_everything_else_is_taken(bench: Bench, *, pulls: bool) -> None:
    outcome = pull_from(bench) if pulls else bench.push()
    assert outcome.tally.manifest.flags == {"unreadable": 1}
    entries = bench.entries(1)
    assert (entries[b"huge"].flags, entries[b"huge"].size, entries[b"huge"].blake3) == (["unreadable"], None, None)
    assert entries[b"largest"].size == MIB
    assert entries[b"small"].size == 3


def test_a_source_with_more_bytes_than_can_be_stated_is_pulled_with_a_display(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The display of the near end is told a bounded number: a larger one would look like a hostile source."""

    def count(_reading: object, _rules: object, progress: Progress, _is_over: object) -> None:
        progress.total_files, progress.total_bytes = 3, 2**63

    monkeypatch.setattr(source_server, "count_source", count)
    shown = Progress(count_ahead=True)
    root = str(bench.vault.layout.root)
    request = bench.request(vault=b"")
    link = link_to(far_end(bench.source))
    assert pull(link, lambda pulled, peer: connect_for_pull(root, pulled, peer), request, shown).acquisition == 1
    assert shown.total_bytes in (None, MAX_FILE_SIZE)


def test_a_file_that_is_deleted_before_it_was_counted_ends_no_pull_with_a_display(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was missed, and never counted: the rest must not be said to be a negative number."""

    def count(_reading: object, _rules: object, progress: Progress, _is_over: object) -> None:
        progress.total_files, progress.total_bytes = 1, 3  # without `huge`, which cannot be read

    monkeypatch.setattr(source_server, "count_source", count)
    monkeypatch.setattr(source_server, "_PROGRESS_SECONDS", 0.0)
    shown = Progress(count_ahead=True)
    root = str(bench.vault.layout.root)
    link = link_to(far_end(bench.source))
    outcome = pull(link, lambda pulled, peer: connect_for_pull(root, pulled, peer), bench.request(vault=b""), shown)
    assert outcome.acquisition == 1
    assert outcome.tally.manifest.flags == {"unreadable": 1}
    assert shown.total_bytes is None or shown.total_bytes >= 0
