"""Writes the report as PDF/A-3b, set by typst with its own fonts. Quoted text is passed as data, never as markup.

The same report gives the same bytes: the only time in the file is the report's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec

from evidencesync.errors import EvidenceSyncError, InternalError
from evidencesync.evidence.utc_time import parse_utc_time
from evidencesync.files.disk import opened_file, opened_folder, storing
from evidencesync.files.shortages import require_address_space
from evidencesync.files.temporary import temporary_folder, writing_temporary
from evidencesync.limits import MAX_PDF_ATTACHMENTS, MAX_PDF_FILES, MAX_PDF_ROWS, MIB
from evidencesync.optional_parts import missing_part
from evidencesync.report import texts
from evidencesync.report.blocks import FILE_COLUMNS, AnyBlock, FileTable, Pages, Picture, Sink, Table
from evidencesync.report.fonts import found_fonts
from evidencesync.report.manifests import FileRow, file_rows
from evidencesync.report.texts import Glyphs, plain
from evidencesync.report.volumes import Volume
from evidencesync.vault.layout import MANIFEST, MANIFEST_SIGNATURE, RECEIPT, RECEIPT_SIGNATURE, ItemLayout
from evidencesync.vault.ledger import Ledger

# Both standards at once: for archives, and for screen readers.
STANDARDS: Final = ("a-3b", "ua-1")
_DOCUMENTS: Final = (RECEIPT, RECEIPT_SIGNATURE, MANIFEST_SIGNATURE, MANIFEST)
_NAMED: Final = 20  # documents that are not attached
_NO_GLYPH: Final = "could not be displayed"
# Address space. typst aborts the process where an allocation is refused, so that is asked before. Measured, with a margin.
_TYPST_LIBRARY: Final = 70 << 20
_TYPST_BYTES: Final = 50 << 20
_TYPST_BYTES_FOR_EACH: Final = 150  # byte of the data: about 100 KB for each row
_ROOT: Final = re.compile(rb"/Root (\d{1,9}) 0 R")
_TABLE: Final = re.compile(rb"startxref\s+(\d{1,12})\s")
_TABLE_LINE: Final = 20  # bytes, of which the first ten are an object's place
_SUSPECTS: Final = b"/Suspects false"
_TYPES: Final = {".json": "application/json", ".jsonl": "application/jsonl", ".sig": "text/plain"}


@dataclass(slots=True)
class _Room:
    """How many rows may still be set: in all tables together, and in each file table."""

    rows: int
    files: int


class _Attachment(NamedTuple):
    name: str
    file: str
    mime: str
    description: str


def require_typst() -> Any:
    """The module that sets a PDF. Raises MissingPartError without it, NoMemoryError without room for it."""
    require_address_space(_TYPST_LIBRARY + _TYPST_BYTES, "a PDF")
    try:
        import typst
    except ImportError as error:
        raise missing_part(error, "a PDF", "pdf") from error
    return typst


def write_pdf(volume: Volume, pages: Pages, out: Sink) -> None:
    """Writes a PDF. Raises what `require_typst` does, and OSError."""
    out.write(_set(volume, pages, require_typst()))


def _set(volume: Volume, pages: Pages, typst: Any) -> bytes:
    """The PDF, set in a temporary folder: the only place that this writes to."""
    with temporary_folder("report-") as folder:
        template = resources.files("evidencesync.report").joinpath("templates", "report.typ").read_bytes()
        fonts = found_fonts()
        with writing_temporary():
            (folder / "report.typ").write_bytes(template)
            attachments, left_out = attach(volume, folder)
            (folder / "fonts").mkdir()
            for font in fonts:
                (folder / "fonts" / font.file.name).symlink_to(font.file.absolute())
        compiler = typst.Compiler(root=str(folder), font_paths=[str(folder / "fonts")], ignore_system_fonts=True)
        # One glyph that no font has refuses the whole document: other fonts than were thought, or a letter with an odd mark.
        for glyphs in (Glyphs(fonts), Glyphs([]), Glyphs(None)):
            data = {**_data(volume, pages, glyphs), **_about(attachments, left_out, glyphs)}
            encoded = msgspec.json.encode(data)
            with writing_temporary():
                (folder / "data.json").write_bytes(encoded)
            require_address_space(_TYPST_BYTES + _TYPST_BYTES_FOR_EACH * len(encoded), "a PDF of this size")
            try:
                made = compiler.compile(input=str(folder / "report.typ"), format="pdf", pdf_standards=list(STANDARDS))
            except typst.TypstError as error:
                if _NO_GLYPH in str(error) and not glyphs.is_plain:
                    continue
                raise InternalError(f"typst refused the report: {plain(str(error))[:500]}") from error
            return _without_suspects(made if isinstance(made, bytes) else b"".join(made or ()))
    raise InternalError("typst refused the report, also without the characters that its fonts lack")


def _without_suspects(pdf: bytes) -> bytes:
    """The PDF without `/Suspects false`, which says what its absence says, and which poppler calls a syntax error.

    It is looked for in the catalog alone, by the file's table of objects: the same bytes may stand in an attached document.
    Blanks take its place, so that no object moves.
    """
    root = _ROOT.search(pdf, pdf.rfind(b"trailer"))
    table = _TABLE.search(pdf, pdf.rfind(b"startxref"))
    if root is None or table is None:
        return pdf
    first = pdf.find(b"\n", pdf.find(b"\n", int(table[1])) + 1) + 1  # after `xref` and `0 N`
    line = pdf[first + _TABLE_LINE * int(root[1]) :][:10]
    start = int(line) if line.isdigit() else len(pdf)
    end = pdf.find(b"endobj", start)
    catalog = pdf[start:end]
    if not catalog.startswith(b"%d 0 obj" % int(root[1])):
        return pdf
    return pdf[:start] + catalog.replace(_SUSPECTS, b" " * len(_SUSPECTS), 1) + pdf[end:]


def _data(volume: Volume, pages: Pages, show: Glyphs) -> dict[str, Any]:
    """What the template reads."""
    tables = volume.tables
    room = _Room(MAX_PDF_ROWS, MAX_PDF_FILES // max(len(tables), 1))
    sections = [
        {
            "title": show(section.title),
            "level": section.level,
            "new_page": section.new_page,
            "wide": any(isinstance(block, FileTable) for block in section.blocks),
            "blocks": [_block(block, tables, room, show) for block in section.blocks],
        }
        for section in pages.sections
    ]
    return {
        "made": _calendar(pages.made_at),
        "footer": show(pages.footer),
        "first": _shown(msgspec.to_builtins(pages.first), show),
        "contents": texts.CONTENTS,
        "sections": sections,
        "file-columns": msgspec.to_builtins(FILE_COLUMNS),
    }


def _calendar(moment: str) -> list[int]:
    parse_utc_time(moment)
    return [int(part) for part in (moment[:4], moment[5:7], moment[8:10], moment[11:13], moment[14:16], moment[17:19])]


def _block(block: AnyBlock, tables: list[tuple[ItemLayout, int, dict[bytes, str]]], room: _Room, show: Glyphs) -> Any:
    if isinstance(block, FileTable):
        rows = [[show(cell) for cell in _cells(row)] for row in islice(file_rows(*tables[block.index]), room.files)]
        words = texts.ALL_FILES_IN_PDF if len(rows) == block.total else texts.FILES_IN_PDF
        every = texts.every_entry(block.total)
        text = words.format(shown=len(rows), total=block.total, all=every, digest=block.digest)
        return {"kind": "files", "caption": show(block.caption), "text": text, "rows": rows}
    if isinstance(block, Table):
        block = _cut(block, room)
    plain_block = msgspec.to_builtins(block)
    if isinstance(block, Picture):
        return {**_shown(plain_block, show), "svg": plain(block.svg) if show.is_plain else block.svg}
    return _shown(plain_block, show)


def _cut(table: Table, room: _Room) -> Table:
    """A table with no more rows than there is room for; it says how many are not shown."""
    count = min(len(table.rows), room.rows)
    room.rows -= count
    if count == len(table.rows):
        return table
    note = texts.ROWS_LEFT_OUT.format(left=len(table.rows) - count)
    return msgspec.structs.replace(table, caption=f"{table.caption} ({note})", rows=table.rows[:count])


def _cells(row: FileRow) -> list[str]:
    return [row.path, row.type, "" if row.size is None else f"{row.size:,}", row.modified, row.sha256, row.remarks]


def _shown(value: Any, show: Glyphs) -> Any:
    """Every text in a tree of lists and dictionaries, as the fonts can show it."""
    if isinstance(value, str):
        return show(value)
    if isinstance(value, list):
        return [_shown(each, show) for each in value]
    if isinstance(value, dict):
        return {name: _shown(each, show) for name, each in value.items()}
    return value


# --- What is attached --------------------------------------------------------------------------------------------------


def attach(volume: Volume, folder: Path) -> tuple[list[_Attachment], list[str]]:
    """Manifests, receipts and custody records with their signatures, copied as they are; and those that were not, by name."""
    room = MAX_PDF_ATTACHMENTS
    attached: list[_Attachment] = []
    left_out: list[str] = []
    for place, shown in enumerate(volume.items, 1):
        layout = shown.layout
        sources = list(_records(layout)) if shown.begins else []
        for one in shown.acquisitions:
            below = f"{layout.root.name}/{one.number:04}"
            sources += [(layout.acquisition(one.number), name, below) for name in _DOCUMENTS]
        for number, (source, name, below) in enumerate(sources):
            file = folder / f"attached-{place}-{number}"
            size = _copy(source, name, file, room)
            room -= size
            if size:
                mime = _TYPES.get(Path(name).suffix, "application/octet-stream")
                attached.append(_Attachment(f"{below}/{name}".replace("/", "_"), file.name, mime, f"{below}/{name}"))
            else:
                left_out.append(f"{below}/{name}")
    return attached, left_out


def _about(attachments: list[_Attachment], left_out: list[str], show: Glyphs) -> dict[str, Any]:
    """What the template attaches, and what the last page says of that and of the fonts: nothing is left out in silence.

    Made after all other texts were shown, because it counts what no font has.
    """
    said = [texts.ATTACHED.format(count=len(attachments))]
    if left_out:
        more = ["..."] if len(left_out) > _NAMED else []
        said.append(texts.NOT_ATTACHED.format(count=len(left_out), names=", ".join(left_out[:_NAMED] + more)))
    said += [texts.FONTS.format(families=", ".join(show.families) or "none"), texts.NOT_SHAPED]
    said += [texts.NO_GLYPHS.format(count=len(show.missing))] if show.missing else [texts.ALL_GLYPHS]
    return {
        "fonts": show.families,
        "attachments": [one._asdict() for one in attachments],
        "attached": {"heading": texts.ATTACHED_HEADING, "texts": [show(text) for text in said]},
    }


def _records(layout: ItemLayout) -> Iterator[tuple[Path, str, str]]:
    """Every record that is there, with its signature: folder, name, and the folder for people. A gap hides no other record."""
    try:
        files = Ledger(layout.custody).there()
    except EvidenceSyncError:
        yield layout.root, layout.custody.name, layout.root.name  # a folder: it is named among what is not attached
        return
    for file in files:
        for name in (file.name, f"{file.name}.sig"):
            yield layout.custody, name, f"{layout.root.name}/custody"


def _read(file: BinaryIO, name: str) -> bytes:
    """The next bytes of a document. An error of the vault's disk must not be taken for one of the temporary folder's."""
    with storing(lambda: f"read {name}"):
        return file.read(MIB)


def _copy(source: Path, name: str, to: Path, room: int) -> int:
    """Copies a document; how many bytes. None of it where it is missing, empty or too large: then 0."""
    try:
        with opened_folder(source) as folder, opened_file(name, folder) as file:
            size = file.seek(0, 2)
            if not 0 < size <= room:
                return 0
            file.seek(0)
            with to.open("wb") as copy:
                while block := _read(file, name):
                    copy.write(block)
    except EvidenceSyncError:
        return 0
    return size
