"""Which items a vault has, by its folders."""

from __future__ import annotations

import shutil

import pytest

from evidencesync.errors import MissingOrExtraError, NotThereError
from evidencesync.exit_codes import ExitCode
from evidencesync.vault.layout import ITEM_FOLDERS
from evidencesync.vault.vault import Vault
from tests.unit.vault.acquiring import Acquirer, item_name


@pytest.mark.parametrize("folder", ["acquisitions", "custody"])
def test_an_item_from_which_a_folder_was_taken_is_not_said_not_to_be_there(vault: Vault, acquirer: Acquirer, folder: str) -> None:
    acquirer.acquire({b"a": b"a"})
    shutil.rmtree(vault.layout.item(acquirer.name).root / folder)
    with pytest.raises(MissingOrExtraError, match=f"lacks its folder {folder}") as refused:
        vault.item(acquirer.name)
    assert refused.value.exit_code == ExitCode.MISSING_OR_EXTRA


def test_an_item_whose_empty_folder_for_transfers_was_left_out_by_a_copy_is_there(vault: Vault, acquirer: Acquirer) -> None:
    acquirer.acquire({b"a": b"a"})
    vault.layout.item(acquirer.name).incoming.rmdir()
    assert vault.item(acquirer.name).state().next_acquisition == 2
    assert acquirer.acquire({b"a": b"b"}) is not None


@pytest.mark.parametrize("made", range(len(ITEM_FOLDERS)))
def test_an_item_whose_making_was_interrupted_is_not_there_yet(vault: Vault, made: int) -> None:
    root = vault.layout.item(item_name()).root
    root.mkdir(parents=True)
    for folder in ITEM_FOLDERS[:made]:
        (root / folder).mkdir()
    with pytest.raises(NotThereError):
        vault.item(item_name())
