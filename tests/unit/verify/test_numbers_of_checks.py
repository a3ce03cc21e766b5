"""The numbers of checks and the kinds of findings are the same in the code, in its own words and in the documents."""

from __future__ import annotations

import re
from pathlib import Path

from evidencesync.verify import audit
from evidencesync.verify.checks import DESCRIPTIONS, MEANINGS, Check

ROOT = Path(__file__).parents[3]


def test_the_audit_lists_the_checks_by_their_numbers() -> None:
    found = re.findall(r"^([0-9]+)\. (?:The )?(\w+): ", audit.__doc__ or "", re.MULTILINE)
    assert [(int(number), name.upper()) for number, name in found] == [(int(check), check.name) for check in Check]


def test_the_document_lists_the_checks_by_their_numbers() -> None:
    text = (ROOT / "docs" / "findings.md").read_text("utf-8")
    found = re.findall(r"^([0-9]+)\. \*\*([a-z]+)\*\*: (.+)$", text, re.MULTILINE)
    assert [(int(number), name, said) for number, name, said in found] == [
        (int(check), check.name.lower(), DESCRIPTIONS[check]) for check in Check
    ]


def test_every_kind_of_finding_is_explained_and_can_be_found() -> None:
    text = (ROOT / "docs" / "findings.md").read_text("utf-8")
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.MULTILINE)) == set(MEANINGS)
    files = [file for file in (ROOT / "evidencesync" / "verify").glob("*.py") if file.name != "checks.py"]
    files.append(ROOT / "evidencesync" / "custody" / "statements.py")  # the objections of which `verify` makes findings
    code = "".join(file.read_text("utf-8") for file in files)
    assert {slug for slug in MEANINGS if f'"{slug}"' not in code} == set()


def test_the_code_reports_no_kind_that_has_no_meaning() -> None:
    code = "".join(file.read_text("utf-8") for file in (ROOT / "evidencesync" / "verify").glob("*.py"))
    reported = set(re.findall(r'(?:report|_say)\(\s*Check\.\w+, "([a-z0-9-]+)"', code))
    assert len(reported) > 25
    assert reported <= set(MEANINGS)
