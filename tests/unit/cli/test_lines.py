"""Lines for people are at most 100 columns wide."""

from __future__ import annotations

from evidencesync.cli.lines import wrapped
from evidencesync.evidence.number_format import time_text


def test_a_short_text_stays_one_line() -> None:
    assert list(wrapped("  note  ", "seized  at 09:40")) == ["  note  seized  at 09:40"]
    assert list(wrapped("  note  ", "")) == ["  note"]


def test_a_long_text_goes_on_below_itself() -> None:
    lines = list(wrapped("  note  ", "evidence " * 30))
    assert max(map(len, lines)) <= 100
    assert [line[:9] for line in lines] == ["  note  e", *["        e"] * (len(lines) - 1)]
    assert " ".join(line[8:] for line in lines).split() == ["evidence"] * 30


def test_a_word_that_is_longer_than_a_line_is_broken() -> None:
    lines = list(wrapped("  ", "x" * 250))
    assert max(map(len, lines)) <= 100
    assert "".join(line.strip() for line in lines) == "x" * 250


def test_a_time_says_that_it_is_utc() -> None:
    assert time_text("2026-11-23T09:30:00.123456Z") == "2026-11-23 09:30:00 UTC"
