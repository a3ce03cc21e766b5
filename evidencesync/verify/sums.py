"""Compares a sums file with the manifest while that is read, and finds the first difference."""

from __future__ import annotations

import hashlib
import math
from typing import BinaryIO, Final

from evidencesync.verify.checks import Check
from evidencesync.verify.documents import reason
from evidencesync.verify.findings import Reporter

_GATHER: Final = 256 * 1024
_BLOCK: Final = 1 << 20
_MOST_REST: Final = 1 << 26  # bytes that are read after the expected end


class SumsComparison:
    """Takes the lines that the file must have, in order; then call `finish`. Takes over the file (None: it could not be opened).

    A sums file has exactly one right content for each manifest, so the first difference is the place of the damage, and the
    rest is only hashed.
    """

    def __init__(self, file: BinaryIO | None, name: str, report: Reporter) -> None:
        self.left_out = 0
        """Files that this list cannot carry."""
        self._file = file
        self._name = name
        self._report = report
        self._hash = hashlib.sha256()
        self._expected: list[bytes] = []
        self._gathered = 0
        self._position = 0
        self._comparing = file is not None
        self._readable = file is not None

    def expect(self, line: bytes | None) -> None:
        """Compares the next line; None for a file that this list cannot express."""
        if line is None:
            self.left_out += 1
            return
        self._expected.append(line)
        self._gathered += len(line)
        if self._gathered >= _GATHER:
            self._compare()

    def give_up(self) -> None:
        """Stops comparing, because the expected lines are unknown."""
        self._comparing = False

    def finish(self) -> str | None:
        """Compares the rest and closes. Returns the file's SHA-256 in hexadecimal; None where it was not read to its end.

        A file that is much longer than its lines is another one, whatever its digest is.
        """
        self._compare()
        left: float = math.inf
        if self._comparing and (more := self._read(_BLOCK)):
            line = more.partition(b"\n")[0] + b"\n"
            self._differs(self._position, len(line), "it goes on after its last line")
            left = _MOST_REST
        while left > 0 and (more := self._read(_BLOCK)):
            left -= len(more)
        self._readable = self._readable and left > 0
        if self._file is not None:
            self._file.close()
        return self._hash.hexdigest() if self._readable else None

    def _compare(self) -> None:
        if not self._comparing:
            self._expected, self._gathered = [], 0
            return
        wanted = b"".join(self._expected)
        found = self._read(len(wanted)) if wanted else b""
        if found != wanted and self._readable:
            self._locate(found)
        self._position += len(found)
        self._expected, self._gathered = [], 0

    def _locate(self, found: bytes) -> None:
        offset = 0
        for line in self._expected:
            if found[offset : offset + len(line)] != line:
                rest = found[offset:]
                length = rest.find(b"\n") + 1 or len(rest)
                text = "a line is not the one that the manifest demands" if rest else "it ends too early"
                self._differs(self._position + offset, length, text)
                return
            offset += len(line)

    def _differs(self, offset: int, length: int, text: str) -> None:
        self._comparing = False
        self._report.report(Check.SUMS, "sums-differ", f"{self._name}: {text}", self._name, offset=offset, length=length)

    def _read(self, length: int) -> bytes:
        """Up to that many bytes; fewer only at the end."""
        parts: list[bytes] = []
        left = length
        while self._file is not None and self._readable and left:
            try:
                part = self._file.read(left)
            except OSError as error:
                self._readable = self._comparing = False
                self._report.report(Check.SUMS, "unreadable", f"{self._name}: {reason(error)}", self._name)
                break
            if not part:
                break
            parts.append(part)
            left -= len(part)
        data = b"".join(parts)
        self._hash.update(data)
        return data
