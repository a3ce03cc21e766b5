"""What the comparison has measured is said at once, and no later failure takes it away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.__main__ import report_rows
from tests.bench.measure import Cost
from tests.bench.row import Row
from tests.bench.rows import ROWS
from tests.bench.table import Result


def _measured(row: Row) -> list[Result]:
    cost = Cost(wall=1.25, near_cpu=0.5, far_cpu=None, near_peak_kib=2048, far_peak_kib=None, wire_bytes=10, loopback_bytes=None)
    return [Result(row, lane, (cost,)) for lane in row.lanes]


def test_a_row_is_printed_and_written_before_the_next_one_begins(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first, second = ROWS[:2]
    figures = tmp_path / "figures.json"
    seen = ""

    def run_row(row: Row) -> list[Result]:
        nonlocal seen
        if row is second:
            seen = capfd.readouterr().out
            assert {figure["row"] for figure in json.loads(figures.read_bytes())} == {first.name}
            raise KeyboardInterrupt
        return _measured(row)

    with pytest.raises(KeyboardInterrupt):
        report_rows([first, second], run_row, figures)
    heads, title, lane = seen.splitlines()[1:4]
    assert "wall s" in heads
    assert title == f"{first.name}: {first.title}"
    assert "1.25" in lane
    assert "wall    median of the runs" in capfd.readouterr().out


def test_the_columns_of_rows_stand_below_one_another(capfd: pytest.CaptureFixture[str]) -> None:
    report_rows(ROWS, _measured, None)
    table = capfd.readouterr().out.partition("\n\nload at end")[0]
    heads = next(line for line in table.splitlines() if "wall s" in line)
    assert {line.index("1.25") for line in table.splitlines() if "1.25" in line} == {heads.index("wall s") + 4}
