"""What a person types for a document is refused where it is typed, with the limit."""

from __future__ import annotations

import pytest

from evidencesync.custody.details import check_room, make_details
from evidencesync.custody.typed import check_header_texts, check_text
from evidencesync.errors import UsageError
from evidencesync.limits import MAX_DETAILS, MAX_FREE_TEXT, MAX_PATH, MAX_TYPED, MAX_TYPED_TEXTS


@pytest.mark.parametrize("text", ["a\nb", "a\x1b[1m", "a\u202eb", "a\U000e0100b", "x" * (MAX_FREE_TEXT + 1), ""])
def test_a_text_that_no_document_may_hold_is_refused_with_the_limit(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_text(text, "a note")
    assert str(MAX_FREE_TEXT) in (refused.value.hint or "")


def test_other_texts_are_taken_as_they_are() -> None:
    assert check_text("x" * MAX_FREE_TEXT, "a note") == "x" * MAX_FREE_TEXT
    assert check_text("", "a note", may_be_empty=True) == ""


@pytest.mark.parametrize(
    ("texts", "limit"),
    [
        (["n" * MAX_FREE_TEXT] * (MAX_TYPED // MAX_FREE_TEXT), MAX_TYPED),
        (["\u00e9" * (MAX_FREE_TEXT // 2)] * (MAX_TYPED // MAX_FREE_TEXT), MAX_TYPED),
        (["x"] * (MAX_TYPED_TEXTS + 1), MAX_TYPED_TEXTS),
        (["x" * (2 * MAX_PATH + 1)], 2 * MAX_PATH),
    ],
)
def test_what_a_header_has_no_room_for_is_refused_with_the_limit(texts: list[str], limit: int) -> None:
    with pytest.raises(UsageError, match=f"the limit is {limit}"):
        check_header_texts(texts)


def test_what_a_header_has_room_for_is_taken() -> None:
    check_header_texts(["n" * (MAX_FREE_TEXT - 3)] * (MAX_TYPED // MAX_FREE_TEXT - 1))
    check_header_texts(["x"] * MAX_TYPED_TEXTS)


def test_texts_and_details_of_one_record_are_counted_together() -> None:
    details = make_details([(f"d{number}", "v") for number in range(MAX_DETAILS)])
    with pytest.raises(UsageError, match=f"room for {MAX_DETAILS}"):
        check_room({**details, "text": "x"})
