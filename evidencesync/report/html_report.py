"""Writes the report as one self-contained HTML file: no network, no script but its own, nothing that evidence could control.

File tables are compressed blocks of data, which the page's script shows as text, some rows at a time. The first rows are in the
page itself, for print and for browsers without scripts.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from itertools import chain, islice
from typing import Any, Final

from evidencesync.report import texts
from evidencesync.report.blocks import FILE_COLUMNS, FileTable, Pages, Picture, Sink
from evidencesync.report.manifests import FileRow, file_rows
from evidencesync.report.volumes import Volume

STATIC_ROWS: Final = 3000  # of all tables together, which a print shows
_FEWEST_ROWS: Final = 100  # of each
_HYPHENED: Final = r"(?<![\w.&#;-])(?=[\w-]{3,24}(?![\w/-]))[A-Za-z0-9]+(?:-[A-Za-z0-9]+)+(?![\w/-])"
_FINGERPRINT: Final = r"\b[0-9a-f]{4}(?: [0-9a-f]{4}){4}\b"
_WHOLE: Final = re.compile(f"{_HYPHENED}|{_FINGERPRINT}")
_ROWS_IN_BLOCK: Final = 2000


@dataclass(frozen=True, slots=True)
class _Block:
    """Some rows of a table: JSON, deflated, in base64."""

    count: int
    data: str


class _Files:
    """The rows of one acquisition, read once: the first are kept to be seen, then all go into blocks."""

    def __init__(self, rows: Iterator[FileRow], seen: int) -> None:
        self.first = list(islice(rows, seen))
        self._rest = rows

    def blocks(self) -> Iterator[_Block]:
        """All rows."""
        rows = chain(self.first, self._rest)
        while some := list(islice(rows, _ROWS_IN_BLOCK)):
            packer = zlib.compressobj(6, zlib.DEFLATED, -15)
            data = packer.compress(json.dumps(some, ensure_ascii=True, separators=(",", ":")).encode()) + packer.flush()
            yield _Block(len(some), base64.b64encode(data).decode("ascii"))


def write_html(volume: Volume, pages: Pages, out: Sink) -> None:
    """Writes the page, a piece at a time. Raises OSError."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("evidencesync.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    style, script = (_part(name) for name in ("report.css", "report.js"))

    def drawing(picture: Picture) -> Any:
        return Markup(picture.svg)  # noqa: S704  # our own drawing; every text in it was escaped (svg.Canvas)

    tables = volume.tables
    seen = max(STATIC_ROWS // max(len(tables), 1), _FEWEST_ROWS)
    environment.filters["whole"] = _whole
    stream = environment.get_template("report.html").stream(
        pages=pages,
        contents=texts.CONTENTS,
        more=texts.NOT_IN_PRINT,
        style=Markup(style),  # noqa: S704  # our own file
        script=Markup(script),  # noqa: S704  # our own file
        style_hash=_source_hash(style),
        script_hash=_source_hash(script),
        columns=FILE_COLUMNS,
        files_text=_files_text,
        rows_of=lambda index: _Files(file_rows(*tables[index]), seen),
        drawing=drawing,
    )
    stream.enable_buffering(64)
    for piece in stream:
        out.write(piece.encode("utf-8"))


def _whole(text: str) -> Any:
    """The text with fingerprints and short words that have hyphens, such as dates and numbers of exhibits, each in one line."""
    from markupsafe import Markup, escape

    return Markup(_WHOLE.sub(r'<span class="whole">\g<0></span>', str(escape(text))))  # noqa: S704  # was escaped


def _files_text(table: FileTable) -> str:
    return texts.FILES_IN_HTML.format(all=texts.every_entry(table.total), digest=table.digest)


def _part(name: str) -> str:
    return resources.files("evidencesync.report").joinpath("templates", name).read_text("utf-8")


def _source_hash(text: str) -> str:
    """The hash by which the page's Content-Security-Policy allows its one script and its one style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
