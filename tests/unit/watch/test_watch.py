"""When a watched source is pushed: by tables and invented histories, with a clock of their own."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidencesync import errors
from evidencesync.errors import EvidenceSyncError
from evidencesync.protocol.failures import all_errors
from evidencesync.source.changes import SourceSnapshot
from evidencesync.source.filters import FilterRules
from evidencesync.watch import watch as watch_module
from evidencesync.watch.watch import (
    FULL_LOOK_SECONDS,
    LAST_RETRY_SECONDS,
    LEAST_REST_SECONDS,
    MOST_REFUSALS,
    REST_FACTOR,
    Decision,
    WatchIntervals,
    open_observer,
    watch,
)
from tests.support.soak import often

HOUR = 3600.0
PACE = WatchIntervals(settle=10, every=900)


class OverError(Exception):
    """The end of an invented history."""


@dataclass
class World:
    """A source that changes at given times, a kernel that tells of it or not, and a vault. It is its own clock."""

    changes: list[float]
    until: float
    told: bool = True
    false_hints: float = 0.0  # the kernel tells of something that does not count, so often
    look_cost: float = 0.01
    push_cost: float = 1.0
    failures: list[EvidenceSyncError] = field(default_factory=list)
    absent: tuple[float, float] = (0.0, 0.0)
    now: float = 0.0
    looks: list[float] = field(default_factory=list)
    tries: list[float] = field(default_factory=list)
    pushes: list[tuple[float, bytes]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    _looked: float = 0.0

    @property
    def is_notified(self) -> bool:
        return self.told

    def state(self) -> bytes:
        return b"%d" % sum(change <= self.now for change in self.changes)

    def look(self) -> SourceSnapshot | None:
        self.looks.append(self.now)
        self._looked = self.now
        is_absent = self.absent[0] <= self.now < self.absent[1]
        snapshot = SourceSnapshot(self.state(), 1, 0)
        self._pass(self.look_cost)
        return None if is_absent else snapshot

    def wait(self, seconds: float) -> bool:
        if self.told:
            hints = [max(at, self.now) for at in self.changes if self._looked < at <= self.now + seconds]
            if self.false_hints:
                hints.append(self.now + self.false_hints)
            if hints and min(hints) <= self.now + seconds:
                self._pass(min(hints) - self.now)
                return True
        self._pass(seconds)
        return False

    def sleep(self, seconds: float) -> None:
        self._pass(seconds)

    def push(self, snapshot: SourceSnapshot) -> None:
        self.tries.append(self.now)
        self._pass(self.push_cost)
        if self.failures:
            raise self.failures.pop(0)
        self.pushes.append((self.tries[-1], snapshot.digest))

    def unchanged(self) -> None:
        self.events.append("unchanged")

    def changed(self, snapshot: SourceSnapshot) -> None:
        self.events.append("changed")

    def gone(self) -> None:
        self.events.append("gone")

    def back(self) -> None:
        self.events.append("back")

    def pushed(self) -> None:
        assert self.pushes

    def failed(self, error: EvidenceSyncError, pause: float) -> None:
        self.events.append(f"{error.slug} {pause:g}")

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        if self.now > self.until:
            raise OverError

    def live(self, intervals: WatchIntervals = PACE, in_vault: bytes | None = None) -> Decision:
        decision = Decision(intervals, in_vault)
        with pytest.raises(OverError):
            watch(decision, self, self.push, self, lambda: self.now)
        return decision


def test_the_first_push_waits_for_nothing() -> None:
    world = World([], until=60)
    assert world.live().is_all_in_vault
    assert [digest for _, digest in world.pushes] == [b"0"]
    assert world.pushes[0][0] < 1
    assert world.events == ["changed"]


@pytest.mark.parametrize("told", [True, False])
def test_what_never_changes_is_never_pushed_again_and_seldom_looked_at(told: bool) -> None:
    world = World([], until=12 * HOUR, told=told)
    world.live()
    assert len(world.pushes) == 1
    assert len(world.looks) <= 3 + 12 * HOUR / (FULL_LOOK_SECONDS if told else PACE.settle)
    assert len(world.looks) >= 12 * HOUR / 130


def test_what_was_pushed_before_a_restart_is_not_pushed_again() -> None:
    world = World([], until=HOUR)
    assert world.live(in_vault=b"0").is_all_in_vault
    assert (world.pushes, world.events) == ([], ["unchanged"])


def test_what_changed_before_a_restart_is_pushed_when_it_has_settled() -> None:
    world = World([], until=HOUR)
    world.live(in_vault=b"something else")
    assert [digest for _, digest in world.pushes] == [b"0"]
    assert PACE.settle <= world.pushes[0][0] <= PACE.settle + 1


@pytest.mark.parametrize(("told", "latest"), [(True, 111.0), (False, 122.0)])
def test_a_change_is_pushed_once_when_the_source_has_settled(told: bool, latest: float) -> None:
    world = World([100.0], until=HOUR, told=told)
    assert world.live().is_all_in_vault
    (first, second) = world.pushes
    assert (first[1], second[1]) == (b"0", b"1")
    assert 110 <= second[0] <= latest


def test_several_changes_in_a_row_are_one_acquisition() -> None:
    world = World([100.0, 103.0, 108.0, 112.0], until=HOUR)
    world.live()
    assert [digest for _, digest in world.pushes] == [b"0", b"4"]
    assert 122 <= world.pushes[1][0] <= 134


def test_a_source_that_never_settles_is_pushed_every_so_often() -> None:
    world = World([float(second) for second in range(1, 7200)], until=7200)
    world.live()
    times = [at for at, _ in world.pushes]
    assert all(900 <= later - earlier <= 905 for earlier, later in pairwise(times[1:])), times
    assert len(times) == 8


def test_what_changes_during_a_push_is_pushed_after_it() -> None:
    world = World([100.0, 115.0], until=HOUR, push_cost=30)
    assert world.live().is_all_in_vault
    assert [digest for _, digest in world.pushes] == [b"0", b"1", b"2"]


def test_a_failed_push_is_tried_again_later_and_later_and_never_given_up() -> None:
    world = World([], until=4 * HOUR, failures=[errors.LinkLostError("lost") for _ in range(12)])
    assert world.live().is_all_in_vault
    pauses = [later - earlier - world.push_cost for earlier, later in pairwise(world.tries)]
    assert [round(pause) for pause in pauses] == [5, 10, 20, 40, 80, 160, *[LAST_RETRY_SECONDS] * 6]
    assert world.events[:3] == ["changed", "link-lost 5", "link-lost 10"]
    assert len(world.pushes) == 1


def test_after_a_push_that_went_well_the_pauses_are_short_again() -> None:
    lost = errors.LinkLostError("lost")
    world = World([5000.0], until=3 * HOUR, failures=[lost] * 4)

    def fail_later(snapshot: SourceSnapshot, push: Callable[[SourceSnapshot], None] = world.push) -> None:
        if len(world.pushes) == 1 and len(world.tries) == 5:
            world.failures = [lost]
        push(snapshot)

    with pytest.raises(OverError):
        watch(Decision(PACE, None), world, fail_later, world, lambda: world.now)
    assert world.events == ["changed", *(f"link-lost {pause}" for pause in (5, 10, 20, 40)), "changed", "link-lost 5"]
    assert [digest for _, digest in world.pushes] == [b"0", b"1"]


def test_a_change_while_pushes_fail_goes_into_the_next_that_works() -> None:
    world = World([3.0], until=HOUR, failures=[errors.LockedError("busy")] * 3)
    world.live()
    assert [digest for _, digest in world.pushes] == [b"1"]


def test_a_source_that_goes_away_is_waited_for() -> None:
    world = World([], until=2 * HOUR, absent=(500.0, 3000.0))
    world.live()
    assert world.events == ["changed", "gone", "back"]
    assert len(world.pushes) == 1


def test_a_source_that_goes_between_a_look_and_its_push_is_away_and_waited_for() -> None:
    world = World([], until=HOUR, failures=[errors.SourceNotFoundError("no disk")], absent=(0.5, 100.0))
    world.live()
    assert world.events == ["changed", "gone", "back", "changed"]
    assert len(world.pushes) == 1
    assert world.pushes[0][0] > 100


def test_a_source_that_looks_well_and_cannot_be_pushed_is_tried_later_and_later() -> None:
    world = World([], until=HOUR, failures=[errors.SourceNotFoundError("closed")] * 6)
    world.live()
    pauses = [later - earlier for earlier, later in pairwise(world.tries)]
    assert all(pause >= wanted for pause, wanted in zip(pauses, (5, 10, 20, 40, 80, 160), strict=True)), pauses
    assert len(world.pushes) == 1


def test_a_source_that_comes_back_changed_is_pushed_when_it_has_settled() -> None:
    world = World([2000.0], until=2 * HOUR, absent=(500.0, 3000.0), told=False)
    world.live()
    assert world.events == ["changed", "gone", "back", "changed"]
    assert 3010 <= world.pushes[1][0] <= 3022


def test_a_source_that_is_not_there_at_first_is_pushed_when_it_comes() -> None:
    world = World([], until=HOUR, absent=(0.0, 100.0))
    world.live()
    assert world.events == ["gone", "back", "changed"]
    assert 100 <= world.pushes[0][0] <= 111


def test_hints_of_what_does_not_count_neither_push_nor_keep_from_pushing() -> None:
    world = World([100.0], until=HOUR, false_hints=0.01, look_cost=2.0)
    world.live()
    assert [digest for _, digest in world.pushes] == [b"0", b"1"]
    assert len(world.looks) * world.look_cost <= HOUR / 9


def test_looks_have_a_rest_between_them_that_grows_with_what_they_cost() -> None:
    for cost, rest in ((0.001, LEAST_REST_SECONDS), (1.0, REST_FACTOR), (60.0, FULL_LOOK_SECONDS)):
        world = World([], until=2 * HOUR, false_hints=0.001, look_cost=cost)
        world.live(in_vault=b"0")
        assert all(later - earlier >= cost + rest - 1e-6 for earlier, later in pairwise(world.looks))


ENDING = [2, 10, 12, 21, 22, 32, 34, 40, 130]
ALSO = {
    errors.SealedError,
    errors.OtherWriterError,
    errors.VersionError,
    errors.NoRemoteError,
    errors.UnkeptReceiptError,
}
PASSING = {errors.SourceNotFoundError, errors.NothingLeftError}
PLACES = [errors.NotThereError, errors.VaultNotFoundError, errors.NoRemoteError]


@pytest.mark.parametrize("kind", all_errors())
def test_which_errors_end_a_watch(kind: type[EvidenceSyncError]) -> None:
    ends = (kind.exit_code in ENDING or kind in ALSO) and kind not in PASSING
    world = World([], until=60, failures=[kind("x")])
    with pytest.raises(kind if ends else OverError):
        watch(Decision(PACE, None), world, world.push, world, lambda: world.now)
    assert len(world.pushes) == (0 if ends else 1)


@pytest.mark.parametrize("failures", [MOST_REFUSALS - 1, MOST_REFUSALS])
@pytest.mark.parametrize("kind", PLACES)
def test_a_vault_that_was_there_is_waited_for_and_not_for_ever(kind: type[EvidenceSyncError], failures: int) -> None:
    world = World([], until=48 * HOUR, failures=[kind("x") for _ in range(failures)])
    comes_back = failures < MOST_REFUSALS
    with pytest.raises(OverError if comes_back else kind):
        watch(Decision(PACE, b"before"), world, world.push, world, lambda: world.now)
    assert len(world.pushes) == comes_back
    assert 7 * HOUR < world.tries[-1] < 9 * HOUR


@pytest.mark.parametrize("kind", PLACES)
def test_a_night_without_a_network_does_not_count_where_the_vault_is_not_there_next(kind: type[EvidenceSyncError]) -> None:
    night = [errors.ConnectError("no network")] * MOST_REFUSALS
    world = World([], until=48 * HOUR, failures=[kind("x"), *night, *[kind("not mounted yet")] * (MOST_REFUSALS - 1)])
    with pytest.raises(OverError):
        watch(Decision(PACE, b"before"), world, world.push, world, lambda: world.now)
    assert len(world.pushes) == 1


@pytest.mark.slow
@settings(max_examples=often(20, 800))
@given(
    changes=st.lists(st.floats(0.5, 4000), max_size=40),
    settle=st.floats(0.5, 60),
    more=st.floats(0, 600),
    told=st.booleans(),
    look_cost=st.floats(0.001, 3),
    push_cost=st.floats(0.1, 100),
    failures=st.integers(0, 3),
)
def test_whatever_happens_every_change_is_pushed_and_nothing_twice(
    changes: list[float], settle: float, more: float, told: bool, look_cost: float, push_cost: float, failures: int
) -> None:
    intervals = WatchIntervals(settle, settle + more)
    lost: list[EvidenceSyncError] = [errors.LinkLostError("lost") for _ in range(failures)]
    world = World(changes, until=6000, told=told, look_cost=look_cost, push_cost=push_cost, failures=lost)
    decision = world.live(intervals)
    digests = [digest for _, digest in world.pushes]
    assert digests[-1] == b"%d" % len(changes)
    assert len(set(digests)) == len(digests)
    assert decision.in_vault == digests[-1]
    # After the first push, each state that was pushed had been looked at twice, `settle` apart, or its change had waited long.
    for at, digest in world.pushes[1:]:
        number = int(digest)
        last_change = sorted(changes)[number - 1]
        first_new = sorted(changes)[int(digests[digests.index(digest) - 1])]
        assert at >= min(last_change + settle, first_new + intervals.every)


def test_a_disk_that_comes_in_the_middle_of_a_look_is_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked at may be the empty folder on which it is mounted."""
    mounted: list[bool] = []
    monkeypatch.setattr(watch_module, "is_mount_point", lambda _root: mounted.pop(0))
    with open_observer(os.fsencode(tmp_path), FilterRules.none()) as observer:
        mounted[:] = [True]
        assert observer.look() is not None
        mounted[:] = [False, True]
        assert observer.look() is None
        mounted[:] = [True, False]
        assert observer.look() is None
        mounted[:] = [True, True]
        assert observer.look() is not None
