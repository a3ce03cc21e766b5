"""What is read with a limit comes whole, in order and no faster. The clock is simulated."""

from __future__ import annotations

import pytest

from evidencesync.connection import writer
from evidencesync.connection.limited_link import LimitedLink
from evidencesync.connection.link import local_pair


class Clock:
    """A clock that only a sleep moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.longest = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.longest = max(self.longest, seconds)


@pytest.mark.parametrize("rate", [10_000, 1_000_000])
def test_what_comes_is_read_no_faster_and_no_pause_is_taken_for_silence(monkeypatch: pytest.MonkeyPatch, rate: int) -> None:
    clock = Clock()
    monkeypatch.setattr(writer, "time", clock)
    here, there = local_pair()
    sent = bytes(range(256)) * 4096
    there.write(sent[: 1 << 19])
    there.write(sent[1 << 19 :])
    there.close()
    link = LimitedLink(here, rate)
    came = b""
    while block := link.read():
        came += block
    assert came == sent
    assert clock.now - 1000.0 >= len(sent) / rate - 0.25
    assert clock.longest <= 0.5
    assert link.wire_received == len(sent)


def test_what_is_written_is_not_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(writer, "time", clock)
    here, there = local_pair()
    LimitedLink(here, 1).write(b"question" * 1000)
    assert there.read() == b"question" * 1000
    assert clock.now == 1000.0
