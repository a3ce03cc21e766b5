"""One bit for each thing that was asked about; the first is the lowest bit of the first byte."""

from __future__ import annotations

from collections.abc import Iterable

from evidencesync.errors import ProtocolError


def pack_bits(bits: Iterable[bool]) -> bytes:
    """The bits as bytes, the last one filled up with zeros."""
    value = 0
    count = 0
    for bit in bits:
        value |= bit << count
        count += 1
    return value.to_bytes((count + 7) // 8, "little")


def unpack_bits(packed: bytes, count: int) -> list[bool]:
    """`count` bits. Raises ProtocolError for a bitmap of another length or with bits beyond the end."""
    value = int.from_bytes(packed, "little")
    if len(packed) != (count + 7) // 8 or value >> count:
        raise ProtocolError("a bitmap does not fit what it answers")
    return [bool(value >> position & 1) for position in range(count)]
