"""Patterns for case numbers: without a slash they mean what `fnmatchcase` means, and no part of one is matched over a slash."""

from __future__ import annotations

import unicodedata
from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st

from evidencesync.custody.patterns import case_fits, case_pattern_problem

LETTERS = "abAB1- \u00e9\u0301\u0430?*"
names = st.text(LETTERS, max_size=12)
patterns = st.lists(st.sampled_from([*"ab1-\u00e9", "*", "?", "ab"]), max_size=8).map("".join)


@given(names, patterns)
def test_without_a_slash_it_is_what_fnmatchcase_says(name: str, pattern: str) -> None:
    assert case_fits(name, pattern) == fnmatchcase(unicodedata.normalize("NFC", name), pattern)


@given(st.lists(names, min_size=1, max_size=4), st.lists(patterns, min_size=1, max_size=4))
def test_with_slashes_it_is_that_for_each_part(parts: list[str], of_pattern: list[str]) -> None:
    each = len(parts) == len(of_pattern) and all(map(case_fits, parts, of_pattern))
    assert case_fits("/".join(parts), "/".join(of_pattern)) == each


@given(st.text(max_size=12))
def test_a_plain_number_that_is_taken_as_a_pattern_means_itself(name: str) -> None:
    if case_pattern_problem(name) is None:
        assert case_fits(name, name)
        assert case_fits(unicodedata.normalize("NFD", name), name)
