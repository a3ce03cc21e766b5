"""Writes and strictly reads manifests: a header line, one or more lines for each entry in walk order, a footer line.

The reader is a state machine: header, entries, footer, done. It takes runs of whole lines, keeps no entries, and needs about
7 microseconds for a line (see `entries`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any, Final, NamedTuple

import msgspec

from evidencesync.custody.documents import ManifestFooter, ManifestHeader
from evidencesync.custody.entries import FieldRules, ManifestLine, WalkOrder, decode_run
from evidencesync.custody.text import check_path_pair, check_texts, check_title, check_utc_time, decode_exactly
from evidencesync.custody.wholeness import ManifestTally
from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.entry import Continuation, Entry
from evidencesync.limits import ATTRIBUTES_PER_LINE, LIST_CAP_PER_LINE, MAX_HEADER_LINE, MAX_MANIFEST_LINE, MAX_PATH

CheckedLine = tuple[bytes, ManifestLine]
"""An entry (or a further line of one) with its checked raw path: it cannot lead out of the root."""

_FOOTER_START: Final = b'{"counts":'
_ENCODER: Final = msgspec.json.Encoder()
_HEADER: Final = msgspec.json.Decoder(ManifestHeader)
_FOOTER: Final = msgspec.json.Decoder(ManifestFooter)


# --- Writing -----------------------------------------------------------------------------------------------------------


def encode_header(header: ManifestHeader) -> bytes:
    """Encodes the first line. Raises MalformedDocumentError for a header that a reader would refuse."""
    line = _ENCODER.encode(header) + b"\n"
    decode_header(line)
    return line


def encode_entry(entry: Entry) -> bytes:
    """Encodes an entry as one line; its lists must fit (see `encode_entry_lines`)."""
    return _ENCODER.encode(entry) + b"\n"


def encode_continuation(more: Continuation) -> bytes:
    """Encodes one further line of the entry before it."""
    return _ENCODER.encode(more) + b"\n"


def encode_entry_lines(entry: Entry) -> list[bytes]:
    """Encodes an entry with lists of any length, as one line and as many further lines as they need."""
    if entry.xattrs is None and entry.holes is None and entry.read_errors is None:
        return [_ENCODER.encode(entry) + b"\n"]
    lists: list[list[tuple[str, Any]]] = [
        [("xattrs", part) for part in _cut_attributes(entry.xattrs or {})],
        [("holes", part) for part in _cut(entry.holes or [])],
        [("read_errors", part) for part in _cut(entry.read_errors or [])],
    ]
    first: dict[str, Any] = {"xattrs": None, "holes": None, "read_errors": None}
    first.update(parts[0] for parts in lists if parts)
    lines = [encode_entry(msgspec.structs.replace(entry, **first))]
    lines += [encode_continuation(Continuation(**dict([part]))) for parts in lists for part in parts[1:]]
    return lines


def encode_footer(footer: ManifestFooter) -> bytes:
    """Encodes the last line."""
    return _ENCODER.encode(footer) + b"\n"


def _cut(items: list[Any]) -> Iterator[list[Any]]:
    return (items[start : start + LIST_CAP_PER_LINE] for start in range(0, len(items), LIST_CAP_PER_LINE))


def _cut_attributes(attributes: dict[str, str]) -> Iterator[dict[str, str]]:
    part: dict[str, str] = {}
    size = 0
    for name in sorted(attributes):
        if part and (len(part) == LIST_CAP_PER_LINE or size + len(attributes[name]) > ATTRIBUTES_PER_LINE):
            yield part
            part, size = {}, 0
        part[name] = attributes[name]
        size += len(name) + len(attributes[name])
    if part:
        yield part


# --- Reading -----------------------------------------------------------------------------------------------------------


def decode_header(line: bytes) -> ManifestHeader:
    """Decodes a manifest's first line (with its newline). Raises MalformedDocumentError."""
    if len(line) > MAX_HEADER_LINE or not line.endswith(b"\n"):
        raise MalformedDocumentError("a manifest's header is too long, or has no end")
    header = decode_exactly(_HEADER, line[:-1], "the manifest's header")
    check_texts(header, "the manifest's header")
    check_title(header.case, "the manifest's header")
    check_title(header.item, "the manifest's header")
    check_utc_time(header.started, "the manifest's header")
    if (header.acquisition == 1) != (header.previous_manifest_sha256 is None):
        raise MalformedDocumentError("the manifest's header names a previous manifest for a first acquisition, or none later")
    if header.source.path is not None or header.source.path_b64 is not None:
        check_path_pair(header.source.path, header.source.path_b64, MAX_PATH, "the source's path")
    return header


def decode_last_line(end: bytes) -> ManifestFooter:
    """The footer, from the last bytes of a manifest: MAX_HEADER_LINE of them, or all. Raises MalformedDocumentError."""
    return decode_footer(end[end.rfind(b"\n", 0, max(len(end) - 1, 0)) + 1 :])


def decode_footer(line: bytes) -> ManifestFooter:
    """Decodes a manifest's last line (with its newline). Raises MalformedDocumentError."""
    if not line.endswith(b"\n"):
        raise MalformedDocumentError("a manifest's last line has no end")
    footer = decode_exactly(_FOOTER, line[:-1], "the manifest's footer")
    check_texts(footer, "the manifest's footer")
    check_utc_time(footer.finished, "the manifest's footer")
    return footer


class _State(Enum):
    HEADER = "header"
    ENTRIES = "entries"
    DONE = "done"
    FAILED = "failed"


class ManifestReader:
    """Reads one manifest, given in runs of whole lines, and checks everything that can be checked without the files.

    `header` is set after the first line, `footer` when `done`. After an error, the reader must not be used again.
    """

    def __init__(self) -> None:
        self.header: ManifestHeader | None = None
        self.footer: ManifestFooter | None = None
        self.tally = ManifestTally()
        self._state = _State.HEADER
        self._order = WalkOrder()
        self._fields = FieldRules()
        self._path = b""
        self._lines = 0

    @property
    def done(self) -> bool:
        """Whether the footer was read and agreed with the lines before it."""
        return self._state is _State.DONE

    @property
    def single(self) -> bool:
        """Whether the source is one file or device, without a root folder. Known after the first entry."""
        return self._order.single

    def read_lines(self, block: bytes) -> list[CheckedLine]:
        """Reads a run of whole lines and returns its entries, each with its checked raw path.

        Raises PathEscapeError for a path that could leave the root, and MalformedDocumentError for anything else that a
        signer does not write, whatever the bytes are.
        """
        if not block:
            return []
        state, self._state = self._state, _State.FAILED
        if state in (_State.DONE, _State.FAILED):
            raise MalformedDocumentError("a manifest goes on after its end, or after an error in it")
        if not block.endswith(b"\n"):
            raise MalformedDocumentError(f"a manifest is cut off in line {self._lines + 1}")
        if state is _State.HEADER:
            first_end = block.index(b"\n") + 1
            self.header = decode_header(block[:first_end])
            self._fields.acquisition = self.header.acquisition
            block = block[first_end:]
            self._lines = 1
        last_start = block.rfind(b"\n", 0, -1) + 1
        has_footer = block.startswith(_FOOTER_START, last_start)
        checked = self._read_entries(block[:last_start] if has_footer else block)
        if has_footer:
            self._read_footer(block[last_start:])
        self._state = _State.DONE if has_footer else _State.ENTRIES
        return checked

    def finish(self) -> ManifestFooter:
        """Returns the footer, at the end of the input. Raises MalformedDocumentError when the manifest has not ended."""
        if self.footer is None or self._state is not _State.DONE:
            raise MalformedDocumentError(f"a manifest ends without its footer, after line {self._lines}")
        return self.footer

    def _read_footer(self, line: bytes) -> None:
        if self.tally.counts == {}:
            raise MalformedDocumentError("a manifest lists nothing, not even its root")
        footer = decode_footer(line)
        for remark, count in (footer.remarks or {}).items():  # not computable from the entries: taken as the signer states them
            self.tally.remark(remark, count)
        if encode_footer(self.tally.footer(footer.finished)) != line:
            raise MalformedDocumentError("a manifest's footer does not agree with its entries")
        self.footer = footer
        self._lines += 1

    def _read_entries(self, block: bytes) -> list[CheckedLine]:
        if not block:
            return []
        decoded = decode_run(block, self._lines)
        admit_order, admit_fields, count = self._order.admit, self._fields.admit, self.tally.add
        path = self._path
        checked: list[CheckedLine] = []
        for line in decoded:
            if isinstance(line, Entry):
                path = admit_order(line)
                admit_fields(line, single=self._order.single)
                count(line)
            else:
                self._fields.admit_continuation(line)
            checked.append((path, line))
        self._path = path
        self._lines += len(decoded)
        return checked


def read_manifest(blocks: Iterable[bytes], reader: ManifestReader | None = None) -> Iterator[CheckedLine]:
    """Reads a whole manifest given in blocks of any size, and yields every entry. At the end, `reader.footer` is set.

    At most one line is buffered, and no more than the longest allowed line. Raises as `ManifestReader` does.
    """
    reader = ManifestReader() if reader is None else reader
    rest = b""
    for block in blocks:
        end = block.rfind(b"\n") + 1
        if end:
            yield from reader.read_lines(rest + block[:end])
            rest = block[end:]
        else:
            rest += block
        if len(rest) > MAX_MANIFEST_LINE:
            raise MalformedDocumentError("a manifest has a line that is longer than any honest one")
    if rest:
        raise MalformedDocumentError("a manifest is cut off in its last line")
    reader.finish()


class WholeEntry(NamedTuple):
    """An entry with its checked raw path, and all its extended attributes (names and base64)."""

    path: bytes
    entry: Entry
    attributes: dict[str, str] | None


def whole_entries(lines: Iterable[CheckedLine], takes: Callable[[bytes], bool] | None = None) -> Iterator[WholeEntry]:
    """Joins the lines of each entry of a manifest: of all, or of those for whose path `takes` returns true.

    `takes` is called for all paths, in order. The reader of the lines bounds the number of attributes of an entry.
    """
    last: tuple[bytes, Entry] | None = None
    attributes: dict[str, str] | None = None
    for path, line in lines:
        if isinstance(line, Entry):
            if last is not None:
                yield WholeEntry(*last, attributes)
            last = (path, line) if takes is None or takes(path) else None
            attributes = line.xattrs
        elif line.xattrs is not None and last is not None:
            attributes = {**(attributes or {}), **line.xattrs}
    if last is not None:
        yield WholeEntry(*last, attributes)
