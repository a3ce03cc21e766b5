"""Decodes and checks the entries of a manifest: their form, their order, and which fields each type has.

The order is that of a walk that visits the names of each folder sorted by raw bytes, a folder before its contents. So an
entry's folder is always the last folder in the manifest or one above it, and one path is all that has to be remembered.

Runs of lines are decoded as strictly as each line by its type, in a fifth of the time. A regular expression on every field of
every line costs more than all other work together. So a run is decoded by a copy of Entry that has no patterns; then each kind
of field is checked by one expression over the values of the whole run. A run that does not pass is decoded once more, line by
line, for an error that names the line.
"""

from __future__ import annotations

import base64
import binascii
import re
from itertools import pairwise
from operator import attrgetter
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec

from evidencesync.custody.captures import check_capture
from evidencesync.custody.text import UNREADABLE, check_path_pair, decode_exactly
from evidencesync.custody.wholeness import FLAG_ORDER
from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.display import is_clean, safe_text
from evidencesync.evidence.entry import Continuation, Entry, Extent, ReadError
from evidencesync.evidence.path import EvidencePath, from_json_fields, walk_order
from evidencesync.limits import (
    LIST_CAP_PER_LINE,
    MAX_ATTRIBUTES,
    MAX_ERRNO,
    MAX_FILE_SIZE,
    MAX_LINK_TARGET,
    MAX_MANIFEST_LINE,
    MAX_NAME,
    MAX_OWNER_NAME,
    MAX_PATH,
    MAX_XATTR_NAME,
)

_NO_CONTENT: Final = frozenset({"vanished", "unreadable", "skipped"})
_DEVICES: Final = frozenset({"block-device", "character-device"})
_FLAG_RANK: Final = {flag: rank for rank, flag in enumerate(FLAG_ORDER)}
_DEVICE_NUMBER: Final = re.compile(r"[0-9]{1,10}:[0-9]{1,10}")
_MOST_ATTRIBUTES: Final = 2 * MAX_ATTRIBUTES  # bytes of one entry: in base64, with their names
_KNOWN_OWNERS: Final = 4096  # names that were checked already
_FORBIDDEN_NAMES: Final = frozenset({b"", b".", b".."})
ManifestLine = Entry | Continuation
_CONTINUATION_START: Final = b'{"type":"continued"'
_ENCODER: Final = msgspec.json.Encoder()
_ENTRY: Final = msgspec.json.Decoder(Entry)
_CONTINUATION: Final = msgspec.json.Decoder(Continuation)


class WalkOrder:
    """Checks the order of paths. Raises PathEscapeError for a path that could leave the root, else MalformedDocumentError."""

    __slots__ = ("_count", "_folder", "_key", "_parent", "single")

    def __init__(self) -> None:
        self._count = 0
        self._folder = b""  # the last folder; all folders above it were in the manifest, too
        self._key = b""  # the last path, with NUL for "/": so bytes sort as tuples of names do
        self._parent: bytes | None = None  # the folder of the last path: known and well-formed
        self.single = False  # whether the manifest is of one file or device, without a root folder

    def admit(self, entry: Entry) -> bytes:
        """Checks the next entry and returns its raw path."""
        text = entry.path
        if text is not None and entry.path_b64 is None and text.isascii() and text.isprintable():
            raw = text.encode("ascii")
        else:
            raw = from_json_fields(text, entry.path_b64)
        parent, _, name = raw.rpartition(b"/")
        if parent == self._parent:  # only the name has to be checked
            if name in _FORBIDDEN_NAMES or len(name) > MAX_NAME or len(raw) > MAX_PATH or b"\0" in name:
                EvidencePath(raw)
                raise MalformedDocumentError("a manifest lists its root twice")
        else:
            EvidencePath(raw)
            self._check_folder(raw, parent)
        key = walk_order(raw)
        if not self._count:
            self._begin(entry, raw)
        elif self.single:
            raise MalformedDocumentError("a manifest of a single file lists something else as well")
        elif key <= self._key:
            raise MalformedDocumentError(f"an entry is out of order in the manifest: {safe_text(raw, 120)}")
        else:
            self._parent = parent
        self._count += 1
        self._key = key
        if entry.type == "directory":
            self._folder = raw
        return raw

    def _check_folder(self, raw: bytes, parent: bytes) -> None:
        if parent and parent != self._folder and not self._folder.startswith(parent + b"/"):
            raise MalformedDocumentError(f"an entry lies in a folder that is not in the manifest: {safe_text(raw, 120)}")

    def _begin(self, entry: Entry, raw: bytes) -> None:
        """Checks the first entry: the root folder, or the one file or device that is the whole source."""
        if raw:
            self.single = True
            if b"/" in raw or entry.type not in ("file", "block-device"):
                raise MalformedDocumentError("a manifest begins neither with the root folder nor with a single file")
        elif entry.type != "directory":
            raise MalformedDocumentError("a manifest's root is not a folder")


class FieldRules:
    """Checks an entry's fields against its type, and the lists that may continue in further lines."""

    __slots__ = ("_attribute", "_attribute_bytes", "_entry", "_error_end", "_hole_end", "_owners", "acquisition")

    def __init__(self) -> None:
        self.acquisition = 0  # the manifest's own; contents may have been read in one before it
        self._owners: set[str | None] = {None}
        self._entry: Entry | None = None
        self._attribute = ""
        self._attribute_bytes = 0
        self._hole_end = 0
        self._error_end = 0

    def admit(self, entry: Entry, *, single: bool) -> None:
        """Checks the next entry. `single`: it is the whole source. Raises MalformedDocumentError."""
        self._entry = entry
        if entry.user not in self._owners:
            self._check_owner(entry.user)
        if entry.group not in self._owners:
            self._check_owner(entry.group)
        has_digests = entry.blake3 is not None
        if has_digests != (entry.sha256 is not None) or (has_digests and entry.size is None):
            raise MalformedDocumentError("an entry has a digest, but not both digests and a size")
        if entry.type == "file" or (single and entry.type == "block-device"):
            if not has_digests and not (entry.flags and not _NO_CONTENT.isdisjoint(entry.flags)):
                raise MalformedDocumentError(f"a {entry.type} has no digests, and no flag that says why")
        elif has_digests:
            raise MalformedDocumentError(f"a {entry.type} cannot have digests here")
        elif entry.size is not None and entry.type != "block-device":
            raise MalformedDocumentError(f"a {entry.type} cannot have a size")
        if (
            entry.target is not None
            or entry.target_b64 is not None
            or entry.type == "symlink"
            or entry.hardlink_to is not None
            or entry.hardlink_to_b64 is not None
            or entry.device_number is not None
            or entry.inode_flags is not None
            or entry.flags is not None
            or entry.read_in is not None
            or entry.capture is not None
        ):
            self._check_rare(entry)
        if entry.xattrs is not None or entry.holes is not None or entry.read_errors is not None:
            self._attribute, self._hole_end, self._error_end = "", 0, 0
            self._attribute_bytes = 0
            self._check_lists(entry, entry)

    def admit_continuation(self, more: Continuation) -> None:
        """Checks a further line of the entry before it: its lists continue where that entry's lists ended."""
        entry = self._entry
        if entry is None:
            raise MalformedDocumentError("a manifest goes on with an entry that it has not begun")
        if not (more.xattrs or more.holes or more.read_errors):
            raise MalformedDocumentError("a further line of an entry holds nothing")
        for began, goes_on in (
            (entry.xattrs, more.xattrs),
            (entry.holes, more.holes),
            (entry.read_errors, more.read_errors),
        ):
            if goes_on is not None and not began:
                raise MalformedDocumentError("a further line of an entry goes on with a list that the entry does not have")
        self._check_lists(entry, more)

    def _check_owner(self, name: str | None) -> None:
        if not name or len(name) > MAX_OWNER_NAME or not is_clean(name):
            raise MalformedDocumentError(f"an owner's name is empty, unclean or too long: {safe_text(name or '', 80)}")
        if len(self._owners) > _KNOWN_OWNERS:
            self._owners = {None}
        self._owners.add(name)

    def _check_rare(self, entry: Entry) -> None:
        if entry.type == "symlink":
            if entry.target is not None or entry.target_b64 is not None:
                check_path_pair(entry.target, entry.target_b64, MAX_LINK_TARGET, "a link's target")
            elif not entry.flags:
                raise MalformedDocumentError("a symbolic link has no target, and no flag that says why")
        elif entry.target is not None or entry.target_b64 is not None:
            raise MalformedDocumentError(f"a {entry.type} cannot have a target")
        if entry.hardlink_to is not None or entry.hardlink_to_b64 is not None:
            other = EvidencePath(from_json_fields(entry.hardlink_to, entry.hardlink_to_b64))
            own = EvidencePath(from_json_fields(entry.path, entry.path_b64))
            if entry.type == "directory" or not other.raw or other.parts >= own.parts:
                raise MalformedDocumentError("a hard link does not lead to an entry before it")
        if entry.device_number is not None and (
            entry.type not in _DEVICES or _DEVICE_NUMBER.fullmatch(entry.device_number) is None
        ):
            raise MalformedDocumentError("a device number is malformed, or not on a device")
        if entry.inode_flags is not None and not entry.inode_flags.strip("0"):
            raise MalformedDocumentError("an entry states inode flags, and has none")
        if entry.flags is not None:
            ranks = [_FLAG_RANK[flag] for flag in entry.flags]
            if not ranks or any(left >= right for left, right in pairwise(ranks)):
                raise MalformedDocumentError("an entry's flags are empty, repeated or out of order")
        if entry.read_in is not None:
            self._check_read_in(entry, entry.read_in)
        if entry.capture is not None:
            check_capture(entry, entry.capture)

    def _check_read_in(self, entry: Entry, number: int) -> None:
        is_whole = entry.type == "file" and entry.blake3 is not None and entry.flags is None and entry.read_errors is None
        if number >= self.acquisition or not is_whole or entry.capture is not None:
            raise MalformedDocumentError("an entry says that it was read in an earlier acquisition, and cannot have been")

    def _check_lists(self, entry: Entry, line: Entry | Continuation) -> None:
        if line.xattrs is not None:
            self._check_attributes(line.xattrs)
        if line.holes is not None or line.read_errors is not None:
            if entry.type not in ("file", "block-device"):
                raise MalformedDocumentError(f"a {entry.type} cannot have holes or read errors")
            self._check_holes(line.holes)
            self._check_read_errors(line.read_errors)

    def _check_attributes(self, attributes: dict[str, str]) -> None:
        self._attribute_bytes += sum(len(name) + len(value) for name, value in attributes.items())
        if self._attribute_bytes > _MOST_ATTRIBUTES:
            raise MalformedDocumentError("an entry has more attributes than any honest one")
        if not 1 <= len(attributes) <= LIST_CAP_PER_LINE:
            raise MalformedDocumentError("a line has no, or too many, extended attributes")
        for name, value in attributes.items():
            if not 1 <= len(name) <= MAX_XATTR_NAME or not is_clean(name) or name <= self._attribute:
                raise MalformedDocumentError(f"an attribute's name is unclean, too long or out of order: {safe_text(name, 80)}")
            self._attribute = name
            try:
                same = base64.b64encode(base64.b64decode(value, validate=True)).decode("ascii") == value
            except (binascii.Error, ValueError):
                same = False
            if not same:
                raise MalformedDocumentError("an attribute's value is not in the one form of base64")

    def _check_holes(self, holes: list[Extent] | None) -> None:
        if holes is None:
            return
        if not holes:
            raise MalformedDocumentError("a list of holes is empty")
        for offset, length in holes:
            self._hole_end = _next_end(self._hole_end, offset, length, "holes")

    def _check_read_errors(self, errors: list[ReadError] | None) -> None:
        if errors is None:
            return
        if not errors:
            raise MalformedDocumentError("a list of read errors is empty")
        for error in errors:
            self._error_end = _next_end(self._error_end, error.offset, error.length, "read errors")
            if not 0 <= error.errno <= MAX_ERRNO:
                raise MalformedDocumentError("a read error has an impossible number")


def _next_end(end: int, offset: int, length: int, what: str) -> int:
    if offset < end or length < 1 or offset + length > MAX_FILE_SIZE:
        raise MalformedDocumentError(f"{what} overlap, are empty, or are out of order")
    return offset + length


def decode_run(block: bytes, lines_before: int) -> list[ManifestLine]:
    """Decodes a run of whole lines, each of which must be in the canonical form that a signer writes.

    `lines_before` gives the line number in an error. Raises MalformedDocumentError.
    """
    if len(block) > MAX_MANIFEST_LINE and max(map(len, block.split(b"\n"))) >= MAX_MANIFEST_LINE:
        raise MalformedDocumentError(f"a manifest's line after line {lines_before} is longer than any honest one")
    if _CONTINUATION_START not in block:
        entries = _decode_fast(block)
        if entries is not None:
            return entries
    return [
        _decode_line(line, f"line {number} of the manifest")
        for number, line in enumerate(block[:-1].split(b"\n"), lines_before + 1)
    ]


def _decode_line(line: bytes, what: str) -> ManifestLine:
    if line.startswith(_CONTINUATION_START):
        return decode_exactly(_CONTINUATION, line, what)
    entry = decode_exactly(_ENTRY, line, what)
    if not _fits_patterns([entry]):
        raise MalformedDocumentError(f"{what} has a value that is not in its one form")
    return entry


def _decode_fast(block: bytes) -> list[ManifestLine] | None:
    try:
        mirrored = _MIRROR.decode_lines(block)
        entries: list[ManifestLine] = [Entry(*msgspec.structs.astuple(line)) for line in mirrored]
        same = _ENCODER.encode_lines(entries) == block
    except UNREADABLE:
        return None  # not ignored: the slow decoder finds the line and raises
    return entries if same and _fits_patterns(entries) else None


def _fits_patterns(entries: list[Any]) -> bool:
    """Whether every value matches the regular expression of its type, from end to end and in ASCII."""
    for columns, pattern in _COLUMNS:
        values = [value for column in columns for value in map(column, entries) if value is not None]
        joined = "\n".join(values)
        if values and (joined.count("\n") != len(values) - 1 or pattern.fullmatch(joined) is None):
            return False
    return True


def _constraints(annotation: Any) -> tuple[Any, msgspec.Meta | None]:
    """Returns the plain type of a field that may be absent, and its bounds."""
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Annotated:
        base, meta = get_args(annotation)
        return base, meta
    return annotation, None


def _mirror_of(struct: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Returns a copy of a struct whose fields keep all bounds except the patterns."""
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for known in msgspec.structs.fields(struct):
        base, meta = _constraints(known.type)
        if meta is None or meta.pattern is None:
            kept = known.type
        else:
            kept = Annotated[base, msgspec.Meta(min_length=meta.min_length, max_length=meta.max_length)] | None
        fields.append((known.name, kept) if known.required else (known.name, kept, known.default))
    config = struct.__struct_config__
    return msgspec.defstruct(
        "EntryMirror",
        fields,
        frozen=config.frozen,
        omit_defaults=config.omit_defaults,
        forbid_unknown_fields=config.forbid_unknown_fields,
        gc=False,
    )


def _columns_of(struct: type[msgspec.Struct]) -> list[tuple[list[attrgetter[Any]], re.Pattern[str]]]:
    """Returns, for each pattern in a struct, the fields that have it, and an expression for many such values, one per line."""
    names: dict[str, list[attrgetter[Any]]] = {}
    for known in msgspec.structs.fields(struct):
        meta = _constraints(known.type)[1]
        if meta is not None and meta.pattern is not None:
            names.setdefault(meta.pattern.removeprefix("^").removesuffix("$"), []).append(attrgetter(known.name))
    return [(columns, re.compile(rf"{one}(?:\n{one})*+", re.ASCII)) for one, columns in names.items()]


_MIRROR: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(_mirror_of(Entry))
_COLUMNS: Final = _columns_of(Entry)
