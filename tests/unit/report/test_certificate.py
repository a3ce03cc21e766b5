"""A draft for a court says what was verified, and nothing else."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from evidencesync.cli.app import main
from evidencesync.custody.documents import Earlier
from evidencesync.report.certificate import ALL_NAMES, BLANK, write_certificate
from evidencesync.report.document import FlaggedEntry, PathPair, Report
from evidencesync.report.gather import VerdictSource, gather
from evidencesync.report.judging import ReportScope
from evidencesync.verify.audit import audit_vault
from evidencesync.verify.findings import Finding
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.moments import LONG_AFTER_NS

Kind = Literal["certificate", "statement"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = make_bench(tmp_path_factory.mktemp("certified"))
    (bench.source / "a.txt").write_text("a")
    bench.push(command_line=["evidencesync", "push", "{\\b bold} \u9001\U0001f600"])
    return bench


@pytest.fixture
def report(bench: Bench) -> Report:
    verdict = audit_vault(bench.vault.layout.root, now_ns=LONG_AFTER_NS)
    source = VerdictSource(verdict, given=False, trusted=None)
    return gather(bench.vault, ReportScope("2026/11", None, None), source, now_ns=LONG_AFTER_NS).report


def draft(report: Report, kind: Kind = "certificate") -> str:
    out = io.BytesIO()
    write_certificate(report, kind, out)
    return out.getvalue().decode("ascii")


@pytest.mark.parametrize("kind", ["certificate", "statement"])
def test_what_was_verified_is_filled_in_and_whoever_will_sign_is_blank(report: Report, kind: Kind) -> None:
    text = draft(report, kind)
    (one,) = report.items[0].acquisitions
    assert f"{one.contents.manifest_sha256}\\par" in text
    assert "Acquired by: Ana (ana@lab)" in text
    assert "had the size and the BLAKE3 digest" in text
    assert "The lists also state SHA-256 digests: this verification did not compute them again" in text
    both = msgspec.structs.replace(report.judgement, digests=["blake3", "sha256"])
    assert "did not compute" not in draft(msgspec.structs.replace(report, judgement=both), kind)
    assert "DRAFT, NOT SIGNED" in text
    for label in ("My name is", "Name:", "Signature:", "Organisation:", "training and experience:"):
        assert f"{label} {BLANK}" in text
    assert ("902(14)" in text, "1746" in text) == ((True, True) if kind == "certificate" else (False, False))


def test_the_schedule_states_a_timestamp_only_if_its_authority_was_checked(report: Report) -> None:
    assert "Trusted timestamp: none\\par" in draft(report)
    (one,) = report.items[0].acquisitions
    stamped = msgspec.structs.replace(one, timestamped=True)
    item = msgspec.structs.replace(report.items[0], acquisitions=[stamped])

    def said(slug: str) -> str:
        finding = Finding(12, "info", slug, item.case, item.item, 1, None, None, None, None, "said")
        judgement = msgspec.structs.replace(report.judgement, findings=[finding])
        text = draft(msgspec.structs.replace(report, items=[item], judgement=judgement))
        (line,) = [line for line in text.splitlines() if "Trusted timestamp" in line]
        return line

    assert said("authority-not-checked").endswith(f"Trusted timestamp: {BLANK}\\par")
    assert "its authority was checked" in said("timestamp")


@pytest.mark.parametrize("state", ["fail", "incomplete", "not-verified"])
def test_where_the_verification_did_not_pass_every_fact_is_blank_and_the_result_is_said(report: Report, state: str) -> None:
    judgement = msgspec.structs.replace(report.judgement, state=state)
    text = draft(msgspec.structs.replace(report, judgement=judgement))
    assert "did NOT pass" in text
    assert "had the size and" not in text
    assert "signed. The schedule" not in text
    assert "digests were computed: ___" in text
    assert "the schedule" not in text[: text.index("Schedule:")].lower(), "nothing rests on a schedule that is blank"
    schedule = text[text.index("Schedule") :]
    assert all(line.endswith(f": {BLANK}\\par") for line in schedule.splitlines() if "\\li360" in line)
    assert "Ana" not in text


def test_a_document_that_cannot_be_read_leaves_blanks(report: Report) -> None:
    (one,) = report.items[0].acquisitions
    gone = msgspec.structs.replace(one, problem="cannot be read")
    text = draft(msgspec.structs.replace(report, items=[msgspec.structs.replace(report.items[0], acquisitions=[gone])]))
    assert f"Source: {BLANK}" in text


def test_the_schedule_names_what_could_not_be_read_up_to_a_bound(report: Report) -> None:
    (one,) = report.items[0].acquisitions

    def said(count: int) -> str:
        flagged = [
            FlaggedEntry(PathPair(f"in/{number}.txt", None), "file", ["unreadable"], kept=False) for number in range(count)
        ]
        contents = msgspec.structs.replace(one.contents, flagged=flagged, flagged_count=count)
        changed = msgspec.structs.replace(one, contents=contents)
        text = draft(msgspec.structs.replace(report, items=[msgspec.structs.replace(report.items[0], acquisitions=[changed])]))
        return next(line for line in text.splitlines() if "Not read, or not whole: " in line)

    assert ALL_NAMES not in said(0)
    assert f": in/0.txt; in/1.txt. {ALL_NAMES}" in said(2)
    assert f"; in/19.txt; and 5 more. {ALL_NAMES}" in said(25)
    assert "in/20.txt" not in said(25)


def test_what_is_quoted_is_text_to_a_word_processor(report: Report) -> None:
    text = draft(report)
    (line,) = [line for line in text.splitlines() if "Command: " in line]
    assert "'\\{\\\\b bold\\} \\u-28671?\\u-10179?\\u-8704?'" in line
    bare = re.sub(r"\\[\\{}]", "", text)
    assert bare.count("{") == bare.count("}") == 3


def test_a_draft_is_never_signed_and_has_a_name_of_its_own(
    bench: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["report", str(bench.vault.layout.root), "--case", "2026/11", "-q"]
    for name, more in (("c.pdf", ["--format", "certificate"]), ("c.rtf", []), ("c.html", ["--format", "other"])):
        assert main([*command, *more, "-o", str(tmp_path / name)]) == 2
    assert main([*command, "--format", "certificate", "-o", str(tmp_path / "c.rtf"), "--sign"]) == 2
    assert list(tmp_path.iterdir()) == []
    for name, more, hinted in (("d.rtf", [], True), ("e.rtf", ["--all-digests"], False)):
        assert main([*command[:-1], "--format", "statement", "-o", str(tmp_path / name), *more]) == 0
        assert ("--all-digests" in capfd.readouterr().err) is hinted
    assert main([*command, "--format", "statement", "-o", str(tmp_path / "c.rtf")]) == 0
    assert (tmp_path / "c.rtf").read_bytes().startswith(b"{\\rtf1")


def test_a_draft_takes_no_verdict_from_a_file_which_anybody_may_have_changed(
    bench: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = str(bench.vault.layout.root)
    assert main(["verify", root, "--json"]) == 0
    verdict = tmp_path / "verdict.json"
    verdict.write_text(re.sub(r'"files":\s*[0-9]+', '"files":99999', capfd.readouterr().out))
    command = ["report", root, "--case", "2026/11", "-q", "--verdict", str(verdict), "-o", str(tmp_path / "c.rtf")]
    for kind in ("certificate", "statement"):
        assert main([*command, "--format", kind]) == 2
    assert list(tmp_path.iterdir()) == [verdict]


def test_the_schedule_says_what_was_not_read_again_and_where_all_was_it_has_no_such_line(report: Report) -> None:
    (one,) = report.items[0].acquisitions
    assert one.footer is not None
    assert "Not read again" not in draft(report)
    footer = msgspec.structs.replace(one.footer, earlier=Earlier(1, 1, 1))
    changed = msgspec.structs.replace(one, number=2, footer=footer)
    items = [msgspec.structs.replace(report.items[0], acquisitions=[one, changed])]
    text = draft(msgspec.structs.replace(report, items=items))
    assert "Not read again: 1 of " in text
    assert "its content is as it was read in acquisition 1 (started 20" in text
