"""A pattern that no path can match is told at once: it would leave out nothing, or keep nothing, without a word."""

from __future__ import annotations

import pytest

from evidencesync.errors import UsageError
from evidencesync.source.filters import parse_pattern


@pytest.mark.parametrize("text", [".", "..", "./a.txt", "../a.txt", "/./a", "a/../b", "a/./", "!./a"])
def test_a_name_of_dots_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="matches nothing") as caught:
        parse_pattern(text)
    assert "from the source on" in (caught.value.hint or "")


@pytest.mark.parametrize("text", [".*", "...", ".a", "a.", "..a/b"])
def test_a_name_that_only_holds_dots_is_a_pattern(text: str) -> None:
    parse_pattern(text)
