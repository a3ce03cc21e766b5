"""Compares an entry's metadata with the manifest.

Compared are the values that a good copy keeps: mode, owner and group (by number), modification time, links among the listed
entries, and extended attributes. Not compared are access, change and birth times, and inode and device numbers, which no copy
can keep, and the names of owners, which differ between machines. A value that the manifest does not state is not compared. A
manifest that was made over SFTP has no attributes, and times in whole seconds.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

from evidencesync.custody.hardlinks import is_hard_link
from evidencesync.errors import IncompleteError
from evidencesync.evidence.digest import new_blake3
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.path import from_json_fields
from evidencesync.evidence.utc_time import format_file_time
from evidencesync.source.details import AttributeReader, Attributes
from evidencesync.source.walker import Found

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
