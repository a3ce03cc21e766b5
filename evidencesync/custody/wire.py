"""Reads and writes the data types of the SSH protocols (RFC 4251, clause 5): strings, uint32 and mpint.

Reading is strict: no field may be missing, nothing may follow the last field, and an integer has one form only.
"""

from __future__ import annotations

from typing import Final

from evidencesync.errors import SignatureError

_UINT32: Final = 4


class WireError(SignatureError):
    """Bytes that are not in the form that RFC 4251 defines."""

    slug = "malformed-ssh-data"


def write_uint32(number: int) -> bytes:
    """Encodes `number` (0 to 2^32 - 1) in network byte order."""
    return number.to_bytes(_UINT32, "big")


def write_string(data: bytes) -> bytes:
    """Encodes `data` with its length in front."""
    return write_uint32(len(data)) + data


def write_mpint(number: int) -> bytes:
    """Encodes a positive integer or zero: shortest form, with a zero byte in front where the highest bit is set."""
    return write_string(number.to_bytes(number.bit_length() // 8 + 1, "big") if number else b"")


class WireReader:
    """Reads the fields of a blob in order. Every method raises WireError for a field that is missing or malformed."""

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    def take(self, length: int) -> bytes:
        """Reads the next `length` bytes as they are."""
        end = self._offset + length
        if end > len(self._data):
            raise WireError("SSH data ends in the middle of a field")
        taken = self._data[self._offset : end]
        self._offset = end
        return taken

    def byte(self) -> int:
        """Reads one byte."""
        return self.take(1)[0]

    def uint32(self) -> int:
        """Reads a number of 32 bits."""
        return int.from_bytes(self.take(_UINT32), "big")

    def string(self) -> bytes:
        """Reads a string with its length in front; any bytes."""
        return self.take(self.uint32())

    def text(self) -> str:
        """Reads a string of printable ASCII, as all names of algorithms and namespaces are."""
        try:
            text = self.string().decode("ascii")
        except UnicodeDecodeError as error:
            raise WireError("a name in SSH data is not ASCII") from error
        if not text.isprintable():
            raise WireError("a name in SSH data holds control characters")
        return text

    def mpint(self) -> int:
        """Reads an integer that is not negative, in its shortest form."""
        data = self.string()
        number = int.from_bytes(data, "big")
        if write_mpint(number) != write_string(data):
            raise WireError("an integer in SSH data is negative or not in its shortest form")
        return number

    def rest(self) -> bytes:
        """Returns all bytes that were not read yet."""
        return self.take(len(self._data) - self._offset)

    def end(self) -> None:
        """Checks that nothing is left."""
        if self._offset != len(self._data):
            raise WireError("SSH data goes on after its last field")
