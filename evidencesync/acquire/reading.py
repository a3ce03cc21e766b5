"""Reads a source once, from its first entry to its last, and emits pages and segments in the order in which they are sent.

One pass: the bytes that are hashed for the manifest are the bytes that are cut and sent. A file that changed meanwhile may be
read again: then it is sent again, and what was sent before belongs to no entry. Small files come with the page of manifest
lines that lists them; larger ones come as a stream of segments before their line. The manifest's header is not made here: its
content is known only when the vault has answered, and reading does not wait for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from evidencesync.acquire.earlier import EarlierFiles, KnownFile
from evidencesync.acquire.streaming import ContentReader
from evidencesync.connection.event_log import NO_EVENTS, Events
from evidencesync.connection.progress import Progress
from evidencesync.custody.manifest import encode_entry_lines, encode_footer
from evidencesync.custody.wholeness import ManifestTally, SourceState
from evidencesync.delta.chunker import Segment
from evidencesync.errors import SourceGapsError, SourceReadError
from evidencesync.evidence.digest import Blake3Digest, blake3_of, sha256_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry, Flag, ReadError
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.limits import MAX_FILE_SIZE, MIB, SMALL_FILE
from evidencesync.protocol.outgoing_segments import StoredBefore
from evidencesync.protocol.pages import PageContent, PageCutter, held_bytes
from evidencesync.source.details import Details
from evidencesync.source.device import find_device, open_device
from evidencesync.source.filters import FilterRules
from evidencesync.source.metadata import EntryMaker
from evidencesync.source.reader import FolderSnapshots, look_again, open_file, read_small
from evidencesync.source.root import SourceRoot
from evidencesync.source.salvage import MEDIUM_ERRORS, OnReadError
from evidencesync.source.walker import Found, walk

MAX_LISTED_FLAGS: Final = 1000  # paths of each flag
RETRIES_CHANGED: Final = 2  # where nothing else was asked for
CHEAP_TO_READ_AGAIN: Final = 16 * MIB


class PageRead(msgspec.Struct, frozen=True):
    """Whole manifest lines, and the contents of the small files among them."""

    lines: bytes
    contents: list[PageContent]


class StreamBegun(msgspec.Struct, frozen=True):
    """A larger file begins: its size when it was opened, and its path."""

    size: int
    path: bytes


class StreamEnded(msgspec.Struct, frozen=True):
    """The larger file is read to its end."""

    size: int
    blake3: Blake3Digest


class FileKept(msgspec.Struct, frozen=True):
    """A larger file is not read: it looks as it did in the previous acquisition."""

    size: int
    blake3: Blake3Digest
    path: bytes


class SourceRead(msgspec.Struct, frozen=True):
    """Everything was read; the manifest's last page has been given."""


SourceEvent = PageRead | StreamBegun | Segment | StoredBefore | StreamEnded | FileKept | SourceRead


class SourceTally(msgspec.Struct):
    """Counts what was read: the manifest's own counts, and the first few flagged paths, to be shown.

    `changed_folders` counts folders in which names came or went after they were listed. Their lines had been sent by then: so the
    `acquired` record states the number.
    """

    manifest: ManifestTally = msgspec.field(default_factory=ManifestTally)
    events: Events = NO_EVENTS
    """Where it is told of entries: of those that are flagged; of all of them where no vault's end does it in this process."""
    flagged: list[tuple[bytes, Flag]] = msgspec.field(default_factory=list)
    _listed: dict[Flag, int] = msgspec.field(default_factory=dict)
    changed_folders: int = 0
    not_there: set[bytes] = msgspec.field(default_factory=set)
    """The first few names of a list that are not there, and folders on the way to them."""
    not_there_count: int = 0
    listed_folders: int = 0
    """Folders that a list names, and that are there."""
    has_begun: bool = False
    """Whether a file or device was found, whose reading may take long."""
    is_whole: bool = False
    """Whether everything was read."""
    bad_bytes: int = 0
    """Bytes that could not be read, of contents that are there: each has its range in the manifest."""
    bad_ranges: int = 0
    partial: int = 0
    """Contents that have such ranges."""
    lacking: list[tuple[bytes, str]] = msgspec.field(default_factory=list)
    """Captures that may not be all that was to come, and why: for people."""
    read_again: int = 0
    """How often a file was read once more because it had changed."""

    @property
    def state(self) -> SourceState:
        """How whole it is. What a filter left out is no gap."""
        remarks = {**self.manifest.remarks, "folder-changed-while-read": self.changed_folders}
        return SourceState.of(self.manifest.flags, remarks)

    def add(self, path: bytes, entry: Entry) -> None:
        """Counts an entry of the manifest."""
        self.manifest.add(entry)
        if not entry.flags:
            self.events.read(path, entry)

    def add_gaps(self, gaps: Iterable[ReadError]) -> None:
        """Counts the ranges of a content that could not be read."""
        for gap in gaps:
            self.bad_ranges += 1
            self.bad_bytes += gap.length

    def add_not_there(self, path: bytes) -> None:
        """Counts a name of a list that is not there, or a folder on the way to one."""
        self.not_there_count += 1
        if len(self.not_there) < MAX_LISTED_FLAGS:
            self.not_there.add(path)

    def add_flag(self, path: bytes, flag: Flag) -> None:
        """Keeps the first paths of each flag: many skipped ones must not hide one that could not be read."""
        self.events.flag(path, flag)
        listed = self._listed.get(flag, 0)
        if listed < MAX_LISTED_FLAGS:
            self._listed[flag] = listed + 1
            self.flagged.append((path, flag))


class _Content(msgspec.Struct, frozen=True, gc=False):
    """One content as the manifest will list it. `found` is the entry that was read, `data` the bytes of a small one."""

    found: Found
    size: int
    blake3_hex: str
    sha256_hex: str
    data: bytes | None
    details: Details | None
    changed: bool
    noatime: bool
    read_errors: Sequence[ReadError] = ()


class PageBuilder:
    """Makes pages of entries as they are read, and passes each to `emit` with its size in memory.

    Counts the entries in `tally`. With `fails`, an entry that could not be read ends the reading.
    """

    def __init__(self, emit: Callable[[SourceEvent, int], None], tally: SourceTally, *, fails: bool) -> None:
        self._emit = emit
        self._tally = tally
        self._fails = fails
        self._cutter = PageCutter()
        self._contents: list[PageContent] = []

    def add(self, path: bytes, entry: Entry, content: PageContent | None) -> None:
        """Adds the next entry, with the bytes of a small file, or the size of one that was not read.

        Raises SourceGapsError, and what `emit` raises.
        """
        self._tally.add(path, entry)
        for flag in entry.flags or ():
            if flag == "unreadable" and self._fails:
                raise SourceGapsError(f"cannot read all of the source: {safe_text(path) or '.'}")
            self._tally.add_flag(path, flag)
        if content:
            self._contents.append(content)
        for line in encode_entry_lines(entry):
            page = self._cutter.add(line)
            if page is not None:
                self.emit_page(page)

    def flush(self) -> None:
        """Emits the remaining lines as a page."""
        if rest := self._cutter.take():
            self.emit_page(rest)

    def emit_page(self, lines: bytes) -> None:
        """Emits lines as a page of their own, with the contents that belong to it."""
        contents, self._contents = self._contents, []
        self._emit(PageRead(lines, contents), len(lines) + held_bytes(contents))


class SourceReading:
    """One reading of one source. `run` is called once, in a thread of its own; `emit` may wait.

    Without a footer the manifest's last line is made elsewhere, like its first.
    """

    def __init__(
        self,
        source: SourceRoot,
        rules: FilterRules,
        emit: Callable[[SourceEvent, int], None],
        progress: Progress,
        now: Callable[[], UtcTime],
        *,
        with_footer: bool = True,
        on_read_error: OnReadError = "zero",
        retries_changed: int | None = None,
    ) -> None:
        """`retries_changed`: how often to read a changed file again; None: a few times where it is cheap."""
        self.tally = SourceTally(events=progress.events)
        self._with_footer = with_footer
        self._source = source
        self._rules = rules
        self._emit = emit
        self._progress = progress
        self._now = now
        self._entries = EntryMaker()
        self._pages = PageBuilder(emit, self.tally, fails=on_read_error == "fail")
        self._folders = FolderSnapshots(source.path)
        self._on_read_error = on_read_error
        self._retries_changed = retries_changed
        self.earlier: EarlierFiles | None = None
        """Files that need not be read, because they look as they did. To be set before `run`."""
        self._hashing = ThreadPoolExecutor(1, "sha256")
        self._reader = ContentReader(self._hashing, on_read_error, progress)

    def run(self) -> None:
        """Reads and emits everything except the manifest's header. Raises SourceNotFoundError, and what `emit` raises."""
        try:
            for found in self._walk():
                self._take(found)
            for path in self._folders.changed():
                self._count_changed_folder(path)
            self._pages.flush()
            self._add_remarks()
            if self._with_footer:
                self._pages.emit_page(encode_footer(self.tally.manifest.footer(self._now())))
            self.tally.is_whole = True
            self._emit(SourceRead(), 0)
        finally:
            self._hashing.shutdown(wait=True)
            if self.earlier is not None:
                self.earlier.close()

    def _add_remarks(self) -> None:
        manifest = self.tally.manifest
        for remark, count in self._entries.remarks().items():
            manifest.remark(remark, count)
        manifest.remark("folder-changed-while-read", self.tally.changed_folders)

    def _record_changed_folder(self, path: bytes) -> None:
        self._folders.forget(path)
        self._count_changed_folder(path)

    def _count_changed_folder(self, path: bytes) -> None:
        self.tally.changed_folders += 1
        self.tally.add_flag(path, "changed-while-read")

    def _walk(self) -> Iterator[Found]:
        if self._source.is_device:
            return find_device(self._source)
        return walk(self._source, self._rules, changed=self._record_changed_folder, unreached=self._record_unreached)

    def _record_unreached(self, path: bytes) -> None:
        self.tally.manifest.remark("listed-not-reached", 1)
        self.tally.add_not_there(path)
        self.tally.add_flag(path, "vanished")

    def _take(self, found: Found) -> None:
        """Reads one entry: its content first, then its line."""
        if not found.path and found.stat is None:  # the folder above a single file: not part of the source
            return
        if found.entry_type == "directory":
            self._folders.note(found)
            self.tally.listed_folders += self._rules.names_folder(found.path) and found.flag != "vanished"
        if found.listed and found.flag == "vanished":
            self.tally.add_not_there(found.path)
        has_content = found.entry_type == "file" or self._source.is_device
        if not has_content or found.flag is not None or found.stat is None:
            self._pages.add(found.path, self._entries.make_entry(found), None)
            return
        self._progress.path, self.tally.has_begun = found.path, True
        if self.earlier is not None and (known := self._known(found, self.earlier)) is not None:
            self._add_known(found, known)
            self._progress.files += 1
            return
        try:
            content = self._read(found)
            if content.changed:
                content = self._read_again_while_it_changes(found, content)
        except SourceReadError as error:
            if self._on_read_error == "fail" and not error.vanished:
                raise SourceGapsError(error.message) from error
            flag: Flag = "vanished" if error.vanished else "unreadable"
            self._pages.add(found.path, self._entries.make_entry(found, flags=[flag]), None)
            self._progress.missed_bytes += found.stat.st_size
        else:
            self._add_content(content)
        self._progress.files += 1

    def _known(self, found: Found, earlier: EarlierFiles) -> KnownFile | None:
        known = earlier.find(found)
        # A link to what was read with another content: one of both readings is not of now, and only a new one can tell.
        return None if known is None or self._entries.has_another_content(found, known.blake3) else known

    def _add_known(self, found: Found, known: KnownFile) -> None:
        entry = self._entries.make_entry(
            found,
            size=known.size,
            blake3_hex=known.blake3,
            sha256_hex=known.sha256,
            details=known.details,
        )
        is_large = known.size > SMALL_FILE
        if is_large:
            self._emit(FileKept(known.size, Blake3Digest(bytes.fromhex(known.blake3)), found.path), len(found.path))
        content = None if is_large else known.size
        self._pages.add(found.path, msgspec.structs.replace(entry, read_in=known.read_in), content)

    def _read_again_while_it_changes(self, found: Found, content: _Content) -> _Content:
        """Reads a changed content again while it changes; returns the last reading. If one fails, the one before it stays."""
        for _ in range(self._retries_of(content.size)):
            again = look_again(found)
            if again is None:
                break
            try:
                content = self._read(again)
            except SourceReadError:
                break
            self.tally.read_again += 1
            if not content.changed:
                break
        return content

    def _retries_of(self, size: int) -> int:
        if self._source.is_device:
            return 0
        if self._retries_changed is not None:
            return self._retries_changed
        return RETRIES_CHANGED if size <= CHEAP_TO_READ_AGAIN else 0

    def _read(self, found: Found) -> _Content:
        if found.stat is not None and found.stat.st_size <= SMALL_FILE and not self._source.is_device:
            try:
                read = read_small(found, SMALL_FILE, self._entries.details)
            except SourceReadError as error:
                if error.errno not in MEDIUM_ERRORS:
                    raise
                read = None
            if read is not None:
                data = read.data
                blake3_hex, sha256_hex = blake3_of(data).hex(), sha256_of(data).hex()
                return _Content(found, len(data), blake3_hex, sha256_hex, data, read.details, read.changed, read.noatime)
        # It is larger, has grown since the walk looked at it, or has a bad sector.
        return self._read_large(found)

    def _read_large(self, found: Found) -> _Content:
        with open_device(found) if self._source.is_device else open_file(found) as opened:
            # A file that says 0 and holds more (as under /proc) is read to its end, wherever that is.
            self._emit(StreamBegun(opened.size or MAX_FILE_SIZE, found.path), 0)
            read = self._reader.read(opened, self._emit_segments)
            self._emit(StreamEnded(read.size, read.blake3), 0)
            if read.error is not None:  # the segments before it belong to no entry, and the vault discards them
                raise read.error
            cut_off = bool(read.read_errors) and read.read_size < opened.size
            changed = not cut_off and (opened.changed() or read.read_size != (opened.size or read.read_size))
            details = opened.details(self._entries.details)
        # A content that is small in the end is sent like any small file: the receiver decides by the size in the manifest.
        data = read.beginning if read.size <= SMALL_FILE else None
        blake3_hex, sha256_hex = read.blake3.hex(), read.sha256.hex()
        return _Content(found, read.size, blake3_hex, sha256_hex, data, details, changed, opened.noatime, read.read_errors)

    def _add_content(self, content: _Content) -> None:
        flags: list[Flag] = ["changed-while-read"] if content.changed else []
        if content.read_errors:
            flags.append("unreadable")
            self.tally.partial += 1
            self.tally.add_gaps(content.read_errors)
        entry = self._entries.make_entry(
            content.found,
            size=content.size,
            blake3_hex=content.blake3_hex,
            sha256_hex=content.sha256_hex,
            flags=flags,
            read_errors=content.read_errors,
            details=content.details,
            noatime=content.noatime,
        )
        self._pages.add(content.found.path, entry, content.data)

    def _emit_segments(self, segments: list[Segment]) -> None:
        for segment in segments:
            self._emit(segment, segment.held_bytes)
