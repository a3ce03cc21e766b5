"""Page one says which acquisitions the findings are about, and claims nothing of what no finding was listed for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from evidencesync.report import texts
from evidencesync.report.blocks import Bullets, FirstPage, Paragraph, Table
from evidencesync.report.document import HandOver, Item, Judgement, Report, State
from evidencesync.report.gather import Gathered, VerdictSource, gather
from evidencesync.report.judging import ReportScope
from evidencesync.report.verdicts import (
    all_findings_text,
    findings_about,
    findings_section,
    means,
    place_text,
    places_text,
    touched_text,
    what_to_do,
)
from evidencesync.report.volumes import Choices, volumes
from evidencesync.report.write import compose
from evidencesync.verify.audit import audit_vault
from evidencesync.verify.findings import Finding
from evidencesync.verify.next_steps import NEXT
from tests.support.bench_of_evidence import make_bench
from tests.support.moments import LONG_AFTER_NS
from tests.support.reported_vault import damage


@pytest.fixture(scope="module")
def gathered(tmp_path_factory: pytest.TempPathFactory) -> Gathered:
    """Two acquisitions, of which the second has a damaged file."""
    bench = make_bench(tmp_path_factory.mktemp("damaged"))
    (bench.source / "a.txt").write_text("a")
    bench.push()
    (bench.source / "b.txt").write_text("b")
    bench.push()
    damage(bench, 2, "b.txt", 0)
    verdict = audit_vault(bench.vault.layout.root, now_ns=LONG_AFTER_NS)
    scope = ReportScope("2026/11", None, None)
    return gather(bench.vault, scope, VerdictSource(verdict, given=False, trusted=None), now_ns=LONG_AFTER_NS)


@pytest.fixture
def report(gathered: Gathered) -> Report:
    return gathered.report


def test_page_one_says_which_acquisition_has_failed(gathered: Gathered) -> None:
    (volume,) = volumes(gathered, ["r.html"])
    first = compose(gathered.report, volume, Choices()).first
    place = [column.title for column in first.items.columns].index("Errors")
    assert [row[place].partition(",")[0] for row in first.items.rows] == ["none", "✗ 1 error"]
    assert first.sentence.endswith("The errors are about 1 acquisition (item E1, acquisition 2). They name b.txt.")


def test_a_reader_of_findings_is_told_what_to_do_and_where_nothing_holds_is_told_nothing(report: Report) -> None:
    (section,) = what_to_do(report.judgement)
    paragraph, steps = section.blocks
    assert paragraph == Paragraph(texts.WHAT_TO_DO)
    assert isinstance(steps, Bullets)
    assert steps.items == [NEXT["file-damaged"]]
    states: tuple[State, ...] = ("pass", "not-verified")
    assert not [one for state in states for one in what_to_do(msgspec.structs.replace(report.judgement, state=state))]


def test_page_one_says_what_was_collected_from_where_by_whom_and_when(gathered: Gathered) -> None:
    (volume,) = volumes(gathered, ["r.html"])
    row = compose(gathered.report, volume, Choices()).first.items.rows[0]
    header = gathered.report.items[0].acquisitions[0].header
    assert header is not None
    assert row[4] == f"1 file, 1 B, from {header.source.host}:{header.source.path}"
    receipt = gathered.report.items[0].acquisitions[0].receipt
    assert receipt is not None
    started, received = header.started, receipt.finished
    day = "" if received[:10] == started[:10] else f"{received[:10]} "
    assert row[5] == f"{started[:10]} {started[11:19]} to {day}{received[11:19]}, by {header.examiner.name}"


def test_page_one_names_the_first_files_that_errors_are_about_and_documents_by_their_place(report: Report) -> None:
    (error,) = (one for one in report.judgement.findings if one.severity == "error")
    root = "cases/c/i/acquisitions/0002"
    paths = [f"{root}/data/data/a.txt", f"{root}/manifest.jsonl", f"{root}/data/b", f"{root}/data/c", f"{root}/data/c"]
    findings = [msgspec.structs.replace(error, path=path) for path in paths]
    said = touched_text(msgspec.structs.replace(report.judgement, findings=findings))
    assert said.endswith(f" They name data/a.txt; {root}/manifest.jsonl; b; and 1 more.")


@pytest.mark.parametrize(
    ("acquisitions", "said"),
    [
        ([("A", 3), ("A", 2), ("A", 4), ("A", 5), ("A", 2)], "item A, acquisitions 2 to 5"),
        ([("A", 2), ("B", 1), ("B", 2), ("B", 4)], "item A, acquisition 2; item B, acquisitions 1 and 2, 4"),
        ([("A", number) for number in (1, 2, 3, 5, 7, 9)], "item A, acquisitions 1 to 3, 5 and 2 more"),
        ([], ""),
    ],
)
def test_acquisitions_in_a_row_are_named_as_one(acquisitions: list[tuple[str, int]], said: str) -> None:
    assert places_text(acquisitions, 2) == said


def test_page_one_says_who_holds_a_sealed_item(gathered: Gathered) -> None:
    def said(item: Item) -> str | None:
        report = msgspec.structs.replace(gathered.report, items=[item])
        (volume,) = volumes(replace(gathered, report=report), ["r.html"])
        facts = compose(report, volume, Choices()).first.facts
        return next((fact.value for fact in facts if fact.label == "Custody"), None)

    (item,) = gathered.report.items
    assert said(item) is None
    last = item.custody[-1]
    assert last.record is not None
    seal = msgspec.structs.replace(last, record=msgspec.structs.replace(last.record, type="sealed"))
    sealed = msgspec.structs.replace(item, custody=[*item.custody[:-1], seal])
    number = last.record.sequence
    assert said(sealed) == f"item E1: sealed since custody record {number}, never handed over"
    held = msgspec.structs.replace(sealed, held_by="ben@lab", open_hand_over=HandOver(9, "ben@lab", "eve@lab"))
    handed = "a hand-over to eve@lab is open since custody record 9"
    assert said(held) == f"item E1: sealed since custody record {number}, held by ben@lab, {handed}"
    refused = msgspec.structs.replace(item, custody=[msgspec.structs.replace(seal, signature="refused")])
    assert said(refused) is None


def test_a_pass_says_which_digests_were_computed_for_it_and_which_were_not(report: Report) -> None:
    def said(*digests: str) -> list[str]:
        judgement = msgspec.structs.replace(report.judgement, state="pass", digests=list(digests))
        return means(msgspec.structs.replace(report, judgement=judgement))

    one, both = said("blake3"), said("blake3", "sha256")
    assert "has the size and the BLAKE3 digest that its signed manifest states" in one[0]
    assert one[1].startswith("Not computed again for this verdict: SHA-256.")
    assert "has the size and the BLAKE3 and SHA-256 digest that its signed manifest states" in both[0]
    assert not any("Not computed" in text for text in both)
    assert said()[0] == texts.NO_DIGEST_CHECKED


def test_what_an_acquisition_lacks_stands_in_the_box_of_the_verdict(gathered: Gathered) -> None:
    def said(flags: dict[str, int], *filters: str) -> tuple[list[str], str]:
        (item,) = gathered.report.items
        one, other = item.acquisitions
        assert one.header is not None
        assert one.footer is not None
        method = msgspec.structs.replace(one.header.method, filters=list(filters))
        changed = msgspec.structs.replace(
            one,
            header=msgspec.structs.replace(one.header, method=method),
            footer=msgspec.structs.replace(one.footer, flags=flags),
        )
        items = [msgspec.structs.replace(item, acquisitions=[changed, other])]
        found = replace(gathered, report=msgspec.structs.replace(gathered.report, items=items))
        (volume,) = volumes(found, ["r.html"])
        first = compose(found.report, volume, Choices()).first
        return first.reservations, first.items.rows[0][3]

    gap = texts.NOT_COMPLETE.format(some=1, all="2 acquisitions")
    assert said({}) == ([], "complete")
    assert said({"unreadable": 1}) == ([gap], "! with gaps")
    assert said({"changed-while-read": 1}) == ([gap], "! changed while it was read")
    assert said({}, "exclude *.tmp") == ([texts.LEFT_SOME_OUT.format(some=1, all="2 acquisitions")], "filtered")


def test_the_records_of_items_and_those_of_the_vault_are_counted_apart(gathered: Gathered) -> None:
    (volume,) = volumes(gathered, ["r.html"])
    facts = {fact.label: fact.value for fact in compose(gathered.report, volume, Choices()).first.facts}
    own = len(list((gathered.layouts[0].root.parents[2] / "custody").glob("*.json")))
    assert f", 4 custody records and {own} of the vault's own;" in facts["Checked"]


@pytest.mark.parametrize(
    ("state", "said"), [("pass", "1 for information; no error, no warning"), ("not-verified", "1 for information")]
)
def test_that_nothing_is_wrong_is_said_of_a_pass_alone(gathered: Gathered, state: State, said: str) -> None:
    (finding, *_) = gathered.report.judgement.findings
    findings = [msgspec.structs.replace(finding, severity="info")]
    judgement = msgspec.structs.replace(gathered.report.judgement, state=state, findings=findings)
    (volume,) = volumes(gathered, ["r.html"])
    first = compose(msgspec.structs.replace(gathered.report, judgement=judgement), volume, Choices()).first
    assert [fact.value for fact in first.facts if fact.label == "Findings"] == [said]


def test_no_letter_of_a_file_name_is_changed_in_a_finding(report: Report) -> None:
    finding = msgspec.structs.replace(report.judgement.findings[0], message="etc/passwd is not what was acquired")
    section = findings_section(msgspec.structs.replace(report.judgement, findings=[finding]))
    (row,) = next(block for block in section.blocks if isinstance(block, Table)).rows
    assert row[1].endswith(". In detail: etc/passwd is not what was acquired.")


@pytest.mark.parametrize(
    ("path", "acquisition", "said"),
    [
        ("cases/c/i/acquisitions/0002/data/data/a.txt", 2, "evidence: data/a.txt, within bytes 4,096 to 4,607"),
        ("cases/c/i/acquisitions/0002/manifest.jsonl", 2, "in the vault: manifest.jsonl, within bytes 4,096 to 4,607"),
        ("cases/c/i/custody/0003-noted.json", None, "in the vault: custody/0003-noted.json, within bytes 4,096 to 4,607"),
        ("cases/c/i", None, ""),
        (None, None, ""),
    ],
)
def test_the_place_of_a_finding_tells_evidence_from_documents_of_the_vault(
    report: Report, path: str | None, acquisition: int | None, said: str
) -> None:
    finding = msgspec.structs.replace(
        report.judgement.findings[0], path=path, item="i", acquisition=acquisition, offset=4096, length=512
    )
    assert place_text(finding) == said


def test_what_could_not_be_checked_is_not_marked_as_wrong(report: Report) -> None:
    (error,) = (one for one in report.judgement.findings if one.severity == "error")
    unread = msgspec.structs.replace(error, slug="unreadable")
    (item,) = report.items

    def judged(*findings: Finding) -> Judgement:
        return msgspec.structs.replace(report.judgement, findings=list(findings))

    assert findings_about(judged(unread), item, 2) == "? 1 error"
    assert findings_about(judged(error, unread), item, 2) == "✗ 2 errors"
    rows = next(block for block in findings_section(judged(unread, error)).blocks if isinstance(block, Table)).rows
    assert [row[0] for row in rows] == ["✗ error", "? error"]


def test_all_findings_are_counted_by_their_severity(report: Report) -> None:
    findings = report.judgement.findings
    kinds = [msgspec.structs.replace(findings[0], severity=one) for one in ("error", "warning", "warning", "info")]
    assert all_findings_text(msgspec.structs.replace(report.judgement, findings=kinds)) == (
        "4: 1 error, 2 warnings, 1 for information"
    )
    assert all_findings_text(msgspec.structs.replace(report.judgement, findings=[])) == "none"


def test_an_error_about_no_acquisition_is_about_its_item_or_the_vault(report: Report) -> None:
    (error,) = [one for one in report.judgement.findings if one.severity == "error"]
    whole = [
        msgspec.structs.replace(error, acquisition=None),
        msgspec.structs.replace(error, acquisition=None, item=None, case=None),
    ]
    judgement = msgspec.structs.replace(report.judgement, findings=whole)
    assert touched_text(judgement) == "The errors are about item E1 as a whole; the vault as a whole. They name b.txt."


def test_nothing_is_said_of_an_acquisition_that_was_not_checked_or_not_listed(report: Report) -> None:
    (item,) = report.items
    stale = msgspec.structs.replace(report.judgement, state="not-verified")
    assert (findings_about(stale, item, 1), touched_text(stale)) == ("not checked", "")
    cut = [msgspec.structs.replace(report.judgement.findings[0], slug="not-listed", item=None, case=None, acquisition=None)]
    assert findings_about(msgspec.structs.replace(report.judgement, findings=cut), item, 1) == "not all are listed"


def test_what_is_wrong_with_a_whole_item_or_the_vault_stands_in_the_table_of_page_one_and_on_the_items_page(
    gathered: Gathered,
) -> None:
    (error,) = [one for one in gathered.report.judgement.findings if one.severity == "error"]
    item = msgspec.structs.replace(error, slug="missing-record", acquisition=None)
    vault = msgspec.structs.replace(item, item=None, case=None)

    def rows(*findings: Finding) -> list[list[str]]:
        judgement = msgspec.structs.replace(gathered.report.judgement, findings=list(findings))
        shown = replace(gathered, report=msgspec.structs.replace(gathered.report, judgement=judgement))
        (volume,) = volumes(shown, ["r.html"])
        pages = compose(shown.report, volume, Choices())
        (overview,) = [section for section in pages.sections if section.anchor == "item-1"]
        said = [block.text for block in overview.blocks if isinstance(block, Paragraph) and "as a whole" in block.text]
        assert [text.partition(",")[0] for text in said] == (["✗ 1 error about this item as a whole"] if item in findings else [])
        return pages.first.items.rows

    assert [row[1] for row in rows(error)] == ["1", "2"]
    assert [row[:3] for row in rows(item)] == [["E1", "all", "✗ 1 error"], ["E1", "1", "none"], ["E1", "2", "none"]]
    assert rows(item, vault)[0][2:5] == ["✗ 1 error", "-", texts.WHOLE_VAULT]


def test_findings_of_one_severity_stand_by_the_gravity_of_their_codes(report: Report) -> None:
    (error,) = [one for one in report.judgement.findings if one.severity == "error"]
    slugs = ["unreadable", "extra-entry", "missing-record", "file-damaged", "bad-signature"]
    findings = [msgspec.structs.replace(error, slug=slug) for slug in slugs]
    judgement = msgspec.structs.replace(report.judgement, findings=findings)
    (table,) = [block for block in findings_section(judgement).blocks if isinstance(block, Table)]
    ordered = ["missing-record", "bad-signature", "file-damaged", "extra-entry", "unreadable"]
    assert [row[3].split()[1] for row in table.rows] == ordered


def test_a_receipt_that_cannot_be_read_hides_no_manifest_and_what_is_not_known_is_no_gap(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    (bench.source / "a.txt").write_text("a")
    bench.push()
    bench.push()

    def first() -> FirstPage:
        verdict = audit_vault(bench.vault.layout.root, now_ns=LONG_AFTER_NS)
        scope = ReportScope("2026/11", None, None)
        found = gather(bench.vault, scope, VerdictSource(verdict, given=False, trusted=None), now_ns=LONG_AFTER_NS)
        (volume,) = volumes(found, ["r.html"])
        return compose(found.report, volume, Choices()).first

    folder = bench.acquisition(1)
    folder.chmod(0o755)
    (folder / "receipt.json").unlink()
    without_receipt = first()
    assert without_receipt.reservations == []
    assert [row[3] for row in without_receipt.items.rows] == ["complete", "complete"]
    (folder / "manifest.jsonl").unlink()
    without_manifest = first()
    assert without_manifest.reservations == [texts.NOT_KNOWN_WHETHER.format(some="1", all="2 acquisitions")]
    assert [row[3] for row in without_manifest.items.rows] == ["? not known", "complete"]
    (filters,) = [fact.value for fact in without_manifest.facts if fact.label == "Left out by filters"]
    assert filters == f"{texts.NOT_FILTERED}; {texts.FILTERS_NOT_KNOWN.format(acquisitions='1 acquisition')}"


def test_many_findings_of_one_kind_that_are_no_errors_stand_in_one_row_with_their_count(report: Report) -> None:
    (error,) = [one for one in report.judgement.findings if one.severity == "error"]
    paths = [f"cases/c/i/acquisitions/0002/data/{number}" for number in range(29)]
    modes = [msgspec.structs.replace(error, slug="unsafe-mode", severity="warning", path=path) for path in paths]

    def rows(findings: list[Finding]) -> list[list[str]]:
        judgement = msgspec.structs.replace(report.judgement, findings=findings)
        return next(block for block in findings_section(judgement).blocks if isinstance(block, Table)).rows

    (row,) = rows(modes)
    assert row[0] == "! warning (29 times)"
    assert [f"evidence: {number}" in row[2] for number in range(4)] == [True, True, True, False]
    assert row[2].endswith("; and 26 more, which stand in the JSON report")
    assert len(rows(modes[:3])) == 3
    assert len(rows([error] * 5)) == 5, "each error has its row"


def test_a_key_that_two_names_were_given_for_stands_on_page_one_once(gathered: Gathered) -> None:
    (item,) = gathered.report.items
    (header, other) = (one.header for one in item.acquisitions)
    assert header is not None
    assert other is not None
    named = msgspec.structs.replace(other, examiner=msgspec.structs.replace(other.examiner, name="A. Example"))
    changed = msgspec.structs.replace(item.acquisitions[1], header=named)
    items = [msgspec.structs.replace(item, acquisitions=[item.acquisitions[0], changed])]
    shown = replace(gathered, report=msgspec.structs.replace(gathered.report, items=items))
    (volume,) = volumes(shown, ["r.html"])
    facts = compose(shown.report, volume, Choices()).first.facts
    assert [fact.value for fact in facts if fact.label == "Examiner"] == ["Ana (ana@lab); A. Example (ana@lab)"]
    assert [fact.value for fact in facts if fact.label == "Key of the examiner"] == [header.examiner.key]
