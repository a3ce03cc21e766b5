"""Fonts of this machine for scripts that a PDF's own fonts lack, and which characters they have.

They are looked for by name in the folders of the system: nothing is ever fetched. A font that cannot be read is not used.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evidencesync.evidence.display import is_invisible, is_unsafe
from evidencesync.limits import MAX_FONT_TABLE

FOLDERS: Final = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
_SCRIPTS: Final = (
    *("Arabic", "Hebrew", "Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala"),
    *("Thai", "Lao", "Khmer", "Myanmar", "Georgian", "Armenian", "Ethiopic"),
)
# By the name of its file: what typst calls the font. One that has all of Chinese, Japanese and Korean comes last.
_FAMILIES: Final = {
    "NotoSans-Regular.ttf": "Noto Sans",
    **{f"NotoSans{script}-Regular.ttf": f"Noto Sans {script}" for script in _SCRIPTS},
    "NotoSansCJK-Regular.ttc": "Noto Sans CJK SC",
}
_COLLECTION: Final = b"ttcf"
_MOST_TABLES: Final = 100
_BEYOND: Final = 0x110000


@dataclass(frozen=True, slots=True)
class Font:
    """One font that was found. `characters` are those that it has, without what is never shown."""

    family: str
    file: Path
    characters: frozenset[str]


def found_fonts() -> list[Font]:
    """The fonts of this machine that may be used, each once, in a fixed order. Raises nothing."""
    places: dict[str, Path] = {}
    for top in FOLDERS:
        for folder, _, names in os.walk(top):
            for name in names:
                if name in _FAMILIES:
                    places.setdefault(name, Path(folder) / name)
    return [font for name, family in _FAMILIES.items() if name in places and (font := _read(family, places[name])) is not None]


def _read(family: str, file: Path) -> Font | None:
    try:
        with file.open("rb") as stream:
            codes = set(_codes(_cmap(stream.fileno())))
    except (OSError, struct.error, ValueError):
        return None
    characters = (chr(code) for code in codes if code < _BEYOND)
    return Font(family, file, frozenset(one for one in characters if not is_unsafe(one) and not is_invisible(one)))


def _cmap(file: int) -> bytes:
    """The table of a font that leads from characters to glyphs; of a collection that of its first font. Source: OpenType 1.9."""
    start = 0
    if os.pread(file, 4, 0) == _COLLECTION:
        (start,) = struct.unpack(">I", os.pread(file, 4, 12))
    (count,) = struct.unpack(">H", os.pread(file, 2, start + 4))
    directory = os.pread(file, 16 * min(count, _MOST_TABLES), start + 12)
    for tag, _, offset, length in struct.iter_unpack(">4sIII", directory):
        if tag == b"cmap" and length <= MAX_FONT_TABLE:
            return os.pread(file, length, offset)
    raise ValueError("no table of characters")


def _codes(table: bytes) -> Iterator[int]:
    """Every character of a table, by its subtables for Unicode: format 12 has all of them, format 4 those of 16 bits."""
    (count,) = struct.unpack_from(">H", table, 2)
    for number in range(count):
        platform, _, offset = struct.unpack_from(">HHI", table, 4 + 8 * number)
        (form,) = struct.unpack_from(">H", table, offset)
        if platform not in (0, 3):
            continue
        if form == 12:
            (groups,) = struct.unpack_from(">I", table, offset + 12)
            for first, last, _ in struct.iter_unpack(">III", table[offset + 16 : offset + 16 + 12 * groups]):
                yield from range(first, min(last + 1, _BEYOND))
        elif form == 4:
            yield from _short_codes(table, offset)


def _short_codes(table: bytes, offset: int) -> Iterator[int]:
    (doubled,) = struct.unpack_from(">H", table, offset + 6)
    ends = struct.unpack_from(f">{doubled // 2}H", table, offset + 14)
    starts = struct.unpack_from(f">{doubled // 2}H", table, offset + 16 + doubled)
    for first, last in zip(starts, ends, strict=True):
        yield from range(first, min(last, 0xFFFE) + 1)
