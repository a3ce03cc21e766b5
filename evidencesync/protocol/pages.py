"""Cuts a manifest into pages (runs of whole lines that travel as one unit), and tracks a sender's pages until they are stored.

Where a page ends depends on its lines alone: after a line whose CRC-32 meets a condition (about one in 64), or once the page
has reached `limits.PAGE_CUT`. So an unchanged part of a source gives the same pages again, and one digest of 16 bytes names
all files in it. The header and the footer are pages of their own: they always differ. Pages are used in place of chunks
because a receiver can read each page by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from zlib import crc32

import msgspec

from evidencesync.errors import ProtocolError
from evidencesync.evidence.digest import ChunkDigest, chunk_digest_of
from evidencesync.limits import MAX_PAGE_LINES, PAGE_CUT
from evidencesync.protocol.data_frames import Outgoing
from evidencesync.protocol.flow import LEAST_CONTENT, AskPolicy, Opening, RepeatMemory, content_key
from evidencesync.protocol.messages import Files, Page, PageAnswer, PageOffer, Want
from evidencesync.protocol.packing import pack_bits, unpack_bits

_CUT_MASK: Final = 0x3F
_HEADER_START: Final = b'{"format":'
_FOOTER_START: Final = b'{"counts":'


class PageCutter:
    """Collects lines into pages."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._size = 0

    def add(self, line: bytes) -> bytes | None:
        """Adds one line (with its newline); returns the page that it completes, or None."""
        self._lines.append(line)
        self._size += len(line)
        if crc32(line) & _CUT_MASK and self._size < PAGE_CUT and len(self._lines) < MAX_PAGE_LINES:
            return None
        return self.take()

    def take(self) -> bytes:
        """Returns the lines since the last page; may be empty."""
        page = b"".join(self._lines)
        self._lines = []
        self._size = 0
        return page


def is_header(page: bytes) -> bool:
    """Returns whether a page is the manifest's header."""
    return page.startswith(_HEADER_START)


def is_footer(page: bytes) -> bool:
    """Returns whether a page is the manifest's footer."""
    return page.startswith(_FOOTER_START)


def cut_pages(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the pages of a whole manifest, as a sender would have cut them."""
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
    """Returns offset and length of each page of a manifest, by digest. It needs about 150 bytes of memory for 60 entries."""
    positions: dict[ChunkDigest, tuple[int, int]] = {}
    offset = 0
    for page in cut_pages(lines):
        positions[chunk_digest_of(page)] = (offset, len(page))
        offset += len(page)
    return positions


_WORTH_ASKING: Final = 1024  # bytes of a page that were sent before


PageContent = bytes | int
"""A small content of a page: its bytes; or its size alone, where it was not read."""


class ContentNotRead(Exception):  # noqa: N818 - no error yet: the sender begins anew, and reads everything
    """The receiver lacks a content that the sender has not read."""


def held_bytes(contents: Iterable[PageContent]) -> int:
    """Returns how many bytes of contents are there."""
    return sum(len(content) for content in contents if isinstance(content, bytes))


class _OpenPage(msgspec.Struct):
    lines: bytes
    contents: Sequence[PageContent]
    held_bytes: int
    answered: bool = False
    lines_sent: bool = False
    files_asked: bool = False
    repeats: bool = False
    """Whether some of its contents seem to have been sent before: then its files are not sent before the vault has asked."""
    sent: int = 0
    """How many bytes of its contents were sent."""
    sent_before: int = 0
    """How many of them on earlier links."""

    @property
    def is_read(self) -> bool:
        """Whether all of its contents were read."""
        return all(isinstance(content, bytes) for content in self.contents)

    @property
    def size(self) -> int:
        """How many bytes all of its contents have."""
        return sum(content if isinstance(content, int) else len(content) for content in self.contents)


class OutgoingPages:
    """Tracks a sender's pages from `add` until they are stored: how each is opened, and the receiver's answers about it."""

    def __init__(self, out: Outgoing, first: int, *, knows_nothing: bool, has_previous: bool) -> None:
        self.held_bytes = 0
        self.count = first
        """How many there are so far."""
        self.stored = first
        """How many of them the receiver has stored."""
        self._out = out
        self._page_policy = AskPolicy(peer_knows_nothing=not has_previous)
        self._file_policy = AskPolicy(peer_knows_nothing=knows_nothing)
        self._pages: dict[int, _OpenPage] = {}
        self._sent = RepeatMemory()

    @property
    def open(self) -> int:
        """How many are not stored yet."""
        return len(self._pages)

    def add(self, lines: bytes, contents: Sequence[PageContent]) -> None:
        """Sends the next page, or its name."""
        number = self.count
        self.count += 1
        held = len(lines) + held_bytes(contents)
        page = self._pages[number] = _OpenPage(lines, contents, held, repeats=self._remember_contents(contents))
        self.held_bytes += held
        # No vault has this very header; and the vault needs it before it can continue the segments of an interrupted session.
        if is_header(lines) or self._page_policy.opening() is Opening.BYTES:
            self._send_lines(number, page)
            return
        self._out.send(PageOffer(number, chunk_digest_of(lines)))

    def name_again(self, number: int) -> None:
        """Names a page over a new link, as if it had not been sent before."""
        page = self._pages[number]
        self._pages[number] = _OpenPage(
            page.lines, page.contents, page.held_bytes, repeats=page.repeats, sent=page.sent, sent_before=page.sent
        )
        self._out.send(PageOffer(number, chunk_digest_of(page.lines)))

    def on_answer(self, answer: PageAnswer) -> None:
        """Handles whether the receiver has a page that was named. Raises ProtocolError where none was."""
        page = self._page(answer.number)
        if page.answered or page.lines_sent:
            raise ProtocolError("a page was answered twice")
        page.answered = True
        if answer.known:
            page.files_asked = bool(page.contents)
            self._page_policy.record_known()
        else:
            self._page_policy.record_parts(1, 1)
            self._send_lines(answer.number, page)

    def on_want(self, want: Want) -> None:
        """Sends the small contents of a page that the receiver lacks.

        Raises ProtocolError for a request that does not fit, ContentNotRead where one of them is not there.
        """
        page = self._page(want.page)
        if want.count != len(page.contents):
            raise ProtocolError("a request for files does not fit its page")
        missing = unpack_bits(want.missing, want.count)
        page.files_asked = False
        if page.repeats:
            self._sent.record_answer(known=sum(missing) < want.count)
        else:
            self._file_policy.record_parts(sum(missing), want.count)
        self._send_files(want.page, page, missing)

    def release(self, count: int) -> None:
        """Releases all pages below `count`, which are stored. Raises ProtocolError where they were not all sent."""
        if not self.stored <= count <= self.count:
            raise ProtocolError("the receiver says it stored pages that were not sent")
        for number in range(self.stored, count):
            page = self._pages.pop(number)
            self.held_bytes -= page.held_bytes
            self._out.counts.add_stored(page.size, page.sent, page.sent_before)
            if page.files_asked and not page.repeats:  # a vault that has all files of a page sends no request for it
                self._file_policy.record_known()
        self.stored = count

    def _send_lines(self, number: int, page: _OpenPage) -> None:
        page.lines_sent = True
        with_files = bool(page.contents) and page.is_read and not page.repeats and self._file_policy.opening() is Opening.BYTES
        page.files_asked = bool(page.contents) and not with_files
        self._out.send(Page(number, len(page.lines), with_files, proofs=b""))
        self._out.send_lines(page.lines)
        if with_files:
            self._send_files(number, page, [True] * len(page.contents))

    def _remember_contents(self, contents: Sequence[PageContent]) -> bool:
        """Remembers contents that are sent; returns whether so much was sent before that asking is worth a round trip."""
        again = 0
        for content in contents:
            if isinstance(content, int) or len(content) < LEAST_CONTENT:
                continue
            key = content_key(content)
            if self._sent.has(key):
                again += len(content)
            else:
                self._sent.add(key)
        return again >= _WORTH_ASKING

    def _send_files(self, number: int, page: _OpenPage, present: list[bool]) -> None:
        chosen: list[bytes] = []
        for content, wanted in zip(page.contents, present, strict=True):
            if wanted and isinstance(content, int):
                raise ContentNotRead
            if wanted and isinstance(content, bytes):
                chosen.append(content)
        size = sum(map(len, chosen))
        page.sent += size
        self._out.send(Files(number, len(present), pack_bits(present), size))
        self._out.send_data(chosen, size)

    def _page(self, number: int) -> _OpenPage:
        page = self._pages.get(number)
        if page is None:
            raise ProtocolError("the receiver speaks of a page that is not open")
        return page
