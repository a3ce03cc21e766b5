"""What a session puts into the index of what it has published: only what is new, and all that a later one looks for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from evidencesync.evidence.digest import blake3_of
from evidencesync.vault.index import index as indexes
from evidencesync.vault.layout import Scope
from tests.support.bench_of_evidence import Bench, make_bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Many small files that were pushed once."""
    bench = make_bench(tmp_path)
    for number in range(300):
        (bench.source / f"{number:03}").write_bytes(b"%d" % number * 40)
    bench.push()
    return bench


def places(bench: Bench, *contents: bytes) -> list[int | None]:
    """The acquisitions in which the index finds these contents."""
    index = bench.vault.index()
    digests = [blake3_of(content) for content in contents]
    found = index.find_contents(digests, Scope.of(bench.name, "case"))
    index.close()
    return [found[digest].acquisition if digest in found else None for digest in digests]


def test_what_was_there_is_found_where_it_was_and_what_is_new_where_it_is(bench: Bench) -> None:
    (bench.source / "new").write_bytes(b"new" * 40)
    bench.push()
    old = [b"%d" % number * 40 for number in range(300)]
    assert places(bench, b"new" * 40) == [2]
    found = places(bench, *old)
    assert set(found) == {1, 2}, "the lines beside the new one are in a new page"
    assert found.count(1) > 100
    index = bench.vault.index()
    assert index.acquisitions(bench.name.case.folder) == {(bench.name.item.folder, 1), (bench.name.item.folder, 2)}
    index.close()


def test_lines_that_were_checked_are_not_checked_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_published(*_: object) -> Iterator[object]:
        raise AssertionError("a manifest was decoded again")

    monkeypatch.setattr(indexes, "read_published", read_published)
    (bench.source / "new").write_bytes(b"new" * 40)
    bench.push()
    assert places(bench, b"new" * 40) == [2]


def test_where_a_file_was_damaged_the_good_copy_is_found(bench: Bench) -> None:
    damaged = bench.acquisition(1) / "data" / "007"
    damaged.chmod(0o600)
    damaged.write_bytes(b"x" * 40)
    assert bench.push().damaged == 1
    assert places(bench, b"7" * 40) == [2]


def test_where_the_previous_acquisition_is_not_in_the_index_all_is_added(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = indexes.Index.acquisitions
    monkeypatch.setattr(indexes.Index, "acquisitions", lambda self, case: {one for one in real(self, case) if one[1] != 1})
    bench.push()
    monkeypatch.undo()
    assert places(bench, *(b"%d" % number * 40 for number in range(300))) == [2] * 300


def test_a_name_that_is_no_text_is_found(bench: Bench) -> None:
    Path(bytes(bench.source).decode(), "caf\udce9").write_bytes(b"name" * 40)
    bench.push()
    assert places(bench, b"name" * 40) == [2]
