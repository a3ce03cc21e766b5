"""A small canvas for SVG: shapes and texts by own code, in inks and patterns that stay apart in black and white print."""

from __future__ import annotations

from html import escape
from typing import Final

from evidencesync.report.glyphs import drawable

WIDTH: Final = 720
_FONT: Final = "Libertinus Serif, Georgia, serif"

# Each has a colour and, beside it, a pattern: `solid`, `hatch`, `dots`, `cross`, `empty`.
INKS: Final = {
    "solid": "#1f4e79",
    "hatch": "#b45f06",
    "dots": "#5b6770",
    "cross": "#a61c1c",
    "empty": "#ffffff",
}


class Canvas:
    """One drawing. Measures are in its own units, of which it is `WIDTH` wide."""

    def __init__(self, name: str, title: str, description: str, height: float) -> None:
        self._name = name
        self._title = title
        self._description = description
        self._height = height
        self._parts: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, ink: str) -> None:
        """A bar in one of INKS, with an edge that shows in print."""
        fill = INKS[ink] if ink in ("solid", "empty") else f"url(#{self._name}-{ink})"
        self._parts.append(
            f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{fill}" '
            f'stroke="{INKS["solid"] if ink == "empty" else INKS[ink]}" stroke-width="0.6"/>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """A thin line."""
        self._parts.append(f'<line x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}" stroke="#222222" stroke-width="1"/>')

    def mark(self, x: float, y: float, shape: str, ink: str) -> None:
        """A mark of about 14 units around a point: `circle`, `square`, `diamond` or `cross`."""
        colour = INKS[ink]
        if shape == "circle":
            self._parts.append(f'<circle cx="{x:.2f}" cy="{y:.2f}" r="7" fill="{colour}" stroke="#222222"/>')
        elif shape == "square":
            self._parts.append(
                f'<rect x="{x - 6:.2f}" y="{y - 6:.2f}" width="12" height="12" fill="#ffffff" stroke="#222222" stroke-width="2"/>'
            )
        elif shape == "diamond":
            path = f"M{x:.2f} {y - 8:.2f} L{x + 8:.2f} {y:.2f} L{x:.2f} {y + 8:.2f} L{x - 8:.2f} {y:.2f} Z"
            self._parts.append(f'<path d="{path}" fill="{colour}" stroke="#222222"/>')
        else:
            self._parts.append(
                f'<path d="M{x - 6:.2f} {y - 6:.2f} L{x + 6:.2f} {y + 6:.2f} M{x - 6:.2f} {y + 6:.2f} L{x + 6:.2f} {y - 6:.2f}" '
                f'stroke="{INKS["cross"]}" stroke-width="3"/>'
            )

    def text(self, x: float, y: float, text: str, *, size: float = 12, anchor: str = "start", bold: bool = False) -> None:
        """One line of text."""
        weight = ' font-weight="bold"' if bold else ""
        place = f'x="{x:.2f}" y="{y:.2f}" font-size="{size}" text-anchor="{anchor}"'
        self._parts.append(f'<text {place} fill="#222222"{weight}>{escape(drawable(text))}</text>')

    def legend(self, y: float, entries: list[tuple[str, str]]) -> None:
        """Inks and what they mean, in one row."""
        x = 8.0
        for ink, label in entries:
            self.rect(x, y, 16, 10, ink)
            self.text(x + 22, y + 9.5, label, size=12)
            x += 40 + 6.2 * len(label)

    def svg(self) -> str:
        """The drawing as an element that can stand in HTML or be a file."""
        labels = f"{self._name}-t {self._name}-d"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self._height:.0f}" width="{WIDTH}" '
            f'height="{self._height:.0f}" role="img" aria-labelledby="{labels}" font-family="{_FONT}">'
            f'<title id="{self._name}-t">{escape(drawable(self._title))}</title>'
            f'<desc id="{self._name}-d">{escape(drawable(self._description))}</desc>'
            f"<defs>{self._patterns()}</defs>"
            f'<rect x="0" y="0" width="{WIDTH}" height="{self._height:.0f}" fill="#ffffff"/>'
            f"{''.join(self._parts)}</svg>"
        )

    def _patterns(self) -> str:
        shapes = {
            "hatch": f'<path d="M0 6 L6 0 M-1.5 1.5 L1.5 -1.5 M4.5 7.5 L7.5 4.5" stroke="{INKS["hatch"]}" stroke-width="1.6"/>',
            "dots": f'<circle cx="3" cy="3" r="1" fill="{INKS["dots"]}"/>',
            "cross": f'<path d="M0 0 L6 6 M6 0 L0 6" stroke="{INKS["cross"]}" stroke-width="1.8"/>',
        }
        return "".join(
            f'<pattern id="{self._name}-{ink}" width="6" height="6" patternUnits="userSpaceOnUse">'
            f'<rect width="6" height="6" fill="#ffffff"/>{shape}</pattern>'
            for ink, shape in shapes.items()
        )
