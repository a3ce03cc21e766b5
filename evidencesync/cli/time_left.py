"""Measures rates, and says how long the rest of a run takes: only once the rate of what is left is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from evidencesync.evidence.number_format import duration_text, size_text

RATE_SECONDS: Final = 8.0  # over which a rate is taken: a slow link brings a segment in a second or two
MANY_HOLES: Final = 400_000_000  # bytes: fewer are hashed in a moment
_SURE_SECONDS: Final = 3.0  # before, one rise more or less would change the time left by a tenth
_LEAST_RATE: Final = 200.0
_RISES: Final = 5  # in two halves that are compared
_FEW_RISES: Final = 4  # where they are far from each other
_STEADY: Final = 1.15  # times the rate of the other half
_ALIKE: Final = 0.1  # what does not count, of a whole
_APART_SECONDS: Final = 2.0  # of two kinds at once: the vault speaks of what has arrived twice a second
_LONG_READ_BACK: Final = 200_000_000  # bytes: fewer are read back in a second or so
_FOUND_SECONDS: Final = 3.0  # a vault that has much of what is read says so at least once a second
_STANDSTILL_SECONDS: Final = 5.0  # a retransmission, or a disk that wakes up, takes less

Rises = list[tuple[float, int]]


@dataclass(slots=True)
class Meter:
    """The rate of the last few seconds, from one rise of a counter to another: a slow link brings some MB, then nothing."""

    _seen: Rises = field(default_factory=list)

    def rate(self, now: float, done: int) -> float:
        """Bytes a second, from the first call on; 0 until something has come. It falls when nothing comes for a long time."""
        seen = self._seen
        if seen and (done < seen[-1][1] or (done > seen[-1][1] and self.standstill(now))):
            seen.clear()  # it begins again
        if not seen or done > seen[-1][1]:
            seen.append((now, done))
        while len(seen) > _FEW_RISES and now - seen[1][0] >= RATE_SECONDS:
            seen.pop(0)
        seconds = seen[-1][0] - seen[0][0]
        if now - seen[-1][0] > max(2 * self._usual, RATE_SECONDS):
            seconds += now - seen[-1][0] - self._usual
        return (seen[-1][1] - seen[0][1]) / seconds if seconds > 0.5 else 0.0

    @property
    def _usual(self) -> float:
        """The usual time from one rise to the next."""
        return (self._seen[-1][0] - self._seen[0][0]) / max(len(self._seen) - 1, 1)

    def standstill(self, now: float) -> float:
        """For how long nothing has come, where that is far longer than usual; else 0."""
        quiet, usual = now - self._seen[-1][0], self._usual if len(self._seen) > 1 else _STANDSTILL_SECONDS
        return quiet if quiet > max(3 * usual, _STANDSTILL_SECONDS) else 0.0

    def steady_rate(self) -> float:
        """The rate of the longest run of last rises that came at one rate; 0 where there is none.

        What the vault had, zeros, and what fits into buffers come in a moment, and say nothing of the rest.
        """
        for begin in range(len(self._seen) - _FEW_RISES + 1):
            part = self._seen[begin:]
            seconds = part[-1][0] - part[0][0]
            if seconds < _SURE_SECONDS or len(part) < (_RISES if seconds < RATE_SECONDS else _FEW_RISES):
                return 0.0
            middle = len(part) // 2
            earlier, later = _slope(part[: middle + 1]), _slope(part[middle:])
            if max(earlier, later) <= _STEADY * min(earlier, later):
                return _slope(part)
        return 0.0

    def describe_standstill(self, now: float, done: int, total: int | None) -> list[str]:
        """Since when nothing has come, where that is long and something is to come."""
        self.rate(now, done)
        quiet = self.standstill(now) if total and done < total else 0.0
        return [f"nothing new for {whole_seconds(quiet)}"] if quiet else []

    def describe_rest(self, now: float, done: int, total: int | None) -> list[str]:
        """How long the rest takes, or since when nothing has come; nothing where that is not known.

        The time goes down from one rise to the next, too.
        """
        return self.describe_standstill(now, done, total) or describe_left(self.seconds_left(now, done, total or 0))

    def seconds_left(self, now: float, done: int, total: int) -> float | None:
        """How long the rest takes, after `rate` was told of `done`; None where that is not known."""
        rate = self.steady_rate()
        if not rate:
            return None
        coming = rate * min(now - self._seen[-1][0], self._usual)
        return max((total - done - coming) / rate, 0.0)

    def describe(self, now: float, done: int, total: int | None) -> list[str]:
        """Bytes, rate and time left, as far as they are known."""
        parts = [describe_amount(done, total)] if done or total else []
        return [*parts, *describe_rate(self.rate(now, done)), *self.describe_rest(now, done, total)]


def _slope(rises: Rises) -> float:
    """Bytes a second, by the straight line that is nearest to all rises: of one alone the time is known to half a second."""
    at = sum(time for time, _ in rises) / len(rises)
    middle = sum(done for _, done in rises) / len(rises)
    spread = sum((time - at) ** 2 for time, _ in rises)
    return sum((time - at) * (done - middle) for time, done in rises) / spread if spread else 0.0


@dataclass(slots=True)
class _Kind:
    """Work of one kind, on a clock that runs only while it is done."""

    clock: float = 0.0
    done: int = 0
    meter: Meter = field(default_factory=Meter)

    def add(self, seconds: float, done: int) -> None:
        """Takes what was done, and in which time."""
        self.meter.rate(self.clock, self.done)
        self.clock, self.done = self.clock + seconds, self.done + done
        self.meter.rate(self.clock, self.done)

    def seconds(self, left: int) -> float | None:
        """How long so much takes; None where that is not known."""
        if not left:
            return 0.0
        rate = self.meter.steady_rate()
        return left / rate if rate else None


@dataclass(slots=True)
class DataAndHoles:
    """The time left of work of two kinds, each with its own rate: bytes that are read or sent, and holes, which are hashed.

    The time between two rises counts for the kind that rose. Where both rose it counts for neither, but for both together.
    """

    at_once: bool = False
    """Whether both kinds are worked on at the same time, now and then: data are sent while holes are hashed."""
    _data: _Kind = field(default_factory=_Kind)
    _holes: _Kind = field(default_factory=_Kind)
    _both: Meter = field(default_factory=Meter)
    _last_data: float = -_APART_SECONDS
    _last_holes: float = -_APART_SECONDS
    """When something was done of each."""
    _seen: list[tuple[float, int, int]] = field(default_factory=list)

    def seconds_left(self, now: float, done: tuple[int, int], left: tuple[int, int]) -> float | None:
        """How long the rest of both takes (`done` and `left` have data, then holes); None where that is not known."""
        (data, holes), apart = done, _APART_SECONDS if self.at_once else 0.0
        self._both.rate(now, data + holes)
        then, had, had_holes = self._seen[-1] if self._seen else (now, data, holes)
        if data < had or holes < had_holes:  # it begins again
            self._data, self._holes, self._seen = _Kind(), _Kind(), []
        elif data > had and holes == had_holes and now - self._last_holes >= apart:
            self._data.add(now - then, data - had)
        elif holes > had_holes and data == had and now - self._last_data >= apart:
            self._holes.add(now - then, holes - had_holes)
        self._last_data, self._last_holes = now if data > had else self._last_data, now if holes > had_holes else self._last_holes
        if not self._seen or (data, holes) != (had, had_holes):
            self._seen.append((now, data, holes))
        while len(self._seen) > 2 and now - self._seen[1][0] >= RATE_SECONDS:
            self._seen.pop(0)
        seconds = self._sum(*left)
        if seconds is None:
            return self._both.seconds_left(now, data + holes, sum((data, holes, *left))) if self._is_as_before(*left) else None
        return max(seconds - min(now - self._seen[-1][0], 1.0), 0.0)

    def describe_holes(self, holes: int) -> list[str]:
        """How long so many holes take, after `seconds_left` was asked: a least time, where nobody knows that of the data."""
        return [f"at least {text}" for text in describe_left(self._holes.seconds(holes))]

    def reads_holes(self, now: float) -> bool:
        """Whether holes alone were worked on just now."""
        return self._last_holes > self._last_data and now - self._last_holes < _APART_SECONDS

    def _sum(self, data: int, holes: int) -> float | None:
        of_data, of_holes = self._data.seconds(data), self._holes.seconds(holes)
        if of_data is None or of_holes is None:
            return None
        together, least = of_data + of_holes, max(of_data, of_holes)
        return None if self.at_once and least < (1 - _ALIKE) * together else together

    def _is_as_before(self, data: int, holes: int) -> bool:
        """Whether the rest has as much of each kind as what came last, one beside the other."""
        (_, before, before_holes), (_, now, now_holes) = self._seen[0], self._seen[-1]
        came, came_holes = now - before, now_holes - before_holes
        return not self.at_once and bool(came) and abs(came * holes - came_holes * data) < _ALIKE * came_holes * data


@dataclass(slots=True)
class FoundLately:
    """Whether bytes were found a moment ago that need not be sent: nobody knows how much of the rest is there, too."""

    _found: int = 0
    _since: float | None = None

    def is_so(self, now: float, found: int) -> bool:
        """Takes how many bytes were found so far."""
        if found != self._found:
            self._found, self._since = found, now
        return self._since is not None and now - self._since < _FOUND_SECONDS


def describe_left(seconds: float | None) -> list[str]:
    """The time left; nothing where it is not known, nor of the last second."""
    return [f"{whole_seconds(seconds)} left"] if seconds is not None and seconds >= 1 else []


def then_read_back(left: list[str], size: int) -> list[str]:
    """The time left, with what follows: how long `size` bytes take to be read from a disk is known only then."""
    return [f"{text}, then read back" for text in left] if size >= _LONG_READ_BACK else left


def whole_seconds(seconds: float) -> str:
    """A time that is not known to a tenth of a second."""
    return f"{seconds:.0f} s" if seconds < 59.5 else duration_text(round(seconds))


def describe_rate(rate: float) -> list[str]:
    """A rate in bytes a second; nothing where it is not known, or where only a word now and then is said."""
    return [f"{size_text(rate)}/s"] if rate >= _LEAST_RATE else []


def describe_amount(done: int, total: int | None) -> str:
    """`13.0 of 60.0 MB`, or only how much is done where the total is not known."""
    if not total:
        return size_text(done)
    shown, of_all = size_text(done), size_text(total)
    number, unit = shown.rsplit(" ", 1)
    return f"{number} of {of_all}" if of_all.endswith(f" {unit}") else f"{shown} of {of_all}"
