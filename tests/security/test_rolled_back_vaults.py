"""A vault that has lost or rewritten history, or lies about it, against a sender who remembers."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from evidencesync.acquire.push import push
from evidencesync.acquire.request import PushOutcome
from evidencesync.acquire.session_recorder import SessionRecorder
from evidencesync.connection.progress import Progress
from evidencesync.custody.documents import CustodyRecord, Person
from evidencesync.errors import ChainError, EvidenceSyncError, ForkedError, ProtocolError, RolledBackError, SignatureError
from evidencesync.exit_codes import ExitCode
from evidencesync.ingest import admission
from evidencesync.localstate.heads import HeadMemory
from evidencesync.protocol.messages import Message, Ready, Records
from evidencesync.vault import heads
from evidencesync.vault.heads import record_heads, state_head
from evidencesync.vault.ledger import sign_record
from evidencesync.vault.vault import Vault
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.hostile_vault import SECONDS, Tamper, TamperedLink

MOMENT = "2026-01-02T03:04:05.000000Z"


def same(message: Message) -> Message:
    return message


class Rememberer:
    """Somebody who pushes, and remembers."""

    def __init__(self, bench: Bench, state: Path) -> None:
        self.bench = bench
        self.memory = HeadMemory(state)

    def push(self, tamper: Tamper = same) -> PushOutcome:
        link, thread = self.bench.serve()
        try:
            outcome = push(TamperedLink(link, tamper), self.bench.request(), Progress(), recorder=SessionRecorder(self.memory))
        finally:
            thread.join(SECONDS)
        self.memory.remember(outcome.seen)
        return outcome

    def refused(self, kind: type[EvidenceSyncError], tamper: Tamper = same) -> EvidenceSyncError:
        """A push that must fail so, and publish nothing."""
        before = self.bench.acquisitions()
        with pytest.raises(kind) as raised:
            self.push(tamper)
        assert self.bench.acquisitions() == before
        return raised.value


@pytest.fixture
def ana(tmp_path: Path) -> Rememberer:
    bench = make_bench(tmp_path)
    (bench.source / "file").write_bytes(b"evidence")
    return Rememberer(bench, tmp_path / "state")


@pytest.fixture
def other(ana: Rememberer, tmp_path: Path) -> Rememberer:
    """Another machine, which pushes into the same vault."""
    return Rememberer(ana.bench, tmp_path / "other state")


def restore(ana: Rememberer, work: Callable[[], object], tmp_path: Path) -> None:
    """Does something, and puts the vault back to what it was before."""
    root = ana.bench.vault.layout.root
    shutil.copytree(root, tmp_path / "backup", symlinks=True)
    work()
    shutil.rmtree(root)
    (tmp_path / "backup").rename(root)
    ana.bench.vault = Vault.open(root)


def test_pushes_of_two_machines_extend_what_both_have_seen(ana: Rememberer, other: Rememberer) -> None:
    for one in (ana, other, other, ana, other):
        one.push()
    heads = {one.subject.case: one.chain.sequence for one in ana.memory.recall_vault(ana.bench.vault.settings.id)}
    assert heads == {"2026/11": 8, None: 5}


def test_a_push_states_the_items_new_head_in_the_vaults_own_chain(ana: Rememberer) -> None:
    outcome = ana.push()
    last = ana.bench.vault.ledger.last("heads")
    assert last is not None
    place = f"{ana.bench.name.case.folder}/{ana.bench.name.item.folder}"
    assert last.record.details == {place: f"2 {outcome.chain_head_sha256}"}
    assert outcome.vault_head is not None
    assert outcome.vault_head.sha256 == last.sha256


def test_a_vault_that_was_put_back_is_an_older_copy(ana: Rememberer, tmp_path: Path) -> None:
    ana.push()
    restore(ana, ana.push, tmp_path)
    error = ana.refused(RolledBackError)
    assert (error.exit_code, error.slug) == (ExitCode.CHAIN, "rolled-back")
    assert "ends with record 2, " in error.message
    assert "up to record 4, " in error.message
    assert "an older copy" in error.message
    assert "forget-head" in (error.hint or "")
    ana.memory.forget(ana.bench.vault.settings.id)
    assert ana.push().acquisition == 2


@pytest.mark.parametrize("pushes", [1, 2])
def test_a_vault_that_was_put_back_and_went_on_is_a_fork(ana: Rememberer, other: Rememberer, tmp_path: Path, pushes: int) -> None:
    ana.push()
    restore(ana, ana.push, tmp_path)
    for _ in range(pushes):
        other.push()
    error = ana.refused(ForkedError)
    assert (error.exit_code, error.slug) == (ExitCode.CHAIN, "forked")
    assert "record 4, " in error.message


def test_an_item_that_was_removed_is_missed(ana: Rememberer, monkeypatch: pytest.MonkeyPatch) -> None:
    ana.push()
    shutil.rmtree(ana.bench.vault.layout.cases)
    ana.bench.vault.layout.cases.mkdir()
    assert "the vault's own chain says" in ana.refused(ChainError).message
    monkeypatch.setattr(heads, "require_as_stated", lambda *_: None)  # as a vault's end of an earlier version
    assert "is empty" in ana.refused(RolledBackError).message


def test_a_vault_whose_own_chain_alone_was_cut_off_is_found(ana: Rememberer) -> None:
    ana.push()
    for file in sorted(ana.bench.vault.layout.custody.glob("0002-*")):
        file.unlink()
    ana.bench.vault = Vault.open(ana.bench.vault.layout.root)  # each session is a process of its own, and lists a chain anew
    assert "the own chain of the vault" in ana.refused(RolledBackError).message


def test_a_vault_with_another_key_under_a_known_id_is_refused(ana: Rememberer, tmp_path: Path) -> None:
    ana.push()
    (tmp_path / "impostor").mkdir()
    impostor = make_bench(tmp_path / "impostor")

    def lie(message: Message) -> Message:
        if type(message).__name__ == "Welcome":
            return msgspec.structs.replace(message, vault_key=impostor.vault.signer.public_key.blob)
        return message

    assert "this machine has seen it with" in ana.refused(ForkedError, lie).message


# What a vault may show in place of its records.


def changed(**changes: Any) -> Tamper:
    return lambda message: msgspec.structs.replace(message, **changes) if isinstance(message, Records) else message


def only_item(change: Callable[[Records], Message | list[Message]]) -> Tamper:
    """Changes what is shown of the item's chain."""

    def tamper(message: Message) -> Any:
        if isinstance(message, Records) and b'"case": null' not in message.records[0][0]:
            return change(message)
        return message

    return tamper


def test_a_vault_that_knows_the_digest_but_not_the_record_is_refused(ana: Rememberer) -> None:
    ana.push()

    def hide(message: Message) -> Any:
        return [] if isinstance(message, Records) else message

    ana.refused(RolledBackError, hide)


def test_a_vault_that_states_another_head_than_it_shows_is_refused(ana: Rememberer) -> None:
    ana.push()

    def lie(message: Message) -> Message:
        if isinstance(message, Ready):
            return msgspec.structs.replace(message, chain_head_sha256=bytes(32))
        return message

    assert "and shows" in ana.refused(ChainError, lie).message


def forged(ana: Rememberer, sequence: int, previous: str, **changes: Any) -> tuple[bytes, bytes]:
    """A record signed with the vault's own key, which says anything."""
    vault = ana.bench.vault
    record = CustodyRecord(
        format="evidencesync-custody/1",
        vault_id=vault.settings.id,
        sequence=sequence,
        type="received",
        time=MOMENT,
        case="2026/11",
        item="E1",
        actor=Person(name="vault", principal="vault", key=vault.settings.key),
        previous_sha256=previous,
        details={},
        acquisition=1,
        manifest_sha256="0" * 64,
        receipt_sha256="0" * 64,
    )
    return sign_record(msgspec.structs.replace(record, **changes), vault.signer)


def test_a_record_that_is_not_linked_to_what_was_seen_is_refused(ana: Rememberer) -> None:
    ana.push()
    after = forged(ana, 3, "a" * 64)
    tamper = only_item(lambda message: Records(message.first, [*message.records, after], more=False))
    assert "does not follow" in ana.refused(ChainError, tamper).message
    assert ana.refused(ChainError, only_item(lambda _: Records(3, [after], more=False))).exit_code == ExitCode.CHAIN


def test_another_record_under_the_number_that_was_seen_is_a_fork(ana: Rememberer) -> None:
    ana.push()
    tamper = only_item(lambda message: Records(2, [forged(ana, 2, "a" * 64)], more=False))
    ana.refused(ForkedError, tamper)


@pytest.mark.parametrize("change", [{"vault_id": "0" * 32}, {"case": "2026/12"}, {"item": "E2"}])
def test_records_of_another_chain_are_refused(ana: Rememberer, change: dict[str, str]) -> None:
    ana.push()
    tamper = only_item(lambda message: Records(2, [forged(ana, 2, "a" * 64, **change)], more=False))
    assert "of another chain" in ana.refused(ChainError, tamper).message


def test_a_record_with_a_signature_that_does_not_fit_is_refused(ana: Rememberer) -> None:
    ana.push()
    _, wrong = forged(ana, 2, "a" * 64)
    ana.refused(SignatureError, only_item(lambda message: Records(2, [(message.records[0][0], wrong)], more=False)))


def change_the_time(record: Path) -> bytes:
    """Changes a digit, as a disk does; returns the bytes from before."""
    record.chmod(0o644)
    before = record.read_bytes()
    data = bytearray(before)
    digit = data.index(b"T", data.index(b'"time"')) + 5
    data[digit] = ord("1") if data[digit] != ord("1") else ord("2")
    record.write_bytes(data)
    return before


def test_nothing_follows_a_record_of_the_vault_that_a_disk_has_changed(ana: Rememberer) -> None:
    """What follows it would name its digest: then it could not be put right any more."""
    ana.push()
    vault, name = ana.bench.vault, ana.bench.name
    ana.memory = HeadMemory(ana.memory.folder.parent / "of somebody else")
    files = vault.ledger.files()
    record = vault.ledger.folder / files[-1].name
    before = change_the_time(record)
    assert "the vault's own chain" in ana.refused(SignatureError).message
    adding: list[Callable[[], object]] = [
        lambda: record_heads(vault),
        lambda: state_head(vault, name, vault.item(name).ledger.head()),
        lambda: vault.trust.retire(ana.bench.signer.public_key),
    ]
    for add in adding:
        with pytest.raises(SignatureError):
            add()
    assert vault.ledger.files() == files
    record.write_bytes(before)
    assert ana.push().acquisition == 2


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_record_that_a_disk_has_changed_was_replaced_by_nobody(ana: Rememberer, at: int) -> None:
    """The record after it does not follow it any more; but its own signature does not fit, either."""
    ana.push()
    ana.push()
    ledger = ana.bench.vault.item(ana.bench.name).ledger
    record = ledger.folder / ledger.files()[at].name
    change_the_time(record)
    refused = ana.refused(SignatureError if at < 3 else ChainError)  # what the last one was the vault has stated
    assert f"record {at + 1}" in refused.message
    assert not isinstance(refused, ForkedError)


def test_records_that_are_none_out_of_number_or_not_all_are_refused(ana: Rememberer) -> None:
    ana.push()
    ana.refused(ProtocolError, changed(records=[]))
    ana.refused(ProtocolError, changed(records=[(b"{}", b"")]))
    ana.refused(ChainError, changed(first=7))
    ana.refused(ProtocolError, changed(more=True))


def test_records_without_end_are_too_many(ana: Rememberer, monkeypatch: pytest.MonkeyPatch) -> None:
    ana.push()
    monkeypatch.setattr("evidencesync.custody.consistency.MAX_SHOWN_RECORDS", 1 << 16)

    def again(message: Message) -> Any:
        return [message] * 200 if isinstance(message, Records) else message

    assert ana.refused(EvidenceSyncError, again).slug == "limit-exceeded"


def test_an_acknowledgement_that_the_vaults_own_chain_does_not_state_is_refused(ana: Rememberer) -> None:
    ana.push()
    ready = threading.Event()

    def hide(message: Message) -> Any:
        if isinstance(message, Ready):
            ready.set()
        return [] if isinstance(message, Records) and ready.is_set() else message

    with pytest.raises(ChainError, match="does not state the item's new head"):
        ana.push(hide)


def test_two_pushes_of_one_machine_at_the_same_time_remember_both(ana: Rememberer, tmp_path: Path) -> None:
    from dataclasses import replace

    from evidencesync.evidence.identity import ItemName, Title

    ana.push()
    second = Rememberer(replace(ana.bench, name=ItemName(Title("2026/11"), Title("E2"))), tmp_path / "state")
    errors: list[BaseException] = []

    def run(one: Rememberer) -> None:
        try:
            for _ in range(3):
                one.push()
        except BaseException as error:  # noqa: BLE001 - told in the test's thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in (ana, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    heads = {one.subject.item: one.chain.sequence for one in ana.memory.recall_vault(ana.bench.vault.settings.id)}
    assert heads == {"E1": 8, "E2": 6, None: 8}


def test_many_records_of_others_are_shown_in_several_messages(ana: Rememberer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_RECORDS", 16)
    ana.push()
    for _ in range(20):
        record_heads(ana.bench.vault)
    batches: list[Records] = []

    def count(message: Message) -> Iterator[Message]:
        if isinstance(message, Records):
            batches.append(message)
        yield message

    ana.push(count)
    assert [batch.more for batch in batches if batch.first > 1 and len(batch.records) > 1] == [True, False]
    assert ana.push().vault_head is not None
