"""Takes the digests of files that look as they did from the acquisition before, without reading them (`--quick`).

The manifest of that acquisition is the one that this machine has kept with its receipt: nobody's word is taken for it. Its digest
must be the one that the vault states for the acquisition before, and it is checked before anything of it is used. Both it and the
walk come in one order, so that they are read side by side, and memory does not grow.

A file is as it was where size, modification time, change time, inode and device are the same: whoever writes to a file, or sets
its times, moves its change time. There is one more rule, because a change time is as coarse as the system's clock: what was
changed, read, and changed again within one tick looks the same. So a file that had changed when the run that read it began, or
just before, is read again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from evidencesync.custody.manifest import WholeEntry, read_manifest, whole_entries
from evidencesync.errors import MalformedDocumentError, PathEscapeError
from evidencesync.evidence.digest import new_sha256
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.path import walk_order
from evidencesync.evidence.utc_time import format_file_time, parse_utc_time
from evidencesync.files.disk import document_blocks
from evidencesync.limits import RACY_SECONDS
from evidencesync.localstate.receipts import KeptManifest
from evidencesync.source.details import Details
from evidencesync.source.origin import file_system_of
from evidencesync.source.walker import Found

_NO_CHANGE_TIMES: Final = frozenset({"vfat", "msdos", "exfat"})
"""File systems that keep no change time, and show another time in its place. What is behind FUSE may do so, too."""


class KnownFile(NamedTuple):
    """What an earlier acquisition has of a file that looks as it did: `read_in` has read it."""

    size: int
    blake3: str
    sha256: str
    details: Details
    read_in: int


class EarlierFiles:
    """The files of the acquisition before, in the order of the walk. Used by the thread that reads the source."""

    def __init__(self, kept: KeptManifest | None, why_not: str | None = None) -> None:
        """`kept`: the manifest, opened; it is closed here."""
        self.why_not = why_not
        """Why everything is read; None where it is not."""
        self._number = 0 if kept is None else kept.header.acquisition
        self._read_from = 0 if kept is None else parse_utc_time(kept.header.started) - RACY_SECONDS * 1_000_000_000
        self._file = None if kept is None else kept.file
        self._entries: Iterator[WholeEntry] = iter(()) if kept is None else _checked_entries(kept)
        self._next: WholeEntry | None = None
        self._key = b""
        self._change_times: dict[int, bool] = {}  # whether a device keeps them

    def find(self, found: Found) -> KnownFile | None:
        """Returns what is known of a file that the walk has found; None where it has to be read. Ask in the walk's order."""
        status = found.stat
        if self.why_not is not None or status is None:
            return None
        self._go_to(walk_order(found.path))
        before = self._next
        if before is None or before.path != found.path:
            return None
        entry = before.entry
        if not is_as_it_was(entry, status, self._read_from) or not self._keeps_change_times(found, status.st_dev):
            return None
        details = Details(entry.btime, before.attributes, entry.inode_flags)
        return KnownFile(status.st_size, entry.blake3 or "", entry.sha256 or "", details, entry.read_in or self._number)

    def close(self) -> None:
        """Closes the manifest."""
        if self._file is not None:
            self._file.close()

    def _go_to(self, key: bytes) -> None:
        while self._key < key:
            try:
                self._next = next(self._entries, None)
            except (MalformedDocumentError, PathEscapeError, OSError):
                self._next, self.why_not = None, f"the manifest of acquisition {self._number} that is kept here cannot be used"
            if self._next is None:
                self._entries, self._key = iter(()), key
                return
            self._key = walk_order(self._next.path)

    def _keeps_change_times(self, found: Found, device: int) -> bool:
        known = self._change_times.get(device)
        if known is None:
            path = b"/proc/self/fd/%d/%b" % (found.dir_fd, found.name)
            name = file_system_of(path)
            known = name is not None and name not in _NO_CHANGE_TIMES and not name.startswith("fuse") and not _is_read_only(path)
            self._change_times[device] = known
        return known


def _is_read_only(path: bytes) -> bool:
    """Whether nothing moves a time there: those of an image are its maker's, and the next image may have the same ones."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return True  # not known: it is read


def is_as_it_was(entry: Entry, status: os.stat_result, read_from: int) -> bool:
    """Returns whether a file looks as it did when an entry was made, which was whole and read quietly.

    `read_from`: what had a change time from then on (nanoseconds) may have changed in the tick in which it was read. An entry
    that was not read in its own acquisition has passed that rule before, with this change time.
    """
    return (
        entry.type == "file"
        and entry.blake3 is not None
        and entry.flags is None
        and entry.read_errors is None
        and entry.size == status.st_size
        and entry.ctime == format_file_time(status.st_ctime_ns)
        and entry.mtime == format_file_time(status.st_mtime_ns)
        and entry.inode == str(status.st_ino)
        and entry.device == str(status.st_dev)
        and (entry.read_in is not None or status.st_ctime_ns < read_from)
    )


def _checked_entries(kept: KeptManifest) -> Iterator[WholeEntry]:
    """Yields the entries of a manifest whose digest was compared first, all of it. Raises MalformedDocumentError, OSError."""
    digest = new_sha256()
    kept.file.seek(0)
    for _ in document_blocks(kept.file, digest.update):
        pass
    if digest.digest().hex() != kept.sha256:
        raise MalformedDocumentError("a manifest that was kept is another one now")
    kept.file.seek(0)
    yield from whole_entries(read_manifest(document_blocks(kept.file)))
