"""A network file system may list a folder as it was some time ago. What is known to have been there is looked up by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evidencesync.localstate.heads import HeadMemory
from evidencesync.vault.heads import record_heads
from evidencesync.vault.layout import CUSTODY
from evidencesync.verify import documents
from evidencesync.verify.documents import Kind
from tests.unit.vault.acquiring import item_name
from tests.unit.verify.sample import Made


def list_without_the_end(monkeypatch: pytest.MonkeyPatch, custody: Path, *, missing: int) -> None:
    """The listings of one custody folder lack its last records from now on."""
    stale, list_kinds = custody.stat().st_ino, documents.list_kinds

    def listed(folder_fd: int) -> dict[bytes, Kind]:
        found = list_kinds(folder_fd)
        if os.fstat(folder_fd).st_ino == stale:
            records = sorted(name for name in found if name.endswith(b".json"))
            for name in records[-missing:]:
                del found[name], found[name + b".sig"]
        return found

    monkeypatch.setattr(documents, "list_kinds", listed)


@pytest.mark.parametrize("missing", [1, 3])
def test_an_old_listing_of_an_items_records_is_no_rollback(made: Made, monkeypatch: pytest.MonkeyPatch, missing: int) -> None:
    vault = made.open()
    record_heads(vault)
    list_without_the_end(monkeypatch, vault.layout.item(item_name()).custody, missing=missing)
    verdict = made.audit()
    assert (verdict.verdict, verdict.findings) == ("pass", [])
    assert [head.sequence for head in verdict.heads] == [2, 4]


def test_an_old_listing_of_the_vaults_own_records_is_no_rollback(
    made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    memory = HeadMemory(tmp_path / "state")
    vault = made.open()
    record_heads(vault)
    assert made.audit(memory=memory).verdict == "pass"
    list_without_the_end(monkeypatch, vault.layout.root / CUSTODY, missing=1)
    verdict = made.audit(memory=memory)
    assert (verdict.verdict, verdict.findings) == ("pass", [])


def test_an_old_listing_of_an_items_acquisitions_is_no_removal(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    stale, list_kinds = made.acquisition(2).parent.stat().st_ino, documents.list_kinds

    def listed(folder_fd: int) -> dict[bytes, Kind]:
        found = list_kinds(folder_fd)
        if os.fstat(folder_fd).st_ino == stale:
            del found[b"0002"]
        return found

    monkeypatch.setattr(documents, "list_kinds", listed)
    verdict = made.audit()
    assert (verdict.verdict, verdict.findings, verdict.checked.acquisitions) == ("pass", [], 2)
