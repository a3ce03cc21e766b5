"""Where the signed documents of a push are kept, and what is kept where there is no room."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

import pytest

from evidencesync.custody.record import decode_record
from evidencesync.errors import ConfigurationError, NoSpaceError, StorageError, UnkeptReceiptError
from evidencesync.localstate.files import KeptFolder
from evidencesync.localstate.receipts import FinishedReceipt, ReceiptDraft, receipts_folder
from tests.support.bench_of_evidence import make_bench
from tests.support.file_systems import mounted
from tests.unit.cli.outcomes import DOCUMENTS, NAME, receipts_in

PLACE = f"{NAME.case.folder}-{NAME.item.folder}-0003"


def finish(draft: ReceiptDraft) -> FinishedReceipt:
    return draft.finish(NAME, 3, DOCUMENTS.by_name())


def begun(folder: Path) -> ReceiptDraft:
    draft = ReceiptDraft(KeptFolder(folder))
    draft.begin()
    return draft


def test_the_documents_are_kept_under_their_names(tmp_path: Path) -> None:
    draft = begun(tmp_path)
    draft.add_manifest(b"one\n")
    draft.add_manifest(b"two\n")
    kept = finish(draft)
    assert kept.folder.name.startswith("2024-17-")
    assert kept.folder.name.endswith("-L-1-0003")
    assert receipts_in(tmp_path) == {kept.folder.name: DOCUMENTS.by_name() | {"manifest.jsonl": b"one\ntwo\n"}}
    assert (kept.folder / "receipt.json").stat().st_mode & 0o777 == 0o444
    draft.close()
    assert kept.folder.exists()


def test_no_receipt_ever_replaces_another(tmp_path: Path) -> None:
    names = [finish(begun(tmp_path)).folder.name for _ in range(3)]
    assert names[1:] == [f"{names[0]}-2", f"{names[0]}-3"]
    assert len(receipts_in(tmp_path)) == 3


def test_a_push_that_begins_anew_begins_its_receipt_anew(tmp_path: Path) -> None:
    draft = begun(tmp_path)
    draft.add_manifest(b"of the first attempt\n")
    draft.begin()
    draft.add_manifest(b"of the second\n")
    assert (finish(draft).folder / "manifest.jsonl").read_bytes() == b"of the second\n"


def test_a_push_that_fails_leaves_nothing(tmp_path: Path) -> None:
    draft = begun(tmp_path)
    draft.add_manifest(b"lines\n")
    draft.close()
    assert list(tmp_path.iterdir()) == []


def test_a_record_is_kept_beside_with_its_signature_and_only_once(tmp_path: Path) -> None:
    vault = make_bench(tmp_path).vault
    stored = vault.ledger.load(vault.ledger.files()[0])
    (tmp_path / "receipts").mkdir()
    draft = begun(tmp_path / "receipts")
    for _ in range(2):
        draft.add_record(decode_record(stored.data), stored.data, stored.signature)
    folder = finish(draft).folder / "vault-custody"
    assert {one.name: one.read_bytes() for one in folder.iterdir()} == {
        "0001-made.json": stored.data,
        "0001-made.json.sig": stored.signature,
    }


def test_without_room_for_the_manifest_the_receipt_is_kept_without_it(tmp_path: Path) -> None:
    with mounted("tmpfs", tmp_path, 512 * 1024, str) as small:
        draft = begun(small)
        for _ in range(20):
            draft.add_manifest(os.urandom(100_000))
        kept = finish(draft)
        assert "No space left" in (kept.lacks or "")
        assert receipts_in(small) == {kept.folder.name: DOCUMENTS.by_name()}


def test_the_folder_is_made_and_tried_before_a_push(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for chosen, path in ((None, tmp_path / "data" / "evidencesync" / "receipts"), (tmp_path / "mine", tmp_path / "mine")):
        with receipts_folder(chosen) as folder:
            assert folder.path == path
            assert os.listdir(folder.fd) == os.listdir(path) == []


def test_a_folder_that_cannot_be_written_is_said_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigurationError, match="receipts cannot be kept"):
            receipts_folder(bad)


def test_a_broken_disk_is_said_beforehand_and_is_no_matter_of_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(StorageError, match=f"receipts cannot be kept in {tmp_path}/receipts: Input/output error"):
        receipts_folder(tmp_path / "receipts")


def test_a_full_disk_is_said_beforehand_and_has_its_own_code(tmp_path: Path) -> None:
    with mounted("tmpfs", tmp_path, 512 * 1024, str) as small:
        (small / "filler").write_bytes(bytes(512 * 1024 - 16 * 1024))
        with pytest.raises(NoSpaceError, match="receipts cannot be kept"):
            receipts_folder(small)
        assert [one.name for one in small.iterdir()] == ["filler"]
        (small / "filler").write_bytes(b"")
        draft = begun(small)
        (small / "filler").write_bytes(bytes(500 * 1024))
        with (small / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(512))
        with pytest.raises(UnkeptReceiptError, match="was published, but its receipt could not be kept"):
            finish(draft)
        assert [one.name for one in small.iterdir()] == ["filler"]


def test_a_receipt_that_is_lost_after_all_does_not_hide_that_evidence_was_published(tmp_path: Path) -> None:
    draft = begun(tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone")
    with pytest.raises(StorageError, match="was published, but its receipt could not be kept"):
        finish(draft)


def test_what_was_tried_is_what_is_used_whatever_happens_to_its_name(tmp_path: Path) -> None:
    """Somebody moves the folder while the push runs, and puts a link to another place where it was."""
    draft = begun(tmp_path / "receipts")
    (tmp_path / "receipts").rename(tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "receipts").symlink_to("elsewhere")
    assert finish(draft).lacks is None
    assert list(receipts_in(tmp_path / "moved")) == [PLACE]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_link_to_a_folder_elsewhere_is_a_folder_for_receipts(tmp_path: Path) -> None:
    (tmp_path / "larger-disk").mkdir()
    (tmp_path / "receipts").symlink_to(tmp_path / "larger-disk")
    with receipts_folder(tmp_path / "receipts") as folder:
        draft = ReceiptDraft(folder)
        draft.begin()
        finish(draft)
    assert list(receipts_in(tmp_path / "larger-disk")) == [PLACE]


def test_a_link_that_leads_nowhere_is_no_folder_and_nothing_is_made_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "receipts").symlink_to(tmp_path / "not-mounted")
    with pytest.raises(ConfigurationError, match="receipts cannot be kept"):
        receipts_folder(tmp_path / "receipts")
    assert [one.name for one in tmp_path.iterdir()] == ["receipts"]


@pytest.mark.parametrize("taken", ["link that leads nowhere", "link", "empty folder", "file"])
def test_whatever_has_the_receipts_name_stays_and_the_receipt_gets_another(taken: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    place = tmp_path / "receipts" / PLACE
    draft = begun(place.parent)
    if taken == "empty folder":
        place.mkdir()
    elif taken == "file":
        place.write_bytes(b"kept")
    else:
        place.symlink_to(tmp_path / ("nowhere" if "nowhere" in taken else "other"))
    before = os.lstat(place).st_ino
    assert finish(draft).folder == place.with_name(f"{place.name}-2")
    assert os.lstat(place).st_ino == before
    assert list((tmp_path / "other").iterdir()) == []
    assert (place.with_name(f"{place.name}-2") / "receipt.json").exists()


def test_the_draft_of_a_push_that_was_killed_is_removed_and_no_other(tmp_path: Path) -> None:
    left = tmp_path / ".new-0123456789abcdef"
    (left / "custody").mkdir(parents=True)
    (left / "manifest.jsonl").write_bytes(b"{}")
    with KeptFolder(tmp_path) as folder:
        running, draft = ReceiptDraft(folder), ReceiptDraft(folder)
        running.begin()
        assert draft.remove_left() == [str(left)]
        assert [path.name for path in tmp_path.iterdir()] == [running.path.name]
        running.close()
        assert draft.remove_left() == []
    assert list(tmp_path.iterdir()) == []
