"""Shows the progress of a run at a terminal. It only reads counters, five times a second."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import count_text, duration_text, size_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from evidencesync.cli.console import Console
    from evidencesync.connection.progress import Progress
    from evidencesync.verify.context import VerifyProgress

_PER_SECOND: Final = 5
_WIDTH: Final = 60
_RATE_SECONDS: Final = 8.0  # over which a rate is taken: a slow link brings a segment in a second or two
_SURE_SECONDS: Final = 2.0  # before, one rise more or less would halve or double the time left
_LEAST_RATE: Final = 200.0
_QUIET_SECONDS: Final = 1.0  # a vault that has much of what is read says so at least once a second
_STEADY_RISES: Final = 5
_STEADY: Final = 1.3  # times the rate of the other half
_MANY_HOLES: Final = 400_000_000  # bytes in _RATE_SECONDS: fewer are hashed in a moment
_STANDSTILL_SECONDS: Final = 5.0  # a retransmission, or a disk that wakes up, takes less
_SENDING: Final = frozenset({"reading", "finishing"})
_WITHOUT_FIGURES: Final = frozenset({"publishing"})
_STAGES: Final = {
    "connecting": "connecting",
    "waiting": "the server has no place for us; waiting for one",
    "reconnecting": "the link is lost; trying to get it back",
    "reading": "arrived",
    "finishing": "arrived",
    "syncing": "the vault writes to its disk",
    "read-back": "the vault reads back",
    "publishing": "the vault signs and publishes",
    "done": "done",
}


class View(Protocol):
    """Counters, put into words."""

    def headline(self, now: float) -> str:
        """What is going on, in one line. `now` is in seconds of a clock that never goes back."""

    def extent(self) -> tuple[int, int | None]:
        """How many bytes are through, and of how many, where that is known."""

    def place(self) -> str:
        """What is being worked on, safe to show; empty where there is nothing to say."""


@contextlib.contextmanager
def shown(console: Console, view: View) -> Iterator[None]:
    """Shows a view on stderr for the length of a `with`, and erases it at the end. Does nothing without a terminal.

    The last frame, which a recording of the terminal keeps, is the state at the end; after an error, it is empty.
    """
    if not console.is_live:
        yield
        return
    import rich.console
    import rich.live

    has_failed = False
    display = rich.live.Live(
        get_renderable=lambda: "" if has_failed else render(view),
        console=rich.console.Console(stderr=True, highlight=False, markup=False, emoji=False),
        refresh_per_second=_PER_SECOND,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with console.terminal.drawn_on(display):
        try:
            yield
        except BaseException:
            has_failed = True
            raise


def render(view: View) -> RenderableType:
    """What the terminal shows now. All text is a `rich.text.Text`, which has no markup."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    done, total = view.extent()
    lines = Table.grid()  # a bar by itself ends no line
    lines.add_row(Text(view.headline(time.monotonic()), no_wrap=True, overflow="ellipsis"))
    if total:
        lines.add_row(ProgressBar(total=total, completed=min(done, total), width=_WIDTH))
    if place := view.place():
        lines.add_row(Text(place, style="dim", no_wrap=True, overflow="ellipsis"))
    return lines


def describe_amount(done: int, total: int | None) -> str:
    """`13.0 of 60.0 MB`, or only how much is done where the total is not known."""
    if not total:
        return size_text(done)
    shown, of_all = size_text(done), size_text(total)
    number, unit = shown.rsplit(" ", 1)
    return f"{number} of {of_all}" if of_all.endswith(f" {unit}") else f"{shown} of {of_all}"


def describe_files(files: int, total: int | None) -> str:
    """`3 of 1,200 files`, or only how many where the total is not known."""
    return count_text(files, "file") if total is None else f"{files:,} of {count_text(max(total, files), 'file')}"


@dataclass(slots=True)
class Meter:
    """The rate of the last few seconds, from one rise of a counter to another: a slow link brings some MB, then nothing."""

    _seen: list[tuple[float, int]] = field(default_factory=list)

    def rate(self, now: float, done: int) -> float:
        """Bytes a second, from the first call on; 0 until something has come. It falls when nothing comes for a long time."""
        seen = self._seen
        if seen and (done < seen[-1][1] or (done > seen[-1][1] and self.standstill(now))):
            seen.clear()  # it begins again
        if not seen or done > seen[-1][1]:
            seen.append((now, done))
        while len(seen) > 2 and now - seen[1][0] >= _RATE_SECONDS:
            seen.pop(0)
        seconds = seen[-1][0] - seen[0][0]
        if now - seen[-1][0] > max(2 * self._usual, _RATE_SECONDS):
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

    def _steady_rate(self) -> float:
        """The rate of the longest run of last rises that came at one rate; 0 where there is none.

        What the vault had, zeros, and what fits into buffers come in a moment, and say nothing of the rest.
        """
        for begin in range(max(len(self._seen) - _STEADY_RISES, 0) + 1):
            part = self._seen[begin:]
            if part[-1][0] - part[0][0] < (_SURE_SECONDS if begin else 0.5):
                return 0.0
            middle = len(part) // 2
            earlier, later, whole = _slope(part[: middle + 1]), _slope(part[middle:]), _slope(part)
            if len(part) < _STEADY_RISES or max(earlier, later) <= _STEADY * min(earlier, later):
                return whole
        return 0.0

    def describe_rest(self, now: float, done: int, total: int | None) -> list[str]:
        """How long the rest takes, or since when nothing has come; nothing where that is not known.

        The time goes down from one rise to the next, too.
        """
        self.rate(now, done)
        if total and done < total and (quiet := self.standstill(now)):
            return [f"nothing new for {_whole_seconds(quiet)}"]
        return describe_left(self.seconds_left(now, done, total or 0))

    def seconds_left(self, now: float, done: int, total: int) -> float | None:
        """How long the rest takes, after `rate` was told of `done`; None where that is not known."""
        rate = self._steady_rate()
        if now - self._seen[0][0] < _SURE_SECONDS or not rate:
            return None
        coming = rate * min(now - self._seen[-1][0], self._usual)
        return max((total - done - coming) / rate, 0.0)

    def describe(self, now: float, done: int, total: int | None) -> list[str]:
        """Bytes, rate and time left, as far as they are known."""
        parts = [describe_amount(done, total)] if done or total else []
        return [*parts, *describe_rate(self.rate(now, done)), *self.describe_rest(now, done, total)]


def _slope(rises: list[tuple[float, int]]) -> float:
    """Bytes a second from the first rise to the last."""
    (before, had), (now, has) = rises[0], rises[-1]
    return (has - had) / (now - before) if now > before else 0.0


def describe_left(seconds: float | None) -> list[str]:
    """The time left; nothing where it is not known, nor of the last second."""
    return [f"{_whole_seconds(seconds)} left"] if seconds is not None and seconds >= 1 else []


def _whole_seconds(seconds: float) -> str:
    """A time that is not known to a tenth of a second."""
    return f"{seconds:.0f} s" if seconds < 59.5 else duration_text(seconds)


def describe_rate(rate: float) -> list[str]:
    """A rate in bytes a second; nothing where it is not known, or where only a word now and then is said."""
    return [f"{size_text(rate)}/s"] if rate >= _LEAST_RATE else []


@dataclass(slots=True)
class PushView:
    """A push or a pull: how much of the source the vault has, the link's rate, time left, and what the vault had already.

    Reading runs ahead of the link by up to a window, so what was read says nothing of how far a run is.
    """

    progress: Progress
    _arrived: Meter = field(default_factory=Meter)
    _link: Meter = field(default_factory=Meter)
    _sent: Meter = field(default_factory=Meter)
    _stage: Meter = field(default_factory=Meter)
    _measured: str = ""
    """The stage that `_stage` measures: each has its own rate."""
    _hashed: Meter = field(default_factory=Meter)
    """Of holes."""
    _holes: list[tuple[float, int]] = field(default_factory=list)
    """How many bytes of holes were read, in the last `_RATE_SECONDS`."""
    _all_since: float | None = None
    """When all had arrived."""
    _known: int = 0
    _known_since: float = 0.0
    """How much the vault had already, and since when it is so much."""

    def headline(self, now: float) -> str:
        """See View."""
        progress, stage = self.progress, _STAGES[self.progress.stage]
        done, total = self.extent()
        if progress.stage == "done":
            had = f"; the vault had {size_text(progress.known_bytes)} of them" if progress.known_bytes else ""
            return f"{stage}: all {size_text(total)} are there{had}" if total else stage
        if progress.stage not in _SENDING:
            if progress.stage != self._measured:
                self._stage, self._measured = Meter(), progress.stage
            return "  ".join([stage, *self._stage.describe(now, done, total)])
        rate = self._arrived.rate(now, done)
        link = None if progress.link_bytes is None else self._link.rate(now, progress.link_bytes)
        rates = describe_rate(rate) if link is None else [f"link {text}" for text in describe_rate(link)]
        if total and self._arrived.standstill(now):
            rates = []  # a word now and then keeps the link alive, and is no rate
        if total and done >= total and progress.files >= (progress.total_files or 0):
            return f"all {size_text(total)} have arrived; the vault {self._storing(now)}"
        arrived = self._arrived.describe_rest(now, done, total)
        rest = self._rest_of_sent(now, done, total) or arrived
        if self._reads_holes(now):
            rates, rest = [], self._rest_with_holes(now, done, total)
        of_all = " of an unknown total" if progress.is_total_unknown else ""
        known = [f"vault had {size_text(progress.known_bytes)}"] if progress.known_bytes else []
        return "  ".join([f"{stage} {describe_amount(done, total)}{of_all}", *rest, *rates, *known])

    def _rest_of_sent(self, now: float, done: int, total: int | None) -> list[str]:
        """How long the rest takes, by what was sent alone: what the vault had comes in steps, which hide the rate of the link.

        Nothing while such steps come: much of the rest may be there, too.
        """
        known = self.progress.known_bytes
        if known != self._known:
            self._known, self._known_since = known, now
        rest = self._sent.describe_rest(now, done - known, None if total is None else total - known)
        return rest if known and now - self._known_since >= _QUIET_SECONDS else []

    def _reads_holes(self, now: float) -> bool:
        """Whether reading takes its time over holes."""
        self._holes.append((now, self.progress.hole_bytes))
        while now - self._holes[0][0] > _RATE_SECONDS:
            self._holes.pop(0)
        return self._holes[-1][1] - self._holes[0][1] > _MANY_HOLES

    def _rest_with_holes(self, now: float, done: int, total: int | None) -> list[str]:
        """Holes take time, and nothing arrives of them. Nothing is said where one of both rates is not known."""
        hashed, holes = self.progress.hole_bytes, self.progress.total_hole_bytes
        self._hashed.rate(now, hashed)
        if holes is None or total is None:
            return []
        of_holes = self._hashed.seconds_left(now, hashed, holes)
        of_data = self._arrived.seconds_left(now, done, total) if total - done > total / 100 else 0.0
        return [] if of_holes is None or of_data is None else describe_left(of_holes + of_data)

    def _storing(self, now: float) -> str:
        """What the vault does with all that has arrived, and for how long: it hashes holes as zeros, some GB in ten seconds."""
        self._all_since = now if self._all_since is None else self._all_since
        holes = self.progress.hole_bytes
        amount = describe_amount(self.progress.zero_bytes, holes) if self.progress.zero_bytes < holes else size_text(holes)
        does = f"hashes {amount} of holes" if holes > _MANY_HOLES else "stores them"
        return f"{does} ({_whole_seconds(now - self._all_since)})"

    def extent(self) -> tuple[int, int | None]:
        """See View."""
        progress = self.progress
        total = None if progress.total_bytes is None else progress.to_arrive(progress.total_bytes)
        if progress.stage in _SENDING:
            return progress.arrived_bytes, total
        if progress.stage == "done":  # the vault's last count may be older than its last word
            return total or 0, total
        return (0, None) if progress.stage in _WITHOUT_FIGURES else (progress.stage_done, progress.stage_total or None)

    def place(self) -> str:
        """See View."""
        progress = self.progress
        if progress.stage not in _SENDING:
            return ""
        parts = [f"read {describe_files(progress.files, progress.total_files)}"]
        if progress.hole_bytes:
            parts.append(f"holes {describe_amount(progress.hole_bytes, progress.total_hole_bytes)} (not sent)")
        if progress.bad_bytes:
            parts.append(f"UNREADABLE {size_text(progress.bad_bytes)}")
        if progress.path and progress.stage == "reading":
            parts.append(safe_text(progress.path, _WIDTH))
        return "  ".join(parts)


@dataclass(slots=True)
class VerifyView:
    """A verification, or what is done to files like it (`doing`): files, bytes, rate and time left."""

    progress: VerifyProgress
    doing: str = "checking"
    _meter: Meter = field(default_factory=Meter)

    def headline(self, now: float) -> str:
        """See View."""
        progress = self.progress
        files = describe_files(progress.files, progress.total_files or None)
        return "  ".join([self.doing, files, *self._meter.describe(now, *self.extent())])

    def extent(self) -> tuple[int, int | None]:
        """See View. A folder may have more in it than a manifest lists: then nobody knows how much."""
        done, total = self.progress.bytes, self.progress.total_bytes
        return done, total if total and total >= done else None

    def place(self) -> str:
        """See View."""
        return safe_text(self.progress.place, _WIDTH)
