"""Lines for people are at most 100 columns wide."""

from __future__ import annotations

import shlex

from evidencesync.cli.lines import fitted, wrapped
from evidencesync.evidence.display import shell_text
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


def test_a_line_for_a_terminal_is_broken_between_words_and_goes_on_below_its_text() -> None:
    assert list(fitted("  evidence     7 files", 80)) == ["  evidence     7 files"]
    lines = list(fitted(f"  travelled    {'word ' * 30}".rstrip(), 80))
    assert max(map(len, lines)) <= 80
    assert [line[:16] for line in lines] == ["  travelled    w", *[" " * 15 + "w"] * (len(lines) - 1)]
    assert list(fitted(f"  receipt      {'x' * 90}", 80)) == [f"  receipt      {'x' * 90}"]  # a path stays one


def test_a_command_that_does_not_fit_begins_a_line_and_can_be_pasted() -> None:
    command = "evidencesync verify ana@vault.lab:/srv/vault --case 2024-017 --item LAPTOP-01"
    assert list(fitted(f"  next         {command}", 80)) == ["  next", f"  {command}"]
    hint = f"hint: Keep the vault as it is. See {command}. Then ask (nobody else)."
    assert list(fitted(hint, 80)) == ["hint: Keep the vault as it is. See", f"  {command}.", "  Then ask (nobody else)."]


def test_a_command_that_is_longer_than_a_line_is_what_a_shell_reads_as_one() -> None:
    command = shell_text(
        "evidencesync", "push", "a folder", "/srv/vault", "--case", "2024 017", "--item", "x" * 30, "--note", "y" * 40
    )
    first, *lines = fitted(f"hint: {command}", 80)
    assert first == "hint:"
    assert max(map(len, lines)) <= 80
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == shlex.split(command)


def test_text_behind_a_command_is_no_part_of_it() -> None:
    text = f"hint: {'word ' * 12}evidencesync verify v; evidencesync list v (on vault.lab), or evidencesync show v"
    assert [line.strip() for line in fitted(text, 80)][1:] == [
        "evidencesync verify v; evidencesync list v (on vault.lab), or",
        "evidencesync show v",
    ]
