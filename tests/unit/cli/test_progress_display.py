from __future__ import annotations

import contextlib
import io
import re
import time

import pytest
import rich.console

from evidencesync.cli.console import Console
from evidencesync.cli.progress_display import PushView, VerifyView, render, shown
from evidencesync.cli.time_left import Meter
from evidencesync.connection.progress import Progress
from evidencesync.verify.context import VerifyProgress


def test_a_push_says_what_is_stored_how_fast_the_link_is_how_long_it_takes_and_what_the_vault_had() -> None:
    progress = Progress(stage="reading", total_bytes=10_000_000)
    view = PushView(progress)
    progress.stored_bytes, progress.known_bytes, progress.link_bytes = 0, 0, 0
    assert view.headline(0.0) == "arrived 0 B of 10.0 MB"
    progress.files, said = 1200, ""
    for half in range(1, 9):
        progress.stored_bytes, progress.known_bytes, progress.link_bytes = 3_000_000 + half * 250_000, 3_000_000, half * 250_000
        said = view.headline(half / 2)
    assert said == "arrived 5.0 of 10.0 MB  10 s left  link 500.0 kB/s  vault had 3.0 MB"
    assert view.place() == "read 1,200 files"
    progress.stage, progress.stage_done, progress.stage_total = "read-back", 1_000_000, 4_000_000
    assert view.headline(3.0) == "the vault reads back  1.0 of 4.0 MB"
    assert view.place() == ""


def test_the_rate_of_a_stage_does_not_count_the_time_before_it() -> None:
    progress = Progress(stage="connecting")
    view = PushView(progress)
    view.headline(0.0)
    progress.stage, progress.stage_total = "read-back", 400_000_000
    said = view.headline(100.0)
    for second in range(1, 5):
        progress.stage_done = second * 50_000_000
        said = view.headline(100.0 + second)
    assert said == "the vault reads back  200.0 of 400.0 MB  50.0 MB/s  4 s left"


def test_a_push_to_a_vault_on_this_machine_speaks_of_no_link() -> None:
    progress = Progress(stage="reading", total_bytes=10_000_000)
    view = PushView(progress)
    said = ""
    for second in range(5):
        progress.stored_bytes = second * 1_000_000
        said = view.headline(float(second))
    assert said == "arrived 4.0 of 10.0 MB  6 s left  1.0 MB/s"


def test_the_longest_headline_fits_a_terminal_of_80_columns() -> None:
    progress = Progress(stage="reading", total_bytes=999_900_000_000, missed_bytes=1)
    view = PushView(progress)
    progress.stored_bytes, progress.known_bytes, progress.link_bytes = 0, 0, 0
    view.headline(0.0)
    progress.stored_bytes, progress.known_bytes, progress.link_bytes = 99_900_000_000, 99_900_000_000, 99_900_000_000
    assert len(view.headline(99.9)) <= 80


def test_what_is_read_is_named_with_its_holes_and_its_bad_bytes() -> None:
    progress = Progress(
        stage="reading", files=1, total_files=2, hole_bytes=4_000_000, bad_bytes=4096, path=b"disk.img", total_bytes=9
    )
    assert PushView(progress).place() == "read 1 of 2 files  holes 4.0 MB (not sent)  UNREADABLE 4.1 kB  disk.img"


def test_files_that_cannot_be_read_are_no_part_of_what_is_left() -> None:
    progress = Progress(stage="finishing", total_bytes=10_000_000, missed_bytes=4_000_000)
    progress.stored_bytes, progress.known_bytes, progress.link_bytes = 6_000_000, 0, None
    assert PushView(progress).headline(0.0) == "all 6.0 MB have arrived; the vault stores them (0 s)"


def test_after_everything_has_arrived_it_says_what_the_vault_does_and_since_when() -> None:
    progress = Progress(stage="finishing", total_bytes=12_600_000, stored_bytes=12_600_000, hole_bytes=20_000_000_000)
    progress.zero_bytes = progress.hole_bytes
    view = PushView(progress)
    view.headline(100.0)
    assert view.headline(165.0) == "all 12.6 MB have arrived; the vault hashes 20.0 GB of holes (1 min 05 s)"


def test_of_holes_that_the_vault_hashes_it_says_how_many_are_stored() -> None:
    progress = Progress(stage="finishing", total_bytes=12_600_000, stored_bytes=12_600_000, hole_bytes=20_000_000_000)
    progress.zero_bytes = 4_000_000_000
    assert PushView(progress).headline(0.0) == "all 12.6 MB have arrived; the vault hashes 4.0 of 20.0 GB of holes (0 s)"


def test_zeros_are_no_part_of_what_is_left() -> None:
    progress = Progress(stage="reading", total_bytes=300_000_000, zero_bytes=260_000_000, stored_bytes=10_000_000, total_files=2)
    assert PushView(progress).headline(0.0) == "arrived 10.0 of 40.0 MB"


def test_no_rate_is_said_of_a_link_that_carries_a_word_now_and_then() -> None:
    progress = Progress(stage="reading", total_bytes=300_000_000, link_bytes=0)
    view = PushView(progress)
    view.headline(0.0)
    progress.link_bytes = 300
    assert view.headline(3.0) == "arrived 0 B of 300.0 MB"


def test_without_a_total_nothing_is_promised() -> None:
    progress = Progress(stage="reading", files=3, stored_bytes=5)
    view = PushView(progress)
    view.headline(0.0)
    progress.stored_bytes, progress.known_bytes, progress.link_bytes = 5_000_005, 0, None
    assert view.headline(1.0) == "arrived 5.0 MB  5.0 MB/s"
    assert view.extent() == (5_000_005, None)


def test_the_rate_is_that_of_the_last_seconds() -> None:
    meter = Meter()
    rates = [meter.rate(float(second), second * (100 if second <= 20 else 400)) for second in range(60)]
    assert rates[5] == rates[20] == 100.0
    assert rates[59] == 400.0


def test_the_rate_is_true_between_two_rises_of_a_link_that_brings_much_at_once() -> None:
    meter = Meter()
    rates = [meter.rate(tenth / 10, tenth // 20 * 4_000_000) for tenth in range(600)]
    assert all(abs(rate - 2_000_000) < 1 for rate in rates[45:])


def test_a_small_rise_beside_a_large_one_says_nothing_of_the_link() -> None:
    """The first large segment comes after some seconds, and a small one just after it."""
    meter = Meter()
    rates = [meter.rate(*seen) for seen in ((0.0, 0), (6.0, 4_000_000), (6.6, 4_050_000))]
    assert rates[-1] == pytest.approx(4_050_000 / 6.6)


def test_the_time_left_goes_down_between_two_rises_and_not_below_the_next() -> None:
    meter = Meter()
    said = {}
    for second in range(60):
        said[second] = meter.describe_rest(float(second), second // 10 * 5_000_000, 60_000_000)
    assert said[25] == []
    assert (said[30], said[35], said[39], said[40]) == (
        ["1 min 30 s left"],
        ["1 min 25 s left"],
        ["1 min 21 s left"],
        ["1 min 20 s left"],
    )


def test_no_time_left_is_said_while_what_came_first_was_faster() -> None:
    """Zeros, and what the vault has, come at once; then a link brings 1 MB a second."""
    meter = Meter()
    said = [meter.describe_rest(tenth / 2, 30_000_000 + tenth * 500_000 if tenth else 0, 90_000_000) for tenth in range(60)]
    assert not any(said[:7])
    assert said[7] == ["56 s left"]
    assert said[20] == ["50 s left"]
    assert all(said[7:])


def test_a_burst_at_the_beginning_does_not_delay_the_time_left() -> None:
    """A push with a limit of 2.5 MB a second, of which the first 2.9 MB come at once: true within a tenth after four seconds."""
    meter = Meter()
    for fifth in range(1, 120):
        now = fifth / 5
        heard = now // 0.5 * 0.5  # the vault speaks twice a second
        said = meter.describe_rest(now, int(2_900_000 + 2_500_000 * heard), 70_100_000)
        left = (70_100_000 - 2_900_000) / 2_500_000 - now
        if now >= 4.2:
            assert said
            seconds = re.fullmatch(r"(\d+) s left", said[0])
            assert seconds is not None
            assert abs(int(seconds[1]) - left) <= max(left / 10, 1.0)


def test_few_holes_do_not_hide_the_time_left() -> None:
    progress = Progress(stage="reading", total_bytes=49_100_000, zero_bytes=0)
    view = PushView(progress)
    said = ""
    for second in range(10):
        progress.stored_bytes = second * 2_500_000
        progress.hole_bytes = 21_000_000 if second >= 6 else 0
        said = view.headline(float(second))
    assert "11 s left" in said


def test_a_standstill_is_said_in_place_of_a_time_left_and_ends_with_the_next_byte() -> None:
    meter = Meter()
    for second in range(11):
        meter.describe_rest(float(second), second * 100, 5000)
    assert meter.describe_rest(13.0, 1000, 5000) == ["39 s left"]
    assert meter.describe_rest(17.0, 1000, 5000) == ["nothing new for 7 s"]
    assert meter.describe_rest(90.0, 1000, 5000) == ["nothing new for 1 min 20 s"]
    for half in range(6):
        assert meter.describe_rest(91.0 + half / 2, 1001 + half * 50, 5000) == []
    assert meter.describe_rest(94.0, 1301, 5000) == ["37 s left"]  # as fast as before: the pause does not count
    assert meter.describe_rest(900.0, 5000, 5000) == []


def test_no_rate_is_said_of_a_link_that_stands_still() -> None:
    progress = Progress(stage="reading", total_bytes=5_000_000, link_bytes=0)
    view = PushView(progress)
    for second in range(11):
        progress.stored_bytes = progress.link_bytes = second * 100_000
        view.headline(float(second))
    assert view.headline(10.5) == "arrived 1.0 of 5.0 MB  40 s left  link 100.0 kB/s"
    progress.link_bytes = 1_000_300
    assert view.headline(20.0) == "arrived 1.0 of 5.0 MB  nothing new for 10 s"


def test_no_time_left_is_said_while_holes_are_read() -> None:
    """They are hashed, which takes time, and nothing of them arrives."""
    progress = Progress(stage="reading", total_bytes=20_000_000_000, zero_bytes=0)
    view = PushView(progress)
    said = []
    for second in range(40):
        progress.stored_bytes = second * 1_000_000
        progress.hole_bytes += 500_000_000 if second < 20 else 0
        said.append("left" in view.headline(float(second)))
    assert not any(said[:27])
    assert all(said[28:])


def test_the_time_left_counts_holes_where_all_of_them_are_known() -> None:
    """At one end of an image lies what arrives, at the other what is hashed."""
    progress = Progress(stage="reading", total_files=1, total_bytes=100_000_000, total_hole_bytes=20_000_000_000, link_bytes=0)
    view = PushView(progress)
    said = []
    for second in range(50):
        progress.stored_bytes = progress.link_bytes = min(second * 10_000_000, 100_000_000)
        progress.hole_bytes = max(second - 10, 0) * 500_000_000
        said.append(view.headline(float(second)))
    assert said[5] == "arrived 50.0 of 100.0 MB  link 10.0 MB/s"  # how fast holes are hashed is not known yet
    assert said[20] == "arrived 100.0 of 100.0 MB  30 s left"
    assert view.place() == "read 0 of 1 file  holes 19.5 of 20.0 GB (not sent)"


def test_a_least_time_is_said_where_data_and_holes_are_left_and_only_the_rate_of_holes_is_known() -> None:
    progress = Progress(stage="reading", total_bytes=100_000_000, total_hole_bytes=20_000_000_000)
    view = PushView(progress)
    said = []
    for second in range(20):
        progress.hole_bytes = second * 500_000_000
        said.append(view.headline(float(second)))
    assert said[2] == "arrived 0 B of 100.0 MB"
    assert said[10] == "arrived 0 B of 100.0 MB  at least 30 s left"


def test_that_a_long_read_back_follows_is_said_with_the_time_left() -> None:
    """The vault reads all that it had not, from its disk, and how fast that goes is known only then."""
    progress = Progress(stage="reading", total_files=1, total_bytes=1_500_000_000, total_hole_bytes=0)
    view = PushView(progress, reads_back=True)
    said = ""
    for second in range(9):
        progress.stored_bytes = second * 150_000_000
        said = view.headline(float(second))
    assert said == "arrived 1.2 of 1.5 GB  2 s left, then read back  150.0 MB/s"
    without = PushView(progress)
    for second in range(9):
        progress.stored_bytes = second * 150_000_000
        said = without.headline(float(second))
    assert said == "arrived 1.2 of 1.5 GB  2 s left  150.0 MB/s"


def test_how_long_the_vault_hashes_holes_is_said() -> None:
    progress = Progress(stage="finishing", total_bytes=12_600_000, stored_bytes=12_600_000, hole_bytes=20_000_000_000)
    view = PushView(progress, reads_back=True)
    said = ""
    for second in range(9):
        progress.zero_bytes = second * 1_000_000_000
        said = view.headline(float(second))
    assert said == "all 12.6 MB have arrived; the vault hashes 8.0 of 20.0 GB of holes (8 s)  12 s left"


def test_after_a_lost_link_the_amount_never_goes_back_and_what_is_sent_again_is_said() -> None:
    """A link of 1 MB a second breaks at 12.2 MB, of which the vault has stored 9.1: the rest comes again, with a time left."""
    progress = Progress(stage="reading", total_files=1, total_bytes=30_000_000, link_bytes=0)
    view, said, amounts = PushView(progress), "", []
    for half in range(25):
        progress.received_bytes = progress.link_bytes = half * 500_000 if half < 24 else 12_200_000
        progress.stored_bytes = progress.sent_bytes = min(progress.received_bytes, 9_100_000)
        amounts.append(view.extent()[0])
        view.headline(half / 2)
    progress.stage = "reconnecting"
    progress.lose_link()
    assert view.headline(13.0) == "the link is lost; trying to get it back"
    progress.stage, progress.received_bytes, progress.sent_bytes, progress.link_bytes = "reading", 0, 0, 12_200_000
    for half in range(20):
        progress.received_bytes = half * 500_000
        progress.link_bytes = 12_200_000 + half * 500_000
        amounts.append(view.extent()[0])
        said = view.headline(16 + half / 2)
        assert ("3.1 MB sent again after a lost link" in said) == (progress.received_bytes < 3_100_000)
        left = (30_000_000 - 9_100_000 - progress.received_bytes) / 1_000_000
        if half >= 7:
            assert f"{left:.0f} s left" in said
        if half == 4:
            assert said == "arrived 12.2 of 30.0 MB  link 1.0 MB/s  3.1 MB sent again after a lost link"
    assert amounts == sorted(amounts)
    assert "again" not in said


def test_a_total_that_will_not_be_known_is_said_to_be_unknown() -> None:
    progress = Progress(stage="reading", files=3, stored_bytes=5_000_000, is_total_unknown=True)
    assert PushView(progress).headline(0.0) == "arrived 5.0 MB of an unknown total"


def test_of_a_pull_without_an_agent_all_that_has_come_counts_and_a_file_of_known_size_has_a_time_left() -> None:
    """The vault takes segments of 4 MB, of which it has some already; all of it travels at 1 MB a second."""
    progress = Progress(stage="reading", total_files=1, total_bytes=30_000_000, link_bytes=0, read_bytes=0)
    view = PushView(progress)
    said = []
    for second in range(15):
        progress.read_bytes = progress.link_bytes = second * 1_000_000
        progress.stored_bytes = second // 4 * 4_000_000
        progress.known_bytes, progress.zero_bytes = progress.stored_bytes // 2, second // 5 * 1_000_000
        said.append(view.headline(float(second)))
    assert said[9] == "arrived 9.0 of 30.0 MB  21 s left  link 1.0 MB/s  vault had 4.0 MB"
    assert said[10].startswith("arrived 10.0 of 30.0 MB  20 s left")


def test_one_file_is_no_plural() -> None:
    assert PushView(Progress(stage="reading", total_files=1)).place() == "read 0 of 1 file"
    assert (
        VerifyView(VerifyProgress(files=0, bytes=0, total_files=1, total_bytes=9))
        .headline(0.0)
        .startswith("checking  0 of 1 file  ")
    )


def test_more_than_was_expected_has_no_total() -> None:
    assert VerifyView(VerifyProgress(files=3, bytes=20, total_bytes=10)).headline(0.0) == "checking  3 files  20 B"


def test_what_has_no_figures_shows_none() -> None:
    progress = Progress(stage="publishing", stage_done=0, stage_total=4_000_000)
    assert PushView(progress).headline(0.0) == "the vault signs and publishes"


def test_a_stage_without_figures_is_no_standstill() -> None:
    progress = Progress(stage="syncing")
    view = PushView(progress)
    view.headline(0.0)
    assert view.headline(100.0) == "the vault writes to its disk"


def test_the_last_second_is_not_counted_down() -> None:
    meter = Meter()
    for second in range(11):
        meter.describe_rest(float(second), second * 100, 1050)
    assert meter.describe_rest(10.0, 1000, 1050) == []


def test_the_display_fits_40_columns_with_the_time_left() -> None:
    progress = Progress(stage="reading", total_bytes=60_000_000, link_bytes=0, path=b"folder/with/a/long/name/disk.dd")
    view = PushView(progress)
    for second in range(4):
        view.headline(time.monotonic() - 4 + second)
        progress.stored_bytes = progress.link_bytes = 3_000_000 * (second + 1)
    out = io.StringIO()
    rich.console.Console(file=out, force_terminal=True, width=40).print(render(view))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()
    assert len(lines) == 3
    assert all(len(line) <= 40 for line in lines)
    assert "s left" in lines[0]


def test_a_rate_falls_when_nothing_comes_any_more() -> None:
    meter = Meter()
    rates = [meter.rate(float(second), min(second, 10) * 100) for second in range(100)]
    assert rates[11] == rates[12] == 100.0
    assert rates[12] > rates[20] > rates[99]
    assert rates[99] < 12.0


def test_a_verification_says_how_far_it_is() -> None:
    progress = VerifyProgress(files=1, bytes=500, total_files=2000, total_bytes=1000, place="C / I / 1")
    view = VerifyView(progress)
    assert view.headline(0.0) == "checking  1 of 2,000 files  500 B of 1.0 kB"
    assert view.place() == "C / I / 1"


def test_evidence_is_never_taken_for_markup_or_for_control_codes() -> None:
    progress = Progress(stage="reading", path=b"[bold red]x[/] :bomb: \x1b]8;;http://e\x07\xff", total_bytes=10, stored_bytes=20)
    out = io.StringIO()
    screen = rich.console.Console(file=out, force_terminal=True, width=200, highlight=False, markup=True, emoji=True)
    screen.print(render(PushView(progress)))
    assert r"[bold red]x[/] :bomb: \x1b]8;;http://e\x07\xff" in out.getvalue()


def test_nothing_is_drawn_where_nobody_looks(capfdbinary: object) -> None:
    with shown(Console(quiet=True), PushView(Progress())):
        pass


def drawn_last(view: PushView | VerifyView, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> str:
    """What a terminal has got when a run ends, without the codes that move and erase."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    console = Console()
    monkeypatch.setattr(Console, "is_live", True)
    monkeypatch.setattr(stream, "isatty", lambda: True)
    with contextlib.suppress(ValueError), shown(console, view):
        stream.seek(0)
        stream.truncate()
        if isinstance(view, PushView):
            view.progress.stage = "done"
        if error is not None:
            raise error
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue()).strip()


def test_the_last_frame_of_a_push_is_its_end_and_not_the_last_count_of_the_vault(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Progress(stage="finishing", total_files=1, total_bytes=70_100_000, zero_bytes=0, stored_bytes=6_300_000)
    progress.stage_done, progress.stage_total = 6_300_000, 70_100_000
    last = drawn_last(PushView(progress), monkeypatch)
    assert last.splitlines()[0].rstrip() == "done: all 70.1 MB are there"
    assert "6.3" not in last
    assert PushView(progress).extent() == (70_100_000, 70_100_000)


def test_the_last_frame_of_a_run_that_failed_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    view = VerifyView(VerifyProgress(files=3, bytes=20, total_files=4, total_bytes=90))
    assert drawn_last(view, monkeypatch, ValueError()) == ""


def test_while_the_vault_has_some_of_what_is_read_the_time_left_is_at_least_that_of_the_last_seconds() -> None:
    """A push that goes on: its link brings 650 kB a second, and the vault finds what it had in three steps meanwhile."""
    progress = Progress(stage="reading", total_bytes=29_400_000)
    view = PushView(progress)
    for half in range(1, 40):
        now = half / 2
        progress.known_bytes = 2_800_000 * min(half // 4, 3)  # the last at 6 s
        progress.stored_bytes = progress.known_bytes + int(325_000 * half)
        progress.link_bytes = int(325_000 * half)
        said = view.headline(now)
        left = (29_400_000 - progress.stored_bytes) / 650_000
        if now >= 9.0:  # three seconds after what the vault had has come
            assert (found := re.search(r"  (\d+) s left", said)) is not None, (now, said)
            assert abs(int(found[1]) - left) <= max(left / 10, 0.6)
        elif "left" in said:
            assert "at least " in said


def test_documents_that_come_are_counted_without_a_total() -> None:
    progress = VerifyProgress()
    view = VerifyView(progress, "fetching documents")
    assert view.headline(0.0) == "fetching documents"
    progress.files, progress.bytes = 3, 2000
    assert view.headline(1.0) == "fetching documents  3 files  2.0 kB  2.0 kB/s"
