from __future__ import annotations

import errno
import os
import stat
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from msgspec.structs import replace

from evidencesync.custody.documents import RecordType
from evidencesync.errors import (
    ChainError,
    ChainGrewError,
    MalformedDocumentError,
    MissingOrExtraError,
    RolledBackError,
    StorageError,
)
from evidencesync.exit_codes import ExitCode
from evidencesync.files import placing
from evidencesync.files.disk import opened_folder, storage_error
from evidencesync.vault import reservations
from evidencesync.vault.catalog import case_folders
from evidencesync.vault.heads import SEEN, record_heads, require_as_stated, require_stated, state_head
from evidencesync.vault.ledger import ChainHead, Ledger, RecordFile, sign_record
from evidencesync.vault.reservations import NewRecord
from evidencesync.vault.stated import StatedHead, stated_heads
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
    with pytest.raises(ChainGrewError) as caught:
        vault.ledger.append(*sign_record(record, vault.signer))
    assert caught.value.exit_code is ExitCode.LOCKED
    assert sorted(os.listdir(vault.layout.custody)) == before
    other = replace(vault_record(vault.settings, vault.ledger, "heads", {}, 10**18), previous_sha256="0" * 64)
    with pytest.raises(ChainError, match="does not follow"):
        vault.ledger.append(*sign_record(other, vault.signer))
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
    with pytest.raises(MissingOrExtraError if damage == "odd name" else ChainError):
        append(Vault.open(vault.layout.root))


def test_a_record_in_the_wrong_file_or_without_its_signature_is_refused(vault: Vault) -> None:
    append(vault)
    folder = vault.layout.custody
    (folder / "0002-heads.json.sig").rename(folder / "kept")
    with pytest.raises(MissingOrExtraError, match="the signature of custody record 2 is missing"):
        vault.ledger.head()
    (folder / "kept").rename(folder / "0002-heads.json.sig")
    (folder / "0002-heads.json").rename(folder / "0002-trust-changed.json")
    (folder / "0002-heads.json.sig").rename(folder / "0002-trust-changed.json.sig")
    with pytest.raises(ChainError, match="record 2 is missing"):
        vault.ledger.head()  # which has listed the folder before
    with pytest.raises(ChainError, match="holds another one"):
        Ledger(folder).head()


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


def test_a_statement_that_was_contradicted_counts_however_far_the_chain_has_gone_on(acquirer: Acquirer) -> None:
    """An earlier version wrote upon an item that was put back."""
    vault, item = acquirer.vault, acquirer.item()
    gone = ChainHead(4, "0" * 64)
    state_head(vault, item.name, gone)
    for content in (b"1", b"2", b"3"):
        acquirer.acquire({b"x": content})
        state_head(vault, item.name, item.ledger.head())
    heads, _ = stated_heads(vault.ledger)
    assert max(heads[item.name.place])[:2] == (6, item.ledger.head().sha256)
    with pytest.raises(ChainError, match="record 4"):
        require_stated(item.ledger, "it", heads[item.name.place])
    with pytest.raises(ChainError, match="record 4"):
        require_as_stated(vault, item.name, item.ledger)


def test_the_heads_of_all_items_are_recorded(acquirer: Acquirer) -> None:
    acquirer.acquire({b"x": b"1"})
    vault = acquirer.vault
    assert record_heads(vault) == 1
    stored = vault.ledger.last("heads")
    item = acquirer.item()
    head = Ledger(item.layout.custody).head()
    assert stored is not None
    assert stored.record.details == {f"{item.name.case.folder}/{item.name.item.folder}": f"2 {head.sha256}"}


class StaleLedger(Ledger):
    """A writer who saw the chain a moment ago, as a cached listing of a network file system shows it."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger.folder)
        self._seen = ledger.files()

    def files(self, reaching: int = 0) -> list[RecordFile]:
        return self._seen


@pytest.mark.parametrize("kind", ["heads", "trust-changed"])
def test_a_writer_with_an_old_listing_replaces_no_record(vault: Vault, kind: RecordType) -> None:
    append(vault)
    stale = StaleLedger(vault.ledger)
    late = vault_record(vault.settings, stale, kind, {"note": "late"}, 10**18)
    append(vault, "first")
    folder = vault.layout.custody
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ChainGrewError):
        stale.append(*sign_record(late, vault.signer))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_reservation_whose_owner_was_killed_is_finished_by_the_next_writer(vault: Vault) -> None:
    first = vault_record(vault.settings, vault.ledger, "heads", {"by": "killed"}, 10**18)
    second = vault_record(vault.settings, vault.ledger, "trust-changed", {"by": "next"}, 10**18)
    killed = NewRecord.of(*sign_record(first, vault.signer))
    vault.ledger.reserve(killed)
    with pytest.raises(ChainGrewError):
        vault.ledger.append(*sign_record(second, vault.signer))
    assert vault.ledger.load(vault.ledger.files()[-1]).data == killed.data
    vault.ledger.append(killed.data, killed.signature)  # its owner was alive after all: it is there, and stays one
    append(vault)
    names = sorted(os.listdir(vault.layout.custody))
    assert names == [f"{name}{end}" for name in ("0001-made", "0002-heads", "0003-heads") for end in (".json", ".json.sig")]


@pytest.mark.parametrize("content", [b"", b"{", b"-----BEGIN SSH SIGNATURE-----\nend\n"])
def test_a_reservation_that_a_power_cut_left_empty_keeps_nobody_out(vault: Vault, content: bytes) -> None:
    (vault.layout.custody / ".new-0002-1").write_bytes(content)
    assert append(vault) == "0002-heads.json"
    assert sorted(os.listdir(vault.layout.custody)) == [
        "0001-made.json",
        "0001-made.json.sig",
        "0002-heads.json",
        "0002-heads.json.sig",
    ]


def test_a_reservation_that_does_not_follow_the_chain_is_passed_over(vault: Vault) -> None:
    other = replace(vault_record(vault.settings, vault.ledger, "heads", {}, 10**18), previous_sha256="0" * 64)
    reservation = NewRecord.of(*sign_record(other, vault.signer))
    (vault.layout.custody / ".new-0002-1").write_bytes(reservation.encoded())
    assert append(vault) == "0002-heads.json"
    assert vault.ledger.load(vault.ledger.files()[-1]).data != reservation.data


@pytest.mark.parametrize("has_rename", [True, False])
def test_without_hard_links_records_are_appended_and_never_replaced(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, has_rename: bool
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    if not has_rename:
        monkeypatch.setattr(placing, "_renameat2", lambda: None)
    late = vault_record(vault.settings, StaleLedger(vault.ledger), "trust-changed", {}, 10**18)
    stale = StaleLedger(vault.ledger)
    append(vault)
    with pytest.raises(ChainGrewError):
        stale.append(*sign_record(late, vault.signer))
    assert [file.name for file in vault.ledger.files()] == ["0001-made.json", "0002-heads.json"]
    append(vault)
    assert len(os.listdir(vault.layout.custody)) == 6


def test_a_reservation_is_not_void_because_the_disk_does_not_give_what_was_published(
    acquirer: Acquirer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        pass

    def kill(step: str) -> None:
        if step == "renamed":
            raise KilledError

    def unreadable(name: str, dir_fd: int | None = None) -> AbstractContextManager[int]:
        if name.startswith("../acquisitions/"):
            raise storage_error(OSError(errno.EIO, "bad sector"), "open the folder")
        return opened_folder(name, dir_fd)

    with pytest.raises(KilledError):
        acquirer.acquire({b"a": b"1"}, fault=kill)
    item = acquirer.item()
    (reservation,) = item.layout.custody.glob(".new-0001-*")
    killed = NewRecord.decode(reservation.read_bytes())
    assert killed is not None
    monkeypatch.setattr(reservations, "opened_folder", unreadable)
    other = sign_record(replace(killed.record, details={"text": "another one"}), acquirer.examiner)
    with pytest.raises(StorageError):
        item.ledger.append(*other)
    assert os.listdir(item.layout.custody) == [reservation.name]


def test_a_list_made_while_others_add_to_a_large_folder_is_made_again(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can have what came last, and lack what came just before that. Such a chain has no gap."""
    for number in range(6):
        append(vault, str(number))
    listdir, lacks = os.listdir, [("0003", "0006", "0007"), ("0006",)]

    def lacking(folder: str) -> list[str]:
        lacked = lacks.pop(0)
        return [name for name in listdir(folder) if not name.startswith(lacked)]

    monkeypatch.setattr(os, "listdir", lacking)
    assert [file.sequence for file in Ledger(vault.layout.custody).files()] == [1, 2, 3, 4, 5]


def test_a_chain_is_listed_once_and_what_others_add_is_found_by_its_name(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    append(vault)
    ledger, listdir, listed = Ledger(vault.layout.custody), os.listdir, []

    def counting(folder: Path | int) -> list[str]:
        listed.append(folder)
        return listdir(folder)

    monkeypatch.setattr("evidencesync.vault.ledger.os.listdir", counting)
    assert len(ledger.files()) == 2
    for _ in range(3):
        append(vault)
    assert [file.sequence for file in ledger.files()] == [1, 2, 3, 4, 5]
    assert [folder for folder in listed if isinstance(folder, Path)] == [vault.layout.custody]  # an append lists by a descriptor
    (vault.layout.custody / "0006-heads.json").touch()
    (vault.layout.custody / "0006-made.json").touch()
    with pytest.raises(ChainError, match="two of its number"):
        ledger.files()


def test_a_name_that_a_list_has_twice_is_one_record_and_one_item(acquirer: Acquirer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a network file system lists a folder that changes meanwhile."""
    acquirer.acquire({b"x": b"1"})
    vault, listdir = acquirer.vault, os.listdir
    once = ([file.name for file in vault.ledger.files()], case_folders(vault.layout))
    monkeypatch.setattr(os, "listdir", lambda folder: [*listdir(folder), *listdir(folder)])
    assert ([file.name for file in vault.ledger.files()], case_folders(vault.layout)) == once


def test_a_record_too_large_for_one_is_malformed_and_nobody_on_the_other_end_is_blamed(vault: Vault) -> None:
    append(vault)
    path = vault.layout.custody / "0002-heads.json"
    path.chmod(0o644)
    os.truncate(path, 1 << 40)
    with pytest.raises(MalformedDocumentError, match=r"0002-heads\.json is larger than") as refused:
        vault.ledger.head()
    assert refused.value.exit_code == ExitCode.SIGNATURE


def test_a_chain_that_cannot_be_listed_says_which_one_and_why(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_folder: object) -> list[str]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("evidencesync.vault.ledger.os.listdir", fail)
    with pytest.raises(StorageError) as caught:
        vault.ledger.files()
    assert caught.value.message == f"could not list the custody records in {vault.layout.custody}: {os.strerror(errno.EIO)}"


def test_a_link_in_the_place_of_a_chain_is_not_followed(vault: Vault) -> None:
    folder = vault.layout.custody
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))
    with pytest.raises(MissingOrExtraError, match="symbolic link"):
        vault.ledger.files()


def test_a_chain_that_is_gone_is_missing_and_not_unread(vault: Vault) -> None:
    folder = vault.layout.custody
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(MissingOrExtraError, match=f"custody records is missing: {folder}"):
        vault.ledger.files()


@pytest.mark.parametrize("missing", ["0002-", "0003-"])
def test_a_record_that_a_cached_listing_lacks_is_not_called_gone(
    missing: str, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(vault)
    append(vault)
    whole = vault.ledger.files()
    head = StatedHead(3, vault.ledger.head().sha256 or "", SEEN)
    listdir = os.listdir  # a network file system may list a folder as it was some time ago
    monkeypatch.setattr(os, "listdir", lambda folder: [name for name in listdir(folder) if not name.startswith(missing)])
    assert require_stated(vault.ledger, "the chain", [head]).sequence == 3
    assert vault.ledger.files(3) == whole
    if missing == "0002-":  # what stands before a listed record is there
        assert vault.ledger.files() == whole


def test_a_record_that_is_gone_is_gone_whatever_is_looked_for(vault: Vault) -> None:
    append(vault)
    append(vault)
    head = StatedHead(3, vault.ledger.head().sha256 or "", SEEN)
    last = vault.layout.custody / vault.ledger.files()[-1].name
    last.rename(last.with_name(".gone"))
    with pytest.raises(RolledBackError):
        require_stated(Ledger(vault.layout.custody), "the chain", [head])
    last.with_name(".gone").rename(last.with_name("999999-heads.json"))
    with pytest.raises(ChainError, match="record 3 is missing"):
        Ledger(vault.layout.custody).files()


def test_what_a_mac_leaves_beside_the_records_keeps_nobody_from_the_chain(vault: Vault) -> None:
    append(vault)
    (vault.layout.custody / "._0002-heads.json").write_bytes(b"\0\5\x16\7")
    append(vault)
    assert vault.ledger.head().sequence == 3
