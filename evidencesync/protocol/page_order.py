"""The order of pages at the receiving end: which are open, how far each is, and which small files are due."""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

from evidencesync.errors import LimitExceededError, ProtocolError
from evidencesync.limits import MAX_OPEN_PAGES
from evidencesync.protocol.bitmap import pack_bits
from evidencesync.protocol.messages import Files, Page, PageAnswer, PageOffer, PagesStored, Want
from evidencesync.protocol.window import Window


class _Stage(Enum):
    NAMED = auto()
    LACKED = auto()
    HERE = auto()


class PageOrder:
    """Pages from their announcement until they are stored. Raises ProtocolError or LimitExceededError for any out of order."""

    def __init__(self, next_page: int, window: Window) -> None:
        self.next_page = next_page
        self._window = window
        self._ended = False
        self._stages: dict[int, _Stage] = {}
        self._files_due: dict[int, deque[bytes | None]] = {}  # what was asked for; None for all of a page's, unasked

    # What the sender does.

    def name(self, message: PageOffer) -> None:
        """A page is named."""
        self._begin(message.number, _Stage.NAMED)

    def announce(self, head: Page) -> None:
        """The lines of a page follow."""
        if head.number in self._stages:
            self._move(head.number, {_Stage.LACKED}, _Stage.HERE)
        else:
            self._begin(head.number, _Stage.HERE)
        if head.with_files:
            self._files_due[head.number] = deque([None])
        self._window.hold_page(head.number, head.size)

    def announce_files(self, head: Files) -> None:
        """Files answer one request, each once and with all that was asked for: nobody keeps what he did not want."""
        due = self._files_due.get(head.page)
        if not due:
            raise ProtocolError("files that nobody asked for")
        asked = due.popleft()
        if head.present != (pack_bits([True] * head.count) if asked is None else asked):
            raise ProtocolError("files that are not those that were asked for")
        self._window.hold_page(head.page, head.size)

    def end(self) -> None:
        """No page may begin any more."""
        self._ended = True

    # What the vault answers.

    def answer(self, number: int, *, known: bool) -> PageAnswer:
        """Whether the vault has a named page."""
        self._move(number, {_Stage.NAMED}, _Stage.HERE if known else _Stage.LACKED)
        return PageAnswer(number, known)

    def want_files(self, page: int, missing: list[bool]) -> Want:
        """Small contents of a page are asked for."""
        packed = pack_bits(missing)
        self._files_due.setdefault(page, deque()).append(packed)
        return Want(page, len(missing), packed)

    def stored(self, count: int) -> PagesStored:
        """All pages below `count` are stored."""
        for number in [number for number in self._stages if number < count]:
            del self._stages[number]
            self._files_due.pop(number, None)
            self._window.release_page(number)
        return PagesStored(count)

    def _begin(self, number: int, stage: _Stage) -> None:
        if self._ended or number != self.next_page:
            raise ProtocolError("a page is out of order")
        if len(self._stages) >= MAX_OPEN_PAGES:
            raise LimitExceededError("too many pages at once")
        self.next_page += 1
        self._stages[number] = stage

    def _move(self, number: int, allowed: set[_Stage], stage: _Stage) -> None:
        if self._stages.get(number) not in allowed:
            raise ProtocolError("a page is out of order")
        self._stages[number] = stage
