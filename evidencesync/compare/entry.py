"""Compares an entry with the manifest: its metadata, and the digests of its content.

Compared are the values that a good copy keeps: mode, owner and group (by number), modification time, links among the listed
entries, and extended attributes. Not compared are access, change and birth times, and inode and device numbers, which no copy
can keep, and the names of owners, which differ between machines. A value that the manifest does not state is not compared. A
manifest that was made over SFTP has no attributes, and times in whole seconds.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache
from typing import Final, Protocol

from evidencesync.custody.hardlinks import is_hard_link
from evidencesync.errors import EvidenceSyncError, IncompleteError, MissingOrExtraError
from evidencesync.evidence.digest import new_blake3
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.path import from_json_fields
from evidencesync.evidence.utc_time import format_file_time
from evidencesync.files.disk import close_quietly
from evidencesync.files.large_hash import LARGE, ContentReadError, LargeHasher, ReportBytes
from evidencesync.source.details import AttributeReader, Attributes
from evidencesync.source.walker import Found
from evidencesync.vault.file_checks import CompareOptions, FileChecks, FileProblem, StoredFile
from evidencesync.vault.tree import TreeReader
from evidencesync.verify.documents import reason

MODE: Final = "mode"
OWNER: Final = "owner"
TIME: Final = "time"
LINKS: Final = "links"
ATTRIBUTES: Final = "attributes"
_SECOND: Final = 1_000_000_000
Names = Callable[[], Mapping[bytes, int] | None]
KINDS: Final = (MODE, OWNER, TIME, LINKS, ATTRIBUTES)


class AttributeDigest:
    """A digest of extended attributes in the order of their names: a list of any length becomes 32 bytes."""

    def __init__(self) -> None:
        self._hasher = new_blake3()
        self._any = False

    def add(self, attributes: Attributes) -> None:
        """The next names and values (base64), which hold neither NUL nor newline."""
        self._any = self._any or bool(attributes)
        for name, value in attributes.items():
            self._hasher.update(f"{name}\0{value}\n".encode())

    def digest(self) -> bytes | None:
        """None where there are no attributes."""
        return self._hasher.digest() if self._any else None


class MetadataComparison:
    """Compares entries with what the walk found. Attributes only where they are asked for: they cost some system calls.

    `names`: by the first path of an inode that has more of them, how many the manifest lists; None where that is too much to
    count. It is asked once, and only where the number of links differs somewhere. `judged`: whether what differs counts; then
    `differences` raises IncompleteError where that was too much.
    """

    def __init__(self, names: Names, *, judged: bool, attributes: bool, in_seconds: bool = False) -> None:
        self._names = cache(names)
        self._judged = judged
        self._in_seconds = in_seconds
        self._attributes = AttributeReader() if attributes else None
        self._modes: dict[int, str] = {}

    def differences(self, entry: Entry, attributes: bytes | None, found: Found) -> list[str]:
        """What differs, in the order of KINDS. `attributes` is the digest of all that the manifest lists."""
        status = found.stat
        if status is None:
            return []
        mode = self._modes.get(status.st_mode) or self._modes.setdefault(status.st_mode, f"{stat.S_IMODE(status.st_mode):04o}")
        differences = []
        if entry.mode is not None and entry.mode != mode and entry.type != "symlink":  # a link's mode means nothing
            differences.append(MODE)
        if entry.uid not in (None, status.st_uid) or entry.gid not in (None, status.st_gid):
            differences.append(OWNER)
        modified = status.st_mtime_ns // _SECOND * _SECOND if self._in_seconds else status.st_mtime_ns
        if entry.mtime is not None and not _is_time(entry.mtime, modified):
            differences.append(TIME)
        # How many links a folder has is up to its file system.
        if entry.type != "directory" and not self._may_have_links(entry, found.path, status.st_nlink):
            differences.append(LINKS)
        if self._attributes is not None and attributes != self._found_attributes(self._attributes, found, status):
            differences.append(ATTRIBUTES)
        return differences

    def _may_have_links(self, entry: Entry, path: bytes, there: int) -> bool:
        """Whether a good copy can have so many links: all that the source had, or those that have names in the manifest.

        The others lie outside the source, or were left out of it, and no copy has them.
        """
        if entry.links is None or entry.links == there:
            return True
        if there > entry.links:
            return False
        names = self._names()
        first = from_json_fields(entry.hardlink_to, entry.hardlink_to_b64) if is_hard_link(entry) else path
        if names is None and self._judged:
            raise IncompleteError("the manifest lists so many hard links that the numbers of links cannot be compared")
        return names is None or names.get(first, 1) <= there

    def _found_attributes(self, reader: AttributeReader, found: Found, status: os.stat_result) -> bytes | None:
        digest = AttributeDigest()
        if found.folder_fd >= 0:
            digest.add(reader.of_descriptor(found.folder_fd, status.st_dev) or {})
        else:
            digest.add(reader.of_name(found.dir_fd, found.name, status.st_dev) or {})
        return digest.digest()


def _is_time(stated: str, nanoseconds: int) -> bool:
    digits = str(nanoseconds)
    if len(digits) > 9 and nanoseconds > 0:
        return stated == f"{digits[:-9]}.{digits[-9:]}"
    return stated == format_file_time(nanoseconds)


class ContentSink(Protocol):
    """Receives the result for each file, in the thread that adds files."""

    def add_same(self, files: list[StoredFile]) -> None:
        """Files whose digests are the listed ones."""

    def add_different(self, file: StoredFile, size: int, digests: list[str]) -> None:
        """A file with other digests: BLAKE3, and SHA-256 if it is wanted, in hexadecimal."""

    def add_unreadable(self, file: StoredFile, message: str) -> None:
        """A file that could not be read to its end; the message is safe to show."""

    def add_missing(self, file: StoredFile) -> None:
        """A file that was removed, or is no regular file any more, since its folder was listed."""

    def add_bytes(self, size: int, holes: int = 0, /) -> None:
        """More bytes were hashed, of which so many lie in holes."""


class FolderHasher:
    """Hashes files. Add them in walk order, each with its size and its listed digests (or `""`); then call `finish`.

    The sink gets the results a little later. Only regular files are opened, no link is followed, and access times do not change
    where the system allows that.
    """

    def __init__(self, root_fd: int, sink: ContentSink, *, all_digests: bool) -> None:
        """The folder's descriptor stays the caller's, and is not needed after this."""
        self._sink = sink
        self._stack = ExitStack()
        self._small = FileChecks(root_fd, self._surveyed, CompareOptions(all_digests, from_disk=False, survey=True))
        self._stack.callback(self._small.close)
        self._reader = TreeReader(os.dup(root_fd), untouched=True)
        self._stack.callback(self._reader.close)
        self._large = LargeHasher(with_sha256=all_digests, all_cores=True)
        self._stack.callback(self._large.close)

    def add(self, file: StoredFile) -> None:
        """The next file. Waits when enough is under way."""
        if file.size <= LARGE:
            self._small.add(file)
        else:
            self._hash_large(file, self._sink.add_bytes)

    def finish(self) -> None:
        """Waits for everything that was added."""
        self._small.finish()

    def close(self) -> None:
        """Ends threads and processes."""
        self._stack.close()

    def _surveyed(self, files: list[StoredFile], problems: list[FileProblem]) -> None:
        differing = {problem.number for problem in problems}
        same = [file for number, file in enumerate(files) if number not in differing] if differing else files
        self._sink.add_bytes(sum([file.size for file in same]))
        self._sink.add_same(same)
        for problem in problems:
            file = files[problem.number]
            if problem.kind == "other":
                self._sink.add_bytes(problem.value)
                self._sink.add_different(file, problem.value, problem.text.split(" "))
            elif problem.kind == "gone":
                self._sink.add_missing(file)
            else:
                self._sink.add_unreadable(file, problem.text)

    def _hash_large(self, file: StoredFile, report_bytes: ReportBytes) -> None:
        try:
            fd, found = self._reader.open_file(file.path)
        except MissingOrExtraError:
            self._sink.add_missing(file)
            return
        except EvidenceSyncError as error:
            self._sink.add_unreadable(file, error.message)
            return
        try:
            hashed = self._large.hash(fd, found.st_size, report_bytes)
        except ContentReadError as error:
            self._sink.add_unreadable(file, f"{reason(error.error)}, at byte {error.offset}")
            return
        finally:
            close_quietly(fd)
        digests = [hashed.blake3] if hashed.sha256 is None else [hashed.blake3, hashed.sha256]
        if digests == [file.blake3, file.sha256][: len(digests)]:
            self._sink.add_same([file])
        else:
            self._sink.add_different(file, hashed.size, digests)
