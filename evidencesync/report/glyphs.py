"""What the fonts that come with typst can show. A PDF/A file refuses any other character, so it is shown as its number."""

from __future__ import annotations

import re
from typing import Final

# Found by setting each character in PDF/A with typst 0.15; a test sets all of them again. Left out: scripts that are written
# from right to left, for they would reorder what stands beside them.
_COVERED: Final = """
0020-007E
00A1-00AC 00AE-0377 037A-037F 0384-038A 038C 038E-03A1 03A3-0487 048A-04FF 0510-0513 051A-051D 1D00-1F15
1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FC4 1FC6-1FD3 1FD6-1FDB
1FDD-1FEF 1FF2-1FF4 1FF6-1FFE 2010-2027 2030-2040 2042 2044-2052 2054-205E 2070-2071 2074-208E 2090-209C
20A0-20C0 20D0-20DC 20E1 20E5-20F0 2100-211E 2120 2122 2124 2126-2151 2153-2184 2189 2190-23FF 2422-2423
2460-262F 2638-268B 2690-269C 26A0-26A7 26AA-26B2 2701-2704 2706-2709 270C-2727 2729-274B 274D 274F-2752 2756
2758-275E 2761-277F 2794 2798-27AF 27B1-2B73 FB00-FB06
"""


def _character_class() -> str:
    parts = [part.partition("-") for part in _COVERED.split()]
    return "".join(f"\\U{int(first, 16):08x}-\\U{int(last or first, 16):08x}" for first, _, last in parts)


_REFUSED: Final = re.compile(f"[^{_character_class()}]")


def covered() -> list[str]:
    """Every character that is shown as it is."""
    parts = [part.partition("-") for part in _COVERED.split()]
    return [chr(code) for first, _, last in parts for code in range(int(first, 16), int(last or first, 16) + 1)]


def drawable(text: str) -> str:
    r"""`text` with each character that no font has as `\u{HEX}`. Text that is safe to show has no single backslash of its own."""
    return text if text.isascii() and text.isprintable() else _REFUSED.sub(_number, text)


def plain(text: str) -> str:
    r"""`text` with each character beyond printable ASCII as `\u{HEX}`: what every font has."""
    return re.sub("[^ -~]", _number, text)


def _number(match: re.Match[str]) -> str:
    return f"\\u{{{ord(match[0]):x}}}"
