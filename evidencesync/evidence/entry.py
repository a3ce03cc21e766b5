"""Defines the entry: one file, folder, link or device of the source, as the manifest states it."""

# No annotations of the __future__ here: msgspec would have to compile each of these texts at every start.
from typing import Annotated, Literal

import msgspec

from evidencesync.evidence.capture import Capture
from evidencesync.evidence.digest import HexDigest
from evidencesync.evidence.utc_time import FileTime
from evidencesync.limits import LIST_CAP_PER_LINE, MAX_FILE_SIZE

EntryType = Literal["file", "directory", "symlink", "block-device", "character-device", "fifo", "socket"]
Flag = Literal["changed-while-read", "vanished", "unreadable", "skipped"]
Remark = Literal["access-time-changed", "metadata-unread", "folder-changed-while-read", "listed-not-reached"]
"""What is only known at the end of a walk, about entries whose lines were sent already."""
FillMethod = Literal["zero", "skip"]

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_FILE_SIZE)]
Octal = Annotated[str, msgspec.Meta(pattern="^[0-7]{4}$", max_length=4)]
Number = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,20}$", max_length=20)]
"""An identifier of up to 64 bits, as a string: JSON readers lose digits above 2^53."""
InodeFlags = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}$", max_length=8)]
"""The bits of linux/fs.h's FS_*_FL in hexadecimal, without those that say how a file is stored; never all zero."""
ReadIn = Annotated[int, msgspec.Meta(ge=1, le=9999)]
"""The number of an earlier acquisition."""
Extent = tuple[Count, Count]
"""Offset and length in bytes."""


class ReadError(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A range of the source that could not be read, and what was stored in its place."""

    offset: Count
    length: Count
    errno: int
    fill: FillMethod


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One line of a manifest. The order of the fields is the order in the line; an unknown field is absent.

    `size`, `blake3` and `sha256` are of the bytes that were stored: with read errors these are not the bytes of the
    source. `path_b64`, `hardlink_to_b64` and `target_b64` replace the plain field where the bytes are not clean UTF-8;
    names of owners that are not clean are left out. `read_in`: the earlier acquisition in which the content was read,
    where it was not read in this one.
    """

    type: EntryType
    path: str | None = None
    path_b64: str | None = None
    size: Count | None = None
    blake3: HexDigest | None = None
    sha256: HexDigest | None = None
    mode: Octal | None = None
    uid: Count | None = None
    gid: Count | None = None
    user: str | None = None
    group: str | None = None
    mtime: FileTime | None = None
    atime: FileTime | None = None
    ctime: FileTime | None = None
    btime: FileTime | None = None
    inode: Number | None = None
    device: Number | None = None
    links: Count | None = None
    hardlink_to: str | None = None
    hardlink_to_b64: str | None = None
    target: str | None = None
    target_b64: str | None = None
    device_number: str | None = None
    inode_flags: InodeFlags | None = None
    xattrs: dict[str, str] | None = None
    holes: Annotated[list[Extent], msgspec.Meta(max_length=LIST_CAP_PER_LINE)] | None = None
    read_errors: Annotated[list[ReadError], msgspec.Meta(max_length=LIST_CAP_PER_LINE)] | None = None
    flags: list[Flag] | None = None
    read_in: ReadIn | None = None
    capture: Capture | None = None

    @property
    def has_content(self) -> bool:
        """Whether bytes of this entry are stored under `data/`."""
        return self.blake3 is not None


class Continuation(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="type", tag="continued"
):
    """A further line of the entry before it, where one of its lists is longer than a line may hold."""

    xattrs: dict[str, str] | None = None
    holes: Annotated[list[Extent], msgspec.Meta(max_length=LIST_CAP_PER_LINE)] | None = None
    read_errors: Annotated[list[ReadError], msgspec.Meta(max_length=LIST_CAP_PER_LINE)] | None = None
