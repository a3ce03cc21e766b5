"""A vault whose own key was changed, once and again: who knows an earlier key is led over, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from evidencesync.acquire.push import push
from evidencesync.acquire.request import PushOutcome
from evidencesync.acquire.session_recorder import SessionRecorder
from evidencesync.connection.progress import Progress
from evidencesync.custody.trust import TrustedSigners
from evidencesync.errors import ForkedError, UntrustedSignerError, VaultKeyChangedError, VersionError
from evidencesync.ingest import session
from evidencesync.localstate.heads import HeadMemory
from evidencesync.localstate.receipt_checks import check_kept
from evidencesync.localstate.receipts import ReceiptDraft, receipts_folder
from evidencesync.protocol.messages import KEYS_VERSION, VERSIONS
from evidencesync.vault.key_change import change_key
from evidencesync.vault.layout import record_file
from evidencesync.vault.ledger import sign_record
from evidencesync.vault.trust import record_upon
from evidencesync.vault.vault import Vault
from evidencesync.verify.audit import audit_vault
from evidencesync.verify.findings import Verdict
from evidencesync.verify.receipt_comparison import chain_order, check_against_vault
from tests.support.bench_of_evidence import Bench, copy_of, make_bench, new_signer
from tests.support.verdicts import verified, verified_fetched


@pytest.fixture(scope="session")
def used(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A bench with one acquisition, to be copied."""
    bench = make_bench(tmp_path_factory.mktemp("used"))
    (bench.source / "small").write_bytes(b"small evidence")
    (bench.source / "large").write_bytes(os.urandom(300_000))
    bench.push()
    return bench


@pytest.fixture
def bench(used: Bench, tmp_path: Path) -> Bench:
    return copy_of(used, tmp_path)


def rotate(bench: Bench) -> str:
    """Changes the key as another process does, and returns the new one."""
    vault = Vault.open(bench.vault.layout.root)
    change_key(vault, vault.keys.current)
    return vault.keys.current


def audited(bench: Bench, memory: HeadMemory | None = None, trusted: bytes | None = None) -> Verdict:
    return audit_vault(bench.vault.layout.root, trusted=trusted, memory=memory, now_ns=time.time_ns())


def slugs(verdict: Verdict) -> set[str]:
    return {one.slug for one in verdict.findings if one.severity != "info"}


def pushed(bench: Bench, memory: HeadMemory, draft: ReceiptDraft | None = None) -> PushOutcome:
    ours, thread = bench.serve()
    outcome = push(ours, bench.request(), Progress(), recorder=SessionRecorder(memory, draft))
    thread.join(60)
    memory.remember(outcome.seen)
    return outcome


def test_a_vault_passes_after_its_key_was_changed_and_again_and_goes_on(bench: Bench) -> None:
    first = bench.vault.keys.current
    for number in (2, 3):
        rotate(bench)
        assert (audited(bench).exit_code, slugs(audited(bench))) == (0, set())
        assert bench.push().acquisition == number
        assert (audited(bench).exit_code, slugs(audited(bench))) == (0, set())
    keys = bench.vault.keys
    assert keys.first == first == bench.vault.settings.key
    assert len({*keys.all}) == 3
    assert bench.vault.signer.public_key.fingerprint == keys.current


def test_who_remembers_the_vault_is_led_over_to_its_new_keys(bench: Bench, tmp_path: Path) -> None:
    memory = HeadMemory(tmp_path / "state")
    pushed(bench, memory)
    rotate(bench)
    rotate(bench)
    pushed(bench, memory)
    assert {one.vault_key for one in memory.recall_vault(bench.vault.settings.id)} == {bench.vault.keys.current}
    assert audited(bench, memory).exit_code == 0
    rotate(bench)
    assert audited(bench, memory).exit_code == 0
    assert verified(bench, tmp_path / "state").exit_code == 0
    rotate(bench)
    assert verified_fetched(bench, tmp_path / "state", tmp_path / "here").exit_code == 0
    pushed(bench, memory)


def test_signers_from_outside_who_know_the_first_key_alone_are_led_over_and_others_are_not(bench: Bench) -> None:
    signers = (bench.vault.layout.root / "trusted_signers").read_bytes()
    for _ in range(2):
        rotate(bench)
        bench.push()
    assert audited(bench, trusted=signers).exit_code == 0
    without = b"\n".join(line for line in signers.split(b"\n") if not line.startswith(b"vault "))
    assert "untrusted-signer" in slugs(audited(bench, trusted=without))


def test_a_key_that_no_record_leads_to_is_refused_by_who_remembers_another(bench: Bench, tmp_path: Path) -> None:
    memory = HeadMemory(tmp_path / "state")
    pushed(bench, memory)
    (tmp_path / "other").mkdir()
    other = copy_of(bench, tmp_path / "other")
    rotate(bench)
    pushed(bench, memory)
    with pytest.raises(ForkedError):  # the old key, with a history that was not changed
        pushed(other, memory)
    rotate(other)
    with pytest.raises(ForkedError):  # the old key has signed another new one, too
        pushed(other, memory)


def test_an_older_end_is_told_to_update_and_takes_the_vault_for_no_other_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = tuple(one for one in VERSIONS if one < KEYS_VERSION)
    with monkeypatch.context() as patch:
        patch.setattr("evidencesync.acquire.handshake.VERSIONS", older)
        bench.push()
        rotate(bench)
        with pytest.raises(VersionError, match="too old to follow"):
            bench.push()
    bench.push()


def test_receipts_of_every_key_are_good_with_the_vault_and_without_it(bench: Bench, tmp_path: Path) -> None:
    memory, kept = HeadMemory(tmp_path / "state"), tmp_path / "receipts"
    signers = (bench.vault.layout.root / "trusted_signers").read_bytes()
    for _ in range(3):
        with receipts_folder(kept) as folder:
            draft = ReceiptDraft(folder)
            outcome = pushed(bench, memory, draft)
            draft.finish(bench.name, outcome.acquisition, outcome.documents.by_name())
        rotate(bench)
    order = chain_order(bench.vault)
    for receipt in sorted(kept.iterdir()):
        for trusted in (None, TrustedSigners.parse(signers)):
            checked = check_kept(receipt, trusted, time.time_ns(), order)
            assert checked.problems == []
            assert check_against_vault(checked, Vault.open(bench.vault.layout.root)) == []


def test_an_acquisition_that_the_old_key_signs_after_the_change_is_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "stolen").mkdir()
    stolen = copy_of(bench, tmp_path / "stolen")  # with the old key
    rotate(bench)
    stolen.push()
    item = bench.vault.layout.item(bench.name).root
    shutil.rmtree(item)
    shutil.copytree(stolen.vault.layout.item(bench.name).root, item, symlinks=True)
    verdict = audited(bench)
    refused = [one.message for one in verdict.findings if one.slug == "wrong-signer"]
    assert verdict.exit_code == 32
    assert any("record 4 is signed with" in one and "gave up" in one for one in refused)


def test_a_record_of_the_vault_that_the_old_key_signs_after_the_change_is_refused(bench: Bench) -> None:
    old = bench.vault.signer
    rotate(bench)
    head = bench.vault.ledger.head()
    record = record_upon(bench.vault.settings, old.public_key.fingerprint, head, "heads", {}, time.time_ns())
    data, signature = sign_record(record, old)
    name = record_file(record.sequence, "heads")
    (bench.vault.layout.custody / name).write_bytes(data)
    (bench.vault.layout.custody / f"{name}.sig").write_bytes(signature)
    assert (audited(bench).exit_code, slugs(audited(bench))) == (32, {"wrong-signer", "unsafe-mode"})


def test_a_change_that_the_old_key_has_not_signed_lets_nobody_in(bench: Bench, tmp_path: Path) -> None:
    """Who may write the vault's folders and has not its key puts a key of their own there."""
    own = new_signer()
    head, layout = bench.vault.ledger.head(), bench.vault.layout
    last = bench.vault.ledger.last("made")
    assert last is not None
    details = last.record.details | {"key": own.public_key.fingerprint, "public_key": own.public_key.line()}
    record = record_upon(bench.vault.settings, bench.vault.settings.key, head, "key-changed", details, time.time_ns())
    data, signature = sign_record(record, own)
    name = record_file(record.sequence, "key-changed")
    (layout.custody / name).write_bytes(data)
    (layout.custody / f"{name}.sig").write_bytes(signature)
    memory = HeadMemory(tmp_path / "state")
    with pytest.raises(UntrustedSignerError):
        pushed(bench, memory)
    assert audited(bench).exit_code == 32
    assert "wrong-signer" in slugs(audited(bench))


def test_a_transfer_that_runs_while_the_key_is_changed_ends_and_the_next_one_reuses_what_arrived(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    conclude = session.IngestSession._conclude

    def changed_before(*arguments: object) -> object:
        rotate(bench)
        return conclude(*arguments)  # type: ignore[arg-type]

    (bench.source / "more").write_bytes(os.urandom(400_000))
    with monkeypatch.context() as patch:
        patch.setattr(session.IngestSession, "_conclude", changed_before)
        with pytest.raises(VaultKeyChangedError):
            bench.push()
    assert bench.acquisitions() == ["0001"]
    assert bench.push().literal_bytes < 100_000
    assert audited(bench).exit_code == 0
