"""Draws the pictures of a report, each with its information as a text. HTML and PDF use the same drawing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from evidencesync.custody.labels import LOOKUPS
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import count_text, extent_text, share_text, size_text
from evidencesync.report.blocks import Picture
from evidencesync.report.document import Acquisition, CustodyStep, FileMap, Item, RangeKind
from evidencesync.report.maps import rank
from evidencesync.report.texts import drawable

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

    def bar(self, x: float, y: float, width: float, height: float, ink: str) -> None:
        """A bar in the one colour of an ink, without an edge: as wide as it is said to be."""
        self._parts.append(f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{INKS[ink]}"/>')

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


_STEPS: Final = 7  # marks in a row of a time line: there is room for the words below each
_STEP_ROWS: Final = 4  # of more records the first and the last are shown, and a gap between
_STEP_HEIGHT: Final = 78
_ACQUISITIONS: Final = 20  # bars; the latest
_CELLS: Final = 704
_BAR: Final = 360  # the longest bar: so there is room for the words beside it, in any font
_DAMAGED: Final = "NOT as it was acquired"
_DAMAGED_NAMED: Final = 20
_MAP_INKS: Final[dict[RangeKind, str]] = {"data": "dots", "zero": "empty", "changed": "solid", "unreadable": "cross"}
_MAP_WORDS: Final[dict[RangeKind, str]] = {
    "data": "content",
    "zero": "zeros",
    "changed": "changed",
    "unreadable": "could not be read",
}


def custody_timeline(name: str, item: Item) -> Picture:
    """The records of an item in their order, row by row from left to right, each with its time."""
    steps = item.custody
    most, columns = _STEPS * _STEP_ROWS, _STEPS
    shown: list[CustodyStep | None] = [*steps]
    if len(steps) > most:
        shown = [*steps[: most // 2], None, *steps[-(most // 2 - 1) :]]
    said = [f"{step.sequence} {step.record.type if step.record else 'no record to show'} {_when(step)}" for step in steps[:100]]
    alternative = f"{count_text(len(steps), 'custody record')} in order: {'; '.join(said)}."
    rows = [shown[at : at + columns] for at in range(0, len(shown), columns)]
    key = _STEP_HEIGHT * len(rows) + 14
    canvas = Canvas(name, "Custody timeline", alternative, key + 12)
    room = WIDTH / columns
    for row, some in enumerate(rows):
        y = 16 + _STEP_HEIGHT * row
        canvas.line(room / 2 if row == 0 else 0, y, WIDTH if row + 1 < len(rows) else room * (len(some) - 0.5), y)
        for number, step in enumerate(some):
            _step(canvas, room * (number + 0.5), y, step, len(steps) - most + 1)
    canvas.mark(16, key, "circle", "solid")
    canvas.text(28, key + 4, "acquired")
    canvas.mark(106, key, "square", "empty")
    canvas.text(118, key + 4, "received")
    canvas.mark(196, key, "diamond", "hatch")
    canvas.text(210, key + 4, "any other record")
    canvas.mark(330, key, "cross", "cross")
    canvas.text(342, key + 4, "signature refused, or no record to show")
    return Picture(
        "Custody timeline (records in their order; distances are not to scale; times are UTC)", alternative, canvas.svg()
    )


def _step(canvas: Canvas, x: float, y: float, step: CustodyStep | None, left_out: int) -> None:
    """A mark, and below it what it is and when. None: so many that are left out."""
    if step is None:
        text = f"{left_out:,} more"
        half = 6 + 3.4 * len(text)
        canvas.rect(x - half, y - 11, 2 * half, 22, "empty")
        canvas.text(x, y + 4.5, text, size=13, anchor="middle")
        return
    canvas.mark(x, y, *_mark(step))
    kind = step.record.type if step.record is not None else "no record"
    canvas.text(x, y + 24, f"{step.sequence} {kind}", size=13, anchor="middle", bold=True)
    canvas.text(x, y + 38, _when(step)[:10], size=12.5, anchor="middle")
    canvas.text(x, y + 52, _when(step)[11:19], size=12.5, anchor="middle")


def _mark(step: CustodyStep) -> tuple[str, str]:
    if step.record is None or step.signature == "refused":
        return "cross", "cross"
    return {"acquired": ("circle", "solid"), "received": ("square", "empty")}.get(step.record.type, ("diamond", "hatch"))


def _when(step: CustodyStep) -> str:
    return step.record.time.replace("T", " ") if step.record is not None else ""


def sizes_by_type(name: str, acquisition: Acquisition) -> Picture | None:
    """Bytes by file type, which is the part of the name after the last dot."""
    types = acquisition.contents.types
    largest = max((one.bytes for one in types), default=0)
    if not largest or len(types) == 1:
        return None
    labels = [_type_label(one.name) for one in types]
    said = [f"{label}: {count_text(one.files, 'file')}, {size_text(one.bytes)}" for label, one in zip(labels, types, strict=True)]
    canvas = Canvas(name, "Sizes by type", "; ".join(said), 22 * len(types) + 6)
    for number, (label, one) in enumerate(zip(labels, types, strict=True)):
        y = 4 + 22 * number
        canvas.text(128, y + 13, label, anchor="end")
        width = max(_BAR * one.bytes / largest, 0.5)
        canvas.rect(136, y, width, 16, "dots")
        canvas.text(144 + width, y + 13, f"{size_text(one.bytes)}, {count_text(one.files, 'file')}")
    return Picture(
        f"Acquisition {acquisition.number}: bytes by the ending of the files' names, which may not tell what a file is",
        "; ".join(said),
        canvas.svg(),
    )


def _type_label(name: str) -> str:
    return {"": "no ending", "*": "all others"}.get(name, f".{name}")


def new_and_reused(name: str, item: Item) -> Picture | None:
    """For each acquisition: bytes that were new, that were there already, and zeros, which never travel.

    Where that is, is where the vault looked: another case may have had what was new to this one.
    None of it is what travelled over the link: that is compressed, and has messages beside contents.
    """
    taken = [(one.number, one.receipt) for one in item.acquisitions if one.receipt is not None][-_ACQUISITIONS:]
    sent = [(number, one.transfer) for number, one in taken]
    totals = [(number, one.literal_bytes, one.reused_bytes, one.zero_bytes) for number, one in sent]
    where = " or ".join(dict.fromkeys(LOOKUPS[one.lookup] for _, one in taken))
    largest = max((sum(one[1:]) for one in totals), default=0)
    if not largest:
        return None
    said = [
        f"acquisition {number}: {size_text(literal)} new, {size_text(reused)} in {where} already, {size_text(zeros)} zeros"
        for number, literal, reused, zeros in totals
    ]
    canvas = Canvas(name, "New and reused", "; ".join(said), 24 * len(totals) + 26)
    for row, (number, *parts) in enumerate(totals):
        y, x = 4 + 24 * row, 96.0
        canvas.text(88, y + 14, f"acquisition {number}", anchor="end")
        for ink, part in zip(("solid", "hatch", "empty"), parts, strict=True):
            width = _BAR * part / largest
            if part:
                canvas.rect(x, y, max(width, 0.8), 18, ink)
            x += width
        canvas.text(x + 8, y + 14, f"{share_text(parts[0], sum(parts))} of {size_text(sum(parts))} new")
    canvas.legend(
        24 * len(totals) + 10,
        [("solid", f"new to {where}, or damaged there"), ("hatch", f"in {where} already"), ("empty", "zeros")],
    )
    caption = (
        f"How much of each acquisition was new to {where} or damaged there, and how much was there already and was not sent again"
    )
    return Picture(caption, "; ".join(said), canvas.svg())


def strip_map(name: str, number: int, file: FileMap, damaged: Sequence[tuple[int, int]] = ()) -> Picture:
    """A file from its first byte to its last, in one strip. If a cell holds several kinds, the most severe is drawn.

    `damaged`: offset and length of what is not as it was acquired. What was added behind the end is marked there.
    """
    shown = safe_text(_raw(file), 80)
    totals = {one.name: one for one in file.totals if one.bytes}
    kinds: list[RangeKind] = [kind for kind in _MAP_INKS if kind in totals]
    said = [f"{_MAP_WORDS[kind]}: {size_text(totals[kind].bytes)} in {count_text(totals[kind].files, 'range')}" for kind in kinds]
    against = f"; changed against acquisition {file.compared_with}" if "changed" in totals else ""
    alternative = f"{size_text(file.size)}: {'; '.join(said)}{against}."
    if damaged:
        places = ", ".join(extent_text(*one) for one in damaged[:_DAMAGED_NAMED])
        more = f" and {len(damaged) - _DAMAGED_NAMED:,} more ranges" if len(damaged) > _DAMAGED_NAMED else ""
        alternative += f" {_DAMAGED} within {places}{more}."
    below = 30 if damaged else 0
    canvas = Canvas(name, "Strip map", alternative, 74 + below)
    for kind, start, end in _cells(file):
        canvas.rect(8 + start, 6, end - start, 30, _MAP_INKS[kind])
    _damage(canvas, file.size, damaged)
    canvas.text(8, 49 + below, "0", size=11)
    canvas.text(8 + _CELLS, 49 + below, f"{file.size:,} bytes", size=11, anchor="end")
    canvas.legend(60 + below, [(_MAP_INKS[kind], _MAP_WORDS[kind]) for kind in kinds])
    if damaged:
        canvas.mark(480, 65 + below, "cross", "cross")
        canvas.text(494, 69.5 + below, _DAMAGED)
    wrong = f"; {_DAMAGED} at the crosses" if damaged else ""
    caption = f"Acquisition {number}: {shown} from its first byte (left) to its last; a map, and no proof{against}{wrong}"
    return Picture(caption, alternative, canvas.svg())


def _damage(canvas: Canvas, size: int, damaged: Sequence[tuple[int, int]]) -> None:
    """A cross at each range, below it how far it reaches, and which bytes it is, where there is room for that."""
    end = 0.0  # of the words so far
    for offset, length in sorted(damaged):
        first, last = (8 + min(at, size) * _CELLS / max(size, 1) for at in (offset, offset + length))
        middle = (first + last) / 2
        for shape in ("square", "cross"):  # white below it: red does not stand out from the strip
            canvas.mark(middle, 21, shape, "cross")
        width = max(last - first, 2)
        canvas.bar(middle - width / 2, 38, width, 5, "cross")
        text = extent_text(offset, length)
        half = 3.4 * len(text)
        at = min(max(middle, 8 + half), 8 + _CELLS - half)
        if at - half > end:
            canvas.text(at, 58, text, size=12, anchor="middle")
            end = at + half


def _raw(file: FileMap) -> bytes:
    from evidencesync.evidence.path import from_json_fields

    return from_json_fields(file.file.path, file.file.path_b64)


def _cells(file: FileMap) -> list[tuple[RangeKind, int, int]]:
    """Runs of cells of one kind."""
    cells: list[RangeKind] = ["data"] * _CELLS
    seen = [False] * _CELLS
    for one in file.ranges:
        first = one.offset * _CELLS // file.size
        last = (one.offset + one.length - 1) * _CELLS // file.size
        for cell in range(first, last + 1):
            cells[cell] = max(cells[cell], one.kind, key=rank) if seen[cell] else one.kind
            seen[cell] = True
    runs: list[tuple[RangeKind, int, int]] = []
    for cell, kind in enumerate(cells):
        if runs and runs[-1][0] == kind:
            runs[-1] = (kind, runs[-1][1], cell + 1)
        else:
            runs.append((kind, cell, cell + 1))
    return runs
