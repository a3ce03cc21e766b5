"""Pieces: whatever stands in the basis, the source's bytes come out, and an edit costs about its own size."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidencesync.delta.refine import (
    ABSENT,
    Anchor,
    BasisRange,
    Gap,
    RefinableGap,
    by_content,
    cut_pieces,
    find_gaps,
    find_pieces,
    grid_lengths,
    piece_digests,
    piece_key,
    rebuild,
)
from evidencesync.delta.rows import ZERO_DIGEST, Row
from evidencesync.evidence.digest import ChunkDigest
from evidencesync.limits import GRID_PIECE, KIB, MAX_PIECE, MEAN_CHUNK, MIN_PIECE, PIECE_DIGEST
from tests.support.soak import often

KEY = piece_key("one session")
phases = st.one_of(st.none(), st.integers(0, GRID_PIECE - 1))


@st.composite
def changes(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """An old and a new content: edited, inserted into, deleted from, moved around, or of nothing in common."""
    old = random.Random(draw(st.integers(0, 5))).randbytes(draw(st.integers(0, 40_000)))
    new = old
    for _ in range(draw(st.integers(0, 4))):
        start, end = sorted(draw(st.tuples(st.integers(0, len(new)), st.integers(0, len(new)))))
        kind = draw(st.sampled_from(["edit", "insert", "delete", "move", "zeros"]))
        part = new[start:end]
        filling = {
            "edit": random.Random(start).randbytes(min(len(part), 4096)) + part[4096:],
            "insert": b"more" * draw(st.integers(1, 500)) + part,
            "delete": b"",
            "move": part[len(part) // 2 :] + part[: len(part) // 2],
            "zeros": bytes(len(part)),
        }
        new = new[:start] + filling[kind] + new[end:]
    return old, new


def lacked_of(new: bytes, basis: bytes, phase: int | None) -> int:
    """How many bytes have to be sent; asserts that with them the new content comes out."""
    lengths = cut_pieces(new, phase)
    gap = Gap(0, 1, len(new), phase)
    offsets = find_pieces(KEY, gap, lengths, piece_digests(KEY, new, lengths), basis)
    assert len(offsets) == len(lengths)
    ends = [sum(lengths[: number + 1]) for number in range(len(lengths))]
    pieces = [new[end - length : end] for end, length, offset in zip(ends, lengths, offsets, strict=True) if offset == ABSENT]
    arrived = iter(pieces)
    assert rebuild(lengths, offsets, basis, arrived) == new
    assert next(arrived, None) is None
    return sum(map(len, pieces))


@pytest.mark.slow
@settings(max_examples=often(80, 6000), deadline=None)
@given(change=changes(), phase=phases)
def test_the_new_content_comes_out_whatever_the_basis_is(change: tuple[bytes, bytes], phase: int | None) -> None:
    old, new = change
    lacked_of(new, old, phase)


@settings(max_examples=often(40, 2000), deadline=None)
@given(content=st.binary(max_size=9000), phase=phases)
def test_the_same_content_costs_nothing(content: bytes, phase: int | None) -> None:
    assert lacked_of(content, content, phase) == 0


@given(size=st.integers(0, 100_000), phase=st.integers(0, GRID_PIECE - 1))
def test_a_grid_covers_its_gap_and_keeps_to_its_phase(size: int, phase: int) -> None:
    lengths = grid_lengths(size, phase)
    assert sum(lengths) == size
    assert all(0 < length <= GRID_PIECE for length in lengths)
    assert all((sum(lengths[: number + 1]) - phase) % GRID_PIECE == 0 for number in range(len(lengths) - 1))


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 100_000))
def test_pieces_by_content_have_the_bounds_that_a_receiver_checks(seed: int, size: int) -> None:
    lengths = cut_pieces(random.Random(seed).randbytes(size), None)
    assert sum(lengths) == size
    assert all(MIN_PIECE <= length <= MAX_PIECE for length in lengths[:-1])
    assert 0 < lengths[-1] <= MAX_PIECE


@pytest.mark.parametrize(("phase", "at_most"), [(0, 9 * GRID_PIECE), (None, 3 * MAX_PIECE)])
def test_an_edit_of_4_kib_costs_little_more_than_itself(phase: int | None, at_most: int) -> None:
    chance = random.Random(1)
    old = chance.randbytes(90 * KIB)
    for _ in range(50):
        at = chance.randrange(len(old) - 4096)
        assert 4096 <= lacked_of(old[:at] + chance.randbytes(4096) + old[at + 4096 :], old, phase) <= at_most


def test_a_shift_costs_nothing_by_content() -> None:
    old = random.Random(1).randbytes(64 * KIB)
    new = old[100:] + old[:100]
    assert lacked_of(new, old, 0) > 60 * KIB
    assert lacked_of(new, old, None) <= 3 * MAX_PIECE


@pytest.mark.slow
@given(content=st.binary(min_size=3000, max_size=6000), phase=phases, kept=st.integers(0, 3000))
def test_a_basis_that_became_shorter_is_no_error(content: bytes, phase: int | None, kept: int) -> None:
    lengths = cut_pieces(content, phase)
    offsets = find_pieces(KEY, Gap(0, 1, len(content), phase), lengths, piece_digests(KEY, content, lengths), content)
    assert rebuild(lengths, offsets, content[:kept], iter([])) != content


def test_another_session_has_other_digests() -> None:
    assert piece_key("one session") != piece_key("another")
    named = piece_digests(KEY, b"abc", [3])
    assert len(named) == PIECE_DIGEST
    assert named != piece_digests(piece_key("another"), b"abc", [3])


# Where to look.

FILE, OTHER = "file", "other"


def rows(*lengths: int) -> list[Row]:
    """Chunks, and runs of zeros where a length is negative."""
    return [Row(abs(length), ChunkDigest(b"d" * 16) if length > 0 else ZERO_DIGEST) for length in lengths]


def at(offset: int, file: str = FILE) -> Anchor[str]:
    return Anchor(file, offset)


def test_between_neighbours_that_agree_bytes_are_compared_in_place() -> None:
    found, end = find_gaps(rows(10, 20, 30, 40), [at(1000), None, None, at(1060)], None, None)
    assert found == [RefinableGap(Gap(1, 2, 50, -1010 % GRID_PIECE), (BasisRange(FILE, 1010, 50),))]
    assert end == at(1100)


@pytest.mark.parametrize(
    ("before", "after"), [(at(500), None), (None, at(560)), (at(500), at(560))], ids=["left", "right", "both"]
)
def test_one_neighbour_is_enough(before: Anchor[str] | None, after: Anchor[str] | None) -> None:
    found, _ = find_gaps(rows(60), [None], before, after)
    assert found == [RefinableGap(Gap(0, 1, 60, -500 % GRID_PIECE), (BasisRange(FILE, 500, 60),))]


def test_without_a_neighbour_there_is_nothing_to_compare_with() -> None:
    assert find_gaps(rows(60, -10, 20), [None, None, None], None, None) == ([], None)


def test_neighbours_that_contradict_each_other_make_it_a_question_of_content() -> None:
    found, _ = find_gaps(rows(10, 20, 30), [at(1000), None, at(1040)], None, None)
    assert found == [RefinableGap(Gap(1, 1, 20, None), (BasisRange(FILE, 1010, 30),))]


def test_both_sides_of_what_was_deleted_are_looked_at() -> None:
    far = 10_000_000
    found, _ = find_gaps(rows(10, 20, 30), [at(1000), None, at(far)], None, None)
    reach = 20 + 2 * MEAN_CHUNK
    assert found[0].ranges == (BasisRange(FILE, 1010, reach), BasisRange(FILE, far - reach, reach))
    found, _ = find_gaps(rows(10, 20, 30), [at(1000), None, at(far, OTHER)], None, None)
    assert found[0].ranges == (BasisRange(FILE, 1010, reach), BasisRange(OTHER, far - reach, reach))


def test_zeros_between_neighbours_are_taken_to_be_in_the_basis() -> None:
    found, _ = find_gaps(rows(10, -5, 20, -7, 30), [at(1000), None, None, None, at(1042)], None, None)
    assert [(gap.gap.first, gap.ranges) for gap in found] == [(2, (BasisRange(FILE, 1015, 20),))]


def test_nothing_before_the_start_of_a_file_is_looked_at() -> None:
    found, _ = find_gaps(rows(60, 10), [None, at(20)], None, None)
    assert found == [RefinableGap(Gap(0, 1, 60, None), (BasisRange(FILE, 0, 20),))]


def test_a_content_that_changed_everywhere_is_followed_from_its_start() -> None:
    found, end = find_gaps(rows(60, -10, 20), [None, None, None], at(0), None)
    assert [gap.ranges for gap in found] == [(BasisRange(FILE, 0, 60),), (BasisRange(FILE, 70, 20),)]
    assert end == at(90)


def test_a_second_look_takes_in_what_lies_around() -> None:
    grid = RefinableGap(Gap(3, 1, 60, 12), (BasisRange(FILE, 500, 60),))
    assert by_content(grid) == RefinableGap(Gap(3, 1, 60, None), (BasisRange(FILE, 0, 560 + 2 * MEAN_CHUNK),))


@pytest.mark.slow
@settings(max_examples=often(60, 4000))
@given(
    lengths=st.lists(st.integers(-50, 50).filter(bool), min_size=1, max_size=12),
    places=st.lists(st.one_of(st.none(), st.integers(0, 500)), min_size=12, max_size=12),
    before=st.one_of(st.none(), st.integers(-100, 500)),
    after=st.one_of(st.none(), st.integers(-100, 500)),
)
def test_gaps_are_maximal_runs_of_lacked_chunks(
    lengths: list[int], places: list[int | None], before: int | None, after: int | None
) -> None:
    made = rows(*lengths)
    known = [None if place is None or row.is_zeros else at(place) for place, row in zip(places, made, strict=False)]
    found, _ = find_gaps(made, known, None if before is None else at(before), None if after is None else at(after))
    end = -1
    for refinable in found:
        gap = refinable.gap
        inside = range(gap.first, gap.first + gap.count)
        assert gap.first > end
        end = gap.first + gap.count
        assert all(known[number] is None and not made[number].is_zeros for number in inside)
        assert all(
            number in (-1, len(made)) or known[number] is not None or made[number].is_zeros for number in (gap.first - 1, end)
        )
        assert gap.size == sum(made[number].length for number in inside)
        assert all(part.offset >= 0 and part.length > 0 for part in refinable.ranges)
        assert gap.phase is None or (0 <= gap.phase < GRID_PIECE and len(refinable.ranges) == 1)
