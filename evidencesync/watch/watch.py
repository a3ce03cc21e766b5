"""Decides when a source that changes is pushed again, watches the source, and runs the loop around both.

The decision reads no clock: it is told what a look saw and when. Looking decides, and nothing else: what the kernel tells only
brings the next look forward. All times are seconds of a clock that never goes back.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, NoReturn, Protocol

from evidencesync.errors import (
    EvidenceSyncError,
    ExitCode,
    NothingLeftError,
    SealedError,
    SourceNotFoundError,
    UnkeptReceiptError,
    VersionError,
)
from evidencesync.source.changes import ChangeNotices, SourceSnapshot, is_silent, look
from evidencesync.source.filters import FilterRules
from evidencesync.source.origin import file_system_of

FULL_LOOK_SECONDS: Final = 120.0
"""So often all is looked at, whatever was told."""
LEAST_REST_SECONDS: Final = 0.5
REST_FACTOR: Final = 10.0
"""Between looks there is so many times the time that the last one took: looking takes a tenth of a core at most."""
FIRST_RETRY_SECONDS: Final = 5.0
LAST_RETRY_SECONDS: Final = 300.0

_FINAL: Final = frozenset(
    {
        ExitCode.USAGE,
        ExitCode.KEY,
        ExitCode.HOST_KEY,
        ExitCode.AUTHENTICATION,
        ExitCode.SIGNATURE,
        ExitCode.CHAIN,
        ExitCode.PEER,
        ExitCode.INTERRUPTED,
    }
)


@dataclass(frozen=True, slots=True)
class WatchIntervals:
    """`settle`: how long a source must look the same before it is pushed. `every`: the longest that a change waits for that.

    Both are counted from the looks that saw it. `settle` is also the time between looks where nothing is told.
    """

    settle: float
    every: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do for so long. `until_notice`: unless something is told."""

    seconds: float
    until_notice: bool


Step = Literal["look", "push"] | Wait


@dataclass(slots=True)
class Decision:
    """What is to be done next about one source.

    `in_vault` is the digest of what it looked like before the last acquisition began: then a change during that push is a change
    since. None: nothing was pushed yet, and the first push waits for nothing.
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
    _same_since: float = 0.0  # the end of the first look that saw what the last one saw
    _is_notified: bool = False  # whether the kernel tells of changes
    _has_notice: bool = False
    _failures: int = 0
    _retry_at: float = field(default=float("-inf"))

    @property
    def is_all_in_vault(self) -> bool:
        """Whether the last look has seen what was pushed."""
        return self.seen is not None and self.seen.digest == self.in_vault

    def next(self, now: float) -> Step:
        """What to do now."""
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
        """What the last look saw, or something later, is published. What changed meanwhile only another look can tell."""
        if self.seen is not None:
            self.in_vault = self.seen.digest
        self._failures, self._retry_at = 0, float("-inf")
        self._is_ready, self._must_look, self._changed_at = False, True, None

    def record_failure(self, now: float) -> float:
        """A push has failed: in how many seconds there will be another look, and then perhaps a push."""
        pause = min(FIRST_RETRY_SECONDS * 2.0 ** min(self._failures, 16), LAST_RETRY_SECONDS)
        self._failures += 1
        self._retry_at = now + pause
        self._is_ready = False
        return pause

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


def is_final(error: EvidenceSyncError) -> bool:
    """Whether no later push could do better: a person has to change something. A source that is gone may come back.

    A source of which filters leave nothing may have something later. Where receipts cannot be kept it is final, too: every
    further push would publish, and leave nothing here to show for it.
    """
    if isinstance(error, SourceNotFoundError | NothingLeftError):
        return False
    return error.exit_code in _FINAL or isinstance(error, SealedError | VersionError | UnkeptReceiptError)


class Observer(Protocol):
    """Looks at the source, and waits."""

    def look(self) -> SourceSnapshot | None:
        """See `evidencesync.source.changes.look`."""

    @property
    def is_notified(self) -> bool:
        """Whether the kernel tells of every change since the last look began."""

    def wait(self, seconds: float) -> bool:
        """Waits so long, or until something is told: whether something was."""

    def sleep(self, seconds: float) -> None:
        """Waits so long."""


class Listener(Protocol):
    """Is told what happens."""

    def unchanged(self) -> None:
        """The first look has seen what was pushed before."""

    def changed(self, snapshot: SourceSnapshot) -> None:
        """A look has seen what is not in the vault; said once until it is."""

    def gone(self) -> None:
        """The source is not there; said once."""

    def back(self) -> None:
        """It is there again."""

    def pushed(self) -> None:
        """A push has ended well. Who ends the watch from here on ends one whose source is in the vault."""

    def failed(self, error: EvidenceSyncError, pause: float) -> None:
        """A push has failed. There will be another, at the earliest after so many seconds."""


def watch(
    decision: Decision, observer: Observer, push: Callable[[SourceSnapshot], None], listener: Listener, clock: Callable[[], float]
) -> NoReturn:
    """Looks, waits and pushes until something ends it: KeyboardInterrupt, or an error that no retry can mend.

    `push` is given what the source looked like before, and returns when that, or something later, is published.
    """
    while True:
        step = decision.next(clock())
        if step == "look":
            _look(decision, observer, listener, clock)
        elif step == "push" and decision.seen is not None:
            try:
                push(decision.seen)
            except EvidenceSyncError as error:
                if is_final(error):
                    raise
                listener.failed(error, decision.record_failure(clock()))
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
    """A source as `evidencesync.watch.watch` sees it. What is told is only ever a reason to look."""

    def __init__(self, root: bytes, rules: FilterRules, notices: ChangeNotices) -> None:
        self._root = root
        self._rules = rules
        self._notices = notices
        self._is_silent = False

    @property
    def is_notified(self) -> bool:
        """See Observer."""
        return self._notices.complete and not self._is_silent

    def look(self) -> SourceSnapshot | None:
        """See Observer."""
        self._notices.begin()
        snapshot = look(self._root, self._rules, self._notices.add)
        self._notices.end()
        self._is_silent = is_silent(file_system_of(self._root))
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
