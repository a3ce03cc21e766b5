"""Writes a report in one of its three forms."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from evidencesync.errors import InternalError
from evidencesync.evidence.entry import Entry
from evidencesync.report.blocks import Sink
from evidencesync.report.compose import compose
from evidencesync.report.gather import Gathered
from evidencesync.report.html_report import write_html
from evidencesync.report.manifests import manifest_lines
from evidencesync.report.pdf_report import write_pdf

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


def write_report(gathered: Gathered, kind: Literal["html", "pdf", "json"], out: Sink) -> None:
    """Writes the whole report. Raises MissingPartError where its form needs what is not installed, and OSError."""
    if kind == "json":
        write_json(gathered, out)
        return
    pages = compose(gathered.report)
    (write_html if kind == "html" else write_pdf)(gathered, pages, out)
