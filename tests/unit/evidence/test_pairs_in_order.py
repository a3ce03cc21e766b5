from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from evidencesync.evidence.path import pair_in_order, walk_order

PATHS = st.sets(st.lists(st.sampled_from([b"a", b"a-b", b"a.", b"b"]), min_size=1, max_size=3).map(b"/".join))


@given(PATHS, PATHS)
def test_every_path_of_either_side_comes_once_and_in_walk_order(left: set[bytes], right: set[bytes]) -> None:
    one, other = (iter(sorted(side, key=walk_order)) for side in (left, right))
    expected = [
        (path if path in left else None, path if path in right else None) for path in sorted(left | right, key=walk_order)
    ]
    pairs = pair_in_order(one, other, walk_order, walk_order)
    assert list(pairs) == expected


def test_nothing_is_asked_for_before_what_came_first_was_given() -> None:
    """A walk closes the folder of what it gave before."""
    asked: list[bytes] = []

    def walk() -> Iterator[bytes]:
        for path in (b"a", b"b"):
            asked.append(path)
            yield path

    pairs = pair_in_order(iter([b"a"]), walk(), walk_order, walk_order)
    assert next(pairs) == (b"a", b"a")
    assert asked == [b"a"]
