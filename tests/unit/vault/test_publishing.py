from __future__ import annotations

import ctypes
import errno
import os
import stat
import subprocess
import time
from collections.abc import Callable

import msgspec
import pytest

from evidencesync.custody.record import decode_record, encode_record
from evidencesync.errors import (
    ChainError,
    EvidenceSyncError,
    InternalError,
    NameClashError,
    NoSpaceError,
    SealedError,
    SignatureError,
    StorageError,
    UsageError,
)
from evidencesync.evidence.digest import blake3_of
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.files import disk
from evidencesync.files.folders import names_in
from evidencesync.vault.item import VaultItem, lock_item
from evidencesync.vault.key_files import VaultSigner
from evidencesync.vault.layout import ACQUIRED, RECEIVED, RECEIVED_SIGNATURE
from evidencesync.vault.ledger import sign_record
from evidencesync.vault.publish import STEPS, complete_unfinished, publish
from evidencesync.vault.staging import Staging
from evidencesync.vault.vault import Vault
from evidencesync.verify.audit import audit_vault
from tests.support.unreadable import Unreadable
from tests.unit.vault.acquiring import Acquirer, check_published, item_name, new_signer

FILES = {b"a/one": b"1", b"a/two": b"2" * 300_000, b"b": b""}
ODD = {b"new\nline": b"1", b"back\\slash": b"2", b"\xff\xfe": b"3", b"cr\r": b"4", "ünï".encode(): b"5", b" sp ace ": b"6"}
SESSION = "0123456789abcdef" * 2


def test_a_first_and_a_second_acquisition_are_numbered_and_whole(acquirer: Acquirer) -> None:
    steps: list[str] = []
    assert acquirer.acquire(FILES, session=SESSION, fault=steps.append).number == 1
    assert tuple(steps) == STEPS
    assert acquirer.acquire(FILES | {b"c": b"3"}).number == 2
    item = acquirer.item()
    check_published(item, 1, FILES)
    check_published(item, 2, FILES | {b"c": b"3"})
    assert os.listdir(item.layout.incoming) == []
    state = item.state()
    assert (state.next_acquisition, state.head_sequence, state.sealed) == (3, 4, False)
    assert state.previous_manifest == item.layout.acquisition(2) / "manifest.jsonl"
    assert list(acquirer.vault.items()) == [item.name]


def test_nothing_published_can_be_written_and_records_are_hard_links(acquirer: Acquirer) -> None:
    folder = acquirer.acquire(FILES).path
    for path in folder.rglob("*"):
        expected = 0o755 if path.is_dir() else 0o444
        assert stat.S_IMODE(path.stat().st_mode) == expected, path
    chain = acquirer.item().layout.custody
    assert (folder / "acquired.json").stat().st_ino == (chain / "0001-acquired.json").stat().st_ino
    assert (folder / "received.json.sig").stat().st_ino == (chain / "0002-received.json.sig").stat().st_ino


def test_without_hard_links_the_records_are_copied(acquirer: Acquirer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    acquirer.acquire(FILES)
    check_published(acquirer.item(), 1, FILES)


def test_sha256sum_and_b3sum_accept_the_lists(acquirer: Acquirer, require_program: Callable[[str], str]) -> None:
    folder = acquirer.acquire(FILES | ODD).path
    subprocess.run([require_program("sha256sum"), "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=folder, check=True)
    subprocess.run([require_program("b3sum"), "--quiet", "--check", "BLAKE3SUMS"], cwd=folder, check=True)
    receipt = (folder / "receipt.json").read_text()
    assert '"sha256sums": 0' in receipt
    assert '"blake3sums": 2' in receipt


def test_ssh_keygen_accepts_every_signature(acquirer: Acquirer, require_program: Callable[[str], str]) -> None:
    folder = acquirer.acquire(FILES).path
    root = acquirer.vault.layout.root
    for name, who, namespace in (
        ("manifest.jsonl", "ana", "manifest@evidencesync"),
        ("acquired.json", "ana", "custody@evidencesync"),
        ("receipt.json", "vault", "receipt@evidencesync"),
        ("received.json", "vault", "custody@evidencesync"),
    ):
        trusted = ["-f", root / "trusted_signers", "-r", root / "revoked_keys", "-I", who, "-n", namespace]
        command = [require_program("ssh-keygen"), "-Y", "verify", *map(str, trusted), "-s", f"{folder / name}.sig"]
        subprocess.run(command, input=(folder / name).read_bytes(), check=True, capture_output=True)


def test_a_session_is_found_again(acquirer: Acquirer) -> None:
    acquirer.acquire(FILES, session=SESSION)
    acquirer.acquire(FILES)
    item = acquirer.item()
    assert item.find_session(SESSION) == 1
    assert item.find_session("f" * 32) is None


@pytest.mark.parametrize("how", ["gone", "a folder", "a named pipe", "with a hole", "empty"])
def test_an_old_manifest_that_is_damaged_or_gone_blocks_no_session(acquirer: Acquirer, how: str) -> None:
    acquirer.acquire(FILES, session=SESSION)
    manifest = acquirer.acquire(FILES).path / "manifest.jsonl"
    if how == "with a hole":
        os.truncate(manifest, 2**20)
    else:
        manifest.unlink()
    if how == "a folder":
        manifest.mkdir()
    elif how == "a named pipe":
        os.mkfifo(manifest)
    elif how == "empty":
        manifest.touch()
    item = acquirer.item()
    assert item.find_session(SESSION) == 1
    assert item.find_session("f" * 32) is None


@pytest.mark.parametrize("name", ["acquired.json", "acquired.json.sig", "received.json", "received.json.sig"])
def test_a_record_that_the_last_acquisition_lacks_and_the_chain_has_keeps_no_push_out(acquirer: Acquirer, name: str) -> None:
    folder = acquirer.acquire(FILES).path
    (folder / name).unlink()
    assert acquirer.acquire(FILES).number == 2


@pytest.mark.parametrize("name", ["acquired.json", "received.json"])
@pytest.mark.parametrize("how", ["cut", "a folder", "unreadable"])
def test_a_damaged_copy_of_a_record_that_the_chain_has_keeps_no_push_out(
    acquirer: Acquirer, monkeypatch: pytest.MonkeyPatch, name: str, how: str
) -> None:
    file = acquirer.acquire(FILES).path / name
    data = file.read_bytes()
    file.unlink()  # the chain's copy has the inode
    if how == "a folder":
        file.mkdir()
    else:
        file.write_bytes(data[: len(data) // 2])
    if how == "unreadable":
        Unreadable(monkeypatch, file, "read")
    assert acquirer.acquire(FILES).number == 2


@pytest.mark.parametrize("name", ["acquired.json", "received.json"])
def test_a_damaged_record_of_an_unfinished_publish_is_named_as_that_and_ends_writing_to_this_item(
    acquirer: Acquirer, name: str
) -> None:
    """No power cut leaves it: documents are durable before the rename. So nobody knows what the chain's next record is."""

    def stop(step: str) -> None:
        if step == "parents-synced":
            raise KeyboardInterrupt

    acquirer.acquire(FILES)
    with pytest.raises(KeyboardInterrupt):
        acquirer.acquire(FILES, fault=stop)
    file = acquirer.item().layout.acquisition(2) / name
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(SignatureError) as caught:
        acquirer.acquire(FILES)
    assert "push into another item" in (caught.value.hint or "")
    verdict = audit_vault(acquirer.vault.layout.root, now_ns=time.time_ns())
    assert verdict.exit_code == caught.value.exit_code == 32
    assert "not-in-chain" not in {finding.slug for finding in verdict.findings}


@pytest.mark.parametrize("name", ["acquired.json", "received.json.sig"])
def test_a_record_that_neither_the_last_acquisition_nor_the_chain_has_ends_all_writing(acquirer: Acquirer, name: str) -> None:
    folder = acquirer.acquire(FILES).path
    (folder / name).unlink()
    for path in acquirer.item().layout.custody.glob("*-received.json*"):
        path.unlink()
    with pytest.raises(EvidenceSyncError):
        acquirer.acquire(FILES)


def test_writing_needs_the_lock(acquirer: Acquirer) -> None:
    item = acquirer.item()
    with pytest.raises(InternalError):
        Staging.create(item, SESSION)
    with pytest.raises(InternalError):
        complete_unfinished(item)


@pytest.mark.parametrize("session", ["", "../../x", "A" * 32, "a" * 31, "a" * 33, "a" * 32 + "\n"])
def test_only_a_session_id_becomes_a_staging_folder(acquirer: Acquirer, session: str) -> None:
    with lock_item(acquirer.item()) as item, pytest.raises(UsageError):
        Staging.create(item, session)


def test_a_vault_whose_documents_would_get_other_names_takes_nothing(acquirer: Acquirer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evidencesync.files.kept_names.names_in", lambda fd: [name.lower() for name in names_in(fd)])
    with lock_item(acquirer.item()) as item, pytest.raises(NameClashError, match="capital letters"):
        Staging.create(item, SESSION)


def test_a_name_is_refused_that_the_vaults_file_system_would_change(acquirer: Acquirer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evidencesync.files.kept_names.names_in", lambda fd: [name.rstrip(".") for name in names_in(fd)])
    with pytest.raises(NameClashError, match="would change the name report\\."):
        acquirer.acquire({b"report.": b"1"})
    acquirer.acquire({b"report": b"1"})
    check_published(acquirer.item(), 1, {b"report": b"1"})


def test_the_same_session_starts_over_after_a_failure(acquirer: Acquirer) -> None:
    with lock_item(acquirer.item()) as item, Staging.create(item, SESSION) as staging:
        staging.tree.create_file(b"half", b"done", None)
    acquirer.acquire(FILES, session=SESSION)
    check_published(acquirer.item(), 1, FILES)


def test_a_failed_session_burns_no_number_and_its_staging_can_be_discarded(acquirer: Acquirer) -> None:
    with lock_item(acquirer.item()) as item, Staging.create(item, SESSION) as staging:
        acquirer.stage(staging, item.state(), FILES)
        staging.discard()
        assert os.listdir(item.layout.incoming) == []
    assert acquirer.acquire(FILES).number == 1


def test_an_unfinished_staging_area_is_not_published(acquirer: Acquirer) -> None:
    with lock_item(acquirer.item()) as item, Staging.create(item, SESSION) as staging:
        with pytest.raises(InternalError):
            publish(staging, {})
        with pytest.raises(InternalError):
            staging.sync()
    assert acquirer.item().acquisitions() == []


def test_a_symlink_in_place_of_the_staging_area_is_never_followed(acquirer: Acquirer) -> None:
    item = acquirer.item()
    outside = acquirer.vault.layout.root / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (item.layout.incoming / SESSION).symlink_to(outside)
    with lock_item(item), Staging.create(item, SESSION):
        assert not (item.layout.incoming / SESSION).is_symlink()
    item.layout.incoming.rename(item.layout.incoming.with_name("aside"))
    item.layout.incoming.symlink_to(outside)
    with lock_item(item), pytest.raises(StorageError):
        Staging.create(item, SESSION)
    assert os.listdir(outside) == ["kept"]


def attempt(acquirer: Acquirer, change: Callable[[dict[str, bytes], VaultItem], None]) -> None:
    """Publishes with documents that were changed."""
    with lock_item(acquirer.item()) as item, Staging.create(item, os.urandom(16).hex()) as staging:
        state = item.state()
        acquirer.stage(staging, state, FILES)
        documents = acquirer.documents(staging, state, len(FILES), 0)
        change(documents, item)
        publish(staging, documents)


def remake(documents: dict[str, bytes], name: str, **fields: object) -> None:
    documents[name] = encode_record(msgspec.structs.replace(decode_record(documents[name]), **fields))


def test_records_that_do_not_belong_here_are_never_published(acquirer: Acquirer) -> None:
    acquirer.acquire(FILES)
    before = sorted(acquirer.item().layout.root.rglob("*"))
    changes: list[tuple[type[EvidenceSyncError], Callable[[dict[str, bytes], VaultItem], None]]] = [
        (InternalError, lambda documents, item: documents.__delitem__("receipt.json")),
        (InternalError, lambda documents, item: documents.update({"../x": b""})),
        (ChainError, lambda documents, item: remake(documents, ACQUIRED, acquisition=5)),
        (ChainError, lambda documents, item: remake(documents, ACQUIRED, item="other")),
        (ChainError, lambda documents, item: remake(documents, ACQUIRED, sequence=4)),
        (ChainError, lambda documents, item: remake(documents, ACQUIRED, previous_sha256="0" * 64)),
        (ChainError, lambda documents, item: remake(documents, RECEIVED, previous_sha256="0" * 64)),
        (ChainError, lambda documents, item: remake(documents, RECEIVED, vault_id="0" * 32)),
        (SignatureError, lambda documents, item: remake(documents, RECEIVED, details={"more": "1"})),
        (SignatureError, lambda documents, item: documents.update({RECEIVED_SIGNATURE: b""})),
    ]
    for error, change in changes:
        with pytest.raises(error):
            attempt(acquirer, change)
        for session in os.listdir(acquirer.item().layout.incoming):
            subprocess.run(["rm", "-rf", acquirer.item().layout.incoming / session], check=True)
        assert sorted(acquirer.item().layout.root.rglob("*")) == before
    assert acquirer.acquire(FILES).number == 2


def test_a_sealed_item_takes_no_more(acquirer: Acquirer) -> None:
    acquirer.acquire(FILES)

    def seal(documents: dict[str, bytes], item: VaultItem) -> None:
        head = item.ledger.head()
        record = msgspec.structs.replace(
            decode_record(documents[ACQUIRED]),
            type="sealed",
            sequence=head.sequence + 1,
            previous_sha256=head.sha256,
            acquisition=None,
            manifest_sha256=None,
        )
        item.ledger.append(*sign_record(record, acquirer.examiner))

    with pytest.raises(SealedError):
        attempt(acquirer, seal)
    assert acquirer.item().state().sealed
    assert acquirer.item().acquisitions() == [1]


@pytest.mark.parametrize("damage", ["acquisition removed", "acquisition added", "record removed", "records swapped"])
def test_nothing_is_added_to_a_broken_history(acquirer: Acquirer, damage: str) -> None:
    for _ in range(2):
        acquirer.acquire(FILES)
    layout = acquirer.item().layout
    if damage == "acquisition removed":
        layout.acquisition(2).rename(acquirer.vault.layout.root / "stolen")
    elif damage == "acquisition added":
        layout.acquisition(3).mkdir()
    elif damage == "record removed":
        (layout.custody / "0002-received.json").unlink()
    else:
        (layout.custody / "0001-acquired.json").rename(layout.custody / "x")
        (layout.custody / "0003-acquired.json").rename(layout.custody / "0001-acquired.json")
        (layout.custody / "x").rename(layout.custody / "0003-acquired.json")
    with pytest.raises(EvidenceSyncError) as caught:
        acquirer.acquire(FILES)
    assert caught.value.exit_code in (31, 34)


def test_a_forged_received_record_is_not_linked_into_the_chain(acquirer: Acquirer, examiner: VaultSigner) -> None:
    def stop(step: str) -> None:
        if step == "renamed":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        acquirer.acquire(FILES, fault=stop)
    folder = acquirer.item().layout.acquisition(1)
    forged = msgspec.structs.replace(decode_record((folder / RECEIVED).read_bytes()), details={"forged": "yes"})
    for name, data in zip((RECEIVED, RECEIVED_SIGNATURE), sign_record(forged, examiner), strict=True):
        (folder / name).chmod(0o644)
        (folder / name).write_bytes(data)
    with lock_item(acquirer.item()) as item, pytest.raises(SignatureError):
        complete_unfinished(item)
    assert not (acquirer.item().layout.custody / "0002-received.json").exists()


def clash(one: str, two: str) -> tuple[Title, Title]:
    assert Title(one).folder == Title(two).folder
    return Title(one), Title(two)


def test_two_items_that_would_share_a_folder_are_kept_apart(acquirer: Acquirer) -> None:
    one, two = clash("a/b", Title("a/b").folder)
    acquirer.name = ItemName(Title("case"), one)
    acquirer.acquire(FILES)
    with pytest.raises(NameClashError):
        acquirer.vault.item(ItemName(Title("case"), two), create=True)


def test_two_cases_that_would_share_a_folder_are_kept_apart(acquirer: Acquirer) -> None:
    one, two = clash("2026/1", Title("2026/1").folder)
    acquirer.name = ItemName(one, Title("1"))
    acquirer.acquire(FILES)
    with pytest.raises(NameClashError):
        acquirer.vault.item(ItemName(two, Title("2")), create=True)
    with pytest.raises(NameClashError):
        acquirer.vault.item(ItemName(two, Title("1")), create=True)


def test_a_clash_that_shows_only_when_the_other_published_first_is_refused_in_time(vault: Vault, examiner: VaultSigner) -> None:
    one, two = clash("2026/1", Title("2026/1").folder)
    first = Acquirer(vault, examiner, ItemName(one, Title("1")))
    second = Acquirer(vault, examiner, ItemName(two, Title("2")))
    with lock_item(second.item()) as item, Staging.create(item, SESSION) as staging:
        state = item.state()
        second.stage(staging, state, FILES)
        first.acquire(FILES)
        with pytest.raises(NameClashError):
            publish(staging, second.documents(staging, state, len(FILES), 0))
    assert item.acquisitions() == []


def test_a_content_is_adopted_and_published(acquirer: Acquirer) -> None:
    data = os.urandom(1 << 20)
    with lock_item(acquirer.item()) as item, Staging.create(item, SESSION) as staging:
        content = staging.new_content(1)
        content.append(data)
        content.append_zeros(100)
        content.finish()
        staging.tree.adopt(b"image", content, None)
        assert os.listdir(item.layout.incoming / SESSION / "contents") == []
        assert blake3_of((item.layout.incoming / SESSION / "acquisition/data/image").read_bytes()) == blake3_of(data + bytes(100))


def test_a_damaged_streamed_document_is_noticed_before_it_is_signed(acquirer: Acquirer) -> None:
    with lock_item(acquirer.item()) as item, Staging.create(item, SESSION) as staging:
        acquirer.stage(staging, item.state(), FILES)
        path = item.layout.incoming / SESSION / "acquisition" / "manifest.jsonl"
        path.chmod(0o644)
        path.write_bytes(path.read_bytes().replace(b"a/one", b"a/onf"))
        with pytest.raises(EvidenceSyncError) as caught:
            staging.read_documents_back()
        assert caught.value.exit_code == 30


def test_items_of_all_cases_are_listed_by_their_exact_numbers(vault: Vault) -> None:
    names = [item_name("2026/1", "b"), item_name("2026/1", "a b"), item_name("ümlaut", "1")]
    for name in names:
        Acquirer(vault, new_signer(), name).acquire({b"x": b""})
    assert sorted(vault.items(), key=str) == sorted(names, key=str)


def test_where_there_is_no_syncfs_each_file_is_synced(acquirer: Acquirer, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)
        real(fd)

    monkeypatch.setitem(disk._system_calls, "syncfs", None)
    monkeypatch.setattr(os, "fsync", fsync)
    folder = acquirer.acquire(FILES).path
    assert {path.stat().st_ino for path in folder.rglob("*")} <= set(synced)
    check_published(acquirer.item(), 1, FILES)


@pytest.mark.parametrize(("code", "error"), [(errno.EIO, StorageError), (errno.ENOSPC, NoSpaceError)])
def test_a_write_error_that_shows_at_the_sync_fails_the_session(
    acquirer: Acquirer, monkeypatch: pytest.MonkeyPatch, code: int, error: type[EvidenceSyncError]
) -> None:
    def syncfs(fd: int) -> int:
        ctypes.set_errno(code)
        return -1

    monkeypatch.setitem(disk._system_calls, "syncfs", syncfs)
    with pytest.raises(error, match="could not sync"):
        acquirer.acquire(FILES)
    assert acquirer.item().acquisitions() == []
