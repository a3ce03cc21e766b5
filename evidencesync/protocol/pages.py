"""Cuts a manifest into pages, runs of whole lines that travel as one unit.

Where a page ends depends on its lines alone: after a line whose CRC-32 meets a condition (about one in 64), or once the
page has reached `limits.PAGE_CUT`. So an unchanged part of a source gives the same pages again, and one digest of 16
bytes tells the vault about all the files in it. The header and the footer are pages of their own: they always differ.
Pages take the place of the chunks that other contents have because a receiver can read each by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final
from zlib import crc32

from evidencesync.evidence.digest import ChunkDigest, chunk_digest_of
from evidencesync.limits import MAX_PAGE_LINES, PAGE_CUT

_CUT_MASK: Final = 0x3F
_HEADER_START: Final = b'{"format":'
_FOOTER_START: Final = b'{"counts":'


class PageCutter:
    """Collects lines; `add` gives a page when the line completes one."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._size = 0

    def add(self, line: bytes) -> bytes | None:
        """Adds one line (with its newline); gives the page that it completes, or None."""
        self._lines.append(line)
        self._size += len(line)
        if crc32(line) & _CUT_MASK and self._size < PAGE_CUT and len(self._lines) < MAX_PAGE_LINES:
            return None
        return self.take()

    def take(self) -> bytes:
        """What was collected since the last page; may be empty."""
        page = b"".join(self._lines)
        self._lines = []
        self._size = 0
        return page


def is_header(page: bytes) -> bool:
    """Whether a page is the manifest's header."""
    return page.startswith(_HEADER_START)


def cut_pages(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The pages of a whole manifest, as a sender would have cut them."""
    cutter = PageCutter()
    for line in lines:
        if line.startswith((_HEADER_START, _FOOTER_START)):
            if page := cutter.take():
                yield page
            yield line
        elif (complete := cutter.add(line)) is not None:
            yield complete
    if page := cutter.take():
        yield page


def page_positions(lines: Iterable[bytes]) -> dict[ChunkDigest, tuple[int, int]]:
    """Offset and length of each page of a manifest, by digest. About 150 bytes of memory for some 60 entries."""
    positions: dict[ChunkDigest, tuple[int, int]] = {}
    offset = 0
    for page in cut_pages(lines):
        positions[chunk_digest_of(page)] = (offset, len(page))
        offset += len(page)
    return positions
