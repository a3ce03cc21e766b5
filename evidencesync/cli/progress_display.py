"""Shows the progress of a run at a terminal. It only reads counters, five times a second."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from evidencesync.cli.time_left import (
    MANY_HOLES,
    RATE_SECONDS,
    DataAndHoles,
    FoundLately,
    Meter,
    describe_amount,
    describe_left,
    describe_rate,
    then_read_back,
    whole_seconds,
)
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import count_text, size_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from evidencesync.cli.console import Console
    from evidencesync.connection.progress import Progress
    from evidencesync.verify.context import VerifyProgress

_PER_SECOND: Final = 5
_WIDTH: Final = 60
_FILE: Final = 64 << 10  # to open a small file takes about as long as to hash so many bytes
_WORTH_SAYING: Final = 100_000  # bytes that are sent again
_SENDING: Final = frozenset({"reading", "finishing"})
_WITHOUT_FIGURES: Final = frozenset({"publishing"})
_STAGES: Final = {
    "connecting": "connecting",
    "waiting": "the server lets nobody in just now; waiting",
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


def describe_files(files: int, total: int | None) -> str:
    """`3 of 1,200 files`, or only how many where the total is not known."""
    return count_text(files, "file") if total is None else f"{files:,} of {count_text(max(total, files), 'file')}"


@dataclass(slots=True)
class PushView:
    """A push or a pull: how much of the source the vault has, the link's rate, time left, and what the vault had already.

    Reading runs ahead of the link by up to a window, so what was read says nothing of how far a run is.
    """

    progress: Progress
    reads_back: bool = False
    """Whether the vault reads its disk at the end."""
    _most: int = 0
    """The most that had arrived: a lost link takes some of it away, which is sent again, and no amount goes back."""
    _again: int = 0
    """How much is sent again after a lost link, while it is."""
    _arrived: Meter = field(default_factory=Meter)
    _link: Meter = field(default_factory=Meter)
    _work: DataAndHoles = field(default_factory=lambda: DataAndHoles(at_once=True))
    _stage: Meter = field(default_factory=Meter)
    _measured: str = ""
    """The stage that `_stage` measures: each has its own rate."""
    _holes: list[tuple[float, int]] = field(default_factory=list)
    """How many bytes of holes were read, in the last `RATE_SECONDS`."""
    _all_since: float | None = None
    """When all had arrived."""
    _hashed: Meter = field(default_factory=Meter)
    _known: FoundLately = field(default_factory=FoundLately)
    """What the vault had already."""

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
            if progress.stage == "reconnecting":  # the pause is no part of a rate
                self._arrived, self._link = Meter(), Meter()
            return "  ".join([stage, *self._stage.describe(now, done, total)])
        if total and done >= total and progress.files >= (progress.total_files or 0):
            return f"all {size_text(total)} have arrived; the vault {self._storing(now)}"
        of_all = " of an unknown total" if progress.is_total_unknown else ""
        again = [f"{size_text(self._again)} sent again after a lost link"] if self._again >= _WORTH_SAYING else []
        known = [f"vault had {size_text(progress.known_bytes)}"] if progress.known_bytes else []
        speed = self._speed(now, progress.arrived_bytes, total)
        return "  ".join([f"{stage} {describe_amount(done, total)}{of_all}", *speed, *again, *known])

    def _speed(self, now: float, done: int, total: int | None) -> list[str]:
        """The time left, then the rate."""
        progress = self.progress
        rate = self._arrived.rate(now, done)
        link = None if progress.link_bytes is None else self._link.rate(now, progress.link_bytes)
        rates = describe_rate(rate) if link is None else [f"link {text}" for text in describe_rate(link)]
        reads_holes, finds_known, left = (
            self._reads_holes(now),
            self._known.is_so(now, progress.spared_bytes),
            self._seconds_left(now, done, total),
        )
        if reads_holes:
            least = self._work.describe_holes(self._left(done, total)[1])
            return [] if finds_known else self._then(describe_left(left)) or least
        if stands := self._arrived.describe_standstill(now, done, total):
            return stands  # a word now and then keeps the link alive, and is no rate
        if finds_known:
            least = describe_left(self._arrived.seconds_left(now, done, total or 0))
            return [f"at least {text}" for text in least] or rates
        return [*self._then(describe_left(left)), *rates]

    def _then(self, left: list[str]) -> list[str]:
        """Says what follows: the vault reads back what it had not."""
        progress = self.progress
        written = (progress.total_bytes or 0) + (progress.total_hole_bytes or 0) - progress.known_bytes
        return then_read_back(left, written) if self.reads_back else left

    def _left(self, done: int, total: int | None) -> tuple[int, int]:
        """How many bytes of data, and of holes, are left, as far as it is known; few holes do not count."""
        holes, all_holes = self.progress.hole_bytes, self.progress.total_hole_bytes
        holes_left = 0 if all_holes is None or all_holes - holes < MANY_HOLES else all_holes - holes
        return 0 if total is None else max(total - done, 0), holes_left

    def _seconds_left(self, now: float, done: int, total: int | None) -> float | None:
        """How long the rest takes, by what was sent alone: what the vault had comes in a moment."""
        progress = self.progress
        seconds = self._work.seconds_left(now, (done - progress.spared_bytes, progress.hole_bytes), self._left(done, total))
        return seconds if total and (progress.total_hole_bytes is not None or not self._reads_holes(now)) else None

    def _reads_holes(self, now: float) -> bool:
        """Whether reading takes its time over holes."""
        self._holes.append((now, self.progress.hole_bytes))
        while now - self._holes[0][0] > RATE_SECONDS:
            self._holes.pop(0)
        return self._holes[-1][1] - self._holes[0][1] > MANY_HOLES

    def _storing(self, now: float) -> str:
        """What the vault does with all that has arrived, and for how long: it hashes holes as zeros, some GB in ten seconds."""
        self._all_since = now if self._all_since is None else self._all_since
        holes = self.progress.hole_bytes
        amount = describe_amount(self.progress.zero_bytes, holes) if self.progress.zero_bytes < holes else size_text(holes)
        if holes <= MANY_HOLES:
            return f"stores them ({whole_seconds(now - self._all_since)})"
        rest = self._then(self._hashed.describe_rest(now, self.progress.zero_bytes, holes))
        return "  ".join([f"hashes {amount} of holes ({whole_seconds(now - self._all_since)})", *rest])

    def extent(self) -> tuple[int, int | None]:
        """See View."""
        progress = self.progress
        total = None if progress.total_bytes is None else progress.to_arrive(progress.total_bytes)
        if progress.stage in _SENDING:
            return self._take_arrived(), total
        if progress.stage == "done":  # the vault's last count may be older than its last word
            return total or 0, total
        return (0, None) if progress.stage in _WITHOUT_FIGURES else (progress.stage_done, progress.stage_total or None)

    def _take_arrived(self) -> int:
        arrived = self.progress.arrived_bytes
        self._most = max(self._most, arrived)
        is_again = arrived < self._most and self.progress.interruptions > 0
        self._again = max(self._again, self._most - arrived) if is_again else 0
        return self._most

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
    _work: DataAndHoles = field(default_factory=DataAndHoles)

    def headline(self, now: float) -> str:
        """See View."""
        progress, (done, total) = self.progress, self.extent()
        files = [describe_files(progress.files, progress.total_files or None)] if progress.files or total else []
        amount = [describe_amount(done, total)] if done or total else []
        rate = describe_rate(self._meter.rate(now, done))
        rest = self._meter.describe_standstill(now, done, total) or describe_left(self._seconds_left(now, total))
        return "  ".join([self.doing, *files, *amount, *rate, *rest])

    def _seconds_left(self, now: float, total: int | None) -> float | None:
        """How long the rest takes. A file takes time beside that of its bytes; a hole is hashed, and never read."""
        progress, holes = self.progress, self.progress.hole_bytes
        done = progress.bytes - holes + progress.files * _FILE
        holes_left = max(progress.total_hole_bytes - holes, 0)
        left = (total or 0) - progress.bytes - holes_left + max(progress.total_files - progress.files, 0) * _FILE
        seconds = self._work.seconds_left(now, (done, holes), (max(left, 0), holes_left))
        return seconds if total else None

    def extent(self) -> tuple[int, int | None]:
        """See View. A folder may have more in it than a manifest lists: then nobody knows how much."""
        done, total = self.progress.bytes, self.progress.total_bytes
        return done, total if total and total >= done else None

    def place(self) -> str:
        """See View."""
        return safe_text(self.progress.place, _WIDTH)
