"""Reading around bad sectors: everything that can be read is read, and the map says exactly what cannot."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from evidencesync.limits import KIB, MIB
from evidencesync.source.salvage import BLOCK_SECONDS, GIVEN_UP, STEP, TRIES, BadRange, Salvage

BLOCK = 4 * MIB
CONTENT = random.Random(5).randbytes(BLOCK)


class Medium:
    """Sectors, of which some are bad. Each read costs time on a clock of its own."""

    def __init__(self, bad: set[int], unit: int = 512, *, seconds_a_failure: float = 0.0, number: int = errno.EIO) -> None:
        self.bad, self.unit, self.number = bad, unit, number
        self.seconds_a_failure = seconds_a_failure
        self.now = 0.0
        self.failures = self.reads = 0
        self.asked: dict[tuple[int, int], int] = {}

    def read_at(self, offset: int, room: memoryview) -> None:
        assert offset % self.unit == 0
        assert len(room) % self.unit == 0
        self.reads += 1
        self.asked[offset, len(room)] = self.asked.get((offset, len(room)), 0) + 1
        if not self.bad.isdisjoint(range(offset // self.unit, (offset + len(room)) // self.unit)):
            self.failures += 1
            self.now += self.seconds_a_failure
            room[: self.unit] = b"\xff" * self.unit  # what a failing read leaves behind says nothing
            raise OSError(self.number, os.strerror(self.number))
        start = offset % BLOCK
        room[:] = CONTENT[start : start + len(room)]

    def salvage(self) -> Salvage:
        return Salvage(self.read_at, self.unit, clock=lambda: self.now)


def recover(medium: Medium, size: int, offset: int = 0, salvage: Salvage | None = None) -> tuple[bytes, list[BadRange]]:
    room = bytearray(b"\xee" * size)
    bad = (salvage or medium.salvage()).recover(memoryview(room), offset)
    return bytes(room), bad


@given(
    st.sampled_from([512, 4096]),
    st.integers(0, 40),
    st.integers(1, 700),
    st.lists(st.tuples(st.integers(0, 800), st.integers(1, 90)), max_size=8),
)
def test_every_good_sector_is_read_and_every_bad_one_is_named(
    unit: int, first: int, count: int, areas: list[tuple[int, int]]
) -> None:
    bad = {sector for start, length in areas for sector in range(start, start + length)}
    got, ranges = recover(Medium(bad, unit), count * unit, first * unit)
    wanted = bytearray()
    for sector in range(first, first + count):
        at = sector * unit % BLOCK
        wanted += bytes(unit) if sector in bad else CONTENT[at : at + unit]
    assert got == wanted
    named = {place for found in ranges for place in range(found.offset // unit, (found.offset + found.length) // unit)}
    assert named == bad & set(range(first, first + count))
    assert all(left.offset + left.length < right.offset for left, right in pairwise(ranges))


def test_one_bad_sector_costs_few_failing_reads() -> None:
    medium = Medium({4321})
    _, bad = recover(medium, BLOCK)
    assert bad == [BadRange(4321 * 512, 512, errno.EIO)]
    assert medium.failures == 1 + TRIES


def test_each_sector_is_tried_a_bounded_number_of_times() -> None:
    medium = Medium(set(range(100, 300)))
    recover(medium, BLOCK)
    assert max(medium.asked.values()) == TRIES


def test_a_sector_that_answers_the_second_time_is_good() -> None:
    medium = Medium({77})

    def heals(offset: int, room: memoryview) -> None:
        if medium.failures == 2:
            medium.bad.clear()
        medium.read_at(offset, room)

    room = bytearray(BLOCK)
    assert Salvage(heals, 512).recover(memoryview(room), 0) == []
    assert bytes(room) == CONTENT


def test_a_slow_medium_is_given_up_in_bounded_time_and_what_was_not_tried_is_told_apart() -> None:
    medium = Medium(set(range(1000, 6000)), seconds_a_failure=0.5)
    got, bad = recover(medium, BLOCK)
    assert medium.now <= BLOCK_SECONDS + 2 * 0.5
    lost = sum(found.length for found in bad)
    assert 5000 * 512 <= lost <= 5000 * 512 + 2 * STEP
    assert {found.errno for found in bad} == {errno.EIO, GIVEN_UP}
    assert got[: 900 * 512] == CONTENT[: 900 * 512]
    assert got[6144 * 512 :] == CONTENT[6144 * 512 :]


def test_a_large_bad_area_costs_less_and_less_and_its_end_is_still_found() -> None:
    end = 200 * BLOCK + 3 * MIB
    medium = Medium(set(range(end // 512)), seconds_a_failure=5.0)
    salvage = medium.salvage()
    spent: list[float] = []
    for number in range(200):
        before = medium.now
        recover(medium, BLOCK, number * BLOCK, salvage)
        spent.append(medium.now - before)
    got, bad = recover(medium, BLOCK, 200 * BLOCK, salvage)
    assert spent[0] <= BLOCK_SECONDS + 10
    assert all(seconds <= 15 for seconds in spent[8:])
    assert got[3 * MIB :] == CONTENT[3 * MIB :]
    assert bad[0].offset == 200 * BLOCK
    assert sum(found.length for found in bad) == 3 * MIB


def test_in_a_large_bad_area_no_block_is_searched_sector_by_sector_twice() -> None:
    medium = Medium(set(range(3 * BLOCK // 512)))
    salvage = medium.salvage()
    recover(medium, BLOCK, 0, salvage)
    before = medium.reads
    _, bad = recover(medium, BLOCK, BLOCK, salvage)
    assert medium.reads - before == BLOCK // STEP
    assert bad == [BadRange(BLOCK, BLOCK, GIVEN_UP)]


def test_a_device_that_is_gone_is_not_asked_again() -> None:
    medium = Medium({0}, number=errno.ENXIO)
    salvage = medium.salvage()
    for number in range(3):
        _, bad = recover(medium, BLOCK, number * BLOCK, salvage)
        assert bad == [BadRange(number * BLOCK, BLOCK, errno.ENXIO)]
    assert medium.reads == 1


def test_what_failed_in_another_way_is_another_range() -> None:
    def read_at(offset: int, room: memoryview) -> None:
        if offset < 64 * KIB:
            raise OSError(errno.EIO if offset < 2048 else errno.ENODATA, "")
        room[:] = bytes(len(room))

    found: Callable[[memoryview, int], list[BadRange]] = Salvage(read_at, 512).recover
    assert found(memoryview(bytearray(128 * KIB)), 0) == [
        BadRange(0, 2048, errno.EIO),
        BadRange(2048, 62 * KIB, errno.ENODATA),
    ]
