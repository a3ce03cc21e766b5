"""Documents of a far vault are fetched and checked here, and its evidence is read there: one verdict, of both."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from evidencesync.localstate.heads import HeadMemory
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, copy_of, make_bench, new_signer
from tests.support.verdicts import lies, verified_fetched, with_verdict


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = make_bench(tmp_path_factory.mktemp("made"))
    (bench.source / "a").write_bytes(b"evidence")
    (bench.source / "b").write_bytes(bytes(range(256)) * 2000)
    bench.push()
    (bench.source / "a").write_bytes(b"more")
    bench.push()
    return bench


@pytest.fixture
def bench(made: Bench, tmp_path: Path) -> Bench:
    return copy_of(made, tmp_path)


def nothing(_bench: Bench) -> None:
    return


def damage(bench: Bench) -> None:
    file = bench.acquisition(1) / "data" / "a"
    file.chmod(0o600)
    file.write_bytes(b"EVIDENCE")
    file.chmod(0o400)


def lose_rows(bench: Bench) -> None:
    (bench.acquisition(1) / "chunks.bin").unlink()


def lose_receipt(bench: Bench) -> None:
    (bench.acquisition(1) / "receipt.json").unlink()


def lose_manifest(bench: Bench) -> None:
    (bench.acquisition(2) / "manifest.jsonl").unlink()


def change_sums(bench: Bench) -> None:
    file = bench.acquisition(1) / "SHA256SUMS"
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[1:])


def cut_chain(bench: Bench) -> None:
    for file in bench.vault.layout.item(bench.name).custody.glob("0004*"):
        file.unlink()


@pytest.mark.parametrize("spoil", [nothing, damage, lose_rows, lose_receipt, lose_manifest, change_sums, cut_chain])
@pytest.mark.parametrize("all_digests", [False, True])
def test_what_is_wrong_there_is_wrong_here(
    bench: Bench, tmp_path: Path, spoil: Callable[[Bench], None], all_digests: bool
) -> None:
    spoil(bench)
    there = audit_vault(bench.vault.layout.root, all_digests=all_digests, now_ns=time.time_ns())
    here = verified_fetched(bench, tmp_path / "state", tmp_path / "here", all_digests=all_digests)
    assert (here.verdict, here.exit_code, here.digests) == (there.verdict, there.exit_code, there.digests)
    assert {one.slug for one in here.findings if one.severity == "error"} == {
        one.slug for one in there.findings if one.severity == "error"
    }
    assert msgspec.structs.asdict(here.checked) == msgspec.structs.asdict(there.checked)


@pytest.mark.parametrize("mask", [0, 0o077])
def test_of_a_sound_vault_nothing_is_found_here_that_is_not_found_there(bench: Bench, tmp_path: Path, mask: int) -> None:
    there = audit_vault(bench.vault.layout.root, now_ns=time.time_ns())
    before = os.umask(mask)
    try:
        here = verified_fetched(bench, tmp_path / "state", tmp_path / "here")
    finally:
        os.umask(before)
    assert here.findings == there.findings


def test_each_finding_is_told_once_and_says_whose_it_is(bench: Bench, tmp_path: Path) -> None:
    damage(bench)
    lose_receipt(bench)
    verdict = verified_fetched(bench, tmp_path / "state", tmp_path / "here")
    errors = {one.slug: one.message for one in verdict.findings if one.severity == "error"}
    assert errors["file-damaged"].startswith("the vault says: ")
    assert not errors["missing-document"].startswith("the vault says: ")
    assert len(errors) == len([one for one in verdict.findings if one.severity == "error"])


def test_signers_of_one_s_own_are_held_against_what_was_fetched(bench: Bench, tmp_path: Path) -> None:
    state = tmp_path / "state"
    stranger = f"eve@lab {new_signer().public_key.line()}\n".encode()
    verdict = verified_fetched(bench, state, tmp_path / "here", trusted=stranger)
    assert (verdict.exit_code, verdict.trust) == (32, "outside")
    assert {one.slug for one in verdict.findings if one.severity == "error"} == {"untrusted-signer"}
    assert HeadMemory(state).recall_vault(bench.vault.settings.id) == []


def test_a_record_that_no_chain_has_is_missed_here(bench: Bench, tmp_path: Path) -> None:
    verdict = verified_fetched(bench, tmp_path / "state", tmp_path / "here", expect_head="0" * 64)
    assert {one.slug for one in verdict.findings if one.severity == "error"} == {"rolled-back"}


def test_a_pass_of_both_is_remembered_as_after_a_verification_at_the_vault(bench: Bench, tmp_path: Path) -> None:
    audit_vault(bench.vault.layout.root, memory=HeadMemory(tmp_path / "there"), now_ns=time.time_ns())
    assert verified_fetched(bench, tmp_path / "here", tmp_path / "documents").verdict == "pass"
    there, here = (HeadMemory(tmp_path / name).recall_vault(bench.vault.settings.id) for name in ("there", "here"))
    assert [(one.subject, one.vault_key, one.chain) for one in here] == [(one.subject, one.vault_key, one.chain) for one in there]


@pytest.mark.parametrize("spoil", [damage, lose_receipt])
def test_nothing_is_remembered_where_one_of_both_fails(bench: Bench, tmp_path: Path, spoil: Callable[[Bench], None]) -> None:
    spoil(bench)
    assert verified_fetched(bench, tmp_path / "state", tmp_path / "here").verdict == "fail"
    assert HeadMemory(tmp_path / "state").recall_vault(bench.vault.settings.id) == []


def test_an_older_vault_is_an_older_copy_in_its_documents(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "older").mkdir()
    older = copy_of(bench, tmp_path / "older")
    bench.push()
    assert verified_fetched(bench, tmp_path / "state", tmp_path / "1").exit_code == 0
    verdict = verified_fetched(older, tmp_path / "state", tmp_path / "2")
    assert (verdict.verdict, verdict.exit_code) == ("fail", 34)
    assert {one.slug for one in verdict.findings if one.severity == "error"} == {"older-copy"}


def test_a_verdict_on_fewer_acquisitions_than_the_documents_show_leaves_it_open(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lies(
        monkeypatch,
        lambda document: with_verdict(document, checked=msgspec.structs.replace(document.verdict.checked, acquisitions=1)),
    )
    verdict = verified_fetched(bench, tmp_path / "state", tmp_path / "here")
    assert (verdict.verdict, verdict.exit_code) == ("incomplete", 3)
