"""A long frame over a slow line takes longer than the timeout: as long as its bytes come, nobody is silent."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from evidencesync.acquire import vault_connection as conversation_module
from evidencesync.connection import inbox as inbox_module
from evidencesync.connection.inbox import Inbox, SilenceTimer
from evidencesync.connection.link import LocalLink
from evidencesync.errors import LinkLostError
from evidencesync.limits import LEAST_RATE
from tests.support.bench_of_evidence import make_bench
from tests.support.patience import PATIENCE_SECONDS
from tests.support.pulling import far_end, link_to, pull_from

MIB = 1 << 20
TIMEOUT = 10.0
PART = 200_000
SLOW_PARTS = 10  # all of them within the content that is pulled: there is always more to come, and somebody waits for it


class Clock:
    """In place of the module `time`: goes on by itself, and may be set forward for the thread that waits, the test's own."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + (self.ahead if _is_the_one_that_waits() else 0.0)


def _is_the_one_that_waits() -> bool:
    return threading.current_thread() is threading.main_thread()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(inbox_module, "time", made)
    return made


@pytest.mark.parametrize(("a_second", "silent"), [(0, True), (1, True), (LEAST_RATE - 1, True), (LEAST_RATE + 5, False)])
def test_silence_is_less_than_a_least_rate(clock: Clock, a_second: int, silent: bool) -> None:
    arrived = [7]
    silence = SilenceTimer(lambda: arrived[0])
    for _ in range(3):
        clock.ahead += TIMEOUT
        arrived[0] += int(a_second * TIMEOUT)
        assert (silence.remaining(TIMEOUT) <= 0) is silent


def test_bytes_of_long_ago_are_no_sign_of_life(clock: Clock) -> None:
    arrived = [0]
    silence = SilenceTimer(lambda: arrived[0])
    arrived[0] = MIB
    clock.ahead += TIMEOUT
    assert silence.remaining(TIMEOUT) > 0
    clock.ahead += TIMEOUT
    assert silence.remaining(TIMEOUT) <= 0


def test_an_answer_that_comes_slowly_is_waited_for_and_one_that_stops_is_not(clock: Clock) -> None:
    inbox: Inbox[int, int] = Inbox()
    inbox.begin_link()
    steps = iter([50_000, 50_000, 0])
    wait = inbox._changed.wait

    def pass_time(timeout: float | None = None) -> bool:
        inbox.peer_arrived += next(steps)
        clock.ahead += TIMEOUT
        return wait(0.001)

    inbox._changed.wait = pass_time  # type: ignore[method-assign]
    with pytest.raises(LinkLostError, match="silent"):
        inbox.take(local=False, timeout_seconds=TIMEOUT)
    assert next(steps, None) is None


class SlowLink(LocalLink):
    """Gives what comes in parts of one size, and lets more than half of the timeout pass before each of the first ones.

    Where the parts begin is counted in bytes: it is no matter how the other end writes them, nor what waits in a queue.
    """

    def __init__(self, end: LocalLink, clock: Clock, looked: threading.Event) -> None:
        super().__init__(end.incoming, end.outgoing)
        self.slow = 0
        self._clock = clock
        self._looked = looked
        self._left = PART
        self._rest = b""

    def read(self) -> bytes:
        """No more than the rest of a part."""
        self._rest = self._rest or super().read()
        if self._left == 0 and self.slow < SLOW_PARTS:
            self._clock.ahead += 0.6 * TIMEOUT
            self._looked.clear()
            assert self._looked.wait(PATIENCE_SECONDS)
            self.slow += 1
            self._left = PART
        given = self._rest[: self._left or None]
        self._rest = self._rest[len(given) :]
        self._left -= min(len(given), self._left)
        return given


def test_a_pull_over_a_line_that_needs_longer_for_a_frame_than_the_timeout(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, it began anew each time and never came to an end: at 10 seconds, over each line of less than 100 kB a second."""
    bench = make_bench(tmp_path)
    (bench.source / "image").write_bytes(random.Random(4).randbytes(2 * MIB))
    looked = threading.Event()
    left = SilenceTimer.remaining

    def look(self: SilenceTimer, patience_seconds: float) -> float:
        found = left(self, patience_seconds)
        if _is_the_one_that_waits():
            looked.set()
        return found

    monkeypatch.setattr(SilenceTimer, "remaining", look)
    monkeypatch.setattr(conversation_module, "alive_seconds", lambda _timeout: 0.01)
    link = SlowLink(link_to(far_end(bench.source)), clock, looked)
    outcome = pull_from(bench, link=link, timeout_seconds=TIMEOUT)
    assert outcome.acquisition == 1
    assert link.slow == SLOW_PARTS
