"""A report never shows a pass that was not checked."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import msgspec
import pytest

from evidencesync.errors import MissingOrExtraError, StorageError, UsageError
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.evidence.utc_time import parse_utc_time
from evidencesync.report.document import Report
from evidencesync.report.gather import VerdictSource, gather
from evidencesync.report.judging import ReportScope, parse_verdict
from evidencesync.verify.audit import audit_vault
from evidencesync.verify.findings import Asked, Verdict
from tests.support.bench_of_evidence import Bench, copy_of, make_bench

SHOWN = ReportScope("2026/11", None, None)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = make_bench(tmp_path_factory.mktemp("template"))
    (bench.source / "a.txt").write_text("a")
    bench.push()
    return bench


@pytest.fixture
def bench(template: Bench, tmp_path: Path) -> Bench:
    return copy_of(template, tmp_path)


def verify(bench: Bench, case: str | None = None, item: str | None = None, acquisition: int | None = None) -> Verdict:
    root = bench.vault.layout.root
    return audit_vault(root, case=case, item=item, acquisition=acquisition, now_ns=time.time_ns())


def report(bench: Bench, verdict: Verdict, shown: ReportScope = SHOWN, *, given: bool = True, later_ns: int = 0) -> Report:
    now = parse_utc_time(verdict.checked_at) + later_ns
    return gather(bench.vault, shown, VerdictSource(verdict, given=given, trusted=None), now_ns=now).report


def test_a_verdict_about_the_present_state_stands_and_its_age_is_said(bench: Bench) -> None:
    judgement = report(bench, verify(bench), later_ns=90_000_000_000_000).judgement
    assert (judgement.state, judgement.source, judgement.age_seconds) == ("pass", "verdict-file", 90_000)


def test_a_verdict_from_before_the_last_acquisition_is_no_pass(bench: Bench) -> None:
    old = verify(bench)
    bench.push()
    judgement = report(bench, old).judgement
    assert (judgement.state, judgement.exit_code) == ("not-verified", 3)
    assert "chain" in (judgement.reason or "")


def test_a_verdict_from_before_a_change_of_trust_is_no_pass(bench: Bench) -> None:
    old = verify(bench)
    bench.vault.trust.retire(bench.signer.public_key)
    assert report(bench, old).judgement.state == "not-verified"


def test_a_verdict_about_another_vault_is_no_pass(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    other = make_bench(folder)
    (other.source / "a.txt").write_text("a")
    other.push()
    assert report(bench, verify(other)).judgement.reason == "the verdict is about another vault"


@pytest.mark.parametrize(
    ("asked", "shown", "state"),
    [
        (Asked("2026/11", None, None), ReportScope("2026/11", None, None), "pass"),
        (Asked("2026/11", "E1", None), ReportScope("2026/11", "E1", 1), "pass"),
        (Asked("2026/11", "E1", None), ReportScope("2026/11", None, None), "not-verified"),
        (Asked("2026/11", "E1", 1), ReportScope("2026/11", "E1", None), "not-verified"),
    ],
)
def test_a_verdict_counts_only_for_what_was_asked_of_it(bench: Bench, asked: Asked, shown: ReportScope, state: str) -> None:
    verdict = verify(bench, asked.case, asked.item, asked.acquisition)
    assert report(bench, verdict, shown).judgement.state == state


def test_a_verdict_from_the_future_is_no_pass(bench: Bench) -> None:
    assert report(bench, verify(bench), later_ns=-3600 * 10**9).judgement.state == "not-verified"


def test_a_pass_that_contradicts_itself_is_none(bench: Bench) -> None:
    bench.acquisition(1).joinpath("data/a.txt").unlink()
    failed = verify(bench)
    forged = msgspec.structs.replace(failed, verdict="pass", exit_code=0)
    judgement = report(bench, forged).judgement
    assert (judgement.state, judgement.exit_code) == ("fail", 3)


def test_a_manifest_that_is_changed_behind_a_pass_is_noticed(bench: Bench) -> None:
    verdict = verify(bench)
    manifest = bench.acquisition(1) / "manifest.jsonl"
    manifest.chmod(0o644)
    manifest.write_bytes(manifest.read_bytes().replace(b'"started":"20', b'"started":"19'))
    assert report(bench, verdict).judgement.state == "not-verified"
    assert report(bench, verdict, given=False).judgement.state == "not-verified"


def test_a_failure_is_a_failure_whatever_happened_since(bench: Bench) -> None:
    bench.acquisition(1).joinpath("data/a.txt").unlink()
    failed = verify(bench)
    bench.push()
    judgement = report(bench, failed).judgement
    assert (judgement.state, judgement.exit_code) == ("fail", 31)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b'{"verdict":"pass"}', b"\xff", b"[" * 100_000],
)
def test_what_verify_did_not_print_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError):
        parse_verdict(data)


def test_a_verdict_whose_words_could_steer_a_terminal_is_refused(bench: Bench) -> None:
    verdict = msgspec.structs.replace(verify(bench), digests=["\x1b[2J"])
    with pytest.raises(UsageError):
        parse_verdict(msgspec.json.encode(verdict))


def test_signatures_of_records_that_no_verdict_saw_are_not_called_good(bench: Bench) -> None:
    old = verify(bench)
    bench.push()
    states = [step.signature for step in report(bench, old).items[0].custody]
    assert states == ["good", "good", "not-checked", "not-checked"]


def test_a_forged_record_is_refused(bench: Bench) -> None:
    verdict = verify(bench)
    record = bench.vault.layout.item(bench.name).custody / "0001-acquired.json"
    record.chmod(0o644)
    record.write_bytes(record.read_bytes().replace(b'"name": "Ana"', b'"name": "Eve"'))
    made = report(bench, verdict)
    assert made.items[0].custody[0].signature == "refused"
    assert made.judgement.state == "not-verified"


def test_a_damaged_item_is_still_shown(bench: Bench) -> None:
    (bench.acquisition(1) / "receipt.json").unlink()
    manifest = bench.acquisition(1) / "manifest.jsonl"
    manifest.chmod(0o644)
    manifest.write_bytes(b"nonsense\n")
    made = report(bench, verify(bench), given=False)
    shown = made.items[0].acquisitions[0]
    assert made.judgement.state == "fail"
    assert (shown.header, shown.fingerprint) == (None, None)
    assert shown.problem is not None
    assert shown.contents.problem is not None


def test_a_pass_does_not_hold_where_an_acquisition_that_it_covers_was_removed_since(bench: Bench) -> None:
    bench.push()
    verdict = verify(bench)
    shutil.rmtree(bench.acquisition(1))
    for part in (SHOWN, ReportScope("2026/11", "E1", 2)):
        judgement = report(bench, verdict, part).judgement
        assert (judgement.state, judgement.exit_code) == ("not-verified", 31)
        assert "acquisition 1" in (judgement.reason or "")


def test_a_pass_does_not_hold_where_an_item_that_it_covers_was_removed_or_renamed_since(bench: Bench) -> None:
    bench.push(name=ItemName(Title("2026/11"), Title("E2")))
    verdict, item = verify(bench), bench.vault.layout.item(bench.name).root
    item.rename(item.with_name("E1-old"))
    judgement = report(bench, verdict).judgement
    assert (judgement.state, judgement.exit_code) == ("not-verified", 3)
    item.with_name("E1-old").rename(bench.vault.layout.root / "put-away")
    judgement = report(bench, verdict).judgement
    assert (judgement.state, judgement.exit_code) == ("not-verified", 34)
    assert "E1" in (judgement.reason or "")
    assert report(bench, verdict, ReportScope("2026/11", "E2", None)).judgement.state == "pass"


def test_a_pass_does_not_hold_where_a_receipt_was_changed_since(bench: Bench) -> None:
    verdict, receipt = verify(bench), bench.acquisition(1) / "receipt.json"
    receipt.chmod(0o644)
    whole = receipt.read_bytes()
    other = whole.replace(b'"finished": "20', b'"finished": "19')
    assert other != whole
    for data in (whole + b"\n", other, b""):
        receipt.write_bytes(data)
        judgement = report(bench, verdict).judgement
        assert (judgement.state, judgement.exit_code) == ("not-verified", 3)


def test_a_pass_by_the_vaults_signers_does_not_hold_where_their_list_was_changed_since(bench: Bench) -> None:
    verdict = verify(bench)
    trusted = bench.vault.layout.root / "trusted_signers"
    trusted.write_bytes(trusted.read_bytes() + b"# moved to the new server\n")
    judgement = report(bench, verdict).judgement
    assert (judgement.state, judgement.exit_code) == ("not-verified", 3)
    assert "trusted_signers" in (judgement.reason or "")


def test_what_cannot_be_read_is_not_called_gone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = verify(bench)

    def refuse(layout: object, reaching: int = 0) -> list[int]:
        raise StorageError("acquisitions cannot be read: Input/output error")

    monkeypatch.setattr("evidencesync.report.gather.acquisition_numbers", refuse)
    judgement = report(bench, verdict).judgement
    assert (judgement.state, judgement.exit_code) == ("not-verified", 3)
    assert "cannot be read" in (judgement.reason or "")


def test_an_acquisition_that_an_old_listing_lacks_is_shown_and_not_called_gone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network file system may list a folder as it was some time ago."""
    bench.push()
    verdict, listdir = verify(bench), os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: [name for name in listdir(folder) if name != "0002"])
    made = report(bench, verdict)
    assert (made.judgement.state, made.judgement.reason) == ("pass", None)
    assert [one.number for one in made.items[0].acquisitions] == [1, 2]


def test_a_report_does_not_look_through_a_link_in_the_place_of_a_case(bench: Bench, tmp_path: Path) -> None:
    case = bench.vault.layout.case(Title("2026/11").folder)
    case.rename(tmp_path / "moved")
    case.symlink_to(tmp_path / "moved")
    with pytest.raises(MissingOrExtraError, match="a symbolic link lies in the place of the folder"):
        report(bench, verify(bench))
