"""A receipt that is kept proves itself without the vault, and shows a vault that has lost or changed what it signed for."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from evidencesync.acquire.known_heads import VaultAtHand
from evidencesync.acquire.push import push
from evidencesync.acquire.session_recorder import SessionRecorder
from evidencesync.connection.progress import Progress
from evidencesync.custody.documents import CUSTODY_NAMESPACE
from evidencesync.custody.record import record_name
from evidencesync.custody.sshsig import sign_document
from evidencesync.custody.trust import TrustedSigners, signer_line
from evidencesync.evidence.digest import sha512_of
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.localstate.files import KeptFolder
from evidencesync.localstate.heads import HeadMemory
from evidencesync.localstate.receipt_checks import CheckedReceipt, check_kept
from evidencesync.localstate.receipts import ReceiptDraft
from evidencesync.vault.ledger import iter_records, sign_record
from evidencesync.vault.vault import Vault
from evidencesync.verify.audit import audit_vault
from evidencesync.verify.receipt_comparison import chain_order, check_against_vault
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.moments import LONG_AFTER_NS
from tests.support.patience import PATIENCE_SECONDS
from tests.support.unreadable import Unreadable
from tests.unit.vault.acquiring import new_signer

EXAMINER = ("manifest@evidencesync", "custody@evidencesync")
VAULT = ("receipt@evidencesync", "custody@evidencesync")


class Keeper:
    """Pushes, and keeps receipts."""

    def __init__(self, folder: Path) -> None:
        self.bench: Bench = make_bench(folder)
        (self.bench.source / "small").write_bytes(b"small evidence")
        self.memory = HeadMemory(folder / "state")
        self.receipts = folder / "receipts"
        self.receipts.mkdir()

    def push(self) -> Path:
        draft = ReceiptDraft(KeptFolder(self.receipts))
        link, thread = self.bench.serve()
        outcome = push(link, self.bench.request(), Progress(), recorder=SessionRecorder(self.memory, draft))
        thread.join(PATIENCE_SECONDS)
        self.memory.remember(outcome.seen)
        return draft.finish(outcome.name, outcome.acquisition, outcome.documents.by_name()).folder

    def trusted(self, *, examiner: bool = True, vault: bool = True) -> TrustedSigners:
        lines = []
        if examiner:
            lines.append(signer_line("ana@lab", self.bench.signer.public_key, EXAMINER))
        if vault:
            lines.append(signer_line("vault", self.bench.vault.signer.public_key, VAULT))
        return TrustedSigners.parse("".join(line + "\n" for line in lines).encode())


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    return Keeper(tmp_path)


def check(folder: Path, trusted: TrustedSigners | None = None) -> CheckedReceipt:
    return check_kept(folder, trusted, time.time_ns())


def slugs(found: CheckedReceipt) -> set[str]:
    return {error.slug for error in found.problems}


def change(file: Path, edit: Callable[[bytes], bytes]) -> None:
    data = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(edit(data))


def test_what_a_push_keeps_is_good(keeper: Keeper) -> None:
    for number in (1, 2, 3):
        found = check(keeper.push(), keeper.trusted())
        assert found.problems == []
        assert found.manifest_kept
        assert found.receipt is not None
        assert found.receipt.acquisition == number
        assert found.records == (2 if number == 1 else 3)


def test_the_manifest_that_is_kept_is_the_vaults_to_the_byte(keeper: Keeper) -> None:
    folder = keeper.push()
    for file in keeper.bench.acquisition(1).glob("*.json*"):
        assert (folder / file.name).read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_every_changed_byte_of_a_receipt_is_found(keeper: Keeper, tmp_path: Path) -> None:
    keeper.push()
    folder = keeper.push()
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) == 14
    for file in files:
        size = file.stat().st_size
        for offset in {0, size // 3, size // 2, size - 1}:
            copy = tmp_path / "copy"
            shutil.copytree(folder, copy)
            place = copy / file.relative_to(folder)
            damaged = bytearray(place.read_bytes())
            damaged[offset] ^= 1
            place.chmod(0o644)
            place.write_bytes(damaged)
            assert check(copy).problems != [], f"{file.name} at {offset}"
            shutil.rmtree(copy)


@pytest.mark.parametrize("name", ["receipt.json", "received.json.sig", "manifest.jsonl.sig", "custody/0002-received.json.sig"])
def test_what_is_missing_is_said(keeper: Keeper, name: str) -> None:
    keeper.push()
    folder = keeper.push()
    (folder / name).unlink()
    assert slugs(check(folder)) == {"missing-or-extra"}


@pytest.mark.parametrize("part", ["custody", "vault-custody"])
def test_a_record_that_was_removed_leaves_its_signature_and_that_is_said(keeper: Keeper, part: str) -> None:
    """Also of the first one that was shown: no record after it is without the one before it."""
    keeper.push()
    keeper.push()
    folder = keeper.push()
    first = min((folder / part).glob("*.json"))
    first.unlink()
    assert slugs(check(folder)) == {"missing-or-extra"}


def test_what_does_not_belong_there_is_said(keeper: Keeper) -> None:
    folder = keeper.push()
    (folder / "evil\x1b[2J").write_bytes(b"")
    (error,) = check(folder).problems
    assert error.slug == "missing-or-extra"
    assert "\x1b" not in error.message


def test_without_its_manifest_a_receipt_is_incomplete_and_not_good(keeper: Keeper) -> None:
    folder = keeper.push()
    (folder / "manifest.jsonl").unlink()
    (error,) = check(folder).problems
    assert (int(error.exit_code), "manifest was not kept" in error.message) == (3, True)


@pytest.mark.parametrize("name", ["acquired.json", "received.json", "receipt.json", "manifest.jsonl"])
def test_documents_of_two_receipts_do_not_fit_together(keeper: Keeper, name: str) -> None:
    first, second = keeper.push(), keeper.push()
    for file in (name, name + ".sig"):
        (second / file).unlink()
        shutil.copy(first / file, second / file)
    assert check(second).problems != []


@pytest.mark.parametrize(("examiner", "vault"), [(True, False), (False, True), (False, False)])
def test_who_signed_is_judged_by_signers_from_outside(keeper: Keeper, examiner: bool, vault: bool) -> None:
    found = check(keeper.push(), keeper.trusted(examiner=examiner, vault=vault))
    assert slugs(found) == {"untrusted-signer"}
    assert len(found.problems) == 4 - 2 * (examiner + vault)


def test_a_link_in_place_of_a_document_is_not_followed(keeper: Keeper) -> None:
    folder = keeper.push()
    (folder / "receipt.json").rename(folder.parent / "elsewhere")
    (folder / "receipt.json").symlink_to(folder.parent / "elsewhere")
    assert check(folder).problems != []


# Against a vault.


def against(keeper: Keeper, folder: Path) -> list[str]:
    return [error.slug for error in check_against_vault(check(folder), Vault.open(keeper.bench.vault.layout.root))]


def test_a_vault_has_what_it_signed_for(keeper: Keeper) -> None:
    folders = [keeper.push() for _ in range(3)]
    assert [against(keeper, folder) for folder in folders] == [[], [], []]


def overwritten(file: Path, data: bytes) -> None:
    file.chmod(0o600)
    file.write_bytes(data)


def _changed(name: str, old: bytes, new: bytes) -> Callable[[Keeper, Path], None]:
    def do(_: Keeper, folder: Path) -> None:
        data = (folder / name).read_bytes()
        assert old in data
        overwritten(folder / name, data.replace(old, new, 1))

    return do


def _by_another(keeper: Keeper, folder: Path) -> None:
    """A record of a number that the vault has never had, signed by somebody in the vault's place."""
    signer = new_signer()
    record = json.loads((folder / "received.json").read_bytes())
    record["sequence"] = 900
    record["actor"]["key"] = signer.public_key.fingerprint
    data = msgspec.json.format(json.dumps(record).encode(), indent=2) + b"\n"
    overwritten(folder / "received.json", data)
    overwritten(folder / "received.json.sig", sign_document(signer, CUSTODY_NAMESPACE, sha512_of(data)))


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (_changed("received.json", b"2", b"1"), 32),
        (_changed("receipt.json", b'"received_from": "', b'"received_from": "x'), 32),
        (_changed("acquired.json", b'"name": "', b'"name": "x'), 32),
        (lambda _, folder: (folder / "received.json.sig").unlink(), 31),
        (_by_another, 32),
    ],
)
def test_a_receipt_that_was_changed_here_accuses_no_vault(
    keeper: Keeper, spoil: Callable[[Keeper, Path], None], code: int
) -> None:
    """What nobody has signed is no proof that a vault lacks anything: neither 34, nor any word of a rollback."""
    folder = keeper.push()
    spoil(keeper, folder)
    checked = check(folder)
    assert max(int(error.exit_code) for error in checked.problems) == code
    assert {error.slug for error in check_against_vault(checked, keeper.bench.vault)} <= {"incomplete"}
    assert not checked.vouched_for


def test_an_examiner_is_trusted_under_the_name_that_the_documents_give(keeper: Keeper) -> None:
    """As verify judges with signers from outside: a key that is trusted as Ben's does not vouch for Ana, a pattern does."""
    folder = keeper.push()
    vault = signer_line("vault", keeper.bench.vault.signer.public_key, VAULT)
    of_ana = signer_line("ana@lab", keeper.bench.signer.public_key, EXAMINER)
    for named, expected in (("ana@lab", set()), ("*@lab", set()), ("ben@lab", {"untrusted-signer"})):
        listed = TrustedSigners.parse(f"{of_ana.replace('ana@lab', named, 1)}\n{vault}\n".encode())
        assert slugs(check(folder, listed)) == expected


def test_a_vault_that_was_rolled_back_lacks_the_later_receipts(keeper: Keeper, tmp_path: Path) -> None:
    first = keeper.push()
    root = keeper.bench.vault.layout.root
    shutil.copytree(root, tmp_path / "backup")
    second = keeper.push()
    shutil.rmtree(root)
    (tmp_path / "backup").rename(root)
    assert (against(keeper, first), against(keeper, second)) == ([], ["rolled-back"])
    shutil.rmtree(root / "cases")
    assert against(keeper, first) == ["rolled-back"]


def test_a_vault_with_another_history_is_forked(keeper: Keeper, tmp_path: Path) -> None:
    root = keeper.bench.vault.layout.root
    keeper.bench.push()
    shutil.copytree(root, tmp_path / "backup")
    folder = keeper.push()
    shutil.rmtree(root)
    (tmp_path / "backup").rename(root)
    keeper.bench.vault = Vault.open(root)
    keeper.bench.push()
    assert against(keeper, folder) == ["forked"]


def test_a_vault_that_wrote_its_own_chain_anew_lacks_what_it_showed_with_the_receipt(keeper: Keeper) -> None:
    """So it is found, without a memory, that the vault has removed another's item and what it had stated of it."""
    keeper.bench.push(name=ItemName(keeper.bench.name.case, Title("OTHER")))
    folder, ledger, signer = keeper.push(), keeper.bench.vault.ledger, keeper.bench.vault.signer
    *_, others, own = (stored.record for stored in iter_records(ledger))
    for record in (others, own):
        for suffix in ("", ".sig"):
            (ledger.folder / (record_name(record) + suffix)).unlink()
    shutil.rmtree(keeper.bench.vault.layout.cases / next(iter(others.details)))
    assert against(keeper, folder) == ["rolled-back"]
    ledger = Vault.open(keeper.bench.vault.layout.root).ledger
    for _ in range(2):  # as long as it was, and longer
        head = ledger.head()
        ledger.append(*sign_record(replace(own, sequence=head.sequence + 1, previous_sha256=head.sha256), signer))
        assert against(keeper, folder) == ["forked"]


@pytest.mark.parametrize("name", ["receipt.json", "manifest.jsonl.sig"])
def test_a_document_that_the_vault_has_changed_or_lost_is_named(keeper: Keeper, name: str) -> None:
    folder = keeper.push()
    change(keeper.bench.acquisition(1) / name, lambda data: data + b"\n")
    assert against(keeper, folder) == ["bad-signature"]
    (keeper.bench.acquisition(1) / name).unlink()
    assert against(keeper, folder) == ["missing-or-extra"]


def test_an_acquisition_that_was_removed_is_missing_and_not_only_unread(keeper: Keeper) -> None:
    folder = keeper.push()
    (acquisition,) = keeper.bench.vault.layout.cases.glob("*/*/acquisitions/0001")
    shutil.rmtree(acquisition)
    assert against(keeper, folder) == ["missing-or-extra"]


def test_another_vault_is_not_this_one(keeper: Keeper, tmp_path: Path) -> None:
    folder = keeper.push()
    (tmp_path / "other").mkdir()
    other = make_bench(tmp_path / "other")
    assert [error.slug for error in check_against_vault(check(folder), other.vault)] == ["not-there"]


@pytest.mark.parametrize("how", ["open", "read"])
@pytest.mark.parametrize("name", ["receipt.json", "acquired.json.sig", "manifest.jsonl.sig", ""])
def test_what_the_disk_does_not_give_of_a_receipt_is_named_and_nothing_else_is_said_to_be_lacking(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, name: str, how: str
) -> None:
    folder = keeper.push()
    Unreadable(monkeypatch, folder / name, how)
    found = check(folder)
    assert slugs(found) == {"source-unreadable"}
    said = " ".join(error.message for error in found.problems)
    assert "not kept" not in said
    assert name in said


def test_a_receipt_made_too_large_to_be_one_is_malformed(keeper: Keeper) -> None:
    folder = keeper.push()
    (folder / "received.json").chmod(0o644)
    os.truncate(folder / "received.json", 1 << 43)
    found = check(folder)
    assert slugs(found) == {"malformed-document"}
    assert found.receipt is not None
    assert "received.json cannot be read: larger than" in found.problems[0].message


# Who was retired, and when.

DAY_NS = 86_400 * 1_000_000_000


def retired(keeper: Keeper, at_ns: int) -> TrustedSigners:
    """As a copy of the vault's list has it: the examiner was trusted until a time."""
    examiner = signer_line("ana@lab", keeper.bench.signer.public_key, EXAMINER, None, at_ns)
    vault = signer_line("vault", keeper.bench.vault.signer.public_key, VAULT)
    return TrustedSigners.parse(f"{examiner}\n{vault}\n".encode())


def judged(keeper: Keeper, folder: Path, trusted: TrustedSigners, *, vault: bool) -> list[tuple[str, int]]:
    order = chain_order(keeper.bench.vault) if vault else None
    problems = check_kept(folder, trusted, time.time_ns(), order).problems
    return sorted({(error.slug, int(error.exit_code)) for error in problems})


def test_by_the_vaults_date_alone_nobody_is_called_untrusted_who_was_retired(keeper: Keeper) -> None:
    """The vault's clock may have been ahead when it received; without the vault nobody knows."""
    folder, before = keeper.push(), time.time_ns() - 3 * DAY_NS
    assert judged(keeper, folder, retired(keeper, before), vault=False) == [("incomplete", 3)]
    assert judged(keeper, folder, retired(keeper, time.time_ns() + DAY_NS), vault=False) == []


def test_what_the_vault_stated_before_it_retired_a_key_accuses_nobody(keeper: Keeper) -> None:
    """`verify` says the same with signers from outside, and passes with the vault's own."""
    folder, before = keeper.push(), time.time_ns() - 3 * DAY_NS
    keeper.bench.vault.trust.retire(keeper.bench.signer.public_key, at_ns=before)
    assert judged(keeper, folder, retired(keeper, before), vault=True) == [("incomplete", 3)]
    root, trusted = keeper.bench.vault.layout.root, keeper.bench.vault.layout.root / "trusted_signers"
    assert audit_vault(root, now_ns=LONG_AFTER_NS).verdict == "pass"
    listed = trusted.read_bytes() + signer_line("vault", keeper.bench.vault.signer.public_key, VAULT).encode() + b"\n"
    outside = audit_vault(root, now_ns=LONG_AFTER_NS, trusted=listed)
    assert (outside.verdict, outside.exit_code) == ("incomplete", 3)


def test_with_the_vault_at_hand_who_was_retired_before_is_not_trusted(keeper: Keeper) -> None:
    folder, before = keeper.push(), time.time_ns() - 3 * DAY_NS
    assert judged(keeper, folder, retired(keeper, before), vault=True) == [("untrusted-signer", 32)]  # never by this vault
    keeper.bench.vault.trust.retire(keeper.bench.signer.public_key, at_ns=before)
    assert judged(keeper, folder, retired(keeper, before - DAY_NS), vault=True) == [("untrusted-signer", 32)]


def test_records_that_the_vault_has_not_signed_say_nothing_of_the_order(keeper: Keeper) -> None:
    folder, before = keeper.push(), time.time_ns() - 3 * DAY_NS
    keeper.bench.vault.trust.retire(keeper.bench.signer.public_key, at_ns=before)
    (retirement,) = (keeper.bench.vault.layout.custody).glob("*-trust-changed.json.sig")
    (made,) = (keeper.bench.vault.layout.custody).glob("0001-made.json.sig")
    change(retirement, lambda _: made.read_bytes())
    assert judged(keeper, folder, retired(keeper, before), vault=True) == [("untrusted-signer", 32)]


def test_a_key_that_is_trusted_from_a_later_day_on_is_not_trusted(keeper: Keeper) -> None:
    folder = keeper.push()
    later = signer_line("ana@lab", keeper.bench.signer.public_key, EXAMINER, time.time_ns() + DAY_NS)
    vault = signer_line("vault", keeper.bench.vault.signer.public_key, VAULT)
    trusted = TrustedSigners.parse(f"{later}\n{vault}\n".encode())
    assert judged(keeper, folder, trusted, vault=False) == [("untrusted-signer", 32)]


def test_what_an_old_listing_of_a_vault_lacks_is_no_rollback(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system may list a folder as it was some time ago."""
    folder, listdir = keeper.push(), os.listdir
    hidden = {file.name for file in keeper.bench.vault.item(keeper.bench.name).ledger.files()[1:]}
    hidden.add(keeper.bench.vault.ledger.files()[-1].name)
    monkeypatch.setattr(os, "listdir", lambda place: [name for name in listdir(place) if name not in hidden])
    assert against(keeper, folder) == []
    VaultAtHand(keeper.memory, keeper.bench.vault, keeper.bench.name).require()


def test_what_a_file_manager_leaves_in_a_receipt_is_no_problem_of_it(keeper: Keeper) -> None:
    kept = keeper.push()
    for folder in (kept, *(one for one in kept.iterdir() if one.is_dir())):
        for name in (".DS_Store", "Thumbs.db", "._receipt.json"):
            (folder / name).write_bytes(b"x")
    assert check(kept, keeper.trusted()).problems == []


def test_a_receipt_in_whose_folder_another_receipt_lies_is_whole(keeper: Keeper) -> None:
    kept, other = keeper.push(), keeper.push()
    other.rename(kept / other.name)
    assert check(kept, keeper.trusted()).problems == []
    (kept / "folder").mkdir()
    assert slugs(check(kept)) == {"missing-or-extra"}
