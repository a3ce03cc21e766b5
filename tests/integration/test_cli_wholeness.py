"""What an acquisition has of its source is told wherever it is shown: gaps, changes, files in part, and what filters left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evidencesync.custody.wholeness import SourceState
from tests.integration.cli_program import ITEM, Lab, schema_errors

STATES: list[tuple[dict[str, int], dict[str, int], str, str]] = [
    ({}, {}, "complete", "complete"),
    ({"skipped": 3}, {}, "complete", "filtered"),
    ({"unreadable": 1}, {}, "gaps", "with gaps"),
    ({"vanished": 1}, {}, "gaps", "with gaps"),
    ({}, {"listed-not-reached": 2}, "gaps", "with gaps"),
    ({"changed-while-read": 1}, {}, "source-changed", "changed while it was read"),
    ({}, {"folder-changed-while-read": 1}, "source-changed", "changed while it was read"),
    ({"changed-while-read": 1, "unreadable": 1, "skipped": 1}, {}, "gaps", "with gaps, changed while it was read, filtered"),
    ({}, {"access-time-changed": 9, "metadata-unread": 1}, "complete", "complete"),
]


@pytest.mark.parametrize(("flags", "remarks", "verdict", "words"), STATES)
def test_each_kind_is_told_apart(flags: dict[str, int], remarks: dict[str, int], verdict: str, words: str) -> None:
    state = SourceState.of(flags, remarks)  # type: ignore[arg-type]
    assert (state.verdict, state.words) == (verdict, words)
    assert bool(state.parts) == (words != "complete")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Four acquisitions: whole; with a gap; filtered; changed... and what a filter met nothing of."""
    lab = Lab.make(tmp_path_factory.mktemp("wholeness"))
    lab.write("notes.txt", b"hello")
    assert lab.push().code == 0
    secret = lab.write("secret", b"nobody reads this")
    secret.chmod(0)
    assert lab.push(unprivileged=True).code == 3
    secret.chmod(0o600)
    assert lab.push("--exclude", "secret").code == 0
    assert lab.push("--exclude", "*.iso").code == 0
    return lab


def test_list_tells_an_acquisition_with_gaps_from_any_other(lab: Lab) -> None:
    lines = [line for line in lab.run("list", "vault").out.splitlines() if line.startswith("  000")]
    assert ["WITH GAPS" in line for line in lines] == [False, True, False, False]
    assert ["filtered" in line for line in lines] == [False, False, True, True]
    assert "1 entry not read, or not whole" in lines[1]
    assert "1 entry left out" in lines[2]
    done = lab.run("list", "vault", "--json")
    assert schema_errors(done.document, "list-output") == []
    listed = done.document["items"][0]["acquisitions"]
    assert [one["verdict"] for one in listed] == ["complete", "gaps", "complete", "complete"]
    assert [one["flags"] for one in listed] == [{}, {"unreadable": 1}, {"skipped": 1}, {}]
    assert [one["filtered"] for one in listed] == [False, False, True, True]


def test_show_says_it_and_a_filter_is_no_gap(lab: Lab) -> None:
    said = []
    for number in "1234":
        done = lab.run("show", "vault", *ITEM, "--acquisition", number, "--json")
        assert schema_errors(done.document, "show-output") == []
        said.append((done.document["verdict"], done.document["filtered"]))
    assert said == [("complete", False), ("gaps", False), ("complete", True), ("complete", True)]
    assert "  read          everything" in lab.run("show", "vault", *ITEM, "--acquisition", "1").out
    assert "WITH GAPS" in lab.run("show", "vault", *ITEM, "--acquisition", "2").out


def test_diff_says_what_is_no_difference_of_the_source(lab: Lab) -> None:
    done = lab.run("diff", "vault", "2", "3", *ITEM)
    assert "acquisition 2: WITH GAPS" in done.out
    assert "acquisition 3: filtered" in done.out
    document = lab.run("diff", "vault", "2", "3", *ITEM, "--json").document
    assert schema_errors(document, "diff-output") == []
    assert document["before_source"] == {"verdict": "gaps", "filtered": False}
    assert document["after_source"] == {"verdict": "complete", "filtered": True}


def test_verify_does_not_call_a_filter_a_gap(lab: Lab) -> None:
    found = lab.run("verify", "vault", "--json").document["findings"]
    assert {(one["slug"], one["acquisition"]) for one in found} >= {("source-gaps", 2), ("source-filtered", 3)}
    assert {one["acquisition"] for one in found if one["slug"] == "source-gaps"} == {2}


def test_an_export_says_what_the_acquisition_lacks(lab: Lab, tmp_path: Path) -> None:
    for number, source, words in (("2", ["source-gaps"], "with gaps"), ("3", ["source-filtered"], "filtered")):
        bag = tmp_path / number
        line = ("export", "vault", str(bag), *ITEM, "--acquisition", number, "--format", "bagit", "--json")
        done = lab.run(*line)
        assert (done.code, done.document["source"], schema_errors(done.document, "export-output")) == (0, source, [])
        assert f"Evidencesync-Source: {words}\n" in (bag / "bag-info.txt").read_text("utf-8")


def test_the_reports_first_table_says_it(lab: Lab, tmp_path: Path) -> None:
    verdict = tmp_path / "verdict.json"
    verdict.write_text(lab.run("verify", "vault", "--json").out)
    page = tmp_path / "report.html"
    assert lab.run("report", "vault", "--case", "2024-017", "-o", str(page), "--verdict", str(verdict)).code == 0
    table = page.read_text("utf-8").partition("Items and acquisitions")[2].partition("</table>")[0]
    rows = [row for row in table.split("<tr") if "LAPTOP-1" in row]
    assert len(rows) == 4
    assert ["with gaps" in row for row in rows] == [False, True, False, False]
    assert ["filtered" in row for row in rows] == [False, False, True, True]
    assert "complete" in rows[0]
    assert json.loads(verdict.read_text())["verdict"] == "pass"
