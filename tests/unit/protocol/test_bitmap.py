"""One bit for each thing, and no bit for anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidencesync.errors import ProtocolError
from evidencesync.protocol.packing import pack_bits, unpack_bits


@given(bits=st.lists(st.booleans(), max_size=1100))
def test_bits_come_back(bits: list[bool]) -> None:
    packed = pack_bits(bits)
    assert len(packed) == (len(bits) + 7) // 8
    assert unpack_bits(packed, len(bits)) == bits


@pytest.mark.parametrize(
    ("bits", "packed"),
    [
        ([], b""),
        ([True], b"\x01"),
        ([False], b"\x00"),
        ([False, True], b"\x02"),
        ([False] * 8 + [True], b"\x00\x01"),
        ([True] * 8, b"\xff"),
    ],
)
def test_the_first_is_the_lowest_bit_of_the_first_byte(bits: list[bool], packed: bytes) -> None:
    assert pack_bits(bits) == packed
    assert unpack_bits(packed, len(bits)) == bits


@pytest.mark.parametrize(
    ("packed", "count"),
    [
        (b"", 1),
        (b"\0", 0),
        (b"\0", 9),
        (b"\0\0", 8),
        (b"\x02", 1),
        (b"\x80", 7),
        (b"\xff", 3),
        (b"\0\x02", 9),
        (b"\0" * 200, 1),
    ],
)
def test_a_bitmap_that_does_not_fit_is_refused(packed: bytes, count: int) -> None:
    with pytest.raises(ProtocolError):
        unpack_bits(packed, count)


@given(packed=st.binary(max_size=130), count=st.integers(0, 1024))
def test_any_bytes_are_a_bitmap_or_a_typed_error(packed: bytes, count: int) -> None:
    try:
        bits = unpack_bits(packed, count)
    except ProtocolError:
        return
    assert pack_bits(bits) == packed
    assert len(bits) == count
