from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from docs.generate.reference import commands_text, exit_codes_text, findings_text, write_reference
from docs.generate.schemas import SCHEMAS, schema_text, write_schemas
from evidencesync.exit_codes import ExitCode

REPOSITORY = Path(__file__).parents[3]


def test_there_are_schemas_for_every_document_and_output() -> None:
    committed = {file.stem for file in (REPOSITORY / "schemas").iterdir()}
    assert committed == set(SCHEMAS)
    assert {"manifest-line", "receipt", "custody-record", "push-output", "verify-output", "error-output"} <= committed


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schemas_say_what_the_code_says(name: str) -> None:
    text = schema_text(name)
    assert (REPOSITORY / "schemas" / f"{name}.json").read_text("utf-8") == text, "run: make schemas"
    Draft202012Validator.check_schema(json.loads(text))
    assert '"$id"' not in text


@pytest.mark.parametrize(
    ("file", "make"),
    [("commands.md", commands_text), ("exit-codes.md", exit_codes_text), ("findings.md", findings_text)],
)
def test_the_reference_says_what_the_code_says(file: str, make: object) -> None:
    assert callable(make)
    assert (REPOSITORY / "docs" / file).read_text("utf-8") == make(), "run: make docs"


def test_every_exit_code_is_explained() -> None:
    text = exit_codes_text()
    for code in ExitCode:
        assert f"\n| {int(code)} | " in text


def test_writing_again_changes_nothing_and_removes_what_is_stale(tmp_path: Path) -> None:
    write_schemas(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    (tmp_path / "stale.json").write_text("{}")
    write_schemas(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    write_reference(tmp_path)
    assert (tmp_path / "commands.md").read_text().startswith("<!-- Generated")


def test_a_schema_refuses_what_the_code_would_never_write() -> None:
    validator = Draft202012Validator(json.loads(schema_text("error-output")))
    good = {"error": {"code": 2, "slug": "usage", "message": "m", "hint": None}}
    assert validator.is_valid(good)
    for bad in (
        {},
        {"error": None},
        {**good, "more": 1},
        {"error": {**good["error"], "code": 0}},
        {"error": {**good["error"], "hint": 1}},
    ):
        assert not validator.is_valid(bad)
