from __future__ import annotations

import io

import rich.console

from evidencesync.cli.console import Console
from evidencesync.cli.progress_display import Meter, PushView, VerifyView, render, shown
from evidencesync.connection.progress import Progress
from evidencesync.verify.context import VerifyProgress


def test_a_push_says_how_far_it_is_how_fast_and_what_it_saved() -> None:
    progress = Progress(stage="reading", total_bytes=10_000_000)
    view = PushView(progress)
    assert view.headline(0.0) == "reading  0 files  0 B of 10.0 MB"
    progress.files, progress.read_bytes, progress.literal_bytes, progress.wire_sent = 1200, 4_000_000, 1_000_000, 1_100_000
    assert view.headline(2.0) == "reading  1,200 files  4.0 MB of 10.0 MB  2.0 MB/s  3.0 s left  sent 1.1 MB, saved 75.0 %"
    progress.stage, progress.stage_done, progress.stage_total = "read-back", 1_000_000, 4_000_000
    assert view.headline(3.0) == "the vault reads back  1.0 MB of 4.0 MB"
    assert view.place() == ""


def test_a_push_says_how_much_of_it_was_holes() -> None:
    progress = Progress(
        stage="reading", files=1, read_bytes=5_000_000, hole_bytes=4_000_000, literal_bytes=1_000_000, wire_sent=1
    )
    assert PushView(progress).headline(0.0) == "reading  1 files  5.0 MB  holes 4.0 MB  sent 1 B, saved 80.0 %"


def test_bytes_that_cannot_be_read_are_shown_while_it_goes_on() -> None:
    progress = Progress(stage="reading", total_bytes=10_000_000, read_bytes=5_000_000, bad_bytes=4096)
    assert PushView(progress).headline(0.0) == "reading  0 files  5.0 MB of 10.0 MB  UNREADABLE 4.1 kB"


def test_without_a_total_nothing_is_promised() -> None:
    progress = Progress(stage="reading", files=3, read_bytes=5)
    view = PushView(progress)
    view.headline(0.0)
    progress.read_bytes = 5_000_005
    assert view.headline(1.0) == "reading  3 files  5.0 MB  5.0 MB/s"
    assert view.extent() == (5_000_005, None)


def test_the_rate_is_that_of_the_last_seconds() -> None:
    meter = Meter()
    rates = [meter.rate(float(second), second * 100 if second <= 10 else 1000) for second in range(20)]
    assert rates[5] == 100.0
    assert rates[-1] == 0.0


def test_a_verification_says_how_far_it_is() -> None:
    progress = VerifyProgress(files=1, bytes=500, total_files=2000, total_bytes=1000, place="C / I / 1")
    view = VerifyView(progress)
    assert view.headline(0.0) == "checking  1 of 2,000 files  500 B of 1.0 kB"
    assert view.place() == "C / I / 1"


def test_evidence_is_never_taken_for_markup_or_for_control_codes() -> None:
    progress = Progress(stage="reading", path=b"[bold red]x[/] :bomb: \x1b]8;;http://e\x07\xff", total_bytes=10, read_bytes=20)
    out = io.StringIO()
    screen = rich.console.Console(file=out, force_terminal=True, width=200, highlight=False, markup=True, emoji=True)
    screen.print(render(PushView(progress)))
    assert r"[bold red]x[/] :bomb: \x1b]8;;http://e\x07\xff" in out.getvalue()


def test_nothing_is_drawn_where_nobody_looks(capfdbinary: object) -> None:
    with shown(Console(quiet=True), PushView(Progress())):
        pass
