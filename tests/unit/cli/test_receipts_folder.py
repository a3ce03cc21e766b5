from __future__ import annotations

from pathlib import Path

import pytest

from evidencesync.cli.receipts import documents_by_name, receipts_folder, store_receipts
from evidencesync.errors import ConfigurationError, StorageError
from tests.unit.cli.outcomes import DOCUMENTS, make_outcome, receipts_in


def test_the_documents_are_kept_under_their_names(tmp_path: Path) -> None:
    folder = store_receipts(tmp_path, make_outcome())
    assert folder.name.startswith("2024-17-")
    assert folder.name.endswith("-L-1-0003")
    assert receipts_in(tmp_path) == {folder.name: documents_by_name(DOCUMENTS)}
    assert (folder / "receipt.json").stat().st_mode & 0o777 == 0o444


def test_no_receipt_ever_replaces_another(tmp_path: Path) -> None:
    names = [store_receipts(tmp_path, make_outcome()).name for _ in range(3)]
    assert names[1:] == [f"{names[0]}-2", f"{names[0]}-3"]
    assert len(receipts_in(tmp_path)) == 3


def test_the_folder_is_made_and_tried_before_a_push(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = receipts_folder(None)
    assert folder == tmp_path / "data" / "evidencesync" / "receipts"
    assert list(folder.iterdir()) == []
    assert receipts_folder(tmp_path / "mine") == tmp_path / "mine"


def test_a_folder_that_cannot_be_written_is_said_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for bad in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        with pytest.raises(ConfigurationError, match="receipts cannot be kept"):
            receipts_folder(bad)


def test_a_receipt_that_is_lost_after_all_does_not_hide_that_evidence_was_published(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="was published, but its receipt could not be kept"):
        store_receipts(tmp_path / "gone", make_outcome())
