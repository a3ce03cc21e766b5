"""Decodes runs of manifest lines: as strict as decoding each line by its type, in a fifth of the time.

A regular expression on every field of every line costs more than all other work together. So a run is decoded by a
copy of Entry that has no patterns; then each kind of field is checked by one expression over the values of the whole run.
A run that does not pass is decoded once more, line by line, for an error that names the line.
"""

from __future__ import annotations

import re
from operator import attrgetter
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec

from evidencesync.custody.text import UNREADABLE, decode_exactly
from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.entry import Continuation, Entry
from evidencesync.limits import MAX_MANIFEST_LINE

ManifestLine = Entry | Continuation

_CONTINUATION_START: Final = b'{"type":"continued"'
_ENCODER: Final = msgspec.json.Encoder()
_ENTRY: Final = msgspec.json.Decoder(Entry)
_CONTINUATION: Final = msgspec.json.Decoder(Continuation)


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
