"""Asks a far vault for parts of files, many ahead, and gives them in that order, over as many links as it takes."""

from __future__ import annotations

import time
from collections import deque
from itertools import islice
from typing import BinaryIO, Final, NamedTuple

from evidencesync.acquire.connect import not_regained, pause_seconds
from evidencesync.acquire.reading_session import FarReader
from evidencesync.connection.event_log import NO_EVENTS, Events
from evidencesync.connection.waiting import is_of_the_way
from evidencesync.delta.patch import OlderBytes
from evidencesync.delta.refine import piece_key
from evidencesync.errors import EvidenceSyncError, LinkLostError, ProtocolError, VersionError
from evidencesync.evidence.display import safe_text
from evidencesync.files.temporary import writing_temporary
from evidencesync.limits import KIB, MAX_EVIDENCE_AHEAD, MAX_EVIDENCE_PARTS, MAX_EVIDENCE_PATHS
from evidencesync.protocol.evidence_messages import EvidenceAsk, EvidenceParts, LackKind, Patch, PatchAsk, Rows, RowsAsk
from evidencesync.protocol.messages import ASKING_VERSION, PATCH_VERSION, Message

_OF_A_PART: Final = 4096  # bytes that a part counts for besides its own: so there are never many thousands on the way
_LEAST_AHEAD: Final = 512 * KIB  # two parts


class FilePart(NamedTuple):
    """A part of a file."""

    path: bytes
    offset: int
    length: int
    older: OlderBytes | None = None
    """What it is to be patched from, where the vault's end knows how."""


class Came(NamedTuple):
    """The bytes of a part, and how many of them were not sent, because they are those of the older ones."""

    data: memoryview
    older: int = 0


class Lack(NamedTuple):
    """Why the vault's end does not send a part; the text is safe to show."""

    kind: LackKind
    text: str


class EvidenceStream:
    """The parts of files of one acquisition. Used by one thread. Nothing that it gives was compared with anything.

    Every method that talks to the vault raises what it says is wrong, ProtocolError, and LinkLostError where a link does not come
    back.
    """

    def __init__(self, far: FarReader, case: str, item: str, acquisition: int, retries: int) -> None:
        """`retries`: attempts in a row to get a lost link back. Raises VersionError for a vault's end that shows no evidence."""
        self.received = 0
        """Bytes of parts that have come."""
        self.interruptions = 0
        self.is_lost = False
        """Whether the link is lost, and another one is tried."""
        self._wire_before = 0
        self.events: Events = NO_EVENTS
        """Where lost links are recorded, for a log."""
        self._far = far
        self._place = case, item, acquisition
        self._retries = retries
        self._attempts = 0
        self._session = far.session
        self._due: deque[FilePart] = deque()  # asked for, or to be asked for, and not come
        self._sent = 0  # so many of them were asked for over this link
        self._came: deque[tuple[FilePart, Came | Lack]] = deque()
        self._held = 0
        self._most = MAX_EVIDENCE_AHEAD
        if self._session.welcome.version < ASKING_VERSION:
            tool = safe_text(self._session.welcome.tool, 60)
            raise VersionError(
                f"the vault's evidencesync ({tool}) cannot show evidence from afar",
                hint="Update it there, or restore on the vault's machine.",
            )

    def close(self) -> None:
        """Closes the link."""
        self._session.close()

    @property
    def wire_received(self) -> int:
        """Bytes received, over all links."""
        return self._wire_before + self._session.wire_received

    @property
    def has_room(self) -> bool:
        """Whether it is time to ask for more: about half of what was asked for has come, so many parts fit into one message."""
        return self._held <= self._most // 2

    @property
    def is_full(self) -> bool:
        """Whether no further part may be asked for."""
        return self._held > self._most * 3 // 4

    def limit_ahead(self, limit_rate: int) -> None:
        """Asks for no more at once than a second brings at a limited rate: what is asked for comes as fast as the line can."""
        self._most = min(max(limit_rate, _LEAST_AHEAD), MAX_EVIDENCE_AHEAD)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is due, and nothing that came waits to be taken."""
        return not self._due and not self._came

    def ask(self, part: FilePart) -> None:
        """Adds a part; `flush`, or the next `take`, asks for it."""
        self._due.append(part)
        self._held += part.length + _OF_A_PART

    def flush(self) -> None:
        """Asks for what was added. A link that is lost is no error here: the next answer is waited for over another one."""
        while self._sent < len(self._due):
            count, question = self._next_question()
            if not self._session.try_ask(question):
                return
            self._sent += count

    def keep_alive(self) -> None:
        """Keeps the link while this end works for long without a question. To be called often."""
        self._session.keep_alive()

    @property
    def may_patch(self) -> bool:
        """Whether the vault's end sends what differs from older bytes."""
        return self._session.welcome.version >= PATCH_VERSION

    @property
    def piece_key(self) -> bytes:
        """The key of the digests of pieces, which is another one in each session."""
        return piece_key(self._far.request.session)

    def take(self) -> Came | Lack:
        """Returns what has come for the oldest part."""
        while not self._came:
            self._receive()
        part, found = self._came.popleft()
        self._held -= part.length + _OF_A_PART
        return found

    def take_first(self, part: FilePart) -> Came | Lack:
        """Returns a part before all that was asked for earlier, which is kept meanwhile: `MAX_EVIDENCE_AHEAD` bytes at most."""
        while self._due:
            self._receive()
        self._due.append(part)
        while self._due:
            self._receive()
        return self._came.pop()[1]

    def fetch_rows(self, acquisition: int, file: BinaryIO) -> int:
        """Fetches the rows of chunks of an acquisition into a temporary file; returns their size, 0 where there are none."""
        while True:
            try:
                self._session.ask(RowsAsk(*self._place[:2], acquisition))
                size = self._session.expect(Rows).size
                with writing_temporary():
                    file.seek(0)
                    file.truncate()
                for block in self._session.data(size):
                    with writing_temporary():
                        file.write(block)
                with writing_temporary():
                    file.flush()
            except LinkLostError as lost:
                self._reconnect(lost)
            else:
                return size

    def _next_question(self) -> tuple[int, EvidenceAsk | PatchAsk]:
        """Returns how many parts are asked for at once, and how: those that are patched each by itself."""
        parts: list[tuple[bytes, int, int]] = []
        size = 0
        for path, offset, length, older in islice(self._due, self._sent, self._sent + MAX_EVIDENCE_PARTS):
            if older is not None and self.may_patch:
                if not parts:
                    return 1, PatchAsk(*self._place, path, offset, length, older.names)
                break
            size += len(path)
            if parts and size > MAX_EVIDENCE_PATHS:
                break
            parts.append((path, offset, length))
        return len(parts), EvidenceAsk(*self._place, parts)

    def _receive(self) -> None:
        """Waits for the next answer, over another link where this one is lost."""
        while True:
            self.flush()
            try:
                self._take_answer()
            except LinkLostError as lost:
                self._reconnect(lost)
            else:
                self._attempts = 0
                return

    def _take_answer(self) -> None:
        """Takes an answer whole or not at all: what a lost link has cut off is asked for again."""
        message: Message = self._session.expect(EvidenceParts, Patch)
        if isinstance(message, Patch):
            self._take_patch(message)
            return
        if not isinstance(message, EvidenceParts):
            raise ProtocolError("the vault's end answers something else than was asked")
        parts = list(islice(self._due, message.count))
        if message.count > self._sent or (self.may_patch and any(part.older is not None for part in parts)):
            raise ProtocolError("the vault's end sends evidence that was not asked for")
        lacks = {place: Lack(kind, safe_text(text, 300)) for place, kind, text in message.lacks}
        if len(lacks) != len(message.lacks) or any(place >= message.count for place in lacks):
            raise ProtocolError("the vault's end lacks evidence that was not asked for")
        size = sum(part.length for place, part in enumerate(parts) if place not in lacks)
        data = memoryview(b"".join(self._session.data(size)))
        for place, part in enumerate(parts):
            if place in lacks:
                self._came.append((part, lacks[place]))
            else:
                self._came.append((part, Came(data[: part.length])))
                data = data[part.length :]
            self._due.popleft()
        self._sent -= message.count
        self.received += size

    def _take_patch(self, message: Patch) -> None:
        part = self._due[0] if self._sent else None
        if part is None or part.older is None or (message.lack is not None and (message.size or message.runs)):
            raise ProtocolError("the vault's end sends evidence that was not asked for")
        if message.lack is not None:
            kind, text = message.lack
            self._came.append((part, Lack(kind, safe_text(text, 300))))
        else:
            fresh = memoryview(b"".join(self._session.data(message.size)))
            data = part.older.patched(message.runs, fresh, part.length)
            self._came.append((part, Came(memoryview(data), part.length - len(fresh))))
        self._due.popleft()
        self._sent -= 1
        self.received += message.size

    def _reconnect(self, lost: LinkLostError) -> None:
        """Makes another session with the same vault; raises where that does not succeed."""
        reason: EvidenceSyncError = lost
        self._session.close()
        self._sent = 0
        self.interruptions += 1
        self.is_lost = True
        self.events.record("link-lost")
        while self._attempts < self._retries:
            time.sleep(pause_seconds(self._attempts))
            self._attempts += 1
            try:
                session = self._far.connected_again()
            except EvidenceSyncError as error:
                if not is_of_the_way(error):
                    raise
                reason = error
                continue
            self._wire_before, self._session = self.wire_received, session
            self.is_lost = False
            self.events.record("resumed")
            return
        raise not_regained(self._attempts, reason) from lost
