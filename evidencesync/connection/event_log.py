"""Says what happens to a log for machines: one event, one line of JSON (or one message to syslog).

Who works gets an `Events`, and tells it what happens. It never raises: a log that cannot be written is said once, by
`EventSink.lost`, and no work ends for it. Texts of peers and names of evidence cannot break a line, begin another, or leave it:
each is in its safe form, and bounded.
"""

from __future__ import annotations

import os
import time
from typing import Final, Literal, Protocol

import msgspec

from evidencesync.errors import EvidenceSyncError, MalformedDocumentError
from evidencesync.evidence.display import is_clean, safe_text
from evidencesync.evidence.entry import Count, Entry, EntryType, Flag
from evidencesync.evidence.path import from_json_fields, to_json_fields
from evidencesync.evidence.utc_time import UtcTime, format_utc_time
from evidencesync.limits import MAX_LOG_LINE

Role = Literal["push", "pull", "watch", "verify", "restore", "vault", "source"]
EventName = Literal[
    "begun",
    "session",
    "entry",
    "difference",
    "skipped",
    "unreadable",
    "changed-while-read",
    "vanished",
    "waiting",
    "link-lost",
    "resumed",
    "published",
    "unchanged",
    "read",
    "appended",
    "restored",
    "verdict",
    "refused",
    "gap",
    "ended",
]
EntryKind = Literal["read", "new", "linked", "copied", "reflinked", "added", "removed", "changed", "metadata", "filtered"]
Reading = Literal["documents", "evidence", "rows", "room", "verdict"]

_TEXT: Final = 400  # characters of a text
_LEAST: Final = 72  # of each text, of an event that would be too long
_PATH: Final = 1000  # of a path that is shown cut
_LONGEST: Final = 2400  # bytes of a path that is written whole, in base64 at the worst

_NOBODY: Final = {"principal": None, "key": None, "peer": None}


class LogEvent(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One event. What says nothing is absent.

    `time`: when it was written. `role`: which end wrote it, `pid` in which process. `session`, `case`, `item`, `acquisition`:
    what it is about; `principal`, `key`: who has proved which key to the vault; `peer`: the other end, as this one knows it.
    `path`, `path_b64`: of an entry, as in a manifest; a very long one is `cut`, its safe form without its middle. `what`: the
    source, the vault, or what was read. `kind`: what became of an entry. `code`, `slug`, `message`: with what it ended.
    """

    time: UtcTime
    event: EventName
    role: Role
    pid: Count
    session: str | None = None
    case: str | None = None
    item: str | None = None
    acquisition: Count | None = None
    principal: str | None = None
    key: str | None = None
    peer: str | None = None
    what: str | None = None
    vault: str | None = None
    kind: EntryKind | None = None
    type: EntryType | None = None
    path: str | None = None
    path_b64: str | None = None
    cut: bool = False
    size: Count | None = None
    verdict: str | None = None
    files: Count | None = None
    bytes: Count | None = None
    sent: Count | None = None
    added: Count | None = None
    removed: Count | None = None
    changed: Count | None = None
    findings: Count | None = None
    lost: Count | None = None
    manifest_sha256: str | None = None
    tool: str | None = None
    code: Count | None = None
    slug: str | None = None
    message: str | None = None


class EventSink(Protocol):
    """Where events go."""

    @property
    def lost(self) -> int:
        """How many events could not be written."""

    def write(self, event: LogEvent) -> None:
        """Writes one. Raises nothing."""


class Events:
    """Tells a sink what happens in one run or session, and says each time what it is about. Used by any thread."""

    def __init__(self, sink: EventSink | None, role: Role, *, reads: bool = True, **about: object) -> None:
        """`reads`: entries are told as they are read. Not where a vault's end in this process tells what becomes of them."""
        self._sink = sink
        self._role: Role = role
        self._reads = reads
        self._about = {name: _safe(name, value) for name, value in about.items() if value is not None}

    def about(self, **more: object) -> Events:
        """The same, for something that is known more exactly: a session, an item, an acquisition."""
        return Events(self._sink, self._role, reads=self._reads, **{**self._about, **more})

    def of_vault(self) -> Events:
        """What a vault's end in this process tells."""
        return Events(self._sink, "vault")

    def record(self, event: EventName, **fields: object) -> None:
        """Writes an event."""
        if self._sink is not None:
            more = {name: _safe(name, value) for name, value in fields.items()}
            told = {name: value for name, value in {**self._about, **more}.items() if value is not None}
            self._sink.write(LogEvent(format_utc_time(time.time_ns()), event, self._role, os.getpid(), **told))  # type: ignore[arg-type]

    def entry(self, kind: EntryKind, path: bytes, entry: Entry, event: EventName = "entry") -> None:
        """Writes what became of an entry. Who sends it stands in the session's first event."""
        if self._sink is not None:
            self.record(event, kind=kind, type=entry.type, size=entry.size, **_NOBODY, **path_fields(path))

    def read(self, path: bytes, entry: Entry) -> None:
        """Writes that an entry was read, or was read and checked."""
        if self._reads and self._sink is not None:
            self.entry("read", path, entry)

    def refuse(self, error: EvidenceSyncError) -> None:
        """Writes the error with which a run or a session ends, and that it has ended."""
        self.record("refused", code=int(error.exit_code), slug=error.slug, message=error.message)
        self.record("ended", code=int(error.exit_code))

    def flag(self, path: bytes, flag: Flag) -> None:
        """Writes that an entry is not, or not wholly, there: the event has the name of the flag."""
        if self._sink is not None:
            self.record(flag, **_NOBODY, **path_fields(path))


NO_EVENTS: Final = Events(None, "push")
"""Of a run without a log."""


def path_fields(path: bytes) -> dict[str, str | bool | None]:
    """The fields for a path, as a manifest has them; of a very long one, or an impossible one, the safe form, cut."""
    try:
        text, encoded = to_json_fields(path)
    except MalformedDocumentError:
        text = encoded = None
    if len(path) > _LONGEST or (text is None and encoded is None):
        return {"path": _cut(safe_text(path), _PATH), "cut": True}
    return {"path": text, "path_b64": encoded}


def line_of(event: LogEvent) -> bytes:
    """The JSON of an event, on one line, without its end: of at most MAX_LOG_LINE bytes, all of them ASCII."""
    line = _ascii(event)
    if len(line) <= MAX_LOG_LINE:
        return line
    fields = {name: _cut(value, _LEAST) for name, value in msgspec.structs.asdict(event).items() if isinstance(value, str)}
    if event.path is not None or event.path_b64 is not None:
        fields["path"] = _cut(safe_text(from_json_fields(event.path, event.path_b64)), _PATH)
    return _ascii(msgspec.structs.replace(event, **{**fields, "path_b64": None, "cut": True}))


def _cut(text: str, most: int) -> str:
    """A text in so many ASCII characters at most; of a longer one the beginning and the end."""
    shown = text.encode("ascii", "backslashreplace").decode()
    half = most // 2 - 2
    return shown if len(shown) <= most else f"{shown[:half]}...{shown[-half:]}"


def _ascii(event: LogEvent) -> bytes:
    """In ASCII, because a syslog daemon may make of other letters what it likes."""
    line = msgspec.json.encode(event)
    if line.isascii():
        return line
    return "".join(map(_escaped, line.decode())).encode()


def _escaped(character: str) -> str:
    if character.isascii():
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _safe(name: str, value: object) -> object:
    """A text that may be in a document is as it is, and no longer than it may be. A path is right already."""
    if not isinstance(value, str) or name in ("path", "path_b64"):
        return value
    return value if len(value) <= _TEXT and is_clean(value) else safe_text(value, _TEXT)
