"""What a report says of one acquisition is what its documents state, in words that are true of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from evidencesync.custody.documents import Clock, CustodyRecord, Earlier, Person
from evidencesync.evidence.capture import Capture
from evidencesync.evidence.entry import ReadError
from evidencesync.evidence.number_format import time_text
from evidencesync.report import texts
from evidencesync.report.blocks import AnyBlock, Facts, Paragraph, Picture, Table
from evidencesync.report.document import Acquisition, CapturedFile, FlaggedEntry, HandOver, NamedSize, PathPair, UnreadRange
from evidencesync.report.exhibits import exhibit_sections, technical_facts
from evidencesync.report.gather import VerdictSource, gather
from evidencesync.report.judging import ReportScope
from evidencesync.report.volumes import volumes
from evidencesync.vault.ledger import sign_record
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import make_bench
from tests.support.moments import LONG_AFTER_NS


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The facts on the page of an acquisition, with what a test changes of its documents."""
    bench = make_bench(tmp_path_factory.mktemp("shown"))
    (bench.source / "a.txt").write_text("a")
    bench.push()
    verdict = audit_vault(bench.vault.layout.root, now_ns=LONG_AFTER_NS)
    scope = ReportScope("2026/11", None, None)
    gathered = gather(bench.vault, scope, VerdictSource(verdict, given=False, trusted=None), now_ns=LONG_AFTER_NS)
    (volume,) = volumes(gathered, ["r.html"])
    (shown,) = volume.items

    def blocks_of(title: str, **changed: Any) -> list[AnyBlock]:
        one: Acquisition = msgspec.structs.replace(shown.acquisitions[0], **changed)
        sections = exhibit_sections(replace(shown, acquisitions=[one]), gathered.report.judgement)
        return [block for section in sections if section.title == title for block in section.blocks]

    def facts_of(**changed: Any) -> dict[str, str]:
        blocks = blocks_of("Acquisition 1", **changed)
        return {fact.label: fact.value for block in blocks if isinstance(block, Facts) for fact in block.facts}

    def pages_of(acquisitions: list[Acquisition]) -> list[list[AnyBlock]]:
        sections = exhibit_sections(replace(shown, acquisitions=acquisitions), gathered.report.judgement)
        return [section.blocks for section in sections if section.title.startswith("Acquisition ")]

    facts_of.pages = pages_of  # type: ignore[attr-defined]
    facts_of.shown = shown.acquisitions[0]  # type: ignore[attr-defined]
    facts_of.blocks = blocks_of  # type: ignore[attr-defined]
    return facts_of


def test_half_a_round_trip_is_no_difference_of_clocks(facts: Any) -> None:
    clock = Clock(utc_offset="+01:00", peer_offset_seconds="0.252411360")
    said = facts(header=msgspec.structs.replace(facts.shown.header, clock=clock))["Clock of the acquiring machine"]
    assert said == (
        "shown to its user as UTC+01:00; no difference from the vault's clock that could be measured (under 1 second)"
    )


@pytest.mark.parametrize(
    ("count", "said"), [(0, "none"), (1, "1: links that were lost, and earlier attempts that were gone on from")]
)
def test_an_interruption_is_not_called_a_lost_link(facts: Any, count: int, said: str) -> None:
    receipt = facts.shown.receipt
    transfer = msgspec.structs.replace(receipt.transfer, interruptions=count)
    shown = facts(receipt=msgspec.structs.replace(receipt, transfer=transfer))
    assert shown["Interruptions"] == said
    assert not [label for label in shown if "lost" in label]


def test_a_duration_says_who_measured_it_and_what(facts: Any) -> None:
    receipt = facts.shown.receipt
    traffic = msgspec.structs.replace(receipt.transfer, seconds="19.000000000")
    said = facts(receipt=msgspec.structs.replace(receipt, transfer=traffic))["Duration of the transfer"]
    assert said == "19.0 s, by the vault: from when it admitted the sender until it signed, with storing and reading back"


@pytest.mark.parametrize(("lookup", "where"), [("item", "this item"), ("case", "this case"), ("vault", "the vault")])
def test_what_was_new_is_said_of_where_the_vault_looked_and_of_nothing_beyond(facts: Any, lookup: str, where: str) -> None:
    shown = facts(receipt=msgspec.structs.replace(facts.shown.receipt, lookup=lookup))
    assert {f"New to {where}, or damaged there", f"In {where} already, or came before"} < set(shown)


def test_of_a_file_that_could_not_be_read_it_is_said_whether_the_vault_has_any_of_it_and_why_in_words(facts: Any) -> None:
    def flagged(name: str, kind: str, *, kept: bool) -> FlaggedEntry:
        return FlaggedEntry(PathPair(name, None), kind, ["unreadable"], kept)

    entries = [
        flagged("part.img", "file", kept=True),
        flagged("locked", "file", kept=False),
        flagged("in", "directory", kept=False),
    ]
    ranges = [UnreadRange(PathPair("part.img", None), ReadError(0, 512, number, "zero")) for number in (5, 10**30)]
    contents = msgspec.structs.replace(
        facts.shown.contents, flagged=entries, flagged_count=3, unread=ranges, unread_count=2, unread_bytes=1024
    )
    tables = [block for block in facts.blocks("Acquisition 1", contents=contents) if isinstance(block, Table)]
    last = {table.caption: [row[-1] for row in table.rows] for table in tables}
    assert last["3 entries with remarks"] == [texts.READ_IN_PART, texts.NOT_KEPT, "could not be read, or not whole"]
    assert last["2 ranges of bytes that could not be read, 1,024 bytes (1.0 kB)"] == [
        "Input/output error (5); zeros stand there",
        f"error {10**30}; zeros stand there",
    ]


def test_why_a_capture_did_not_come_whole_is_said_wherever_the_report_speaks_of_it(facts: Any) -> None:
    day = "2026-06-01T10:00:00.000000Z"
    failed = Capture("standard-output", day, day, "end-of-data", "dump", exit_status=3)
    file = PathPair("ram.img", None)
    contents = msgspec.structs.replace(
        facts.shown.contents,
        flagged=[FlaggedEntry(file, "file", ["unreadable"], kept=True)],
        flagged_count=1,
        captured=[CapturedFile(file, 5, failed)],
    )
    footer = msgspec.structs.replace(facts.shown.footer, flags={"unreadable": 1})
    why = "did not come whole: the command ended with exit status 3"
    changed = {"contents": contents, "footer": footer}
    assert facts(**changed)["Gaps at the source"] == f"1 capture that {why}"
    (table,) = (
        block for block in facts.blocks("Acquisition 1", **changed) if isinstance(block, Table) and "remarks" in block.caption
    )
    assert table.rows[0][-1] == why
    two = msgspec.structs.replace(footer, flags={"unreadable": 2})
    assert facts(contents=contents, footer=two)["Gaps at the source"].startswith(
        f"1 capture that {why}, 1 entry could not be read"
    )


def test_what_the_vaults_own_machine_handed_on_is_not_called_what_travelled(facts: Any) -> None:
    size = facts()["Travelled over the link"]
    said = facts(header=msgspec.structs.replace(facts.shown.header, digests_taken_at="arrival"))
    assert "Travelled over the link" not in said
    assert said["Handed on to the vault"] == texts.FROM_SOURCE_NOT_STATED.format(size=size)


@pytest.mark.parametrize(
    ("point", "said"), [("source", "digests were taken on arrival"), ("disk", "statement of the source alone")]
)
def test_a_point_at_which_no_digests_were_taken_says_why(facts: Any, point: str, said: str) -> None:
    points = facts.shown.receipt.points
    left = msgspec.structs.replace(getattr(points, point), taken=False, digests=[], files=0, bytes=0)
    receipt = msgspec.structs.replace(facts.shown.receipt, points=msgspec.structs.replace(points, **{point: left}))
    (table,) = (block for block in facts.blocks("Acquisition 1", receipt=receipt) if isinstance(block, Table))
    assert [said in row[2] for row in table.rows].index(True) == ["source", "arrival", "disk"].index(point)
    assert sum(row[2].startswith("not taken") for row in table.rows) == 1


def test_the_entries_say_of_how_many_files_there_is_content_where_that_is_not_all(facts: Any) -> None:
    assert facts()["Entries in the manifest"] == "1 file, 1 folder"
    footer = msgspec.structs.replace(facts.shown.footer, counts={"file": 3, "directory": 1}, flags={"unreadable": 2})
    assert facts(footer=footer)["Entries in the manifest"] == "3 files, 1 folder; content of 1 file"


def test_a_chart_that_is_the_same_is_shown_once(facts: Any) -> None:
    types = [NamedSize("txt", 2, 500), NamedSize("img", 1, 900)]
    shown = [
        msgspec.structs.replace(
            facts.shown, number=number, contents=msgspec.structs.replace(facts.shown.contents, types=types[: 2 + number % 2])
        )
        for number in (2, 4, 6)
    ]
    shown.append(
        msgspec.structs.replace(shown[0], number=7, contents=msgspec.structs.replace(shown[0].contents, types=types[::-1]))
    )
    pages = facts.pages(shown)
    charts = [[type(block) for block in page if isinstance(block, Picture)] for page in pages]
    assert charts == [[Picture], [], [], [Picture]]
    said = "Bytes by the ending of the files' names: as in acquisition 2."
    assert [Paragraph(said) in page for page in pages] == [False, True, True, False]


def test_what_stands_in_place_of_unread_bytes_is_said_once_and_only_where_there_are_some(facts: Any) -> None:
    method = msgspec.structs.replace(facts.shown.header.method, options={"chunking": "x", "on-read-error": "zero"})
    header = msgspec.structs.replace(facts.shown.header, method=method)
    whole = msgspec.structs.replace(facts.shown, header=header)
    unread = msgspec.structs.replace(whole, contents=msgspec.structs.replace(whole.contents, unread_count=1))
    label = "In place of what could not be read"
    assert label not in dict(technical_facts(whole))
    assert dict(technical_facts(unread))[label] == "zeros"


def test_the_custody_table_cuts_keys(facts: Any) -> None:
    (table,) = (block for block in facts.blocks("Custody") if isinstance(block, Table))
    assert table.rows[0][-1] == f"✓ good, key {facts.shown.header.examiner.key[7:15]}…"


def test_a_hand_over_that_nobody_accepted_is_told_to_be_open(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    (bench.source / "a.txt").write_text("a")
    bench.push()
    signer, ledger = bench.request().signer, bench.vault.item(bench.name).ledger
    head = ledger.head()
    record = CustodyRecord(
        format="evidencesync-custody/1",
        vault_id=bench.vault.settings.id,
        sequence=head.sequence + 1,
        type="handed-over",
        time="2026-06-01T10:00:00.000000Z",
        case=bench.name.case.text,
        item=bench.name.item.text,
        actor=Person(name="Ana", principal="ana@lab", key=signer.public_key.fingerprint),
        previous_sha256=head.sha256,
        details={"to": "ben@lab"},
    )
    ledger.append(*sign_record(record, signer))
    verdict = audit_vault(bench.vault.layout.root, now_ns=LONG_AFTER_NS)
    source = VerdictSource(verdict, given=False, trusted=None)
    gathered = gather(bench.vault, ReportScope("2026/11", None, None), source, now_ns=LONG_AFTER_NS)
    (item,) = gathered.report.items
    assert item.open_hand_over == HandOver(record.sequence, "ana@lab", "ben@lab")
    (volume,) = volumes(gathered, ["r.html"])
    blocks = [
        block
        for section in exhibit_sections(volume.items[0], gathered.report.judgement)
        for block in section.blocks
        if isinstance(block, Facts)
    ]
    said = {fact.label: fact.value for block in blocks for fact in block.facts}["Hand-over"]
    assert said == f"open since custody record {record.sequence}: ana@lab to ben@lab, who has not accepted it"


@pytest.mark.parametrize(
    ("earlier", "number", "said"),
    [
        (None, 2, None),
        (
            Earlier(1, 1, 1),
            2,
            "1 of 1 file (1 B) was not read again: its content is as it was read in acquisition 1 (started {})",
        ),
        (
            Earlier(1, 1500, 2),
            5,
            "1 of 1 file (1.5 kB) was not read again: its content is as it was read in acquisition 2 or later",
        ),
    ],
)
def test_it_is_said_of_how_much_an_earlier_acquisition_has_read_the_content(
    facts: Any, earlier: Earlier | None, number: int, said: str | None
) -> None:
    footer = msgspec.structs.replace(facts.shown.footer, earlier=earlier)
    blocks = facts.blocks(f"Acquisition {number}", footer=footer, number=number)
    shown = {fact.label: fact.value for block in blocks if isinstance(block, Facts) for fact in block.facts}
    assert shown.get("Not read again") == (said and said.format(time_text(facts.shown.header.started)))
