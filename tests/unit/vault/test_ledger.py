from __future__ import annotations

import os
import stat

import pytest

from evidencesync.errors import ChainError, MalformedDocumentError
from evidencesync.vault.heads import record_heads
from evidencesync.vault.ledger import Ledger, sign_record
from evidencesync.vault.trust import vault_record
from evidencesync.vault.vault import Vault
from tests.unit.vault.acquiring import Acquirer


def append(vault: Vault, text: str = "x") -> str:
    record = vault_record(vault.settings, vault.ledger, "heads", {"note": text}, 10**18)
    return vault.ledger.append(*sign_record(record, vault.signer)).name


def test_records_follow_each_other_and_are_read_only(vault: Vault) -> None:
    names = [append(vault, str(number)) for number in range(3)]
    assert names == ["0002-heads.json", "0003-heads.json", "0004-heads.json"]
    files = vault.ledger.files()
    stored = [vault.ledger.load(file) for file in files]
    assert [record.record.previous_sha256 for record in stored[1:]] == [record.sha256 for record in stored[:-1]]
    assert vault.ledger.head().sha256 == stored[-1].sha256
    for name in os.listdir(vault.layout.custody):
        assert stat.S_IMODE((vault.layout.custody / name).stat().st_mode) == 0o444


def test_a_record_that_does_not_follow_the_head_is_refused(vault: Vault) -> None:
    record = vault_record(vault.settings, vault.ledger, "heads", {}, 10**18)
    append(vault)
    before = sorted(os.listdir(vault.layout.custody))
    with pytest.raises(ChainError):
        vault.ledger.append(*sign_record(record, vault.signer))
    assert sorted(os.listdir(vault.layout.custody)) == before


@pytest.mark.parametrize("damage", ["removed", "renamed", "doubled", "odd name"])
def test_a_chain_with_a_hole_takes_no_more(vault: Vault, damage: str) -> None:
    append(vault)
    append(vault)
    folder = vault.layout.custody
    if damage == "removed":
        (folder / "0002-heads.json").unlink()
    elif damage == "renamed":
        (folder / "0002-heads.json").rename(folder / "0005-heads.json")
    elif damage == "doubled":
        (folder / "0002-made.json").write_bytes((folder / "0002-heads.json").read_bytes())
    else:
        (folder / "02-heads.json").write_bytes(b"")
    with pytest.raises(ChainError):
        append(vault)


def test_a_record_in_the_wrong_file_or_without_its_signature_is_refused(vault: Vault) -> None:
    append(vault)
    folder = vault.layout.custody
    (folder / "0002-heads.json.sig").rename(folder / "kept")
    with pytest.raises(ChainError, match="signature is missing"):
        vault.ledger.head()
    (folder / "kept").rename(folder / "0002-heads.json.sig")
    (folder / "0002-heads.json").rename(folder / "0002-trust-changed.json")
    (folder / "0002-heads.json.sig").rename(folder / "0002-trust-changed.json.sig")
    with pytest.raises(ChainError, match="holds another one"):
        vault.ledger.head()


def test_a_record_that_is_not_in_its_strict_form_is_refused(vault: Vault) -> None:
    append(vault)
    path = vault.layout.custody / "0002-heads.json"
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data.replace(b"\n", b"\n\n", 1))
    with pytest.raises(MalformedDocumentError):
        vault.ledger.head()


def test_what_an_append_left_behind_when_it_was_killed_is_no_record_and_goes_away(vault: Vault) -> None:
    folder = vault.layout.custody
    (folder / "0002-heads.json.sig").write_bytes(b"the signature was there, the record was not")
    (folder / ".new-0002-heads.json").write_bytes(b"{")
    assert vault.ledger.head().sequence == 1
    append(vault)
    assert sorted(os.listdir(folder)) == ["0001-made.json", "0001-made.json.sig", "0002-heads.json", "0002-heads.json.sig"]
    assert vault.ledger.load(vault.ledger.files()[-1]).record.sequence == 2


def test_the_heads_of_all_items_are_recorded(acquirer: Acquirer) -> None:
    acquirer.acquire({b"x": b"1"})
    vault = acquirer.vault
    assert record_heads(vault) == 1
    stored = vault.ledger.last("heads")
    item = acquirer.item()
    head = Ledger(item.layout.custody).head()
    assert stored is not None
    assert stored.record.details == {f"{item.name.case.folder}/{item.name.item.folder}": f"2 {head.sha256}"}
