"""Shows the progress of a run at a terminal. It only reads counters, five times a second."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from evidencesync.cli.number_format import duration_text, share_text, size_text
from evidencesync.evidence.display import safe_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from evidencesync.cli.console import Console
    from evidencesync.connection.progress import Progress
    from evidencesync.verify.context import VerifyProgress

_PER_SECOND: Final = 5
_WIDTH: Final = 60
_RATE_SECONDS: Final = 3.0  # over which a rate is taken: long enough to be calm, short enough to be true
_SENDING: Final = frozenset({"connecting", "reading", "finishing"})
_STAGES: Final = {
    "connecting": "connecting",
    "waiting": "the server has no place for us; waiting for one",
    "reconnecting": "the link is lost; trying to get it back",
    "reading": "reading",
    "finishing": "sending the rest",
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
    """Shows a view on stderr for the length of a `with`, and erases it at the end. Does nothing without a terminal."""
    if not console.is_live:
        yield
        return
    import rich.console
    import rich.live

    display = rich.live.Live(
        get_renderable=lambda: render(view),
        console=rich.console.Console(stderr=True, highlight=False, markup=False, emoji=False),
        refresh_per_second=_PER_SECOND,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with console.terminal.drawn_on(display):
        yield


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


@dataclass(slots=True)
class Meter:
    """The rate of the last few seconds."""

    _seen: list[tuple[float, int]] = field(default_factory=list)

    def rate(self, now: float, done: int) -> float:
        """Bytes a second; 0 until enough was seen to say so."""
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()  # another stage has begun
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > _RATE_SECONDS:
            self._seen.pop(0)
        since, before = self._seen[0]
        return (done - before) / (now - since) if now - since > 0.5 else 0.0

    def describe(self, now: float, done: int, total: int | None) -> list[str]:
        """Bytes, rate and time left, as far as they are known."""
        rate = self.rate(now, done)
        parts = [f"{size_text(done)} of {size_text(total)}" if total else size_text(done)] if done or total else []
        if rate > 0:
            parts.append(f"{size_text(rate)}/s")
            if total and total > done:
                parts.append(f"{duration_text((total - done) / rate)} left")
        return parts


@dataclass(slots=True)
class PushView:
    """A push: stage, files, bytes, rate, time left, and what was saved."""

    progress: Progress
    _meter: Meter = field(default_factory=Meter)

    def headline(self, now: float) -> str:
        """See View."""
        progress = self.progress
        parts = [_STAGES[progress.stage]]
        if progress.stage in {"reading", "finishing"}:
            of_all = f" of {progress.total_files:,}" if progress.total_files is not None else ""
            parts.append(f"{progress.files:,}{of_all} files")
        parts += self._meter.describe(now, *self.extent())
        if progress.stage in {"reading", "finishing"} and progress.hole_bytes:
            parts.append(f"holes {size_text(progress.hole_bytes)}")
        if progress.bad_bytes:
            parts.append(f"UNREADABLE {size_text(progress.bad_bytes)}")
        saved = progress.read_bytes - progress.literal_bytes
        if progress.stage in {"reading", "finishing"} and progress.wire_sent and saved > 0:
            parts.append(f"sent {size_text(progress.wire_sent)}, saved {share_text(saved, progress.read_bytes)}")
        return "  ".join(parts)

    def extent(self) -> tuple[int, int | None]:
        """See View."""
        progress = self.progress
        if progress.stage in _SENDING:
            return progress.read_bytes, progress.total_bytes
        return progress.stage_done, progress.stage_total or None

    def place(self) -> str:
        """See View."""
        return safe_text(self.progress.path, _WIDTH) if self.progress.stage == "reading" else ""


@dataclass(slots=True)
class VerifyView:
    """A verification, or what is done to files like it (`doing`): files, bytes, rate and time left."""

    progress: VerifyProgress
    doing: str = "checking"
    _meter: Meter = field(default_factory=Meter)

    def headline(self, now: float) -> str:
        """See View."""
        progress = self.progress
        of_all = f" of {progress.total_files:,}" if progress.total_files else ""
        return "  ".join([self.doing, f"{progress.files:,}{of_all} files", *self._meter.describe(now, *self.extent())])

    def extent(self) -> tuple[int, int | None]:
        """See View."""
        return self.progress.bytes, self.progress.total_bytes or None

    def place(self) -> str:
        """See View."""
        return safe_text(self.progress.place, _WIDTH)
