"""What needs two people, as a person types it and as a record states it."""

from __future__ import annotations

import pytest

from evidencesync.custody.rule_of_two import parse_rule, typed_rule
from evidencesync.errors import MalformedDocumentError, UsageError


@pytest.mark.parametrize(
    ("typed", "rule"),
    [
        ("seal", ("seal",)),
        ("trust,seal", ("seal", "trust")),
        (" seal , trust ", ("seal", "trust")),
        ("trust,trust", ("trust",)),
        ("nothing", ()),
    ],
)
def test_a_person_types_words_in_any_order(typed: str, rule: tuple[str, ...]) -> None:
    assert typed_rule(typed) == rule


@pytest.mark.parametrize("typed", ["", "everything", "seal,", "nothing,seal", "Seal", "seal trust"])
def test_what_is_no_such_word_is_refused(typed: str) -> None:
    """An empty text, too: an unset variable of a script switches nothing off."""
    with pytest.raises(UsageError, match="nothing that may need two people"):
        typed_rule(typed)


@pytest.mark.parametrize("text", ["trust,seal", "seal, trust", "nothing", "seal,seal"])
def test_a_record_states_it_in_one_form(text: str) -> None:
    with pytest.raises(MalformedDocumentError):
        parse_rule(text)
