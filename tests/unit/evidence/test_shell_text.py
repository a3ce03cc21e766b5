"""Commands that are shown can be typed as they stand."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidencesync.evidence.display import escape_line, safe_text, shell_text


@pytest.mark.parametrize(
    ("word", "typed"),
    [
        ("/srv/vault", "/srv/vault"),
        ("my vault", "'my vault'"),
        ("back\\slash", "'back\\slash'"),
        ("", "''"),
        ("bell\x07", r"$'bell\x07'"),
        ("it's\n", r"$'it\'s\x0a'"),
        (b"\xff", r"$'\xff'"),
        ("right\u202eleft", r"$'right\xe2\x80\xaeleft'"),
    ],
)
def test_a_word_is_quoted_for_the_shell(word: str | bytes, typed: str) -> None:
    assert shell_text(word) == typed


def test_marks_beyond_the_16th_on_a_letter_cover_no_other_line_and_are_still_typed(require_program: Callable[[str], str]) -> None:
    word = "a" + "\u0301" * 40
    typed = shell_text(word)
    assert typed == "$'a" + "\u0301" * 16 + "\\xcc\\x81" * 24 + "'"
    done = subprocess.run([require_program("bash"), "-c", f"printf %s {typed}".encode()], capture_output=True, check=True)
    assert done.stdout.decode() == word
    assert escape_line(f"said: {word}").count("\u0301") == 16


@given(st.lists(st.text(), max_size=4))
def test_nothing_of_it_steers_a_terminal(words: list[str]) -> None:
    assert escape_line(shell_text(*words)) == shell_text(*words)


def test_bash_reads_the_very_words(require_program: Callable[[str], str]) -> None:
    words = ["a b", "it's", "back\\slash", "new\nline\\", "\x1b[31m'", "right\u202e1", "\udcff1", "$HOME", "*"]
    line = f"printf '%s\\0' {shell_text(*words)}"
    done = subprocess.run([require_program("bash"), "-c", line], capture_output=True, check=True)
    assert done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1] == words


def test_marks_on_a_letter_are_shown_as_far_as_a_language_has_them_and_cover_nothing_else() -> None:
    assert safe_text("\u05e9\u05c1\u05b8\u05bc\u0596") == "\u05e9\u05c1\u05b8\u05bc\u0596"
    assert safe_text("e" + 17 * "\u0301" + "a\u0301") == "e" + 16 * "\u0301" + "\\u0301" + "a\u0301"
    assert safe_text(17 * "\u0335") != safe_text(18 * "\u0335")
