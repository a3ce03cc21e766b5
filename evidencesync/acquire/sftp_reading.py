"""Reads a source over SFTP, from its first entry to its last, and emits pages and segments: see `acquire.reading`.

There is no agent on the server: all bytes are transferred, and digests are taken on arrival. Metadata is recorded as far as the
server sends it. A symbolic link is never opened. SFTP cannot open a file without following links, so a file's status is read
again afterwards: if another file took its place meanwhile, the entry is flagged `changed-while-read`.
"""

from __future__ import annotations

import dataclasses
import errno
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from evidencesync.acquire.reading import (
    RETRIES_CHANGED,
    PageBuilder,
    SourceEvent,
    SourceRead,
    SourceTally,
    StreamBegun,
    StreamEnded,
)
from evidencesync.acquire.sftp_connection import PendingAnswer, Question, RemoteFile, SftpConnection
from evidencesync.acquire.sftp_entries import make_entry, untold_times
from evidencesync.acquire.sftp_walk import SftpFolder, SftpFound, SftpRoot, SftpWalk
from evidencesync.acquire.streaming import Digests
from evidencesync.connection.progress import Progress
from evidencesync.connection.writer import RateLimit
from evidencesync.custody.manifest import encode_footer
from evidencesync.delta.chunker import SegmentCutter
from evidencesync.errors import SourceReadError
from evidencesync.evidence.digest import blake3_of, sha256_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry, Flag
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.limits import MAX_FILE_SIZE, MAX_LINK_TARGET, SMALL_FILE
from evidencesync.source.filters import FilterRules
from evidencesync.ssh.sftp import SftpSmall
from evidencesync.ssh.sftp_answers import SftpStatus

_AHEAD: Final = 32  # small files that are requested ahead of their turn


class _Content(NamedTuple):
    """A larger file that was read: size, both digests, first bytes, and the status at its path then (None: it was longer)."""

    size: int
    digests: tuple[str, str]
    beginning: bytes
    now: SftpStatus | None


class SftpReading:
    """One reading of one source. `run` is called once, in a thread of its own; `emit` may wait."""

    def __init__(
        self,
        server: SftpConnection,
        root: SftpRoot,
        rules: FilterRules,
        emit: Callable[[SourceEvent, int], None],
        progress: Progress,
        now: Callable[[], UtcTime],
        rate_limit: RateLimit,
        *,
        fails: bool = False,
    ) -> None:
        """`fails`: an entry that cannot be read ends the reading."""
        self.tally = SourceTally(events=progress.events)
        self._server = server
        self._root = root
        self._emit = emit
        self._progress = progress
        self._now = now
        self._rate_limit = rate_limit
        self._pages = PageBuilder(emit, self.tally, fails=fails)
        self._untold = 0
        self._walk = SftpWalk(server, root, rules, self._note_changed)
        self._hashing = ThreadPoolExecutor(1, "sha256")
        self._read_bytes = 0

    def run(self) -> None:
        """Reads and emits everything except the manifest's header.

        Raises the errors of `SftpConnection.reconnect` where the server is lost, and PeerError.
        """
        try:
            for found in self._walk.run():
                self._take(found)
            self._pages.flush()
            self.tally.manifest.remark("metadata-unread", self._untold)
            self.tally.manifest.remark("folder-changed-while-read", self.tally.changed_folders)
            self._pages.emit_page(encode_footer(self.tally.manifest.footer(self._now())))
            self.tally.is_whole = True
            self._emit(SourceRead(), 0)
        finally:
            self._hashing.shutdown(wait=True)

    def _count_read(self, size: int) -> None:
        """Counts what has come, for a display."""
        self._read_bytes += size
        self._progress.read_bytes, self._progress.link_bytes = self._read_bytes, self._server.wire_received

    # Folders.

    def _note_changed(self, path: bytes) -> None:
        self.tally.changed_folders += 1
        self.tally.add_flag(path, "changed-while-read")

    def _ask_ahead(self, folder: SftpFolder) -> None:
        """Requests the next small files ahead, up to the next folder: so only requests of one folder are open."""
        for name, status in _first(folder.left, _AHEAD):
            if status.kind == "directory":
                return
            path = folder.at(name)
            if name not in folder.asked and _is_small(status) and not self._walk.skips(path, status):
                folder.asked[name] = self._server.begin(_small(self._root.remote(path), status))

    # Everything else.

    def _take(self, found: SftpFound) -> None:
        """Adds the line of an entry, and reads it where there is something to read."""
        path, status, flags, folder = found
        if folder is not None:
            self._ask_ahead(folder)
        if flags or status.kind not in ("file", "symlink"):  # what is neither is never opened
            self._pages.add(path, self._entry(path, status, flags=flags), None)
            return
        self._progress.path, self.tally.has_begun = path, True
        before = self._read_bytes
        try:
            if status.kind == "file":
                self._take_file(path, status, None if folder is None else folder.asked.pop(folder.left[0][0], None))
            else:
                self._add_link(path, status)
        except SourceReadError as error:
            self._count_read(before - self._read_bytes)
            self._progress.missed_bytes += status.size or 0 if status.kind == "file" else 0
            flag: Flag = "vanished" if error.vanished else "unreadable"
            self._pages.add(path, self._entry(path, status, flags=[flag]), None)
        self._progress.files += status.kind == "file"

    def _add_link(self, path: bytes, status: SftpStatus) -> None:
        remote = self._root.remote(path)
        target = self._server.ask(lambda server: server.link_target(remote))
        if not target or b"\0" in target or len(target) > MAX_LINK_TARGET:
            self._pages.add(path, self._entry(path, status, flags=["unreadable"]), None)
        else:
            self._pages.add(path, self._entry(path, status, target=target), None)

    def _take_file(self, path: bytes, status: SftpStatus, asked: PendingAnswer[SftpSmall | None] | None) -> None:
        small: SftpSmall | None = None
        if asked is not None:
            small = asked.answer()
        elif _is_small(status):
            small = self._server.ask(_small(self._root.remote(path), status))
        if small is None:
            self._take_large(path, status)
            return
        self._count_read(len(small.data))
        self._rate_limit.wait(len(small.data))
        digests = blake3_of(small.data).hex(), sha256_of(small.data).hex()
        flags: list[Flag] = ["changed-while-read"] if small.changed else []
        self._pages.add(path, self._entry(path, status, len(small.data), digests, flags), small.data)

    def _take_large(self, path: bytes, status: SftpStatus, left: int = RETRIES_CHANGED) -> None:
        """Reads a larger file. `left`: how often it may still be read again from its start."""
        before = self._read_bytes
        far = RemoteFile(self._server, self._root.remote(path), may_start_again=left > 0, note_taken=self._count_read)
        if left < RETRIES_CHANGED and status.differs(far.opened):  # the line is of what is read now
            self.tally.read_again += 1
            status = dataclasses.replace(far.opened, kind=status.kind)
        try:
            content = self._stream(path, far)
        finally:
            far.close()
        if content is None:
            self._count_read(before - self._read_bytes)
            self._take_large(path, status, left - 1)
            return
        size, digests, beginning, now = content
        changed = far.is_mixed or now is None or status.differs(now) or status.differs(far.opened) or size != (far.size or size)
        flags: list[Flag] = ["changed-while-read"] if changed else []
        entry = self._entry(path, status, size, digests, flags)
        self._pages.add(path, entry, beginning if size <= SMALL_FILE else None)

    def _stream(self, path: bytes, far: RemoteFile) -> _Content | None:
        """Reads a file and emits its segments; None where it is to be read again from its start. Raises SourceReadError.

        In both cases the segments that were sent belong to no entry, and the vault discards them.
        """
        if far.size > MAX_FILE_SIZE:
            raise SourceReadError(f"cannot read {safe_text(path)}: it is larger than a manifest can state", errno=errno.EFBIG)
        self._emit(StreamBegun(far.size or MAX_FILE_SIZE, path), 0)
        digests, cutter = Digests(self._hashing), SegmentCutter()
        size, beginning, error, now = 0, b"", None, None
        try:
            for block in far.blocks():
                room = cutter.buffer(len(block))
                room[:] = block
                beginning += block[: max(SMALL_FILE - len(beginning), 0)]
                size += len(block)
                digests.update(room)
                self._emit_segments(cutter, len(block))
                self._rate_limit.wait(len(block))
            now = far.ends()
        except SourceReadError as met:
            error = met
        for segment in cutter.finish():
            self._emit(segment, segment.held_bytes)
        blake3, sha256 = digests.finish()
        self._emit(StreamEnded(size, blake3), 0)
        if error is not None:
            raise error
        return None if far.starts_again else _Content(size, (blake3.hex(), sha256.hex()), beginning, now)

    def _emit_segments(self, cutter: SegmentCutter, length: int) -> None:
        for segment in cutter.commit(length):
            self._emit(segment, segment.held_bytes)

    # Lines.

    def _entry(
        self,
        path: bytes,
        status: SftpStatus,
        size: int | None = None,
        digests: tuple[str, str] | None = None,
        flags: list[Flag] | None = None,
        target: bytes | None = None,
    ) -> Entry:
        self._untold += untold_times(status)
        return make_entry(path, status, size, digests, flags, target)


def _small(remote: bytes, status: SftpStatus) -> Question[SftpSmall | None]:
    return lambda server: server.small(remote, status, SMALL_FILE)


def _is_small(status: SftpStatus) -> bool:
    return status.kind == "file" and status.size is not None and status.size <= SMALL_FILE


def _first(pairs: deque[tuple[bytes, SftpStatus]], count: int) -> Iterator[tuple[bytes, SftpStatus]]:
    return (pairs[number] for number in range(min(count, len(pairs))))
