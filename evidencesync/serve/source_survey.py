"""Sends a survey of the offered source: names, types, sizes and times. No content is read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from evidencesync.acquire.dry_run import Surveyed, look
from evidencesync.acquire.reading import SourceTally
from evidencesync.connection.inbox import Inbox
from evidencesync.errors import LinkLostError, ProtocolError
from evidencesync.limits import KIB, MAX_SURVEYED
from evidencesync.protocol.messages import Alive, Message
from evidencesync.protocol.pull_messages import SurveyedEntry, SurveyEnd, SurveyPage
from evidencesync.source.filters import FilterRules
from evidencesync.source.root import SourceRoot

_PAGE: Final = 256 * KIB  # of paths in one message: the frame has room for the rest
_OVERHEAD: Final = 256  # what an entry takes in memory beside its path
SurveyMessage = SurveyPage | SurveyEnd


def send_survey(
    send: Callable[[Message], None],
    inbox: Inbox[Any, Message],
    silence_seconds: float,
    source: SourceRoot,
    rules: FilterRules,
) -> None:
    """Walks the source in a thread of its own, sends what is found, and returns when the other end has it and hangs up.

    Raises the errors of walking, LinkLostError for an end that hangs up before, ProtocolError for one that says anything.
    """

    def walk() -> None:
        try:
            for message, size in _messages(source, rules):
                inbox.put_local(message, size)
        except Exception as error:  # noqa: BLE001 - raised again in the thread that sends
            inbox.fail_local(error)

    threading.Thread(target=walk, name="source", daemon=True).start()
    is_over = False
    while True:
        try:
            item, message = inbox.take(local=not is_over, timeout_seconds=silence_seconds)
        except LinkLostError:
            if is_over:
                return
            raise
        if message is not None and not isinstance(message, Alive):
            raise ProtocolError(f"the message {type(message).__name__} is out of order in a survey")
        if message is None:
            send(Alive() if item is None else item)
            is_over = isinstance(item, SurveyEnd)


def _messages(source: SourceRoot, rules: FilterRules) -> Iterator[tuple[SurveyMessage, int]]:
    """Yields the messages of a survey, each with its size in memory."""
    tally, numbers = SourceTally(), {line: number for number, line in enumerate(rules.lines())}
    entries: list[SurveyedEntry] = []
    size, root = 0, None
    for found in look(source, rules, tally):
        first = found.entry
        if first.device is not None and first.inode is not None and first.ctime is not None:
            root = (first.device, first.inode, first.ctime)
        entries.append(_row(found, numbers))
        size += len(found.path) + _OVERHEAD
        if len(entries) == MAX_SURVEYED or size >= _PAGE:
            yield SurveyPage(entries, root), size
            entries, size, root = [], 0, None
    if entries:
        yield SurveyPage(entries, root), size
    yield SurveyEnd(tally.manifest.remarks), _OVERHEAD


def _row(found: Surveyed, numbers: dict[str, int]) -> SurveyedEntry:
    entry = found.entry
    flag = entry.flags[0] if entry.flags else None
    return found.path, entry.type, entry.size, entry.mtime, flag, None if found.rule is None else numbers.get(found.rule)
