"""What a killed writer leaves beside records and lists of trust is named and removed, and nothing that says something is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest

from evidencesync.custody.documents import CustodyRecord
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.files.disk import locked_folder
from evidencesync.vault.ledger import sign_record
from evidencesync.vault.reservations import NewRecord
from evidencesync.vault.resume.empty_items import find_empty_items
from evidencesync.vault.resume.left_files import find_left_files, remove_left_files
from evidencesync.vault.trust import record_upon
from evidencesync.vault.trust_drafts import STATED_DIGESTS
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, make_bench, new_signer

TEMPORARY = ".new-0123456789abcdef"
NEW = ItemName(Title("2026/12"), Title("NEW"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = make_bench(tmp_path)
    (bench.source / "a.txt").write_text("a")
    bench.push()
    return bench


def own_record(bench: Bench, **details: str) -> NewRecord:
    """The next record of the vault's own chain, signed and not added."""
    vault = bench.vault
    kind = "trust-changed" if details else "heads"
    record: CustodyRecord = record_upon(vault.settings, vault.settings.key, vault.ledger.head(), kind, details, time.time_ns())  # type: ignore[arg-type]
    return NewRecord.of(*sign_record(record, vault.signer))


def acquired_record(bench: Bench, name: ItemName) -> NewRecord:
    """The first record of an item, as a push signs it before it publishes."""
    of_another = bench.vault.item(bench.name).ledger
    first = of_another.load(of_another.files()[0]).record
    record = msgspec.structs.replace(first, case=name.case.text, item=name.item.text)
    return NewRecord.of(*sign_record(record, bench.signer))


def test_what_says_nothing_is_named_and_removed_and_verify_accuses_nobody(bench: Bench) -> None:
    layout = bench.vault.layout
    item = layout.item(bench.name)
    begun = own_record(bench)
    others = {
        f"custody/{TEMPORARY}": b"x",
        f"custody/{begun.name}.sig": begun.signature,
        f"custody/.new-{begun.record.sequence:04}-1": b"cut by a power cut",
        f"custody/.new-{begun.record.sequence - 1:04}-1": b"of a record that is there",
        ".new-trusted_signers-0123456789abcdef": b"# of a change without a record",
        ".new-revoked_keys": b"",
        "index/.new-stated-heads": b"x",
        str((item.custody / TEMPORARY).relative_to(layout.root)): b"x",
    }
    for place, data in others.items():
        (layout.root / place).write_bytes(data)
    assert audit_vault(layout.root, now_ns=time.time_ns()).exit_code == 0
    assert sorted(find_left_files(bench.vault)) == sorted(others)
    some = sorted(others)[:2]
    assert sorted(remove_left_files(bench.vault, [*some, "vault.toml", "custody/0001-made.json"])) == some
    assert sorted(remove_left_files(bench.vault, find_left_files(bench.vault))) == sorted(others)[2:]
    assert find_left_files(bench.vault) == []
    assert audit_vault(layout.root, now_ns=time.time_ns()).exit_code == 0
    bench.push()


def test_a_record_that_was_begun_stays_for_the_next_writer_with_the_lists_that_it_states(bench: Bench) -> None:
    layout, ben = bench.vault.layout, new_signer()
    before = {name: (layout.root / name).read_bytes() for name in STATED_DIGESTS}
    bench.vault.trust.add(ben.public_key, "ben")
    head = bench.vault.ledger.files()[-1]
    stored = bench.vault.ledger.load(head)
    for name in (head.name, f"{head.name}.sig"):  # as if the process had been killed after the reservation
        (layout.custody / name).unlink()
    (layout.custody / f".new-{head.sequence:04}-1").write_bytes(NewRecord.of(stored.data, stored.signature).encoded())
    for name, data in before.items():
        if (layout.root / name).read_bytes() != data:
            (layout.root / name).rename(layout.root / f".new-{name}-0123456789abcdef")
            (layout.root / name).write_bytes(data)
    vault = type(bench.vault).open(layout.root)
    assert find_left_files(vault) == []
    vault.trust.add(new_signer().public_key, "carl")
    assert [known.signer.principals for known in vault.trust.signers()][2:] == [("ben",), ("carl",)]


def test_a_list_that_is_recorded_and_not_in_its_place_yet_stays(bench: Bench) -> None:
    root = bench.vault.layout.root
    before = (root / "trusted_signers").read_bytes()
    bench.vault.trust.add(new_signer().public_key, "ben")
    (root / "trusted_signers").rename(root / ".new-trusted_signers")
    (root / "trusted_signers").write_bytes(before)
    assert find_left_files(bench.vault) == []


def test_what_no_writer_leaves_and_what_is_written_now_stays(bench: Bench) -> None:
    layout = bench.vault.layout
    custody = layout.item(bench.name).custody
    (custody / ".new-notes").write_bytes(b"x")
    (custody / TEMPORARY).symlink_to("0001-acquired.json")
    (custody / ".new-00000000000000aa").mkdir()
    (custody / "0009-noted.json.sig").write_bytes(b"x")
    assert find_left_files(bench.vault) == []
    (custody / ".new-00000000000000bb").write_bytes(b"x")
    with locked_folder(layout.item(bench.name).root, "the item"):
        assert find_left_files(bench.vault) == []
    assert [os.path.basename(place) for place in find_left_files(bench.vault)] == [".new-00000000000000bb"]


def test_a_first_push_that_was_killed_before_it_published_leaves_no_item_for_ever(bench: Bench) -> None:
    bench.vault.item(NEW, create=True)
    custody = bench.vault.layout.item(NEW).custody
    (custody / ".new-0001-1").write_bytes(acquired_record(bench, NEW).encoded())
    (custody / TEMPORARY).write_bytes(b"x")
    verdict = audit_vault(bench.vault.layout.root, now_ns=time.time_ns())
    assert [(one.slug, one.severity) for one in verdict.findings if one.severity != "info"] == [("empty-item", "warning")]
    assert verdict.exit_code == 0
    assert find_empty_items(bench.vault) == []
    assert len(remove_left_files(bench.vault, find_left_files(bench.vault))) == 2
    assert find_empty_items(bench.vault) == [NEW.place]


def test_a_record_that_was_begun_in_another_item_s_folder_is_nobody_s_first(bench: Bench) -> None:
    bench.vault.item(NEW, create=True)
    reserved = bench.vault.layout.item(NEW).custody / ".new-0001-1"
    reserved.write_bytes(acquired_record(bench, bench.name).encoded())
    verdict = audit_vault(bench.vault.layout.root, now_ns=time.time_ns())
    assert verdict.exit_code == 31, verdict.findings
