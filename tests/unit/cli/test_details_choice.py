"""Details of case and item, typed or in a case file: strict, and with a hint where something is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from evidencesync.cli.details_choice import DetailsChoice, read_case_file
from evidencesync.errors import UsageError
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.exit_codes import ExitCode
from evidencesync.limits import MAX_CASE_FILE, MAX_FREE_TEXT

NAME = ItemName(Title("2024-017"), Title("LAPTOP-1"))
FULL = """
[case]
number = "2024-017"
description = "fraud"
legal_authority = "Warrant 12/24"
organisation = "State police"

[item]
number = "LAPTOP-1"
description = "black laptop"
make = "Dell"
model = "X1"
serial_number = "7XK2"
capacity = "512 GB"
seal_number = "4711"
location = "office, desk"
storage = "locker 3"

[details]
"asset tag" = "A-1"
"""


def write(folder: Path, text: str | bytes) -> Path:
    file = folder / "case.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_a_case_file_has_everything_that_practice_asks_for(tmp_path: Path) -> None:
    assert read_case_file(write(tmp_path, FULL), NAME) == {
        "case_description": "fraud",
        "legal_authority": "Warrant 12/24",
        "organisation": "State police",
        "description": "black laptop",
        "make": "Dell",
        "model": "X1",
        "serial_number": "7XK2",
        "capacity": "512 GB",
        "seal_number": "4711",
        "location": "office, desk",
        "storage": "locker 3",
        "asset tag": "A-1",
    }


def test_what_is_typed_wins_over_the_case_file(tmp_path: Path) -> None:
    choice = DetailsChoice(detail=["make=HP", "Serial number=1"], case_file=str(write(tmp_path, FULL)))
    found = choice.details(NAME)
    assert (found["make"], found["serial_number"], found["model"]) == ("HP", "1", "X1")
    assert DetailsChoice().details(NAME) == {}


@pytest.mark.parametrize(
    "text",
    [
        "make = 'Dell'",
        "[itme]\nmake = 'Dell'",
        "[item]\nmakr = 'Dell'",
        "[case]\nmake = 'Dell'",
        "[item]\nlegal_authority = 'x'",
        "[item]\ncapacity = 512",
        "[item]\nmake = ['Dell']",
        "[item]\nmake = {a = 'b'}",
        "[item]\nmake = 2024-01-01",
        "[[item]]\nmake = 'Dell'",
        "[item]\nmake = ''",
        '[item]\nmake = "a\\u001bb"',
        '[item]\nmake = "a\\nb"',
        "[details]\nsource = 'x'",
        "[details]\nrecord = '1'",
        '[details]\n"a\\u001b" = "x"',
        "[details]\nmake = 'a'\n[item]\nmake = 'b'",
        "[case]\nnumber = '2024-018'",
        "[item]\nnumber = 'LAPTOP-2'",
        "[item]\nmake = 'Dell'\nmake = 'HP'",
        "[item",
        b"[item]\nmake = '\xff'",
        f"[item]\nmake = '{'x' * (MAX_FREE_TEXT + 1)}'",
        "#" * (MAX_CASE_FILE + 1),
        "a = " + "[" * 20_000,
    ],
)
def test_a_case_file_that_is_not_understood_is_refused_with_a_hint(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(UsageError) as refused:
        read_case_file(write(tmp_path, text), NAME)
    assert refused.value.exit_code is ExitCode.USAGE
    assert refused.value.hint


def test_a_case_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_case_file(tmp_path / "none.toml", NAME)


@pytest.mark.parametrize("given", ["make", "=x", "make=", "record=1", "make=a\x1b"])
def test_a_detail_that_is_none_is_refused_with_a_hint(given: str) -> None:
    with pytest.raises(UsageError) as refused:
        DetailsChoice(detail=[given]).details(NAME)
    assert refused.value.hint
