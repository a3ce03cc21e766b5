"""Surveys a source on another machine for a pull that is planned: its end there names entries, and reads no content.

Everything that comes is checked as what a hostile end may say: paths, their order, flags, times.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from evidencesync.acquire.dry_run import DryRun, Surveyed
from evidencesync.acquire.handshake import patience_of
from evidencesync.acquire.pull import RootCheck, accept_any
from evidencesync.acquire.remote_source import Frames, RemoteSource, decoded_message, wish_for
from evidencesync.connection.inbox import Inbox, SilenceTimer, alive_seconds
from evidencesync.connection.link import Link
from evidencesync.connection.progress import Progress
from evidencesync.connection.waiting import Standstill
from evidencesync.custody.manifest import WholeEntry
from evidencesync.errors import LinkLostError, MalformedDocumentError, PathEscapeError, ProtocolError, VersionError
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.number_format import seconds_text
from evidencesync.evidence.path import EvidencePath, to_json_fields, walk_order
from evidencesync.limits import MAX_STANDSTILL_SECONDS
from evidencesync.protocol.failures import error_of_far_end
from evidencesync.protocol.messages import PATIENT_VERSION, Alive, Failure, Message
from evidencesync.protocol.pull_messages import SourceAsk, SurveyAsk, SurveyedEntry, SurveyEnd, SurveyPage
from evidencesync.source.filters import FilterRules

_TOO_OLD: Final = "Update evidencesync there; or look with --agentless, which needs none there."


class FarSurvey:
    """A survey that the source's end makes."""

    def __init__(
        self, link: Link, path: bytes, rules: FilterRules, timeout_seconds: float, check_root: RootCheck = accept_any
    ) -> None:
        """Asks for it. `check_root`: as in a pull, called with the first entries.

        Raises UsageError, VersionError for an end that does not know how, and the error of that end.
        """
        self._link, self._lines, self._timeout = link, rules.lines(), timeout_seconds
        self._inbox: Inbox[Frames, Message] = Inbox(alive_seconds(timeout_seconds))
        self._before: bytes | None = None
        self._check_root, self._path = check_root, b""
        try:
            self._ask(wish_for(SurveyAsk, path, rules))
        except BaseException:
            self.close()
            raise

    def _ask(self, wish: SourceAsk) -> None:
        source = RemoteSource(self._link, Progress(), self._timeout)
        source.listen(self._inbox)
        source.ask(wish)
        try:
            offer = source.wait_for_offer(self._inbox, self._timeout)
        except VersionError as error:
            error.hint = _TOO_OLD
            raise
        self._path = offer.path
        if offer.version >= PATIENT_VERSION:
            source.send(patience_of(self._timeout, 0.0))

    def close(self) -> None:
        """Closes the link. Safe to call again."""
        self._inbox.close()
        self._link.close()

    def entries(self, seen: DryRun) -> Iterator[WholeEntry]:
        """Yields all entries, counted in `seen`. Raises ProtocolError, LinkLostError, and the error of the other end."""
        for message in self._messages():
            match message:
                case SurveyPage():
                    yield from map(seen.add, self._page(message))
                case SurveyEnd():
                    if self._before is None:
                        raise ProtocolError("the source's end has found nothing, not even the source")
                    for remark, count in message.remarks.items():
                        seen.tally.manifest.remark(remark, count)
                    return
                case Failure():
                    raise error_of_far_end(message, is_source=True)
                case _:
                    raise ProtocolError(f"the message {type(message).__name__} stands where entries of the source were expected")

    def _messages(self) -> Iterator[Message]:
        """Yields the messages that say something. Raises LinkLostError for an end that is silent, or says only that it works."""
        silence = SilenceTimer(lambda: self._inbox.local_arrived)
        standstill = Standstill("the source's end", MAX_STANDSTILL_SECONDS, self._timeout)
        while True:
            frames, _ = self._inbox.take(local=True, timeout_seconds=self._timeout)
            if frames is None:
                if silence.remaining(self._timeout) <= 0:
                    raise LinkLostError(f"the source's end has been silent for {seconds_text(round(self._timeout))}")
                continue
            silence.restart()
            for frame in frames:
                message = decoded_message(*frame)
                if isinstance(message, Alive):
                    standstill.go_on()
                    continue
                standstill.end()
                yield message

    def _page(self, page: SurveyPage) -> Iterator[Surveyed]:
        root = page.root
        if root is not None and self._before is not None:
            raise ProtocolError("the source's end describes the source twice")
        for row in page.entries:
            found = self._surveyed(row)
            if root is not None:
                entry = msgspec.structs.replace(found.entry, device=root[0], inode=root[1], ctime=root[2])
                self._check_root(self._path, entry)
                found, root = found._replace(entry=entry), None
            yield found

    def _surveyed(self, row: SurveyedEntry) -> Surveyed:
        path, kind, size, mtime, flag, number = row
        order = walk_order(path)
        if self._before is not None and order <= self._before:
            raise ProtocolError("the source's end names entries out of order")
        if number is not None and (flag != "skipped" or number >= len(self._lines)):
            raise ProtocolError("the source's end names a rule that nobody gave it")
        self._before = order
        try:
            EvidencePath(path)
            names = to_json_fields(path)
        except (PathEscapeError, MalformedDocumentError) as error:
            raise ProtocolError("the source's end names an impossible path") from error
        entry = Entry(kind, *names, size=size, mtime=mtime, flags=None if flag is None else [flag])
        return Surveyed(path, entry, None if number is None else self._lines[number])
