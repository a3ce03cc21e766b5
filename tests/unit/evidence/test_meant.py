"""A name that nobody has leads to the one that may have been meant, and to none where that is a guess."""

from __future__ import annotations

import pytest

from evidencesync.evidence.meant import did_you_mean, nearest, numbers_text


@pytest.mark.parametrize(
    ("wanted", "known", "meant"),
    [
        ("2026-01", ["2026-001", "2026-010"], ["2026-001"]),
        ("LICENSES", ["LICENCES", "PHONE"], ["LICENCES"]),
        ("licences", ["LICENCES", "LICENCES-2"], ["LICENCES"]),
        ("disc", ["DISK", "PHONE"], ["DISK"]),
        ("ana", ["ben@lab", "ana@lab"], ["ana@lab"]),
        ("2026", ["2026-001"], ["2026-001"]),
        ("2026", ["2026-001", "2026-017", "2026-033"], []),  # which of them is meant nobody knows
        ("A", ["A1", "B1"], []),
        ("PHONE", ["LAPTOP-1"], []),
        ("---", ["***"], []),
    ],
)
def test_another_spelling_comes_first_then_what_begins_so_then_a_slip(wanted: str, known: list[str], meant: list[str]) -> None:
    assert nearest(wanted, known) == meant


def test_no_more_than_two_are_named_each_once() -> None:
    assert nearest("E-01", ["E1", "e-1", "E1", "E_001"]) == ["E1", "e-1"]


def test_what_is_meant_is_said_as_it_is_typed() -> None:
    assert did_you_mean(["DISK 1", "D2"], "--item") == "Did you mean --item 'DISK 1' or --item D2? "
    assert did_you_mean(["ana@lab"]) == "Did you mean ana@lab? "
    assert did_you_mean([]) == ""


def test_numbers_that_there_are_are_said_by_the_first_and_the_last() -> None:
    assert numbers_text(range(1, 4), "acquisition") == "It has acquisitions 1 to 3. "
    assert numbers_text([1], "record") == "It has record 1 alone. "
    assert numbers_text([], "record") == ""
