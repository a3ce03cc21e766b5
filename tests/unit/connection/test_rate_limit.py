"""A limit of the rate holds at every moment, also after a pause."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from evidencesync.connection import writer
from evidencesync.connection.link import local_pair

_RATE = 1000


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(writer, "time", clock)
    return clock


def _limited() -> Callable[[int], None]:
    return writer.RateLimit(_RATE).wait


def _written() -> Callable[[int], None]:
    ours, _theirs = local_pair()
    one = writer.BufferedWriter(ours, _RATE)

    def write(size: int) -> None:
        one.put([bytes(size)])
        one.flush()

    return write


@pytest.mark.parametrize("make", [_limited, _written], ids=["limit", "writer"])
def test_a_pause_gives_no_credit_for_more_than_a_moment(make: Callable[[], Callable[[int], None]], clock: _Clock) -> None:
    send = make()
    send(500)
    assert clock.now == pytest.approx(100.5)
    clock.sleep(60)
    before = clock.now
    for _ in range(10):
        send(1000)
    assert 9.7 <= clock.now - before <= 10


def test_no_limit_waits_for_nothing(clock: _Clock) -> None:
    limit = writer.RateLimit(None)
    limit.wait(1 << 40)
    assert clock.now == 100
