"""Reads and writes DER (X.690), as far as timestamps need it: definite lengths in their shortest form, nothing after the end.

The order of a SET's elements is not checked: `openssl ts` itself writes certificates in the order of their chain.
"""

from __future__ import annotations

from typing import Final

from evidencesync.errors import TimestampError

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTETS: Final = 0x04
NULL: Final = 0x05
OID: Final = 0x06
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31

_MAX_INTEGER: Final = 64  # bytes; RFC 3161 asks for 160 bits, and nonces are as short
_MAX_OID: Final = 64


def context(number: int, *, constructed: bool = True) -> int:
    """Returns the context-specific tag with that number."""
    return (0xA0 if constructed else 0x80) | number


class DerReader:
    """Reads values one after the other. Every method raises TimestampError for anything that is not DER."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._what = what
        self._at = 0

    def refuse(self, why: str) -> TimestampError:
        """Returns the error to raise."""
        return TimestampError(f"{self._what} is malformed: {why}")

    @property
    def tag(self) -> int | None:
        """Returns the tag of the next value; None at the end."""
        return self._data[self._at] if self._at < len(self._data) else None

    def end(self) -> None:
        """Checks that no bytes are left."""
        if self._at != len(self._data):
            raise self.refuse("there is more than there should be")

    def take_whole(self) -> bytes:
        """Reads the next value, of any kind, with its tag and length."""
        start = self._at
        self._take(self.tag)
        return self._data[start : self._at]

    def take(self, tag: int) -> bytes:
        """Reads the contents of the next value, which must have this tag."""
        return self._take(tag)

    def optional(self, tag: int) -> bytes | None:
        """Reads the contents of the next value if it has this tag; else None."""
        return self._take(tag) if self.tag == tag else None

    def enter(self, tag: int) -> DerReader:
        """Returns a reader of the contents of the next value."""
        return DerReader(self._take(tag), self._what)

    def integer(self) -> int:
        """Reads an INTEGER, of any sign."""
        return self.to_integer(self._take(INTEGER))

    def to_integer(self, data: bytes) -> int:
        """Decodes the contents of an INTEGER."""
        if not 1 <= len(data) <= _MAX_INTEGER:
            raise self.refuse("a number is empty or too long")
        if len(data) > 1 and ((data[0] == 0 and data[1] < 0x80) or (data[0] == 0xFF and data[1] >= 0x80)):
            raise self.refuse("a number is not in its shortest form")
        return int.from_bytes(data, "big", signed=True)

    def oid(self) -> str:
        """Reads an object identifier, in its dotted form."""
        data = self._take(OID)
        if not 1 <= len(data) <= _MAX_OID or data[-1] & 0x80:
            raise self.refuse("an object identifier is cut off or too long")
        arcs: list[int] = []
        value, fresh = 0, True
        for byte in data:
            if fresh and byte == 0x80:
                raise self.refuse("an object identifier is not in its shortest form")
            value, fresh = value << 7 | byte & 0x7F, not byte & 0x80
            if fresh:
                arcs.append(value)
                value = 0
        first = min(arcs[0] // 40, 2)
        return ".".join(map(str, [first, arcs[0] - 40 * first, *arcs[1:]]))

    def flag(self, *, default: bool) -> bool:
        """Reads a BOOLEAN with a default, which DER omits where the value is the default."""
        data = self.optional(BOOLEAN)
        if data is None:
            return default
        if data not in (b"\x00", b"\xff") or (data == b"\xff") == default:
            raise self.refuse("a flag is not in its one form")
        return data == b"\xff"

    def _take(self, tag: int | None) -> bytes:
        data, at = self._data, self._at
        if len(data) - at < 2:
            raise self.refuse("it ends too early")
        if tag is None or data[at] != tag or data[at] & 0x1F == 0x1F:
            raise self.refuse(f"there is a value of another kind ({data[at]:02x}) than expected")
        length, at = data[at + 1], at + 2
        if length >= 0x80:
            count = length & 0x7F
            digits = data[at : at + count]
            if not 1 <= count <= 4 or len(digits) != count or digits[0] == 0:
                raise self.refuse("a length is indefinite, or not in its shortest form")
            length, at = int.from_bytes(digits, "big"), at + count
            if length < 0x80:
                raise self.refuse("a length is not in its shortest form")
        if length > len(data) - at:
            raise self.refuse("it ends too early")
        self._at = at + length
        return data[at : self._at]


def der(tag: int, *parts: bytes) -> bytes:
    """Encodes one value from its contents."""
    data = b"".join(parts)
    if len(data) < 0x80:
        return bytes([tag, len(data)]) + data
    length = len(data).to_bytes((len(data).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + data


def der_integer(value: int) -> bytes:
    """Encodes an INTEGER that is not negative."""
    return der(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def der_oid(dotted: str) -> bytes:
    """Encodes an object identifier of at least three arcs."""
    first, second, *rest = map(int, dotted.split("."))
    encoded = bytearray()
    for arc in (40 * first + second, *rest):
        digits = [arc & 0x7F]
        while arc := arc >> 7:
            digits.append(0x80 | arc & 0x7F)
        encoded += bytes(reversed(digits))
    return der(OID, bytes(encoded))
