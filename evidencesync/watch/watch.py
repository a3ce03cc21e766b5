"""Watches a source, and pushes it again when it has changed.

`Decision` is pure: it reads no clock and no file, and gets the result and the times of each look as arguments. `SourceObserver`,
at the end, does the I/O, and `watch` runs the loop around both. Only a look shows a change: a notice from the kernel merely makes
the next look come earlier. All times are seconds of a monotonic clock.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, NoReturn, Protocol

from evidencesync.connection.waiting import PLACES, may_pass
from evidencesync.errors import EvidenceSyncError, SourceNotFoundError
from evidencesync.source.changes import ChangeNotices, SourceSnapshot, is_silent, look
from evidencesync.source.filters import FilterRules
from evidencesync.source.origin import file_system_of
from evidencesync.source.root import is_mount_point

FULL_LOOK_SECONDS: Final = 120.0
"""The longest time between two looks at a source that seems unchanged, whether there were notices or not."""
LEAST_REST_SECONDS: Final = 0.5
REST_FACTOR: Final = 10.0
"""The pause after a look, in multiples of the time that it took, up to FULL_LOOK_SECONDS: so looking takes little of a core."""
FIRST_RETRY_SECONDS: Final = 5.0
LAST_RETRY_SECONDS: Final = 300.0

MOST_REFUSALS: Final = 100
"""Attempts in a row, about eight hours, while the vault is not where it was: its disk may be mounted again."""


@dataclass(frozen=True, slots=True)
class WatchIntervals:
    """`settle`: how long a source must look the same before it is pushed. `every`: the longest that a change waits for that.

    Both are counted from the looks that have seen the change. `settle` is also the time between looks without notices.
    """

    settle: float
    every: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do for `seconds`; with `until_notice` only until a notice arrives."""

    seconds: float
    until_notice: bool


Step = Literal["look", "push"] | Wait


@dataclass(slots=True)
class Decision:
    """Decides what to do next about one source: look, push, or wait.

    `in_vault` is the digest of what the source looked like before the last acquisition began: so a change during that push counts
    as a later change. None: nothing was pushed yet, and the first push does not wait.
    """

    intervals: WatchIntervals
    in_vault: bytes | None
    seen: SourceSnapshot | None = None
    has_looked: bool = False
    _must_look: bool = True
    _is_ready: bool = False
    _looked_at: float = 0.0
    _cost: float = 0.0
    _changed_at: float | None = None  # the first look that saw what is not in the vault
    _same_since: float = 0.0  # the end of the first look with the same result as the last one
    _is_notified: bool = False  # whether the kernel tells of changes
    _has_notice: bool = False
    refusals: int = 0
    """Pushes in a row that have not found the vault, or evidencesync, where it was."""
    _failures: int = 0
    _retry_at: float = field(default=float("-inf"))

    @property
    def is_all_in_vault(self) -> bool:
        """Whether the source looked as it was pushed, at the last look."""
        return self.seen is not None and self.seen.digest == self.in_vault

    def next(self, now: float) -> Step:
        """Returns what to do now."""
        if self._must_look:
            return "look"
        if self._is_ready:
            return "push"
        at = self._next_look()
        if at <= now:
            return "look"
        is_idle = self._changed_at is None and not self._has_notice and self._is_notified
        return Wait(at - now, until_notice=is_idle)

    def record_look(self, snapshot: SourceSnapshot | None, began: float, ended: float, *, is_notified: bool) -> None:
        """A look is over; None: the source is not there. `is_notified`: from now on the kernel tells of changes."""
        before, self.seen = self.seen, snapshot
        self.has_looked, self._must_look, self._has_notice, self._is_ready = True, False, False, False
        self._looked_at, self._cost, self._is_notified = ended, ended - began, is_notified and snapshot is not None
        if snapshot is None or snapshot.digest == self.in_vault:
            self._changed_at = None
            return
        if self._changed_at is None or before is None or before.digest != snapshot.digest:
            self._same_since = ended
        if self._changed_at is None:
            self._changed_at = ended
        is_quiet = began >= self._same_since + self.intervals.settle
        is_late = ended >= self._changed_at + self.intervals.every
        self._is_ready = (is_quiet or is_late or self.in_vault is None) and began >= self._retry_at

    def record_notice(self) -> None:
        """Something was told."""
        self._has_notice = True

    def record_push(self) -> None:
        """Records that the source as of the last look, or later, is published. Another look shows whether it changed since."""
        if self.seen is not None:
            self.in_vault = self.seen.digest
        self.refusals, self._failures, self._retry_at = 0, 0, float("-inf")
        self._is_ready, self._must_look, self._changed_at = False, True, None

    def record_failure(self, now: float, error: EvidenceSyncError) -> float:
        """Records that a push has failed; returns after how many seconds there may be another one."""
        pause = min(FIRST_RETRY_SECONDS * 2.0 ** min(self._failures, 16), LAST_RETRY_SECONDS)
        self._failures += 1
        self.refusals = self.refusals + 1 if isinstance(error, PLACES) else 0
        self._retry_at = now + pause
        self._is_ready = False
        return pause

    def record_absence(self, now: float, error: SourceNotFoundError) -> None:
        """Records that a push has not found the source: another look shows when it is back. Pauses as after a failure."""
        self.record_look(None, now, now, is_notified=False)
        self.record_failure(now, error)

    def _next_look(self) -> float:
        rest = self._looked_at + min(max(LEAST_REST_SECONDS, REST_FACTOR * self._cost), FULL_LOOK_SECONDS)
        if self._changed_at is not None:
            settle = self.intervals.settle if self.in_vault is not None else 0.0
            quiet = max(self._same_since + settle, rest)
            return max(min(quiet, self._changed_at + self.intervals.every), self._retry_at)
        if self._has_notice:
            return rest
        return max(
            self._looked_at + (FULL_LOOK_SECONDS if self._is_notified else min(self.intervals.settle, FULL_LOOK_SECONDS)), rest
        )


def is_final(error: EvidenceSyncError, decision: Decision) -> bool:
    """Returns whether a watch ends with this error of a push, before `record_failure`: waiting alone does not help (`may_pass`).

    Where the first push finds no vault, or no evidencesync, the address is wrong. Later, or after a restart, it is waited for.
    """
    was_there = decision.in_vault is not None and decision.refusals < MOST_REFUSALS - 1
    return not may_pass(error, was_there=was_there)


class Observer(Protocol):
    """Looks at the source, and waits."""

    def look(self) -> SourceSnapshot | None:
        """See `evidencesync.source.changes.look`."""

    @property
    def is_notified(self) -> bool:
        """Whether the kernel sends a notice of every change since the last look began."""

    def wait(self, seconds: float) -> bool:
        """Waits `seconds`, or until a notice arrives; returns whether one did."""

    def sleep(self, seconds: float) -> None:
        """Waits `seconds`."""


class Listener(Protocol):
    """Receives the events of a watch."""

    def unchanged(self) -> None:
        """The source is unchanged since it was pushed last, at the first look."""

    def changed(self, snapshot: SourceSnapshot) -> None:
        """The source has changed; called once until the change is in the vault."""

    def gone(self) -> None:
        """The source is missing; called once."""

    def back(self) -> None:
        """The source is there again."""

    def pushed(self) -> None:
        """A push has succeeded: from now on the source is in the vault."""

    def failed(self, error: EvidenceSyncError, pause: float) -> None:
        """A push has failed. There will be another one, after `pause` seconds at the earliest."""


def watch(
    decision: Decision, observer: Observer, push: Callable[[SourceSnapshot], None], listener: Listener, clock: Callable[[], float]
) -> NoReturn:
    """Looks, waits and pushes until KeyboardInterrupt, or an error that no later push can avoid (`is_final`).

    `push` gets what the source looked like before, and returns when that state, or a later one, is published.
    """
    while True:
        step = decision.next(clock())
        if step == "look":
            _look(decision, observer, listener, clock)
        elif step == "push" and decision.seen is not None:
            try:
                push(decision.seen)
            except SourceNotFoundError as error:  # its disk was pulled since the last look
                decision.record_absence(clock(), error)
                listener.gone()
            except EvidenceSyncError as error:
                if is_final(error, decision):
                    raise
                listener.failed(error, decision.record_failure(clock(), error))
            else:
                decision.record_push()
                listener.pushed()
        elif isinstance(step, Wait) and not step.until_notice:
            observer.sleep(step.seconds)
        elif isinstance(step, Wait) and observer.wait(step.seconds):
            decision.record_notice()


def _look(decision: Decision, observer: Observer, listener: Listener, clock: Callable[[], float]) -> None:
    was_first, was_there, was_all_in = not decision.has_looked, decision.seen is not None, decision.is_all_in_vault
    began = clock()
    snapshot = observer.look()
    decision.record_look(snapshot, began, clock(), is_notified=observer.is_notified)
    if snapshot is None:
        if was_there or was_first:
            listener.gone()
        return
    if not was_there and not was_first:
        listener.back()
    if decision.is_all_in_vault:
        if was_first:
            listener.unchanged()
    elif was_all_in or was_first or not was_there:
        listener.changed(snapshot)


class SourceObserver:
    """Observes a source on this machine: looks at it, and waits for notices from the kernel.

    A source that was the root of a mounted file system, and is not any more, is not there: its disk was pulled out or unmounted,
    and the empty folder on which it was mounted is another one.
    """

    def __init__(self, root: bytes, rules: FilterRules, notices: ChangeNotices) -> None:
        self._root = root
        self._rules = rules
        self._notices = notices
        self._is_silent = False
        self._was_mounted = False

    @property
    def is_notified(self) -> bool:
        """See Observer."""
        return self._notices.complete and not self._is_silent

    def look(self) -> SourceSnapshot | None:
        """See Observer."""
        self._notices.begin()
        was_mounted = not self._was_mounted or is_mount_point(self._root)
        snapshot = look(self._root, self._rules, self._notices.add)
        self._notices.end()
        self._is_silent = is_silent(file_system_of(self._root))
        if snapshot is None:
            return None
        is_mounted = is_mount_point(self._root)  # before and after: a disk that goes or comes meanwhile was not looked at
        if self._was_mounted and not (was_mounted and is_mounted):
            return None
        self._was_mounted = is_mounted
        return snapshot

    def wait(self, seconds: float) -> bool:
        """See Observer."""
        return self._notices.wait(seconds)

    def sleep(self, seconds: float) -> None:
        """See Observer."""
        time.sleep(seconds)


@contextlib.contextmanager
def open_observer(root: bytes, rules: FilterRules) -> Iterator[SourceObserver]:
    """Opens an observer of a source, and closes it at the end of the `with` block."""
    notices = ChangeNotices()
    try:
        yield SourceObserver(root, rules, notices)
    finally:
        notices.close()
