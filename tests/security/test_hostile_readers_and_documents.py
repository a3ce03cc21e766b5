"""Documents are read from afar: vaults that show what is none, and readers who ask for what they may not have."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from evidencesync.acquire import documents
from evidencesync.cli.catalog import list_output
from evidencesync.connection.link import LocalLink, local_pair
from evidencesync.errors import (
    EvidenceSyncError,
    LimitExceededError,
    LinkLostError,
    MalformedDocumentError,
    MissingOrExtraError,
    ProtocolError,
    StorageError,
    UntrustedSignerError,
    VersionError,
)
from evidencesync.exit_codes import ExitCode
from evidencesync.files.disk import opened_file, opened_folder
from evidencesync.files.unread import mark_unread, unread_error
from evidencesync.limits import MAX_RECORD
from evidencesync.localstate.heads import HeadMemory
from evidencesync.protocol.document_messages import DocumentBatch, DocumentsAsk, Stray, Unread
from evidencesync.protocol.messages import ALIKE_VERSION, READING_VERSION, Message, Status
from evidencesync.vault.catalog import load_receipt
from evidencesync.vault.heads import OWN, SEEN, require_stated
from evidencesync.vault.stated import StatedHead
from tests.support.bench_of_evidence import Bench, copy_of, make_bench, new_signer
from tests.support.hostile_client import HostileReader as Reader
from tests.support.hostile_client import data_frame
from tests.support.hostile_vault import MadeUpVault, TamperedLink, made_up_vault
from tests.support.reading import fetched

_RECORD = "custody/0001-made.json"
_PLACE = "cases/C1/I1"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("template")
    made = make_bench(folder)
    (made.source / "a").write_bytes(b"evidence")
    made.push()
    return made


@pytest.fixture
def bench(template: Bench, tmp_path: Path) -> Bench:
    return copy_of(template, tmp_path)


def shown_by(bench: Bench, folder: Path, *batches: tuple[list[tuple[str, int]], bytes]) -> None:
    """Reads from a vault's end that shows these batches, each with these bytes."""

    def script(made_up: MadeUpVault) -> None:
        made_up.welcome(version=READING_VERSION)
        made_up.hear(DocumentsAsk)
        for files, data in batches:
            made_up.say(DocumentBatch(files))
            if data:
                made_up.link.write(data_frame(data))
        made_up.say(DocumentBatch([]))

    with made_up_vault(bench, script) as link:
        fetched(bench, folder, connect=lambda: link)


def everything_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("batches", "error"),
    [
        ([([("../outside", 1)], b"x")], ProtocolError),
        ([([("/tmp/outside", 1)], b"x")], ProtocolError),
        ([([("vault_key", 1)], b"x")], ProtocolError),
        ([([(f"{_PLACE}/acquisitions/0001/data/x", 1)], b"x")], ProtocolError),
        ([([("cases/../../x/custody/0001-made.json", 1)], b"x")], ProtocolError),
        ([([(_RECORD, 1), (_RECORD, 1)], b"xx")], ProtocolError),
        ([([(_RECORD, 1)], b"x"), ([(_RECORD, 1)], b"y")], ProtocolError),
        ([([(_RECORD, 1)], b"xy")], ProtocolError),
        ([([(_RECORD, 2)], b"x")], ProtocolError),
        ([([(_RECORD, 1)], b"")], ProtocolError),
        ([([(_RECORD, MAX_RECORD + 1)], b"x")], ProtocolError),
        ([([(_RECORD, MAX_RECORD + 2), (_RECORD, 1)], b"x")], ProtocolError),
        ([([(_RECORD, MAX_RECORD + 3)], b"")], LimitExceededError),
        ([([(f"{_PLACE}/acquisitions/0001/manifest.jsonl", 1 << 30)], b"x")], LimitExceededError),
        ([([(f"{_PLACE}/custody", 1)], b"x")], ProtocolError),
        ([([(f"{_PLACE}/custody", 0), (f"{_PLACE}/custody/0001-acquired.json", 1)], b"x")], ProtocolError),
        ([([("cases/C1", 0), (f"{_PLACE}/custody/0001-acquired.json", 1)], b"x")], ProtocolError),
        ([([(f"{_PLACE}/custody/0001-acquired.json", 1), (f"{_PLACE}/custody", 0)], b"x")], ProtocolError),
        ([([("cases/C1", 0), ("cases/C1", 0)], b"")], ProtocolError),
        ([([("cases", 0)], b"")], ProtocolError),
        ([([("vault.toml", 7)], b"no toml")], EvidenceSyncError),
        ([], EvidenceSyncError),
    ],
)
def test_what_is_no_document_ends_it_and_is_written_nowhere(
    bench: Bench, tmp_path: Path, batches: list[tuple[list[tuple[str, int]], bytes]], error: type[EvidenceSyncError]
) -> None:
    folder = tmp_path / "here"
    with pytest.raises(error):
        shown_by(bench, folder, *batches)
    assert not (tmp_path / "outside").exists()
    assert all(path.startswith("documents0") for path in everything_in(folder))


def test_what_came_before_a_vault_hung_up_does_not_stay_for_the_next_attempt(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "pause_seconds", lambda _attempt: 0.0)

    def connect() -> LocalLink:
        ours, theirs = local_pair()

        def run() -> None:
            made_up = MadeUpVault(bench, theirs)
            made_up.welcome(version=READING_VERSION)
            made_up.hear(DocumentsAsk)
            made_up.say(DocumentBatch([(_RECORD, 1)]))
            theirs.write(data_frame(b"x"))
            theirs.close()

        threading.Thread(target=run, daemon=True).start()
        return ours

    with pytest.raises(LinkLostError):
        fetched(bench, tmp_path / "here", connect=connect, retries=3)
    kept = [path for path in everything_in(tmp_path / "here") if path.endswith(_RECORD)]
    assert len(kept) == 1  # of the last attempt: who has made the folder removes it


def test_documents_of_another_vault_than_it_said_it_is_are_not_taken(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = make_bench(tmp_path / "other")
    with pytest.raises(ProtocolError, match="another vault"):
        shown_by(
            bench,
            tmp_path / "here",
            *(
                ([(name, len(data))], data)
                for name in ("vault.toml", "custody/0001-made.json", "custody/0001-made.json.sig")
                if (data := (other.vault.layout.root / name).read_bytes())
            ),
        )


def test_a_vault_that_only_says_that_it_works_is_given_up(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evidencesync.connection.vault_answers.MAX_CUSTODY_WORK_SECONDS", 0.0)

    def tamper(message: Message) -> list[Message]:
        return [Status("receiving", 0, 0)] * 3 + [message] if isinstance(message, DocumentBatch) else [message]

    with pytest.raises((LinkLostError, ProtocolError)):
        fetched(bench, tmp_path / "here", connect=lambda: TamperedLink(bench.serve()[0], tamper), timeout_seconds=5.0)


# --- Readers ---------------------------------------------------------------------------------------------------------------


def test_a_key_that_the_vault_does_not_trust_reads_nothing(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(UntrustedSignerError):
        fetched(replace(bench, signer=new_signer()), tmp_path / "here")


@pytest.mark.parametrize("purpose", ["read", "push", "custody"])
def test_a_claim_is_good_for_its_own_purpose_alone(bench: Bench, purpose: str) -> None:
    client = Reader(bench)
    if purpose == "read":
        claim = client.claim(client.hello(versions=[READING_VERSION], purpose="read"))
    else:
        claim = client.claim_to_read()
        client = Reader(bench)
        client.hello(versions=[READING_VERSION], purpose=purpose)
    client.enter(claim)
    assert isinstance(client.ended(), ProtocolError)


def test_an_older_version_reads_nothing(bench: Bench) -> None:
    client = Reader(bench)
    with pytest.raises(VersionError):
        client.hello(versions=[ALIKE_VERSION], purpose="read")


@pytest.mark.parametrize(
    "ask",
    [
        DocumentsAsk(None, "I1", []),
        DocumentsAsk("C1", None, [1]),
        DocumentsAsk("../..", None, []),
        DocumentsAsk("C1", "a\x1bb", []),
        Status("receiving", 0, 0),
    ],
)
def test_what_cannot_be_asked_ends_the_session(bench: Bench, ask: Message) -> None:
    client = Reader(bench)
    client.enter(client.claim_to_read())
    client.send(ask)
    assert isinstance(client.ended(), ProtocolError)


def test_one_question_after_another_is_answered_over_one_link(bench: Bench) -> None:
    client = Reader(bench)
    client.enter(client.claim_to_read())
    sizes = []
    for _ in range(2):
        client.send(DocumentsAsk(None, None, []))
        named = []
        while files := client.hear(DocumentBatch).files:
            named += files
        sizes.append(dict(named)["vault.toml"])
    assert sizes == [(bench.vault.layout.root / "vault.toml").stat().st_size] * 2
    client.link.close()
    client.joined()
    assert client.error is None


def test_a_reader_that_asks_for_an_item_that_is_not_there_gets_the_vault_s_own_documents(bench: Bench, tmp_path: Path) -> None:
    vault, _ = fetched(bench, tmp_path / "here", case="no", item="such")
    assert not [path for path in everything_in(vault.layout.root) if path.startswith("cases/")]
    assert (vault.layout.custody / "0001-made.json").exists()


def test_a_document_that_is_not_there_is_missing_here_too(bench: Bench, tmp_path: Path) -> None:
    (bench.acquisition(1) / "receipt.json").unlink()
    vault, _ = fetched(bench, tmp_path / "here")
    assert not (vault.layout.item(bench.name).acquisition(1) / "receipt.json").exists()


@pytest.mark.parametrize("name", ["receipt.json", "receipt.json.sig", "manifest.jsonl", "chunks.bin"])
@pytest.mark.parametrize("whole", [(), (1,)])
def test_a_document_made_large_is_wrong_here_too_and_hides_no_other(
    bench: Bench, tmp_path: Path, name: str, whole: tuple[int, ...]
) -> None:
    (bench.source / "b").write_bytes(b"more")
    bench.push()
    file = bench.acquisition(1) / name
    file.chmod(0o600)
    os.truncate(file, 32 << 30)
    vault, _ = fetched(bench, tmp_path / "here", case=bench.name.case.text, item=bench.name.item.text, whole=whole)
    item = vault.layout.item(bench.name)
    if name != "chunks.bin" or whole:
        for root in (bench.acquisition(1), item.acquisition(1)):
            with opened_folder(root) as folder, pytest.raises(MalformedDocumentError), opened_file(name, folder):
                pass
    assert load_receipt(item, 2).acquisition == 2


@pytest.mark.parametrize("depth", [0, 1, "acquisitions", "custody", "incoming", "acquisitions/0001"])
def test_a_link_in_the_place_of_a_folder_is_one_from_afar_and_followed_by_nobody(
    bench: Bench, tmp_path: Path, depth: int | str
) -> None:
    """What a person has moved to another disk is not called removed; and its documents are not shown either."""
    item = bench.vault.layout.item(bench.name).root
    place = [item.parent, item][depth] if isinstance(depth, int) else item / depth
    memory = HeadMemory(tmp_path / "memory")
    place.rename(tmp_path / "away")
    place.symlink_to(tmp_path / "away")
    vault, _ = fetched(bench, tmp_path / "here")
    codes = [list_output(one, memory)[1] for one in (bench.vault, vault)]
    assert codes == [set() if depth == "incoming" else {ExitCode.MISSING_OR_EXTRA}] * 2
    assert (vault.layout.root / place.relative_to(bench.vault.layout.root)).is_symlink()


def test_a_file_in_the_place_of_an_acquisition_is_one_from_afar_too(bench: Bench, tmp_path: Path) -> None:
    (bench.vault.layout.item(bench.name).acquisitions / "0002").write_bytes(b"")
    vault, _ = fetched(bench, tmp_path / "here")
    for one in (bench.vault, vault):
        assert list_output(one, HeadMemory(tmp_path / "memory"))[1] == {ExitCode.MISSING_OR_EXTRA}


@pytest.mark.parametrize("where", ["item", "vault"])
def test_a_link_or_a_fifo_in_the_place_of_a_record_is_none_that_was_removed(bench: Bench, tmp_path: Path, where: str) -> None:
    ledger = bench.vault.item(bench.name).ledger if where == "item" else bench.vault.ledger
    record = ledger.folder / ledger.files()[-1].name
    record.rename(tmp_path / "away")
    if where == "item":
        os.mkfifo(record)
    else:
        record.symlink_to(tmp_path / "away")
    vault, _ = fetched(bench, tmp_path / "here")
    for one in (bench.vault, vault):
        assert list_output(one, HeadMemory(tmp_path / "memory"))[1] == {ExitCode.MISSING_OR_EXTRA}


def test_a_link_in_the_place_of_the_vault_s_own_chain_is_no_removed_chain(bench: Bench, tmp_path: Path) -> None:
    """Also where this machine has seen the chain."""
    head = bench.vault.ledger.head()
    bench.vault.layout.custody.rename(tmp_path / "away")
    bench.vault.layout.custody.symlink_to(tmp_path / "away")
    with pytest.raises(MissingOrExtraError):
        require_stated(bench.vault.ledger, OWN, [StatedHead(head.sequence, head.sha256 or "", SEEN)])


def test_an_acquired_record_that_is_not_the_chain_s_is_said_as_verify_says_it(bench: Bench, tmp_path: Path) -> None:
    acquired = bench.acquisition(1) / "acquired.json"
    acquired.unlink()
    acquired.write_bytes(b"")
    vault, _ = fetched(bench, tmp_path / "here")
    for one in (bench.vault, vault):
        assert list_output(one, HeadMemory(tmp_path / "memory"))[1] == {ExitCode.CHAIN}


def test_a_small_document_that_is_too_long_is_so_here_too(bench: Bench, tmp_path: Path) -> None:
    file = bench.acquisition(1) / "receipt.json"
    file.chmod(0o600)
    file.write_bytes(b"x" * (MAX_RECORD + 1))
    vault, _ = fetched(bench, tmp_path / "here")
    with pytest.raises(MalformedDocumentError, match=f"larger than {MAX_RECORD} bytes"):
        load_receipt(vault.layout.item(bench.name), 1)


def refuse_receipts(patch: pytest.MonkeyPatch) -> None:
    def failing(name: str, dir_fd: int) -> AbstractContextManager[BinaryIO]:
        if name == "receipt.json":
            raise OSError(errno.EIO, "Input/output error")
        return opened_file(name, dir_fd)

    patch.setattr("evidencesync.ingest.documents.opened_file", failing)


def test_a_document_that_the_disk_does_not_give_is_not_taken_for_missing(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads the copy meets the refusal that the vault's end has met, with the path there."""
    refuse_receipts(monkeypatch)
    vault, _ = fetched(bench, tmp_path / "here")
    with pytest.raises(StorageError) as raised:
        load_receipt(vault.layout.item(bench.name), 1)
    assert raised.value.message == f"could not read {bench.acquisition(1)}/receipt.json: Input/output error"
    assert list_output(vault, HeadMemory(tmp_path / "memory"))[1] == {ExitCode.GAPS}


def test_to_a_reader_that_does_not_know_what_is_told_nothing_is_sent_in_place_of_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_receipts(monkeypatch)
    client = Reader(bench)  # of ASKING_VERSION
    client.enter(client.claim_to_read())
    client.send(DocumentsAsk(None, None, []))
    assert isinstance(client.ended(), StorageError)


def test_no_link_in_a_vault_is_taken_for_a_failed_read(bench: Bench, tmp_path: Path) -> None:
    """Of what is not read nobody says that it is wrong: so only this process can make the mark of it."""
    mark_unread(tmp_path / "mark", "could not read it")
    for target in ("could not read it", "0" * 32 + ":could not read it"):
        receipt = bench.acquisition(1) / "receipt.json"
        receipt.unlink()
        receipt.symlink_to(target)
        with pytest.raises(MissingOrExtraError):
            load_receipt(bench.vault.layout.item(bench.name), 1)
    assert isinstance(unread_error(tmp_path / "mark"), StorageError)


@pytest.mark.parametrize(
    "told",
    [
        [Unread("vault_key", "x")],
        [Unread("../outside", "x")],
        [Unread("cases", "x")],
        [Unread(f"{_PLACE}/custody", "x"), Unread(f"{_PLACE}/custody", "x")],
        [Unread(_RECORD, "x"), Unread(_RECORD, "x")],
        [Unread("cases/C1", "x"), Unread(f"{_PLACE}/custody", "x")],
        [Stray("custody", b"../outside.json")],
        [Stray("custody", b"..")],
        [Stray("custody", b"a\0.json")],
        [Stray("custody", b"0001-made.json")],
        [Stray("custody", b"notes.txt")],
        [Stray("custody", b"0001")],
        [Stray("cases/C1/I1", b"x.json")],
        [Stray("cases/../custody", b"x.json")],
        [Stray("cases/C1/I1/incoming", b"x.json")],
        [Stray(f"{_PLACE}/acquisitions", b"x.json")],
        [Stray("custody", b"x.json"), Stray("custody", b"x.json")],
        [Stray(f"{_PLACE}/acquisitions", b"0001"), Stray(f"{_PLACE}/acquisitions", b"0001")],
        [Unread(f"{_PLACE}/custody", "x"), Stray(f"{_PLACE}/custody", b"x.json")],
    ],
)
def test_what_a_vault_tells_of_what_it_does_not_show_is_written_nowhere_else(
    bench: Bench, tmp_path: Path, told: list[Message]
) -> None:
    def script(made_up: MadeUpVault) -> None:
        made_up.welcome(version=READING_VERSION)
        made_up.hear(DocumentsAsk)
        for message in told:
            made_up.say(message)
        made_up.say(DocumentBatch([]))

    with made_up_vault(bench, script) as link, pytest.raises(ProtocolError):
        fetched(bench, tmp_path / "here", connect=lambda: link)
    assert not (tmp_path / "outside").exists()
    assert all(path.startswith("documents0") for path in everything_in(tmp_path / "here"))


def test_what_a_vault_says_of_a_refusal_cannot_forge_a_line(bench: Bench, tmp_path: Path) -> None:
    def script(made_up: MadeUpVault) -> None:
        made_up.welcome(version=READING_VERSION)
        made_up.hear(DocumentsAsk)
        made_up.say(Unread(_RECORD, "x\n\x1b[2Jerror: y"))
        made_up.say(DocumentBatch([]))

    with made_up_vault(bench, script) as link, pytest.raises(EvidenceSyncError):  # it has no vault.toml
        fetched(bench, tmp_path / "here", connect=lambda: link)
    error = unread_error(tmp_path / "here" / "documents0" / _RECORD)
    assert error is not None
    assert error.message.isprintable()
