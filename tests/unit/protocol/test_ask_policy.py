"""When a sender asks first, when it lists, and when it simply sends."""

from __future__ import annotations

import pytest

from evidencesync.limits import MIN_CHUNK
from evidencesync.protocol.flow import AskPolicy, Opening, RefinePolicy

NAME, LIST, BYTES = Opening.NAME, Opening.LIST, Opening.BYTES

KNOWN, PART, MISS, NONE_MISSING = "known", "part", "miss", "none missing"


def after(*answers: str, never: bool = False) -> AskPolicy:
    policy = AskPolicy(peer_knows_nothing=never)
    for answer in answers:
        if answer == KNOWN:
            policy.record_known()
        else:
            policy.record_parts({PART: 1, MISS: 4, NONE_MISSING: 0}[answer], 4)
    return policy


TABLE: list[tuple[tuple[str, ...], Opening]] = [
    ((), NAME),
    ((KNOWN,), NAME),
    ((KNOWN,) * 100, NAME),
    ((PART,), LIST),
    ((PART, KNOWN), NAME),
    ((PART, PART), LIST),
    ((NONE_MISSING,), NAME),
    ((PART, NONE_MISSING), NAME),
    ((MISS,), NAME),
    ((MISS,) * 3, NAME),
    ((MISS,) * 4, BYTES),
    ((MISS,) * 40, BYTES),
    ((MISS, MISS, MISS, PART), LIST),
    ((MISS, MISS, MISS, PART, MISS), LIST),
    ((MISS, MISS, KNOWN, MISS, MISS), NAME),
    ((MISS, MISS, KNOWN, MISS, MISS, MISS, MISS), BYTES),
    ((*(MISS,) * 9, KNOWN), NAME),
    ((*(MISS,) * 9, PART), LIST),
    ((*(MISS,) * 9, PART, KNOWN), NAME),
]


@pytest.mark.parametrize(("answers", "opening"), TABLE, ids=lambda value: ",".join(value) if isinstance(value, tuple) else None)
def test_what_comes_next_depends_on_the_answers_so_far(answers: tuple[str, ...], opening: Opening) -> None:
    assert after(*answers).opening() is opening


@pytest.mark.parametrize("answers", [answers for answers, _ in TABLE], ids=",".join)
def test_a_peer_that_knows_nothing_is_never_asked(answers: tuple[str, ...]) -> None:
    policy = after(*answers, never=True)
    assert {policy.opening() for _ in range(50)} == {BYTES}


def test_one_in_sixteen_is_still_asked_about_while_nothing_is_known() -> None:
    policy = after(*(MISS,) * 4)
    openings = [policy.opening() for _ in range(64)]
    assert openings.count(LIST) == 4
    assert openings.count(BYTES) == 60
    assert NAME not in openings
    assert openings[:15] == [BYTES] * 15


def test_the_first_hit_ends_eager_sending() -> None:
    policy = after(*(MISS,) * 4)
    for _ in range(20):
        policy.opening()
    policy.record_parts(3, 4)
    assert policy.opening() is LIST
    policy.record_known()
    assert {policy.opening() for _ in range(20)} == {NAME}


def test_asking_changes_nothing_by_itself() -> None:
    assert {after(KNOWN).opening() for _ in range(100)} == {NAME}


# Pieces.


def test_gaps_are_refined_until_eight_in_a_row_gave_nothing() -> None:
    policy = RefinePolicy()
    for _ in range(8):
        assert policy.wants_pieces()
        policy.record_found(0, 100_000)
    assert [policy.wants_pieces() for _ in range(16)].count(True) == 2


def test_a_gap_that_has_something_ends_that() -> None:
    policy = RefinePolicy()
    for _ in range(20):
        policy.record_found(999, 100_000)
    policy.record_found(1000, 100_000)
    assert all(policy.wants_pieces() for _ in range(20))


def test_what_is_new_among_zeros_says_nothing_of_other_gaps() -> None:
    policy = RefinePolicy()
    for _ in range(100):
        policy.record_found(0, MIN_CHUNK - 1)
    assert all(policy.wants_pieces() for _ in range(20))
