"""Records removed, reordered, duplicated or replaced; documents from elsewhere; publishes that were interrupted."""

from __future__ import annotations

import shutil
from hashlib import sha512
from pathlib import Path

import pytest
from msgspec.structs import replace

from evidencesync.custody.documents import MANIFEST_NAMESPACE
from evidencesync.custody.receipt import decode_receipt, encode_receipt
from evidencesync.custody.record import decode_record, encode_record
from evidencesync.custody.sshsig import sign_document
from evidencesync.evidence.digest import sha256_of
from evidencesync.localstate.heads import HeadMemory
from evidencesync.vault.heads import record_heads, state_head
from evidencesync.vault.ledger import ChainHead
from evidencesync.vault.publish import STEPS
from tests.unit.vault.acquiring import Acquirer, item_name, new_signer, new_vault
from tests.unit.verify.sample import ITEM, Made, edit, only, slugs

RECORDS = ("0001-acquired", "0002-received", "0003-acquired", "0004-received")


def record(made: Made, name: str) -> tuple[Path, Path]:
    return made.item / "custody" / f"{name}.json", made.item / "custody" / f"{name}.json.sig"


def with_another_digit(data: bytes, before: bytes) -> bytes:
    start, _, end = data.partition(before)
    return start + before + (b"0" if end[:1] != b"0" else b"1") + end[1:]


@pytest.mark.parametrize("name", RECORDS[:3])
def test_a_removed_record_is_found(made: Made, name: str) -> None:
    for file in record(made, name):
        file.unlink()
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code) == ("fail", 34)
    assert only(verdict, "missing-record").message == f"custody record {int(name[:4])} is missing"


@pytest.mark.parametrize("replaced", [False, True])
def test_a_stated_record_that_is_gone_from_the_middle_of_a_chain_is_missing_and_one_that_was_replaced_a_fork(
    made: Made, *, replaced: bool
) -> None:
    files = record(made, RECORDS[1])
    state_head(made.open(), item_name("2026/117", "3-a"), ChainHead(2, sha256_of(files[0].read_bytes()).hex()))
    for file in files:
        if replaced:
            edit(file, file.with_name(file.name.replace(RECORDS[1], RECORDS[3])).read_bytes())
        else:
            file.unlink()
    verdict = made.audit()
    assert verdict.exit_code == 34
    assert slugs(verdict) & {"missing-record", "rolled-back", "forked"} == (
        {"forked"} if replaced else {"missing-record", "rolled-back"}
    )


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_without_its_signature_is_found(made: Made, name: str) -> None:
    record(made, name)[1].unlink()
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code) == ("fail", 31)
    assert only(verdict, "missing-document").path == f"{ITEM}/custody/{name}.json.sig"


def test_records_in_each_others_places_are_found(made: Made) -> None:
    for first, second in zip(record(made, "0001-acquired"), record(made, "0003-acquired"), strict=True):
        one, other = first.read_bytes(), second.read_bytes()
        edit(first, other)
        edit(second, one)
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code) == ("fail", 34)
    assert {f"{ITEM}/custody/0001-acquired.json", f"{ITEM}/custody/0003-acquired.json"} <= {
        one.path for one in verdict.findings if one.slug == "chain-broken"
    }


def test_a_record_that_is_there_twice_is_found(made: Made) -> None:
    for source, target in zip(record(made, "0002-received"), record(made, "0002-noted"), strict=True):
        shutil.copy(source, target)
    assert made.audit().exit_code == 34


def test_a_record_of_another_item_with_a_good_signature_is_found(made: Made) -> None:
    Acquirer(made.open(), made.examiner, item_name("2026/117", "4")).acquire({b"x": b"x"})
    other = made.path / "cases" / "2026-117-2db29d5b" / "4" / "custody"
    for file in record(made, "0001-acquired"):
        edit(file, (other / file.name).read_bytes())
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code) == ("fail", 34)


def test_a_whole_item_from_another_case_is_found_by_its_folder(made: Made) -> None:
    (made.path / "cases" / "2027").mkdir()
    shutil.copytree(made.item, made.path / "cases" / "2027" / "3-a")
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code) == ("fail", 32)
    assert slugs(verdict) == {"wrong-place"}


def test_an_item_of_another_vault_is_found(made: Made, tmp_path: Path) -> None:
    other = new_vault(tmp_path / "other", made.examiner)
    Acquirer(other, made.examiner).acquire({b"x": b"x"})
    shutil.rmtree(made.item)
    shutil.copytree(tmp_path / "other" / ITEM, made.item)
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code) == ("fail", 34)
    assert {"chain-broken", "wrong-signer", "wrong-place"} <= slugs(verdict)


def cut_tail(made: Made) -> str:
    """Removes the second acquisition as if it had never been; gives the digest of the last record."""
    head = made.open().item(item_name()).ledger.head().sha256
    shutil.rmtree(made.acquisition(2))
    for name in RECORDS[2:]:
        for file in record(made, name):
            file.unlink()
    return head or ""


def test_a_tail_that_was_cut_off_is_found_by_whoever_holds_its_head(made: Made) -> None:
    head = cut_tail(made)
    assert made.audit().verdict == "pass"  # a chain alone cannot show it
    verdict = made.audit(expect_head=head)
    assert (verdict.verdict, verdict.exit_code, slugs(verdict)) == ("fail", 34, {"rolled-back"})


def test_a_tail_that_was_cut_off_is_found_by_the_vaults_own_chain(made: Made) -> None:
    record_heads(made.open())
    cut_tail(made)
    verdict = made.audit()
    assert (verdict.exit_code, only(verdict, "rolled-back").item) == (34, "3-a")


@pytest.mark.parametrize("part", ["item", "case", "contents"])
def test_an_item_that_was_removed_is_found_by_the_vaults_own_chain(made: Made, part: str) -> None:
    record_heads(made.open())
    if part == "contents":
        for folder in ("acquisitions", "custody"):
            shutil.rmtree(made.item / folder)
            (made.item / folder).mkdir()
    else:
        shutil.rmtree(made.item if part == "item" else made.item.parent)
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code) == ("fail", 34)
    assert "rolled-back" in slugs(verdict)


@pytest.mark.parametrize("number", [1, 2])
def test_a_removed_acquisition_is_missing(made: Made, number: int) -> None:
    shutil.rmtree(made.acquisition(number))
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code) == ("fail", 31)
    assert only(verdict, "missing-acquisition").acquisition == number


def test_acquisitions_that_changed_places_are_found(made: Made) -> None:
    aside = made.path.parent / "aside"
    made.acquisition(1).rename(aside)
    made.acquisition(2).rename(made.acquisition(1))
    aside.rename(made.acquisition(2))
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code) == ("fail", 34)
    assert {"record-differs", "document-damaged", "wrong-place", "receipt-mismatch"} <= slugs(verdict)


def test_an_acquisition_that_no_chain_knows_is_found(made: Made) -> None:
    shutil.copytree(made.acquisition(2), made.acquisition(3))
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code) == ("fail", 34)


def test_without_any_record_nothing_is_believed(made: Made) -> None:
    for file in (made.item / "custody").iterdir():
        file.unlink()
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code) == ("fail", 34)
    assert "not-in-chain" in slugs(verdict)


def test_a_manifest_of_the_other_acquisition_is_found_although_its_signature_is_good(made: Made) -> None:
    for name in ("manifest.jsonl", "manifest.jsonl.sig"):
        edit(made.acquisition(2) / name, (made.acquisition(1) / name).read_bytes())
    verdict = made.audit()
    assert verdict.verdict == "fail"
    assert {"document-damaged", "wrong-place", "file-extended"} <= slugs(verdict)


def test_a_signature_in_another_namespace_is_found(made: Made) -> None:
    manifest = (made.acquisition(1) / "manifest.jsonl").read_bytes()
    signature = sign_document(made.examiner, "custody@evidencesync", sha512(manifest).digest())
    edit(made.acquisition(1) / "manifest.jsonl.sig", signature)
    verdict = made.audit()
    assert verdict.exit_code == 32
    assert "namespace" in next(one.message for one in verdict.findings if one.slug == "bad-signature")


def test_a_manifest_that_was_signed_again_by_a_stranger_is_found(made: Made) -> None:
    manifest = (made.acquisition(1) / "manifest.jsonl").read_bytes()
    edit(made.acquisition(1) / "manifest.jsonl.sig", sign_document(new_signer(), MANIFEST_NAMESPACE, sha512(manifest).digest()))
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code) == ("fail", 32)
    assert slugs(verdict) == {"wrong-signer", "untrusted-signer", "document-damaged"}


def test_a_changed_manifest_signed_again_by_its_own_examiner_is_found(made: Made) -> None:
    """The examiner alone cannot rewrite what the vault has signed for."""
    file = made.acquisition(1) / "manifest.jsonl"
    manifest = file.read_bytes().replace(b'"host":"host"', b'"host":"tsoh"')
    edit(file, manifest)
    signature = sign_document(made.examiner, MANIFEST_NAMESPACE, sha512(manifest).digest())
    edit(made.acquisition(1) / "manifest.jsonl.sig", signature)
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code) == ("fail", 30)
    assert "document-damaged" in slugs(verdict)


def test_a_receipt_that_the_vault_did_not_sign_is_found(made: Made) -> None:
    file = made.acquisition(1) / "receipt.json"
    receipt = encode_receipt(replace(decode_receipt(file.read_bytes()), received_from="elsewhere"))
    edit(file, receipt)
    signature = sign_document(made.examiner, "receipt@evidencesync", sha512(receipt).digest())
    edit(made.acquisition(1) / "receipt.json.sig", signature)
    verdict = made.audit()
    assert verdict.exit_code == 32
    assert "wrong-signer" in slugs(verdict)


def test_a_record_of_a_type_that_its_signer_may_not_write_is_found(made: Made) -> None:
    """An examiner writes a `received` in the vault's place."""
    document, signature = record(made, "0004-received")
    forged = decode_record(document.read_bytes())
    forged = replace(forged, actor=replace(forged.actor, key=made.examiner.public_key.fingerprint, principal="ana"))
    data = encode_record(forged)
    edit(document, data)
    edit(signature, sign_document(made.examiner, "custody@evidencesync", sha512(data).digest()))
    verdict = made.audit()
    assert verdict.verdict == "fail"
    assert only(verdict, "wrong-signer").path == f"{ITEM}/custody/0004-received.json"


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("manifest.jsonl", lambda data: data.replace(b'"path":"a.txt"', b'"path":"a.txt","path":"a.txt"')),
        ("manifest.jsonl", lambda data: data + data),
        ("manifest.jsonl", lambda data: data[:-1]),
        ("manifest.jsonl", lambda data: data[: len(data) // 2]),
        ("manifest.jsonl", lambda data: b""),
        ("manifest.jsonl", lambda data: b"\xff" * 1000),
        ("manifest.jsonl", lambda data: b"[" * 100_000 + b"\n"),
        ("manifest.jsonl", lambda data: b"{" + b" " * 3_000_000 + b"}\n"),
        ("manifest.jsonl", lambda data: data.replace(b'"size":5,', b'"size":NaN,', 1)),
        ("manifest.jsonl", lambda data: data.replace(b'"size":5,', b'"size":1e400,', 1)),
        ("manifest.jsonl", lambda data: data.replace(b'"path":"a.txt"', b'"path":"../a.txt"')),
        ("receipt.json", lambda data: data.replace(b'"acquisition": 1', b'"acquisition": 1e0')),
        ("receipt.json", lambda data: data.replace(b"  ", b"\t")),
        ("receipt.json", lambda data: data * 2),
        ("receipt.json", lambda data: b"[" * 100_000),
        ("receipt.json", lambda data: data + b" " * 2_000_000),
        ("receipt.json.sig", lambda data: data * 2),
        ("receipt.json.sig", lambda data: b"x" * 100_000),
        ("acquired.json", lambda data: b"\0"),
        ("chunks.bin", lambda data: data + b"\xff" * 44),
        ("SHA256SUMS", lambda data: b""),
        ("SHA256SUMS", lambda data: data + data),
        ("BLAKE3SUMS", lambda data: data[:100]),
    ],
)
def test_hostile_documents_are_findings_and_never_an_exception(made: Made, name: str, spoil: object) -> None:
    file = made.acquisition(1) / name
    data = file.read_bytes()
    spoiled = spoil(data)  # type: ignore[operator]
    assert spoiled != data
    edit(file, spoiled)
    verdict = made.audit()
    assert verdict.verdict == "fail"
    assert f"{ITEM}/acquisitions/0001/{name}" in {one.path for one in verdict.findings}


def test_a_sums_file_names_the_very_line_that_differs(made: Made) -> None:
    file = made.acquisition(1) / "SHA256SUMS"
    lines = file.read_bytes().splitlines(keepends=True)
    at = sum(map(len, lines[:3]))
    edit(file, b"".join(lines[:3]) + b"0" + lines[3][1:] + b"".join(lines[4:]))
    found = only(made.audit(), "sums-differ")
    assert (found.offset, found.length) == (at, len(lines[3]))


# --- Interrupted ---------------------------------------------------------------------------------------------------------


class KilledError(Exception):
    """The process would be gone here."""


def publish_until(made: Made, step: str) -> None:
    def fault(reached: str) -> None:
        if reached == step:
            raise KilledError

    acquirer = Acquirer(made.open(), made.examiner)
    with pytest.raises(KilledError):
        acquirer.acquire({b"third": b"3"}, fault=fault)


@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_publish_is_called_that_and_is_checked_like_any_other(made: Made, step: str) -> None:
    publish_until(made, step)
    verdict = made.audit()
    assert verdict.verdict == "pass", verdict.findings
    committed = STEPS.index(step) >= STEPS.index("renamed")
    linked = STEPS.index(step) >= STEPS.index("received-linked")
    assert verdict.checked.acquisitions == (3 if committed else 2)
    unfinished = {one.slug for one in verdict.findings}
    assert ("unfinished-publish" in unfinished) == (committed and not linked)
    assert unfinished <= {"unfinished-publish", "unfinished-transfer", "unfinished-change"}


def test_damage_in_an_unfinished_publish_is_found(made: Made) -> None:
    publish_until(made, "renamed")
    edit(made.acquisition(3) / "data" / "third", b"4")
    assert made.audit().exit_code == 30
    edit(made.acquisition(3) / "data" / "third", b"3")
    edit(made.acquisition(3) / "acquired.json", (made.acquisition(2) / "acquired.json").read_bytes())
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code) == ("fail", 34)


def test_an_append_that_was_cut_short_is_no_attack(made: Made) -> None:
    (made.item / "custody" / ".new-0005-noted.json").write_bytes(b"half")
    (made.item / "custody" / "0005-noted.json.sig").write_bytes(b"half")
    verdict = made.audit()
    assert (verdict.verdict, slugs(verdict, "info", "warning")) == ("pass", {"unfinished-change"})


@pytest.mark.parametrize("damage", ["no record any more", "another digit"])
@pytest.mark.parametrize("seen", [False, True])
def test_a_damaged_record_is_no_other_history(made: Made, tmp_path: Path, damage: str, *, seen: bool) -> None:
    record_heads(made.open())
    memory = HeadMemory(tmp_path / "state") if seen else None
    assert made.audit(memory=memory).verdict == "pass"
    last = record(made, RECORDS[-1])[0]
    data = last.read_bytes()
    edit(last, data.replace(b"{", b"[") if damage == "no record any more" else with_another_digit(data, b'"previous_sha256": "'))
    found = slugs(made.audit(memory=memory))
    assert "chain-broken" in found
    assert "forked" not in found


def test_a_damaged_statement_of_the_vault_gives_no_item_another_history(made: Made) -> None:
    record_heads(made.open())
    for _ in range(2):
        record_heads(made.open())
    statement = sorted((made.path / "custody").glob("*-heads.json"))[-2]
    edit(statement, with_another_digit(statement.read_bytes(), b'": "4 '))
    assert slugs(made.audit(), "error") == {"bad-signature", "chain-broken"}
