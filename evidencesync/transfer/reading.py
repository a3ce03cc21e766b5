"""Reads the source once, from its first entry to its last, and gives what a sender needs in the order it needs it.

One pass: the bytes that are hashed for the manifest are the bytes that are cut and sent. Small files come with the page
of manifest lines that names them; larger ones come as a stream of segments before their line. The manifest's header is not
made here: what stands in it is known only when the vault has answered, and the reading does not wait for that.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from evidencesync.custody.manifest import encode_entry_lines, encode_footer
from evidencesync.custody.tally import ManifestTally
from evidencesync.delta.chunker import Segment, SegmentCutter
from evidencesync.errors import SourceReadError
from evidencesync.evidence.digest import (
    Blake3Digest,
    Sha256Digest,
    blake3_of,
    feed_zeros,
    new_blake3,
    new_sha256,
    sha256_of,
)
from evidencesync.evidence.entry import Entry, Flag
from evidencesync.evidence.moment import Moment
from evidencesync.limits import KIB, MAX_FILE_SIZE, MIB, SMALL_FILE
from evidencesync.session.pages import PageCutter
from evidencesync.source.filters import FilterRules
from evidencesync.source.metadata import EntryMaker
from evidencesync.source.reader import OpenedFile, open_file, read_small
from evidencesync.source.root import SourceRoot
from evidencesync.source.walker import Found, walk
from evidencesync.transfer.progress import Progress

_BLOCK = 4 * MIB
_LEAST_BLOCK = 64 * KIB
_CHANGED: tuple[Flag, ...] = ("changed-while-read",)
MAX_LISTED_FLAGS = 1000


@dataclass(frozen=True, slots=True)
class PageRead:
    """Whole manifest lines, and the contents of the small files among them."""

    lines: bytes
    contents: list[bytes]


@dataclass(frozen=True, slots=True)
class StreamBegun:
    """A larger file, of this size when it was opened, and its path."""

    size: int
    path: bytes


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The larger file is read to its end."""

    size: int
    blake3: Blake3Digest


@dataclass(frozen=True, slots=True)
class SourceRead:
    """Everything was read; the manifest's last page has been given."""


Item = PageRead | StreamBegun | Segment | StreamEnded | SourceRead


@dataclass(slots=True)
class SourceTally:
    """What was seen: the manifest's own counts, and the first few flagged paths, to be shown.

    `changed_folders` are those in which names came or went after they were listed. Their lines had gone out by then: the
    `acquired` record states how many there were.
    """

    manifest: ManifestTally = field(default_factory=ManifestTally)
    flagged: list[tuple[bytes, Flag]] = field(default_factory=list)
    changed_folders: int = 0


class _Digests:
    """Both digests of one content: BLAKE3 in the caller's thread, and at the same time SHA-256 in another.

    One part is under way at most: whoever feeds the next waits for the slower of the two.
    """

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._blake3, self._sha256 = new_blake3(), new_sha256()
        self._running: Future[object] | None = None

    def feed(self, block: memoryview) -> None:
        """The next bytes. They must stay as they are."""
        self._wait()
        self._running = self._pool.submit(self._sha256.update, block)
        self._blake3.update(block)

    def feed_zeros(self, length: int) -> None:
        """So many zeros are next."""
        self._wait()
        self._running = self._pool.submit(feed_zeros, self._sha256.update, length)
        feed_zeros(self._blake3.update, length)

    def finish(self) -> tuple[Blake3Digest, Sha256Digest]:
        """The digests of all that was fed."""
        self._wait()
        return Blake3Digest(self._blake3.digest()), Sha256Digest(self._sha256.digest())

    def _wait(self) -> None:
        if self._running is not None:
            self._running.result()
            self._running = None


class SourceReading:
    """One reading of one source. `run` is called once, in a thread of its own; `emit` may wait."""

    def __init__(
        self,
        source: SourceRoot,
        rules: FilterRules,
        emit: Callable[[Item, int], None],
        progress: Progress,
        now: Callable[[], Moment],
    ) -> None:
        self.tally = SourceTally()
        self._source = source
        self._rules = rules
        self._emit = emit
        self._progress = progress
        self._now = now
        self._entries = EntryMaker()
        self._cutter = PageCutter()
        self._contents: list[bytes] = []
        self._hashing = ThreadPoolExecutor(1, "sha256")

    def run(self) -> None:
        """Reads everything and emits it, but for the manifest's header. Raises SourceNotFoundError, and what `emit` raises."""
        try:
            for found in walk(self._source.path, self._rules, changed=self._note_changed_folder, unreached=self._note_unreached):
                self._take(found)
            if rest := self._cutter.take():
                self._emit_page(rest)
            self._add_remarks()
            self._emit_page(encode_footer(self.tally.manifest.footer(self._now())))
            self._emit(SourceRead(), 0)
        finally:
            self._hashing.shutdown(wait=True)

    def _add_remarks(self) -> None:
        manifest = self.tally.manifest
        for remark, count in self._entries.remarks().items():
            manifest.remark(remark, count)
        manifest.remark("folder-changed-while-read", self.tally.changed_folders)

    def _note_changed_folder(self, path: bytes) -> None:
        self.tally.changed_folders += 1
        if len(self.tally.flagged) < MAX_LISTED_FLAGS:
            self.tally.flagged.append((path, "changed-while-read"))

    def _note_unreached(self, path: bytes) -> None:
        self.tally.manifest.remark("listed-not-reached", 1)
        if len(self.tally.flagged) < MAX_LISTED_FLAGS:
            self.tally.flagged.append((path, "vanished"))

    def _take(self, found: Found) -> None:
        """One entry: its content first, then its line."""
        if not found.path and found.stat is None:  # the folder above a single file: not part of the source
            return
        if found.entry_type != "file" or found.flag is not None or found.stat is None:
            self._add_line(found.path, self._entries.make_entry(found), None)
            return
        self._progress.path = found.path
        try:
            if found.stat.st_size <= SMALL_FILE:
                self._take_small(found)
            else:
                self._take_large(found)
        except SourceReadError as error:
            flag: Flag = "vanished" if error.vanished else "unreadable"
            self._add_line(found.path, self._entries.make_entry(found, flags=[flag]), None)
        self._progress.files += 1

    def _take_small(self, found: Found) -> None:
        read = read_small(found, SMALL_FILE, self._entries.details)
        if read is None:  # it has grown beyond a small file since the walk looked at it
            self._take_large(found)
            return
        content = read.data
        entry = self._entries.make_entry(
            found,
            size=len(content),
            blake3_hex=blake3_of(content).hex(),
            sha256_hex=sha256_of(content).hex(),
            flags=_CHANGED if read.changed else (),
            details=read.details,
            noatime=read.noatime,
        )
        self._progress.read_bytes += len(content)
        self._add_line(found.path, entry, content)

    def _take_large(self, found: Found) -> None:
        with open_file(found) as opened:
            # A file that says 0 and holds more (as under /proc) is read to its end, wherever that is.
            self._emit(StreamBegun(opened.size or MAX_FILE_SIZE, found.path), 0)
            size, blake3, sha256, beginning, error = self._stream(opened)
            self._emit(StreamEnded(size, blake3), 0)
            if error is not None:  # what came before it belongs to no entry, and the vault lets go of it
                raise error
            changed = opened.changed() or size != opened.size
            details = opened.details(self._entries.details)
        entry = self._entries.make_entry(
            found,
            size=size,
            blake3_hex=blake3.hex(),
            sha256_hex=sha256.hex(),
            flags=_CHANGED if changed else (),
            details=details,
            noatime=opened.noatime,
        )
        # A file that shrank while it was read travels like any small one: by its size a receiver knows how it came.
        self._add_line(found.path, entry, beginning if size <= SMALL_FILE else None)

    def _stream(self, opened: OpenedFile) -> tuple[int, Blake3Digest, Sha256Digest, bytes, SourceReadError | None]:
        """Reads and emits segments; gives how many bytes there were, their digests, the first few, and what ended it.

        What is hashed is what is sent: a block as it was read, or the zeros of a hole as the file was asked about it.
        """
        cutter, digests = SegmentCutter(), _Digests(self._hashing)
        error: SourceReadError | None = None
        beginning = b""
        while True:
            try:
                length, is_hole = opened.next_extent()
                room = None if is_hole else cutter.buffer(min(_BLOCK, length or _LEAST_BLOCK))
                if room is None:
                    opened.skip(length)
                else:
                    length = opened.read_into(room)
            except SourceReadError as met:
                error = met
                break
            if not length:
                break
            self._progress.read_bytes += length
            missing = min(SMALL_FILE - len(beginning), length)
            if room is None:
                self._progress.hole_bytes += length
                beginning += bytes(missing)
                digests.feed_zeros(length)
                self._emit_segments(cutter.zeros(length))
            else:
                beginning += bytes(room[:missing])
                digests.feed(room[:length])
                self._emit_segments(cutter.commit(length))
        self._emit_segments(cutter.finish())
        return opened.offset, *digests.finish(), beginning, error

    def _emit_segments(self, segments: list[Segment]) -> None:
        for segment in segments:
            self._emit(segment, segment.held_bytes)

    def _add_line(self, path: bytes, entry: Entry, content: bytes | None) -> None:
        self.tally.manifest.add(entry)
        if entry.flags and len(self.tally.flagged) < MAX_LISTED_FLAGS:
            self.tally.flagged.extend((path, flag) for flag in entry.flags)
        if content:
            self._contents.append(content)
        for line in encode_entry_lines(entry).splitlines(keepends=True):
            page = self._cutter.add(line)
            if page is not None:
                self._emit_page(page)

    def _emit_page(self, lines: bytes) -> None:
        contents, self._contents = self._contents, []
        self._emit(PageRead(lines, contents), len(lines) + sum(map(len, contents)))
