"""Defines the messages of a pull, with their bounds: what the vault's side and the source's end say to each other."""

# No annotations of the __future__ here: msgspec would have to compile each of these texts at every start.
from typing import Annotated, Literal

import msgspec

from evidencesync.evidence.entry import EntryType, Flag, Number, Remark
from evidencesync.evidence.utc_time import FileTime
from evidencesync.limits import (
    MAX_DEVICE_FACTS,
    MAX_FACT,
    MAX_PATH,
    MAX_PATTERN,
    MAX_PATTERNS,
    MAX_RETRIES_CHANGED,
    MAX_SURVEYED,
    MAX_VERSIONS,
)
from evidencesync.protocol.messages import U32, Digest32, Message, Nanoseconds, ShortText, Size

Patterns = Annotated[list[Annotated[bytes, msgspec.Meta(max_length=MAX_PATTERN)]], msgspec.Meta(max_length=MAX_PATTERNS)]
FactName = Annotated[str, msgspec.Meta(pattern="^[a-z0-9_]{1,40}$", max_length=40)]
FactText = Annotated[str, msgspec.Meta(max_length=MAX_FACT)]


class SourceAsk(Message, frozen=True):
    """The first message of a pull, from the vault's side to the source's: the path to read, and how to cut contents.

    An empty `path` (or `/`) means the served source. `excludes` and `includes` are filter patterns as bytes. With `counts` the
    source is counted ahead, for a display.
    """

    versions: Annotated[list[U32], msgspec.Meta(min_length=1, max_length=MAX_VERSIONS)]
    tool: ShortText
    parameters: ShortText
    path: Annotated[bytes, msgspec.Meta(max_length=MAX_PATH)]
    excludes: Patterns
    includes: Patterns
    max_size: Size | None
    one_file_system: bool
    on_read_error: Literal["zero", "skip", "fail"]
    retries_changed: Annotated[int, msgspec.Meta(ge=0, le=MAX_RETRIES_CHANGED)] | None
    counts: bool


class SourceOffer(Message, frozen=True):
    """The source's end describes its machine, the real path of the source, and its clock.

    `named` is the requested path, before a symbolic link was resolved that was itself named as the source.
    """

    version: U32
    tool: ShortText
    parameters: ShortText
    clock: Nanoseconds
    host: ShortText
    operating_system: ShortText
    path: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_PATH)]
    named: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_PATH)]
    file_system: ShortText | None
    machine_id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$", max_length=32)] | None
    device: Annotated[dict[FactName, FactText], msgspec.Meta(max_length=MAX_DEVICE_FACTS)] | None


class Fetch(Message, frozen=True):
    """The vault is ready: the source's end sends pages from number 1 on. It learns only what it needs for that.

    `piece_key` keys the digests of pieces. Case, item, examiner and session are not disclosed.
    """

    knows_nothing: bool
    has_previous: bool
    piece_key: Digest32
    compress: Literal["auto", "always", "never"]
    limit_rate: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | None


class SourceSeen(Message, frozen=True):
    """The progress at the source's end, for a display alone.

    `files` were read; `stored_bytes` the vault's side has stored, and `sent_bytes` of these were sent; `total_bytes` are to be.
    Runs of zeros that were found are in none of them.
    """

    files: Size
    stored_bytes: Size
    hole_bytes: Size
    bad_bytes: Size
    sent_bytes: Size
    total_files: Size | None
    total_bytes: Size | None
    path: Annotated[bytes, msgspec.Meta(max_length=MAX_PATH)]


class SourceSeenHoles(SourceSeen, frozen=True):
    """The same with how many bytes of holes there are in all, where they were counted. In its place from HOLES_VERSION on."""

    total_hole_bytes: Size | None


class SourceEnd(Message, frozen=True):
    """Everything was read, and sent in `pages` pages, including the header, which the vault's side has made.

    `remarks` are known only at the end of reading; the manifest's footer counts them. `read_again` counts repeated readings of
    files that had changed, for the summary.
    """

    pages: U32
    read_again: Size
    remarks: Annotated[dict[Remark, Size], msgspec.Meta(max_length=8)]


class SurveyAsk(SourceAsk, frozen=True):
    """Asks, in place of SourceAsk, for names, sizes and times alone: no content is read. What concerns contents means nothing.

    An end from before it has this message does not know it, and refuses it before it has read anything.
    """


SurveyedEntry = tuple[
    Annotated[bytes, msgspec.Meta(max_length=MAX_PATH)],
    EntryType,
    Size | None,
    FileTime | None,
    Flag | None,
    U32 | None,
]
"""Path, type, size, modification time, flag, and which of the rules leaves it out, by its place in `FilterRules.lines`."""


class SurveyPage(Message, frozen=True):
    """The next entries of the source, in the order of a manifest.

    `root`: device, inode and change time of the source itself, as in a manifest; in the first page alone.
    """

    entries: Annotated[list[SurveyedEntry], msgspec.Meta(min_length=1, max_length=MAX_SURVEYED)]
    root: tuple[Number, Number, FileTime] | None


class SurveyEnd(Message, frozen=True):
    """All entries were sent. `remarks`: as in SourceEnd."""

    remarks: Annotated[dict[Remark, Size], msgspec.Meta(max_length=8)]
