"""The file of --spool: new, outside of vaults, removed in the end, and kept and named where it has what was never sent."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evidencesync.cli.spool_file import opened_spool
from evidencesync.delta.chunker import Segment
from evidencesync.errors import LinkLostError, StorageError, UsageError
from tests.support.bench_of_evidence import make_bench


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def run(said: list[str]) -> Any:
    return SimpleNamespace(console=SimpleNamespace(warn=said.append))


def test_it_is_removed_when_all_was_sent(tmp_path: Path, run: Any, said: list[str]) -> None:
    with opened_spool(run, str(tmp_path / "spool")) as opened:
        assert opened.spool is not None
        assert opened.spool.put(Segment([4], [memoryview(b"rest")], 4), 0) is not None
        assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o600
    assert (list(tmp_path.iterdir()), said) == ([], [])


def test_it_is_removed_after_an_error_that_left_nothing(tmp_path: Path, run: Any, said: list[str]) -> None:
    with pytest.raises(LinkLostError), opened_spool(run, str(tmp_path / "spool")):
        raise LinkLostError("cut")
    assert (list(tmp_path.iterdir()), said) == ([], [])


def test_it_is_kept_and_named_where_it_has_what_was_never_sent(tmp_path: Path, run: Any, said: list[str]) -> None:
    with pytest.raises(LinkLostError), opened_spool(run, str(tmp_path / "spool")) as opened:
        opened.keep_rest = lambda: (1000, 2000)
        raise LinkLostError("cut")
    assert (tmp_path / "spool").exists()
    assert f"{tmp_path}/spool keeps bytes 1,000 to 2,000 of the capture" in said[0]


def test_it_is_kept_where_not_all_could_be_kept(tmp_path: Path, run: Any, said: list[str]) -> None:
    def refuse() -> None:
        raise StorageError("only bytes before 1,500 of the capture are kept")

    with pytest.raises(LinkLostError), opened_spool(run, str(tmp_path / "spool")) as opened:
        opened.keep_rest = refuse
        raise LinkLostError("cut")
    assert (tmp_path / "spool").exists()
    assert "only bytes before 1,500" in said[0]


def test_it_replaces_nothing_and_lies_in_no_vault(tmp_path: Path, run: Any) -> None:
    bench = make_bench(tmp_path)
    (tmp_path / "mine").write_bytes(b"mine")
    for place in (tmp_path / "mine", bench.vault.layout.root / "spool", tmp_path / "none" / "spool"):
        with pytest.raises(UsageError), opened_spool(run, str(place)):
            pytest.fail("it was opened")
    assert (tmp_path / "mine").read_bytes() == b"mine"
