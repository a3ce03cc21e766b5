"""Which folders are taken for kept receipts."""

from __future__ import annotations

from pathlib import Path

import pytest

from evidencesync.localstate.receipt_folders import kept_folders


def test_a_folder_that_may_be_listed_and_not_entered_hides_no_other_receipt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed" / "inner").mkdir(parents=True)
    (tmp_path / "C-I-0001").mkdir()
    real = Path.is_dir

    def is_dir(path: Path) -> bool:
        if path.parent.name == "closed":  # as the system says for a folder of mode r--
            raise PermissionError
        return real(path)

    monkeypatch.setattr(Path, "is_dir", is_dir)
    assert kept_folders(tmp_path).receipts == [tmp_path / "C-I-0001", tmp_path / "closed"]


def test_a_receipt_in_another_ones_folder_is_found_and_the_records_of_a_receipt_are_none(tmp_path: Path) -> None:
    outer, inner, innermost = tmp_path / "C-I-0001", tmp_path / "C-I-0001" / "C-I-0002", tmp_path / "C-I-0001" / "C-I-0002" / "x"
    for folder in (outer / "custody", inner / "vault-custody", innermost):
        folder.mkdir(parents=True)
    for folder in (outer, inner, innermost):
        (folder / "receipt.json").touch()
    (outer / "link").symlink_to(inner)
    assert kept_folders(tmp_path) == ([outer, inner, innermost], [])
