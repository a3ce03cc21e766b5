"""Which texts a document may hold: a look at its JSON alone comes to the same as one at every text."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evidencesync.custody import text
from evidencesync.custody.text import check_texts
from evidencesync.errors import MalformedDocumentError
from evidencesync.limits import MAX_DOCUMENT_FIELDS, MAX_PATH
from tests.support.soak import often


class Note(msgspec.Struct):
    """A document with texts at every depth."""

    words: list[str]
    details: dict[str, str]
    count: int = 0


def refused(note: Note, *, one_by_one: bool) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        if one_by_one:
            patch.setattr(text, "_is_plain", lambda _: False)
        try:
            check_texts(note, "the note")
        except MalformedDocumentError:
            return True
    return False


words = st.text(max_size=6) | st.sampled_from(["plain", "a\\b", 'a"b', "a\nb", "a\x1bb", "a\x7fb", "a\u202eb", "a\xadb", "é", ""])


@settings(max_examples=often(25, 1200))
@given(st.lists(words, max_size=4), st.dictionaries(words, words, max_size=3))
@example(["x" * (2 * MAX_PATH + 1)], {})
@example(["x" * (2 * MAX_PATH)], {})
@example(["x"] * MAX_DOCUMENT_FIELDS, {})  # and the two names of its fields: too many
@example(["x"] * (MAX_DOCUMENT_FIELDS - 3), {})
@example([], {"\x7f": "x"})
def test_texts_are_judged_the_same_at_once_and_one_by_one(some: list[str], details: dict[str, str]) -> None:
    note = Note(some, details)
    assert refused(note, one_by_one=False) == refused(note, one_by_one=True)


@pytest.mark.parametrize("bad", ["a\nb", "a\x1b[31mb", "a\x7fb", "a\x85b", "a\u202eb", "a\u200bb", "x" * (2 * MAX_PATH + 1)])
def test_what_could_steer_a_terminal_hide_or_fill_the_memory_is_refused(bad: str) -> None:
    assert refused(Note([bad], {}), one_by_one=False)
    assert refused(Note([], {bad: ""}), one_by_one=False)
    assert refused(Note([], {"": bad}), one_by_one=False)


def test_too_many_texts_are_refused() -> None:
    assert refused(Note([""] * MAX_DOCUMENT_FIELDS, {}), one_by_one=False)
    assert not refused(Note([""] * (MAX_DOCUMENT_FIELDS - 3), {}), one_by_one=False)
