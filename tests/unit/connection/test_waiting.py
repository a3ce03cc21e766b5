"""How long an end may say that it works, and show nothing for it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from evidencesync.connection.waiting import Standstill
from evidencesync.errors import LinkLostError

Say = Callable[[float], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def work(clock: list[float]) -> Standstill:
    return Standstill("it", 100.0, 10.0)


def test_who_only_says_that_it_works_is_given_up_after_the_bound(work: Standstill, clock: list[float]) -> None:
    for clock[0] in range(5, 105, 5):
        work.go_on()
    clock[0] = 105
    with pytest.raises(LinkLostError, match="it has said for 1 min 45 s that it works"):
        work.go_on()


def test_who_pauses_between_two_works_has_not_worked_all_the_time(work: Standstill, clock: list[float]) -> None:
    for clock[0] in range(11, 1000, 11):
        work.go_on()


def test_what_is_done_begins_the_time_anew(work: Standstill, clock: list[float]) -> None:
    for clock[0] in range(5, 1000, 5):
        work.go_on()
        if clock[0] % 95 == 0:
            work.end()


def test_next_to_nothing_is_no_progress(work: Standstill, clock: list[float]) -> None:
    """One byte after the other could be claimed for ever."""
    for clock[0] in range(5, 105, 5):
        assert not work.show(int(clock[0]) // 5, 10)
        work.go_on()
    clock[0] = 105
    with pytest.raises(LinkLostError):
        work.go_on()


def test_who_does_enough_a_second_may_go_on(work: Standstill, clock: list[float]) -> None:
    for clock[0] in range(5, 1000, 5):
        assert work.show(int(clock[0]) * 11, 10)
        work.go_on()
    clock[0] += 5
    assert not work.show(0, 10)
