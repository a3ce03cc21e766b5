"""The report as JSON: the model itself. The file lists are written as they are read, so that no report is too large."""

from __future__ import annotations

from typing import Final

import msgspec

from evidencesync.errors import InternalError
from evidencesync.evidence.entry import Entry
from evidencesync.report.filerows import manifest_lines
from evidencesync.report.gather import Gathered
from evidencesync.report.sink import Sink

_EMPTY_END: Final = b'"files":[]}'
_BLOCK: Final = 1 << 18


def write_json(gathered: Gathered, out: Sink) -> None:
    """Writes one JSON document. Raises OSError."""
    encoder = msgspec.json.Encoder()
    head = encoder.encode(gathered.report)
    if not head.endswith(_EMPTY_END):
        raise InternalError("a report's last field is not its file lists")
    out.write(head[: -len(b"]}")])
    first = True
    for item, layout in zip(gathered.report.items, gathered.layouts, strict=True):
        for one in item.acquisitions:
            start = f'"item":{encoder.encode(item.item).decode()},"acquisition":{one.number},"entries":['
            out.write(b"" if first else b",\n")
            out.write(b"{" + start.encode())
            first = False
            buffer, separator = bytearray(), b"\n"
            continued = 0
            for line in manifest_lines(layout, one.number):
                if not isinstance(line, Entry):
                    continued += 1
                    continue
                buffer += separator + encoder.encode(line)
                separator = b",\n"
                if len(buffer) >= _BLOCK:
                    out.write(bytes(buffer))
                    buffer.clear()
            out.write(bytes(buffer) + f'\n],"continued":{continued}}}'.encode())
    out.write(b"\n]}\n")
