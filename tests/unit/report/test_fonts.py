"""Fonts of the machine: what they have is known before a PDF is set, and what is broken is not used."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from evidencesync.report import fonts
from evidencesync.report.fonts import Font, found_fonts
from evidencesync.report.texts import Glyphs


def font_of(*tables: bytes, collection: bool = False) -> bytes:
    """A font of nothing but a table of characters, with these subtables."""
    offsets = [4 + 8 * len(tables) + sum(map(len, tables[:number])) for number in range(len(tables))]
    cmap = (
        struct.pack(">HH", 0, len(tables)) + b"".join(struct.pack(">HHI", 3, 10, offset) for offset in offsets) + b"".join(tables)
    )
    start = 16 if collection else 0
    head = b"ttcf" + struct.pack(">III", 0x10000, 1, start) if collection else b""
    directory = struct.pack(">IHHHH", 0x10000, 1, 0, 0, 0) + struct.pack(">4sIII", b"cmap", 0, start + 28, len(cmap))
    return head + directory + cmap


def long_table(*groups: tuple[int, int]) -> bytes:
    """Format 12."""
    body = b"".join(struct.pack(">III", first, last, 1) for first, last in groups)
    return struct.pack(">HHIII", 12, 0, 16 + len(body), 0, len(groups)) + body


def short_table(*segments: tuple[int, int]) -> bytes:
    """Format 4."""
    count = len(segments)
    ends = b"".join(struct.pack(">H", last) for _, last in segments)
    starts = b"".join(struct.pack(">H", first) for first, _ in segments)
    return struct.pack(">HHHHHHH", 4, 0, 0, 2 * count, 0, 0, 0) + ends + b"\0\0" + starts + bytes(4 * count)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fonts, "FOLDERS", (tmp_path / "none", tmp_path))
    (tmp_path / "noto").mkdir()
    return tmp_path / "noto"


def test_a_font_has_what_its_tables_say_and_what_is_never_shown_is_not_among_it(place: Path) -> None:
    (place / "NotoSansArabic-Regular.ttf").write_bytes(font_of(long_table((0x200B, 0x200F), (0x627, 0x629), (0x202A, 0x202E))))
    (place / "NotoSansCJK-Regular.ttc").write_bytes(font_of(short_table((0x4E00, 0x4E02), (0xFFFF, 0xFFFF)), collection=True))
    (place / "NotoSansOther-Regular.ttf").write_bytes(font_of(long_table((1, 9))))
    found = [(font.family, font.characters) for font in found_fonts()]
    assert found == [("Noto Sans Arabic", frozenset("\u0627\u0628\u0629")), ("Noto Sans CJK SC", frozenset("\u4e00\u4e01\u4e02"))]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ttcf",
        b"no font at all, but long enough to look like one",
        font_of(long_table((0x4E00, 0x4E02)))[:60],
        font_of(struct.pack(">HHIII", 12, 0, 16, 0, 1 << 31)),
        font_of(short_table())[:-3] + struct.pack(">H", 0xFFFF),
    ],
)
def test_a_broken_font_has_nothing_and_ends_nothing(place: Path, data: bytes) -> None:
    (place / "NotoSansCJK-Regular.ttc").write_bytes(data)
    assert all(not font.characters for font in found_fonts())


def test_a_table_that_claims_all_characters_has_no_more_than_there_are(place: Path) -> None:
    (place / "NotoSansCJK-Regular.ttc").write_bytes(font_of(long_table((0, 0xFFFFFFFF))))
    (font,) = found_fonts()
    assert "送" in font.characters
    assert "\u202e" not in font.characters


def test_what_no_font_has_is_counted_and_only_fonts_that_are_needed_are_named() -> None:
    glyphs = Glyphs([Font("A", Path("a"), frozenset("送")), Font("B", Path("b"), frozenset("ب"))])
    assert glyphs("送 – 金金😀 é") == "送 – \\u{91d1}\\u{91d1}\\u{1f600} é"
    assert (glyphs.families, glyphs.missing) == (["A"], {"金", "😀"})
    assert Glyphs(None)("é") == "\\u{e9}"
