"""The results as aligned text."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.measure import Cost, median_of
from tests.bench.row import Lane, Ratio, Row

NOTES = """\
wall    median of the runs (least to most); runs of a row's contenders take turns. The source is warm in the page cache, and all
        earlier writes were synced. Where the destination lies in memory, that memory was taken from the host before. rsync makes
        nothing durable unless it says --fsync; evidencesync always does.
cpu     user and system time. near: the command and its children (rsync's ssh is one). far: sshd and all it started.
peak    resident memory of the largest single process of each end, the far one without sshd; 8 MB or so is the least it can show.
wire    both directions, before encryption, without SSH's framing. evidencesync: bytes on ssh's pipes. rsync: its own count.
        On F-, R- and V- rows a proxy counts what all of them send over TCP, SSH included.
grown   what the destination's disk gave for it. evidencesync keeps every earlier state, rsync into the same folder does not.
goal    those of the project; a row without one says nothing there.
lo      what the loopback interface carried meanwhile, packet headers and all other traffic included: the same measure for all."""


@dataclass(frozen=True)
class Result:
    """All runs of one lane."""

    row: Row
    lane: Lane
    costs: tuple[Cost, ...]
    failure: str | None = None

    @property
    def name(self) -> str:
        """The contender's."""
        return self.lane.contender.name


_FAILED_LATER = " (failed later)"
_HEADS = ("", "wall s", "", "cpu near", "far", "peak near", "far", "wire MB", "lo MB", "grown MB")
_COST_WIDTHS = (0, 8, 20, 8, 7, 9, 6, 10, 10, 10)  # of the columns, which are printed before the later rows are measured


class CostTable:
    """The costs of rows, printed row by row: one line for each lane, under the title of its row."""

    def __init__(self, rows: Sequence[Row]) -> None:
        names = max((len(lane.contender.name) for row in rows for lane in row.lanes), default=0)
        self._widths = (len("  ") + names + len(_FAILED_LATER), *_COST_WIDTHS[1:])
        self._is_first = True

    def render(self, results: Sequence[Result]) -> str:
        """The lines of one row; the heads of the columns before the first."""
        lines: list[list[str] | str] = []
        if results:
            lines = [f"{results[0].row.name}: {results[0].row.title}", *map(_cost_cells, results)]
            if self._is_first:
                lines = ["", list(_HEADS), *lines]
            self._is_first = False
        return _align(lines, self._widths)


def render_ratios(results: Sequence[Result]) -> str:
    """Each lane by those it is measured against, with the goals."""
    medians: Mapping[tuple[str, str], Cost] = {
        (result.row.name, result.name): median_of(result.costs) for result in results if result.costs
    }
    lines: list[list[str] | str] = [["", "", "", "wall", "goal", "wire", "goal", "grown"]]
    for result in results:
        cost = medians.get((result.row.name, result.name))
        for ratio in result.lane.ratios:
            other = medians.get((result.row.name, ratio.against))
            if cost is not None and other is not None:
                lines.append([result.row.name, result.name, f"by {ratio.against}", *_ratio_cells(cost, other, ratio)])
    return _align(lines) if len(lines) > 1 else ""


def _cost_cells(result: Result) -> list[str]:
    if not result.costs:
        return [f"  {result.name}", "failed"]
    cost = median_of(result.costs)
    walls = [each.wall for each in result.costs]
    spread = f"({min(walls):.2f} to {max(walls):.2f})" if len(walls) > 1 else ""
    peaks = [_number(None if value is None else value / 1024, 0) for value in (cost.near_peak_kib, cost.far_peak_kib)]
    traffic = [_megabytes(value) for value in (cost.wire_bytes, cost.loopback_bytes, cost.grown_bytes)]
    name = f"  {result.name}" + (_FAILED_LATER if result.failure else "")
    return [name, f"{cost.wall:.2f}", spread, f"{cost.near_cpu:.2f}", _number(cost.far_cpu, 2), *peaks, *traffic]


def render_memory(results: Sequence[Result]) -> str:
    """The largest process of ours, either end, in each row."""
    lines: list[list[str] | str] = []
    for result in results:
        if result.costs and result.lane.peak_goal_mib is not None:
            peak = max(max(cost.near_peak_kib, cost.far_peak_kib or 0) for cost in result.costs) / 1024
            lines.append([result.row.name, result.name, f"{peak:.0f}", f"MiB, {_goal(peak, result.lane.peak_goal_mib)}"])
    return _align(lines) if lines else ""


def _ratio_cells(cost: Cost, other: Cost, ratio: Ratio) -> list[str]:
    wall = cost.wall / other.wall
    cells = [f"{wall:.2f}", _goal(wall, ratio.wall_goal)]
    if cost.wire_bytes is None or not other.wire_bytes:
        return cells
    wire = cost.wire_bytes / other.wire_bytes
    cells += [f"{wire:.5f}" if wire < 0.01 else f"{wire:.3f}", _goal(wire, ratio.wire_goal)]
    if cost.grown_bytes is not None and (other.grown_bytes or 0) > 0:
        cells.append(f"{cost.grown_bytes / (other.grown_bytes or 1):.2f}")
    return cells


def _goal(value: float, goal: float | None) -> str:
    if goal is None:
        return ""
    return f"<= {goal:g} {'met' if value <= goal else 'MISSED'}"


def _megabytes(count: int | None) -> str:
    """To the byte where there are few: some of the goals are about kilobytes."""
    return _number(None if count is None else count / 1e6, 3 if count is None or count >= 100_000 else 6)


def _number(value: float | None, places: int) -> str:
    return "-" if value is None else f"{value:.{places}f}"


def _align(lines: Sequence[list[str] | str], least: Sequence[int] = ()) -> str:
    """Columns as wide as they must be: text to the left, numbers to the right. A bare string is a line of its own."""
    rows = [line for line in lines if isinstance(line, list)]
    widths = [max(map(len, column)) for column in itertools.zip_longest(*rows, fillvalue="")]
    widths = [max(pair) for pair in itertools.zip_longest(widths, least, fillvalue=0)]
    shown = []
    for line in lines:
        if isinstance(line, str):
            shown.append(line)
            continue
        cells = [cell.rjust(width) if _is_number(cell) else cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        shown.append("  ".join(cells).rstrip())
    return "\n".join(shown)


def _is_number(cell: str) -> bool:
    return cell.replace(".", "").isdigit() or cell == "-"
