"""Checks what a manifest says of a capture, a content that was read once out of a pipe, and says it in words."""

from __future__ import annotations

import shlex
from typing import Final

from evidencesync.custody.text import check_utc_time
from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.capture import Capture, CaptureEnd
from evidencesync.evidence.display import is_clean
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.utc_time import parse_utc_time
from evidencesync.limits import MAX_COMMAND

_WHAT: Final = "a captured entry"
_ENDS: Final[dict[CaptureEnd, str]] = {
    "end-of-data": "",
    "idle": "nothing more came, and it was ended",
    "link-lost": "the SSH connection was lost",
    "left-open": "the command was over, and something that it had started kept its output open",
    "read-error": "the system would not read on",
    "interrupted": "a person has ended it",
}


def check_capture(entry: Entry, capture: Capture) -> None:
    """Checks the capture of an entry. Raises MalformedDocumentError.

    1. Only a file with content can have been captured.
    2. The times exist, and are in order.
    3. A command is stated for what a command has printed, in one of its two forms, and for nothing else.
    4. What did not come whole is flagged: nobody may take it for complete.
    """
    if entry.type != "file" or entry.size is None or entry.blake3 is None:  # 1.
        raise MalformedDocumentError(f"a {entry.type} without content cannot have been captured")
    check_utc_time(capture.started, _WHAT)  # 2.
    check_utc_time(capture.ended, _WHAT)
    if parse_utc_time(capture.ended) < parse_utc_time(capture.started):
        raise MalformedDocumentError(f"{_WHAT} ended before it was started")
    _check_command(capture)  # 3.
    if not capture.is_whole(entry.size) and "unreadable" not in (entry.flags or ()):  # 4.
        raise MalformedDocumentError(f"{_WHAT} did not come whole, and no flag says so")


def origin_words(capture: Capture) -> str:
    """Returns where a captured content came from, for people. What a document says in it is not safe to show yet."""
    if not capture.is_of_command:
        return "standard input"
    command = capture.shell_command if capture.shell_command is not None else shlex.join(capture.arguments or ())
    return f"{capture.source.replace('-', ' ')} of: {command}"


def lacking_words(capture: Capture, size: int) -> str:
    """Returns why a captured content may not be all that was to come, for people; empty where it is whole."""
    if capture.is_whole(size):
        return ""
    said = [_ENDS[capture.end]]
    if capture.signal is not None:
        said.append(f"the command was ended by signal {capture.signal}")
    elif capture.exit_status:
        said.append(f"the command ended with exit status {capture.exit_status}")
    elif capture.is_of_command and capture.exit_status is None and capture.end == "end-of-data":
        said.append("it is not known how the command ended")
    if capture.expected_bytes not in (None, size):
        said.append(f"{capture.expected_bytes:,} bytes were expected, and {size:,} came")
    if capture.dropped_bytes:
        said.append(f"{capture.dropped_bytes:,} more bytes were not kept")
    return "; ".join(filter(None, said))


def _check_command(capture: Capture) -> None:
    words = [capture.shell_command] if capture.shell_command is not None else capture.arguments or []
    is_stated_twice = capture.shell_command is not None and capture.arguments is not None
    if is_stated_twice or bool(words) != capture.is_of_command:
        raise MalformedDocumentError(f"{_WHAT} states no command, or one that cannot be")
    if sum(map(len, words)) > MAX_COMMAND or not all(map(is_clean, words)):
        raise MalformedDocumentError(f"{_WHAT} states a command that is too long, or not plain text")
    if not capture.is_of_command and (capture.exit_status is not None or capture.signal is not None):
        raise MalformedDocumentError(f"{_WHAT} states how a command ended, and no command")
