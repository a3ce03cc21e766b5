"""Gives a push access to its source, on this machine or elsewhere, and refuses a source of which filters leave nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from evidencesync.acquire.earlier import EarlierFiles
from evidencesync.acquire.handshake import Handshake
from evidencesync.acquire.reading import FileKept, PageRead, SourceEvent, SourceReading, SourceTally, StreamBegun, StreamEnded
from evidencesync.acquire.request import PushRequest
from evidencesync.acquire.signing import Provenance, pushed_from
from evidencesync.connection.progress import Progress
from evidencesync.custody.documents import SshPeer
from evidencesync.custody.wholeness import ManifestTally
from evidencesync.delta.chunker import Segment
from evidencesync.errors import EvidenceSyncError, NothingLeftError
from evidencesync.evidence.number_format import count_text
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.files.holes import data_bytes
from evidencesync.protocol.outgoing_segments import StoredBefore
from evidencesync.protocol.sender import Sender
from evidencesync.source.device import geometry_of
from evidencesync.source.filters import FilterRules
from evidencesync.source.reader import open_file
from evidencesync.source.root import SourceRoot, resolve_source
from evidencesync.source.walker import Found, walk

Emit = Callable[[SourceEvent, int], None]


class Reading(Protocol):
    """One reading of a source. `run` is called once, in a thread of its own; afterwards `tally` is complete."""

    tally: SourceTally

    def run(self) -> None:
        """Reads and emits everything."""


class SourceAccess(Protocol):
    """Where a push gets its evidence. `is_read_once`: it cannot be read again, and is not begun before the vault is ready."""

    @property
    def is_read_once(self) -> bool:
        """Whether it must be read once only."""

    def reading(self, emit: Emit, progress: Progress, now: Callable[[], UtcTime], earlier: EarlierFiles | None = None) -> Reading:
        """Returns a reading that was not begun yet. `earlier`: files that need not be read, where that can be known."""

    def drop_stored(self, segments: int) -> None:
        """Is told that the vault has stored so many segments: where they are read once only, their bytes need not be kept."""

    def provenance(self, handshake: Handshake, peer: SshPeer | None) -> Provenance:
        """Returns the provenance for the manifest. `peer` is the vault's SSH server, if there is one."""

    def count(self, progress: Progress, is_over: Callable[[], bool]) -> None:
        """Counts what there is to read, for a display. Raises errors of walking, which the reading will record."""


class LocalSourceAccess:
    """A folder or a file on this machine. Raises SourceNotFoundError or UsageError."""

    is_read_once = False

    def __init__(self, request: PushRequest) -> None:
        self._source = msgspec.structs.replace(resolve_source(request.source), file_system=request.file_system)
        self._rules = request.rules
        self._request = request

    def reading(self, emit: Emit, progress: Progress, now: Callable[[], UtcTime], earlier: EarlierFiles | None = None) -> Reading:
        """See `SourceAccess`."""
        reading = SourceReading(
            self._source,
            self._rules,
            emit,
            progress,
            now,
            on_read_error=self._request.on_read_error,
            retries_changed=self._request.retries_changed,
        )
        reading.earlier = earlier
        return reading

    def drop_stored(self, segments: int) -> None:
        """See `SourceAccess`."""

    def provenance(self, handshake: Handshake, peer: SshPeer | None) -> Provenance:
        """See `SourceAccess`."""
        return pushed_from(self._source, self._request, handshake, peer)

    def count(self, progress: Progress, is_over: Callable[[], bool]) -> None:
        """See `SourceAccess`."""
        count_source(self._source, self._rules, progress, is_over)


_BLOCK: Final = 512  # st_blocks counts these, whatever the file system's own blocks are


def count_source(source: SourceRoot, rules: FilterRules, progress: Progress, is_over: Callable[[], bool]) -> None:
    """Counts what there is to read on this machine. Raises the errors of walking."""
    files = total = holes = 0
    if source.is_device:
        progress.total_files, progress.total_bytes = 1, geometry_of(source).size
        return
    for found in walk(source, rules, gentle=True):
        if found.entry_type == "file" and found.stat is not None and found.flag is None:
            files += 1
            data = _bytes_of_data(found, found.stat)
            total, holes = total + data, holes + found.stat.st_size - data
        if is_over():
            return
    progress.total_files, progress.total_bytes, progress.total_hole_bytes = files, total, holes


def _bytes_of_data(found: Found, status: os.stat_result) -> int:
    """Returns the size of a file without its holes, as the reading will find them; all of it where they cannot be looked for."""
    size = status.st_size
    if status.st_blocks * _BLOCK >= size:
        return size
    try:
        with contextlib.closing(open_file(found)) as opened:
            return data_bytes(opened.fd, size)
    except (OSError, EvidenceSyncError):
        return size  # the reading records the error


def add_to_sender(sender: Sender, item: SourceEvent) -> bool:
    """Passes one item to the sender; returns whether there will be more."""
    match item:
        case PageRead():
            sender.add_page(item.lines, item.contents)
        case Segment():
            sender.add_segment(item)
        case StoredBefore():
            sender.add_stored_before(item)
        case StreamBegun():
            sender.open_stream(item.size, item.path)
        case StreamEnded():
            sender.close_stream(item.size, item.blake3)
        case FileKept():
            sender.keep_stream(item.size, item.blake3, item.path)
        case _:
            return False
    return True


def leaves_nothing(rules: FilterRules, tally: ManifestTally, listed_folders: int = 0) -> bool:
    """Returns whether no file, link or special file is in a source, or filters or a list leave none. Folders count as nothing.

    It is False where something is there that was not taken for another reason, and where a folder that a list names is there.
    """
    if tally.taken:
        return False
    if rules.listed is not None:
        return not listed_folders or (not rules.is_empty and "skipped" in tally.flags)
    return not tally.flags or (not rules.is_empty and "skipped" in tally.flags)


def refuse_empty(rules: FilterRules, tally: ManifestTally, listed_folders: int = 0) -> None:
    """Raises NothingLeftError for a source without a file, and where filters or a list have left nothing."""
    if not leaves_nothing(rules, tally, listed_folders):
        return
    left_out = tally.flags.get("skipped", 0)
    if rules.listed is not None and (rules.is_empty or not left_out):
        raise NothingLeftError(
            f"nothing that the list of files names is in the source ({count_text(rules.listed.count, 'name')})",
            hint=rules.listed.hint,
        )
    if not left_out:
        raise NothingLeftError("the source is empty: there is no file in it", hint=_EMPTY)
    raise NothingLeftError(
        f"the filters leave nothing of the source but folders (left out: {left_out})",
        hint="See what they mean with --dry-run. To acquire nothing on purpose, add --allow-empty.",
    )


_EMPTY: Final = (
    "Is the disk mounted that should be there? findmnt lists what is. To acquire an empty folder on purpose, add --allow-empty."
)
