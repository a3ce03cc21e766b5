"""A finding about a damaged file says where the same content is whole, and claims nothing that was not checked."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from evidencesync.report import texts
from evidencesync.report.blocks import Table
from evidencesync.report.document import Report
from evidencesync.report.gather import VerdictSource, gather
from evidencesync.report.judging import ReportScope
from evidencesync.report.manifests import file_rows
from evidencesync.report.verdicts import findings_section, path_remarks
from evidencesync.verify.audit import audit_vault
from evidencesync.verify.findings import Verdict
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.moments import LONG_AFTER_NS
from tests.support.reported_vault import damage
from tests.support.unreadable import Unreadable


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Two acquisitions that share a file, which is damaged."""
    bench = make_bench(tmp_path)
    (bench.source / "a.txt").write_text("a")
    bench.push()
    bench.push()
    damage(bench, 1, "a.txt", 0)
    return bench


def verify(bench: Bench) -> Verdict:
    return audit_vault(bench.vault.layout.root, now_ns=LONG_AFTER_NS)


def reported(bench: Bench, verdict: Verdict, *, given: bool = False) -> Report:
    source = VerdictSource(verdict, given=given, trusted=None)
    return gather(bench.vault, ReportScope("2026/11", None, None), source, now_ns=LONG_AFTER_NS).report


def said(report: Report) -> list[str]:
    """What each error says at its end."""
    (table,) = (block for block in findings_section(report.judgement, report.items).blocks if isinstance(block, Table))
    return [row[1].rsplit(". ", 1)[-1] for row in table.rows if row[0] == "✗ error"]


def test_a_finding_names_the_later_acquisition_that_has_the_content_whole(bench: Bench) -> None:
    bench.push()
    bench.push()
    assert said(reported(bench, verify(bench))) == ["The same content is whole in acquisition 3."] * 2


def test_a_finding_names_the_other_path_under_which_the_content_is_whole(bench: Bench) -> None:
    (bench.source / "a.txt").rename(bench.source / "z.txt")
    bench.push()
    assert said(reported(bench, verify(bench))) == ["The same content is whole in acquisition 3, as z.txt."] * 2


def test_a_finding_names_an_earlier_acquisition_where_no_later_one_has_the_content(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    (bench.source / "a.txt").write_text("a")
    bench.push()
    damage(bench, 1, "a.txt", 0)
    bench.push()  # it has a file of its own: the damaged one was not used
    damage(bench, 1, "a.txt", 0)  # and back
    damage(bench, 2, "a.txt", 0)
    assert said(reported(bench, verify(bench))) == ["The same content is whole in acquisition 1."]


def test_nothing_is_claimed_of_what_the_verdict_has_not_checked(bench: Bench) -> None:
    verdict = verify(bench)
    bench.push()
    assert not any("whole in" in text for text in said(reported(bench, verdict)))  # received since
    after = verify(bench)
    assert not any("whole in" in text for text in said(reported(bench, after, given=True)))
    documents = msgspec.structs.replace(after, digests=[])
    assert not any("whole in" in text for text in said(reported(bench, documents)))
    more = [*after.findings, msgspec.structs.replace(after.findings[0], severity="info", slug="not-listed")]
    assert not any("whole in" in text for text in said(reported(bench, msgspec.structs.replace(after, findings=more))))


def test_nothing_is_claimed_of_what_lies_in_a_folder_that_could_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(tmp_path)
    (bench.source / "logs" / "deep").mkdir(parents=True)
    (bench.source / "logs" / "deep" / "a.txt").write_text("a")
    bench.push()
    damage(bench, 1, "logs/deep/a.txt", 0)
    bench.push()
    item = bench.vault.layout.item(bench.name)
    with monkeypatch.context() as patch:
        Unreadable(patch, item.acquisition(2) / "data" / "logs", "read")
        verdict = verify(bench)
    report = reported(bench, verdict)
    assert not any("whole in" in text for text in said(report))
    rows = {row.path: row.remarks for row in file_rows(item, 2, path_remarks(report.judgement, report.items[0], 2))}
    assert rows == dict.fromkeys(("logs", "logs/deep", "logs/deep/a.txt"), texts.NOT_CHECKED_FILE) | {".": ""}
