"""What differs from older bytes: the newer ones come out of every patch, and what is no patch is refused."""

from __future__ import annotations

import os
import random

import pytest

from evidencesync.delta.patch import OlderBytes, find_patch
from evidencesync.errors import ProtocolError
from evidencesync.limits import KIB, MAX_OLDER_BYTES, MAX_OLDER_PIECES, MAX_PATCH_RUNS, MAX_PATCHED

KEY = b"k" * 32


def patched(old: bytes, new: bytes) -> int:
    """How many bytes of the newer state had to be sent."""
    older = OlderBytes(KEY, old)
    runs, fresh = find_patch(KEY, older.names, new)
    assert older.patched(runs, memoryview(fresh), len(new)) == new
    assert len(runs) <= MAX_PATCH_RUNS
    assert len(older.names) <= 6 * MAX_OLDER_PIECES
    return len(fresh)


def test_equal_bytes_are_not_sent_and_small_edits_cost_little() -> None:
    old = random.Random(1).randbytes(128 * KIB)
    assert patched(old, old) == 0
    edited = bytearray(old)
    edited[50_000:50_010] = b"0123456789"
    assert 0 < patched(old, bytes(edited)) < 9 * KIB
    assert 0 < patched(old, old[:70_000] + b"inserted" + old[70_000:]) < 9 * KIB
    assert patched(old, old[:30_000] + old[40_000:]) < 9 * KIB


@pytest.mark.parametrize("seed", range(30))
def test_any_bytes_come_out_of_any_older_ones(seed: int) -> None:
    chance = random.Random(seed)
    old = chance.randbytes(chance.choice((0, 1, 255, 5000, 100_000, MAX_OLDER_BYTES)))
    new = bytearray(old)
    for _ in range(chance.randrange(6)):
        at = chance.randrange(len(new) + 1)
        new[at : at + chance.randrange(3000)] = chance.choice((b"", bytes(4000), chance.randbytes(777), bytes(new[:9000])))
    patched(old, bytes(new[:MAX_PATCHED]))


def test_repeated_pieces_make_few_runs() -> None:
    assert patched(bytes(MAX_OLDER_BYTES), bytes(MAX_PATCHED)) == 0
    assert len(find_patch(KEY, OlderBytes(KEY, bytes(MAX_OLDER_BYTES)).names, bytes(MAX_PATCHED))[0]) == 1


def test_another_key_finds_nothing() -> None:
    old = os.urandom(20_000)
    assert find_patch(b"o" * 32, OlderBytes(KEY, old).names, old)[1] == old


@pytest.mark.parametrize(
    ("runs", "fresh"),
    [
        ([(0, 0, 10_000)], b""),  # pieces that nobody has named
        ([(0, 2**20, 1)], b""),
        ([(5, 0, 0)], b"1234"),  # more bytes than follow
        ([(0, 0, 1)], b"1"),  # bytes that no run takes
        ([], b""),
        ([(0, 0, 2)] * 2000, b""),  # more than there is to be
        ([(1 << 17, 0, 0)], bytes(1 << 17)),
    ],
)
def test_what_is_no_patch_is_refused(runs: list[tuple[int, int, int]], fresh: bytes) -> None:
    with pytest.raises(ProtocolError):
        OlderBytes(KEY, bytes(range(256)) * 200).patched(runs, memoryview(fresh), 50_000)


def test_names_that_are_cut_off_are_refused() -> None:
    with pytest.raises(ProtocolError):
        find_patch(KEY, b"1234567", b"data")
