"""The blocks of a report's pages. HTML and PDF show the same blocks in the same order.

Every text here is safe to show: `compose` passes all quoted text through `safe_text`.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

Tone = Literal["plain", "note", "warning", "error"]
ColumnKind = Literal["text", "exact", "number"]


class Block(msgspec.Struct, frozen=True, tag_field="kind"):
    """Base of all blocks; `kind` is what templates choose by."""


class Paragraph(Block, frozen=True, tag="paragraph"):
    """Running text."""

    text: str
    tone: Tone = "plain"


class Bullets(Block, frozen=True, tag="bullets"):
    """A list of short texts."""

    items: list[str]


class Fact(msgspec.Struct, frozen=True):
    """A name and its value; `exact` values are set in a fixed width, for comparing."""

    label: str
    value: str
    exact: bool = False


class Facts(Block, frozen=True, tag="facts"):
    """Names and values. With a caption, a PDF repeats it on each page that they stand on."""

    facts: list[Fact]
    caption: str = ""


class Column(msgspec.Struct, frozen=True):
    """One column of a table. `share` is its part of the width."""

    title: str
    kind: ColumnKind = "text"
    share: int = 1


class Table(Block, frozen=True, tag="table"):
    """Rows of texts under headings."""

    caption: str
    columns: list[Column]
    rows: list[list[str]]


class Picture(Block, frozen=True, tag="picture"):
    """A drawing, with the same information as a text."""

    caption: str
    alternative: str
    svg: str


class Commands(Block, frozen=True, tag="commands"):
    """Commands to type, line by line."""

    lines: list[str]


class FileTable(Block, frozen=True, tag="files"):
    """A place for all files of an acquisition: `index` counts these places from 0."""

    index: int
    caption: str
    total: int
    digest: str


AnyBlock = Paragraph | Bullets | Facts | Table | Picture | Commands | FileTable


class Section(msgspec.Struct, frozen=True):
    """A heading and what stands below it. `anchor` is unique, and plain ASCII."""

    title: str
    level: Literal[2, 3]
    anchor: str
    blocks: list[AnyBlock]
    new_page: bool = False


class FirstPage(msgspec.Struct, frozen=True):
    """The first page, with everything that a reader must understand in ten seconds.

    `reservations`: what stands beside the verdict, because nobody may miss it.
    """

    title: str
    subject: str
    state: str
    symbol: str
    word: str
    sentence: str
    reservations: list[str]
    when: str
    facts: list[Fact]
    items: Table
    means: list[str]
    means_not: list[str]


class Pages(msgspec.Struct, frozen=True):
    """A whole report, ready to be set."""

    made_at: str
    footer: str
    first: FirstPage
    sections: list[Section]


FILE_COLUMNS: list[Column] = [
    Column("Path", "exact", 7),
    Column("Type", "text", 2),
    Column("Size (bytes)", "number", 2),
    Column("Modified (UTC)", "text", 3),
    Column("SHA-256", "exact", 10),
    Column("Remarks", "text", 3),
]


class Sink(Protocol):
    """Takes the bytes of a report in their order."""

    def write(self, data: bytes, /) -> object:
        """Takes some more. Raises OSError."""
