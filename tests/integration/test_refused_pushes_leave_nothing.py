"""A push that is refused before it has sent anything leaves no empty case or item in the vault: `verify` would warn of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evidencesync.acquire import push as sending
from evidencesync.errors import EvidenceSyncError, NameClashError, NoSpaceError, UntrustedSignerError
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.limits import MIB, SPACE_RESERVE
from evidencesync.vault import space
from tests.support.bench_of_evidence import Bench, make_bench, new_signer

CASE = Title("A/1")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = make_bench(tmp_path)
    (made.source / "a").write_bytes(b"a")
    made.push(name=ItemName(CASE, Title("X/1")))
    return made


def folders(bench: Bench) -> list[str]:
    return sorted(str(path) for path in bench.vault.layout.cases.rglob("*"))


@pytest.mark.parametrize(
    ("case", "item", "changes", "error"),
    [
        (Title(CASE.folder), Title("Y"), {}, NameClashError),
        (CASE, Title(Title("X/1").folder), {}, NameClashError),
        (Title("B"), Title("Y"), {"signer": new_signer()}, UntrustedSignerError),
    ],
)
def test_a_refused_push_makes_no_folder(
    bench: Bench, case: Title, item: Title, changes: dict[str, object], error: type[EvidenceSyncError]
) -> None:
    before = folders(bench)
    with pytest.raises(error):
        bench.push(name=ItemName(case, item), **changes)
    assert folders(bench) == before


@pytest.mark.parametrize("case", [Title("B"), CASE])
def test_a_full_disk_gets_no_new_item(bench: Bench, case: Title, monkeypatch: pytest.MonkeyPatch) -> None:
    before = folders(bench)
    monkeypatch.setattr(space, "free_bytes", lambda _: 0)
    with pytest.raises(NoSpaceError):
        bench.push(name=ItemName(case, Title("Y")))
    assert folders(bench) == before
    assert os.listdir(bench.vault.layout.case(CASE.folder)) == [Title("X/1").folder]


def test_what_cannot_fit_gets_no_new_case(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    before = folders(bench)
    monkeypatch.setattr(sending, "_least_bytes", lambda _: 2 * MIB)
    monkeypatch.setattr(space, "free_bytes", lambda _: SPACE_RESERVE + 1000)
    with pytest.raises(NoSpaceError):
        bench.push(name=ItemName(Title("B"), Title("Y")))
    assert folders(bench) == before
