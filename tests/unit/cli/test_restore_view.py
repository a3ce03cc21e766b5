"""What a restore shows of itself: what must be written, the time that takes, and what the link brings. Clocks are simulated."""

from __future__ import annotations

import io
import re
import time
from dataclasses import dataclass

import pytest
import rich.console

from evidencesync.cli.progress_display import render
from evidencesync.cli.restore_view import RestoreView
from evidencesync.restore.restore import RestoreProgress
from tests.unit.cli.test_time_left import GB, MB, Points, at, require_truth, seconds_said


@dataclass
class Far:
    """See FarBytes."""

    received: int = 0
    wire_received: int = 0
    is_lost: bool = False


def test_the_amount_is_what_is_written_and_a_long_read_back_is_said_to_follow() -> None:
    progress = RestoreProgress(stage="writing", total_files=1, total_bytes=1000 * MB, total_data_bytes=1000 * MB)
    view = RestoreView(progress, reads_back=True)
    said = []
    for second in range(9):
        progress.bytes = second * 100 * MB
        said.append(view.headline(float(second)))
    assert said[5] == "writing  500.0 MB of 1.0 GB  5 s left, then read back  100.0 MB/s"
    assert view.place() == "0 of 1 file"
    progress.stage, progress.bytes = "read-back", 0
    for second in range(9):
        progress.bytes = second * 100 * MB
        said.append(view.headline(9.0 + second))
    assert said[-1] == "reading back  800.0 MB of 1.0 GB  100.0 MB/s  2 s left"
    short = RestoreView(RestoreProgress(stage="writing", total_bytes=100 * MB, total_data_bytes=100 * MB), reads_back=True)
    for second in range(6):
        short.progress.bytes = second * 10 * MB
        said.append(short.headline(float(second)))
    assert said[-1] == "writing  50.0 of 100.0 MB  5 s left  10.0 MB/s"


@pytest.mark.parametrize("is_far", [False, True])
@pytest.mark.parametrize("holes_first", [False, True])
def test_holes_take_their_own_time(*, is_far: bool, holes_first: bool) -> None:
    """30 MB at 2 MB a second, and 10 GB of holes at 500 MB a second: no time is that of the one at the rate of the other."""
    progress = RestoreProgress(
        stage="writing", total_files=1, total_bytes=10 * GB + 30 * MB, total_data_bytes=30 * MB, total_hole_bytes=10 * GB
    )
    far = Far()
    view = RestoreView(progress, reads_back=False, far=far if is_far else None)
    data: Points = [(20.0, 0), (35.0, 30 * MB)] if holes_first else [(0.0, 0), (15.0, 30 * MB)]
    holes: Points = [(0.0, 0), (20.0, 10 * GB)] if holes_first else [(15.0, 0), (35.0, 10 * GB)]

    def headline(now: float) -> str:
        far.received = far.wire_received = at(data, now)
        progress.hole_bytes = at(holes, now)
        progress.bytes = far.received + progress.hole_bytes
        return view.headline(now)

    require_truth(headline, 35.0, 26.0 if holes_first else 21.0)


def test_a_sparse_image_from_afar_with_little_data_never_takes_hours() -> None:
    """6.4 GB of holes in 20 seconds, in which the link brings 3 MB now and then, compressed."""
    progress = RestoreProgress(
        stage="writing", total_files=1, total_bytes=6_403 * MB, total_data_bytes=3 * MB, total_hole_bytes=6_400 * MB
    )
    far = Far()
    view = RestoreView(progress, reads_back=True, far=far)
    for fifth in range(100):
        now = fifth / 5
        far.received = fifth // 9 * 256_000
        far.wire_received = 100_000 + far.received // 4
        progress.hole_bytes = at([(0.0, 0), (20.0, 6_400 * MB)], now)
        progress.bytes = far.received + progress.hole_bytes
        said = seconds_said(text := view.headline(now))
        assert said is None or said <= 25, text
    assert view.place() == "0 of 1 file  holes 6.3 of 6.4 GB (not written)"


def test_from_afar_the_rate_is_that_of_the_link_and_the_time_that_of_what_is_sent() -> None:
    """Of 1000 MB a basis has 900, which are there at once; the rest is sent, at half its size."""
    progress, far = RestoreProgress(stage="writing", total_files=1, total_bytes=1000 * MB, total_data_bytes=1000 * MB), Far()
    view = RestoreView(progress, reads_back=False, far=far)
    shown = []
    for second in range(11):
        far.received, far.wire_received = 5 * MB * second, 2_500_000 * second
        progress.bytes = 900 * MB + far.received
        shown.append(view.headline(float(second)))
    assert shown[10] == "writing  950.0 MB of 1.0 GB  10 s left  link 2.5 MB/s"


def test_while_a_basis_has_some_of_it_no_more_is_said_than_a_least_time() -> None:
    progress, far = RestoreProgress(stage="writing", total_files=1, total_bytes=1000 * MB, total_data_bytes=1000 * MB), Far()
    view = RestoreView(progress, reads_back=True, far=far)
    shown = ""
    for second in range(8):
        far.received = far.wire_received = MB * second
        progress.bytes = 20 * MB * second
        shown = view.headline(float(second))
    assert shown == "writing  140.0 MB of 1.0 GB  at least 43 s left"


def test_a_lost_link_is_said() -> None:
    view = RestoreView(RestoreProgress(stage="writing", total_data_bytes=9), reads_back=True, far=Far(is_lost=True))
    assert view.headline(0.0) == "the link is lost; trying to get it back"


@pytest.mark.parametrize("is_far", [False, True])
def test_80_columns_show_the_time_left_of_many_files(*, is_far: bool) -> None:
    progress = RestoreProgress(
        stage="writing", files=123_456, total_files=999_999, total_bytes=999 * GB, total_data_bytes=999 * GB, path=b"folder/" * 20
    )
    far = Far()
    view = RestoreView(progress, reads_back=True, far=far if is_far else None)
    for half in range(20):
        progress.bytes = far.received = far.wire_received = 100_900_000 * half
        view.headline(time.monotonic() - 10 + half / 2)
    out = io.StringIO()
    rich.console.Console(file=out, force_terminal=True, width=80).print(render(view))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()
    assert len(lines) == 3
    assert all(len(line) <= 80 for line in lines)
    assert re.search(r"\d+ h \d+ min left, then read back", lines[0])
    assert lines[2].startswith("123,456 of 999,999 files")
