"""The pages that a sender has open: how each is opened, and what is answered about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from evidencesync.errors import ProtocolError
from evidencesync.evidence.digest import chunk_digest_of
from evidencesync.protocol.flow import LEAST_CONTENT, AskPolicy, Opening, Repeats, content_key
from evidencesync.protocol.messages import Files, Page, PageAnswer, PageOffer, Want
from evidencesync.protocol.outgoing import Outgoing
from evidencesync.protocol.packing import pack_bits, unpack_bits
from evidencesync.protocol.pages import is_header

_WORTH_ASKING: Final = 1024  # bytes of a page that were sent before


@dataclass(slots=True)
class _OpenPage:
    lines: bytes
    contents: list[bytes]
    held_bytes: int
    answered: bool = False
    lines_sent: bool = False
    files_asked: bool = False
    repeats: bool = False
    """Whether some of its contents seem to have been sent before: its files are asked for, whatever the vault had."""


class OutgoingPages:
    """Pages from `add` until they are stored."""

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
        self._sent = Repeats()

    @property
    def open(self) -> int:
        """How many are not stored yet."""
        return len(self._pages)

    def add(self, lines: bytes, contents: list[bytes]) -> None:
        """Opens the next page."""
        number = self.count
        self.count += 1
        held = len(lines) + sum(map(len, contents))
        page = self._pages[number] = _OpenPage(lines, contents, held, repeats=self._remember_contents(contents))
        self.held_bytes += held
        # No vault has this very header; and it has to know whose attempt this is before a segment is gone on with.
        if is_header(lines) or self._page_policy.opening() is Opening.BYTES:
            self._send_lines(number, page)
            return
        self._out.send(PageOffer(number, chunk_digest_of(lines)))

    def name_again(self, number: int) -> None:
        """Names a page over a new link, as if nothing had been said of it."""
        page = self._pages[number]
        self._pages[number] = _OpenPage(page.lines, page.contents, page.held_bytes, repeats=page.repeats)
        self._out.send(PageOffer(number, chunk_digest_of(page.lines)))

    def on_answer(self, answer: PageAnswer) -> None:
        """Whether the receiver has a page that was named. Raises ProtocolError where none was."""
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
        """Which small contents of a page the receiver lacks. Raises ProtocolError for a request that does not fit its page."""
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
        """All pages below `count` are stored. Raises ProtocolError where they were not all sent."""
        if not self.stored <= count <= self.count:
            raise ProtocolError("the receiver says it stored pages that were not sent")
        for number in range(self.stored, count):
            page = self._pages.pop(number)
            self.held_bytes -= page.held_bytes
            if page.files_asked and not page.repeats:  # nothing was wanted: no answer is what a vault says that has them all
                self._file_policy.record_known()
        self.stored = count

    def _send_lines(self, number: int, page: _OpenPage) -> None:
        page.lines_sent = True
        with_files = bool(page.contents) and not page.repeats and self._file_policy.opening() is Opening.BYTES
        page.files_asked = bool(page.contents) and not with_files
        self._out.send(Page(number, len(page.lines), with_files, proofs=b""))
        self._out.send_lines(page.lines)
        if with_files:
            self._send_files(number, page, [True] * len(page.contents))

    def _remember_contents(self, contents: list[bytes]) -> bool:
        """Remembers what is sent; whether so much of it was sent before that asking is worth a round trip."""
        again = 0
        for content in contents:
            if len(content) < LEAST_CONTENT:
                continue
            key = content_key(content)
            if self._sent.has(key):
                again += len(content)
            else:
                self._sent.add(key)
        return again >= _WORTH_ASKING

    def _send_files(self, number: int, page: _OpenPage, present: list[bool]) -> None:
        chosen = [content for content, wanted in zip(page.contents, present, strict=True) if wanted]
        size = sum(map(len, chosen))
        self._out.send(Files(number, len(present), pack_bits(present), size))
        self._out.send_data(chosen, size)

    def _page(self, number: int) -> _OpenPage:
        page = self._pages.get(number)
        if page is None:
            raise ProtocolError("the receiver speaks of a page that is not open")
        return page
