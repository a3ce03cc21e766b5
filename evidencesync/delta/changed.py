"""Which byte ranges of a content differ from those of another, by their recipes alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from evidencesync.delta.recipe import Recipe
from evidencesync.delta.rows import Row


class ChangedRange(NamedTuple):
    """Bytes of the later content that are not those of the earlier one at the same place."""

    offset: int
    length: int


def changed_ranges(before: Recipe, after: Recipe) -> Iterator[ChangedRange]:
    """The ranges of `after` that differ from what `before` has at the same offsets, merged where they touch, in order.

    As fine as chunks are: a range may hold bytes that are the same. What only one of the two has at its end counts as far as
    `after` goes. Both are read in blocks. Raises MalformedDocumentError for rows that are none.
    """
    start = end = 0
    for one in _differing(_spans(before), _spans(after)):
        if one.offset != end and end > start:
            yield ChangedRange(start, end - start)
            start = one.offset
        elif end == start:
            start = one.offset
        end = one.offset + one.length
    if end > start:
        yield ChangedRange(start, end - start)


class _Span(NamedTuple):
    start: int
    end: int
    row: Row


def _spans(recipe: Recipe) -> Iterator[_Span]:
    offset = 0
    for segment in recipe.segments():
        for row in segment.rows():
            yield _Span(offset, offset + row.length, row)
            offset += row.length


def _differing(before: Iterator[_Span], after: Iterator[_Span]) -> Iterator[ChangedRange]:
    """Walks both side by side: the parts of the later one that are not known to be the same."""
    position = 0
    one, other = next(before, None), next(after, None)
    while other is not None:
        end = other.end if one is None else min(one.end, other.end)
        if one is None or not _is_same(one, other):
            yield ChangedRange(position, end - position)
        position = end
        if one is not None and one.end == end:
            one = next(before, None)
        if other.end == end:
            other = next(after, None)


def _is_same(one: _Span, other: _Span) -> bool:
    """Whether what two spans have in common is equal: the same chunk, or zeros in both."""
    if one.row.is_zeros and other.row.is_zeros:
        return True
    return one.start == other.start and one.row == other.row
