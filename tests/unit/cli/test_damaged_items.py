"""One lost record hides no other: `list`, `show`, `custody show` and a report show what is there, and say what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from evidencesync.cli.app import main
from evidencesync.report.blocks import Picture, Table
from evidencesync.report.custody_pages import custody_section
from evidencesync.report.gather import Gathered, VerdictSource, gather
from evidencesync.report.judging import ReportScope
from evidencesync.report.pdf_report import attach
from evidencesync.report.volumes import volumes
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, copy_of, make_bench
from tests.support.moments import LONG_AFTER_NS

ITEM = ("--case", "2026/11", "--item", "E1")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Two acquisitions, and of their four records not the third."""
    bench = make_bench(tmp_path_factory.mktemp("gap"))
    (bench.source / "a.txt").write_text("a")
    bench.push()
    bench.push()
    for name in ("0003-acquired.json", "0003-acquired.json.sig"):
        (bench.vault.layout.item(bench.name).custody / name).unlink()
    return bench


def gathered(bench: Bench) -> Gathered:
    verdict = audit_vault(bench.vault.layout.root, now_ns=LONG_AFTER_NS)
    source = VerdictSource(verdict, given=False, trusted=None)
    return gather(bench.vault, ReportScope("2026/11", None, None), source, now_ns=LONG_AFTER_NS)


def test_a_list_shows_the_acquisitions_of_an_item_whose_chain_has_a_gap(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["list", str(bench.vault.layout.root)]) == 34
    out = capfd.readouterr().out.splitlines()
    at = out.index("2026/11 / E1")
    assert "custody record 3 is missing" in out[at + 1]
    assert [line.split()[0] for line in out[at + 2 :]] == ["0001", "0002"]


@pytest.mark.parametrize("command", [("show",), ("custody", "show"), ("show", "--files")])
def test_who_shows_an_item_whose_chain_has_a_gap_shows_its_records_and_the_gap_before_the_error(
    bench: Bench, capfd: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    words, options = [one for one in command if one[0] != "-"], [one for one in command if one[0] == "-"]
    assert main([*words, str(bench.vault.layout.root), *ITEM, *options]) == 34
    said = capfd.readouterr()
    lines = said.out.splitlines()
    assert lines[0].startswith("NOT WHOLE")
    records = lines[lines.index("  custody") + 1 :]
    assert [line.split()[0] for line in records] == ["0001", "0002", "0003", "0004"]
    assert records[2] == "    0003  NOT THERE"
    assert "custody record 3 is missing" in said.err
    assert "hint: See what else is wrong: evidencesync verify" in said.err


def test_a_program_gets_the_error_alone(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(bench.vault.layout.root), *ITEM, "--json"]) == 34
    assert capfd.readouterr().out.startswith('{"error"')


def test_a_report_shows_the_records_that_are_there_and_a_row_for_the_gap(bench: Bench) -> None:
    made = gathered(bench).report
    (item,) = made.items
    assert (item.item, item.head is not None and item.head.sequence) == ("E1", 4)
    picture, table = custody_section("a", item, made.judgement).blocks
    assert isinstance(table, Table)
    assert isinstance(picture, Picture)
    assert [row[0] for row in table.rows] == ["1", "2", "3", "4"]
    assert table.rows[2][1:] == ["not there, or not read", "-", "-", "-", "? not checked: custody record 3 is not there"]
    assert "3 no record to show" in picture.alternative


def test_a_gap_of_many_records_is_one_row(bench: Bench, tmp_path: Path) -> None:
    copied = copy_of(bench, tmp_path)
    (copied.vault.layout.item(copied.name).custody / "999999-noted.json").write_text("{}")
    (item,) = gathered(copied).report.items
    assert [step.sequence for step in item.custody] == [1, 2, 3, 4, 5, 999_999]
    assert item.custody[4].signature_detail == "custody records 5 to 999998 are not there"


def test_the_records_that_are_there_are_attached_to_a_pdf(bench: Bench, tmp_path: Path) -> None:
    (volume,) = volumes(gathered(bench), ["r.pdf"])
    attached, left_out = attach(volume, tmp_path)
    records = [one.name for one in attached if "custody" in one.name and one.name.endswith(".json")]
    assert [name.split("_")[2][:4] for name in records] == ["0001", "0002", "0004"]
    assert left_out == []
