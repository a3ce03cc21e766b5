"""A time left is said only once it is known, and then it is true within a tenth. Clocks are simulated."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

import pytest

from evidencesync.acquire.remote_source import RemoteSource
from evidencesync.acquire.verdict import note_checking
from evidencesync.cli.progress_display import PushView, VerifyView
from evidencesync.connection.event_log import NO_EVENTS
from evidencesync.connection.link import local_pair
from evidencesync.connection.progress import Progress
from evidencesync.ingest.verdict import checking
from evidencesync.protocol.framing import FrameDecoder, decode_message
from evidencesync.protocol.messages import VERSIONS
from evidencesync.serve import source_server
from evidencesync.verify.context import VerifyProgress

MB = 1_000_000
GB = 1_000_000_000
Points = list[tuple[float, float]]
"""A counter that rises in straight lines from one point (seconds, bytes) to the next."""


def at(points: Points, now: float) -> int:
    for (begin, had), (end, has) in pairwise(points):
        if now < end:
            return int(had + (has - had) * max(now - begin, 0.0) / (end - begin))
    return int(points[-1][1])


def seconds_said(text: str) -> float | None:
    found = re.search(r"(?<!at least )\b(?:(\d+) min )?(\d+) s left", text)
    return None if found is None else int(found[1] or 0) * 60 + int(found[2])


def require_truth(headline: Callable[[float], str], end: float, known_from: float) -> None:
    """Looks five times a second: what is said is true within a tenth, and said all the time from `known_from` on."""
    for fifth in range(int(end * 5)):
        now = fifth / 5
        said = seconds_said(text := headline(now))
        assert said is None or abs(said - (end - now)) <= max((end - now) / 10, 1.0), f"after {now} s: {text}"
        assert said is not None or now < known_from or end - now < 2, f"after {now} s: {text}"


def test_a_push_that_goes_on_says_how_long_what_is_sent_takes() -> None:
    """It takes over 8 MB at once, after two seconds of logging in; then the vault speaks twice a second of a link of 1 MB/s."""
    progress = Progress(stage="reading", total_bytes=26 * MB, total_hole_bytes=0, link_bytes=0)
    view = PushView(progress)

    def headline(now: float) -> str:
        heard = now // 0.5 * 0.5
        progress.link_bytes = at([(2.0, 0), (20.0, 18 * MB)], heard)
        progress.known_bytes = 8 * MB if heard >= 2 else 0
        progress.stored_bytes = progress.known_bytes + progress.link_bytes
        return view.headline(now)

    require_truth(headline, 20.0, 6.0)


def test_while_the_vault_finds_more_of_what_is_read_no_more_is_said_than_a_least_time() -> None:
    """It has 2 GB, found within ten seconds; then 100 MB are sent in 100 seconds."""
    progress = Progress(stage="reading", total_bytes=2 * GB + 100 * MB, total_hole_bytes=0, link_bytes=0)
    view, least = PushView(progress), []

    def headline(now: float) -> str:
        progress.known_bytes = at([(0.0, 0), (10.0, 2 * GB)], now)
        progress.link_bytes = at([(10.0, 0), (110.0, 100 * MB)], now)
        progress.stored_bytes = progress.known_bytes + progress.link_bytes
        text = view.headline(now)
        if found := re.search(r"at least (\d+) s left", text):
            least.append(int(found[1]))
            assert int(found[1]) <= 110 - now
        return text

    require_truth(headline, 110.0, 20.0)
    assert least


@pytest.mark.parametrize("holes_first", [False, True])
def test_a_push_of_data_and_holes_counts_both(*, holes_first: bool) -> None:
    """30 MB at 2 MB a second, and 10 GB of holes at 500 MB a second, one after the other."""
    progress = Progress(stage="reading", total_files=1, total_bytes=30 * MB, total_hole_bytes=10 * GB, link_bytes=0)
    view = PushView(progress)
    data: Points = [(20.0, 0), (35.0, 30 * MB)] if holes_first else [(0.0, 0), (15.0, 30 * MB)]
    holes: Points = [(0.0, 0), (20.0, 10 * GB)] if holes_first else [(15.0, 0), (35.0, 10 * GB)]

    def headline(now: float) -> str:
        progress.stored_bytes = progress.link_bytes = at(data, now)
        progress.hole_bytes = at(holes, now)
        return view.headline(now)

    require_truth(headline, 35.0, 26.0 if holes_first else 21.0)


def test_a_push_with_a_limited_rate_that_reads_holes_meanwhile_promises_nothing_that_is_false() -> None:
    """8 MB, 5 GB of holes and 16 MB: the link is at work on the first while the holes are hashed."""
    progress = Progress(stage="reading", total_files=1, total_bytes=24 * MB, total_hole_bytes=5 * GB, link_bytes=0)
    view = PushView(progress)

    def headline(now: float) -> str:
        heard = now // 0.5 * 0.5
        progress.stored_bytes = progress.link_bytes = at([(0.0, 0), (4.0, 8 * MB), (16.0, 8 * MB), (24.0, 24 * MB)], heard)
        progress.hole_bytes = at([(0.2, 0), (16.0, 5 * GB)], now)
        return view.headline(now)

    require_truth(headline, 24.0, 22.5)


def test_a_pull_whose_holes_nobody_counts_promises_nothing_while_they_are_read() -> None:
    progress = Progress(stage="reading", total_files=1, total_bytes=30 * MB, link_bytes=0)
    view = PushView(progress)

    def headline(now: float) -> str:
        progress.stored_bytes = progress.link_bytes = at([(0.0, 0), (3.0, 6 * MB), (10.0, 6 * MB), (22.0, 30 * MB)], now)
        progress.hole_bytes = at([(3.0, 0), (10.0, 7 * GB)], now)
        return view.headline(now)

    for fifth in range(15, 80):
        assert seconds_said(headline(fifth / 5)) is None


def told_by_a_source(there: Progress, progress: Progress) -> None:
    """What a source's end says of itself, as the vault's side shows it."""
    ours, theirs = local_pair()
    server = source_server._SourceServer(theirs, lambda: 0, NO_EVENTS)
    server._progress, server._version = there, VERSIONS[-1]
    server._send_progress()
    ((number, body),) = FrameDecoder(begun=True).update(ours.read())
    RemoteSource(ours, progress, 60.0)._receive(decode_message(number, body))
    server.close()


def test_a_pull_with_an_agent_counts_the_holes_that_its_source_has_counted() -> None:
    """30 MB at 2 MB a second, and then 10 GB of holes at 500 MB a second, at a source that tells of them."""
    there = Progress(stage="reading", total_files=1, total_bytes=30 * MB, total_hole_bytes=10 * GB)
    progress = Progress(stage="reading", link_bytes=0)
    view = PushView(progress)

    def headline(now: float) -> str:
        there.stored_bytes = at([(0.0, 0), (15.0, 30 * MB)], now)
        there.hole_bytes = at([(15.0, 0), (35.0, 10 * GB)], now)
        told_by_a_source(there, progress)
        progress.link_bytes = progress.stored_bytes
        return view.headline(now)

    require_truth(headline, 35.0, 21.0)
    assert progress.total_hole_bytes == 10 * GB


def test_a_verification_from_afar_counts_the_holes_that_the_vault_tells_of() -> None:
    """60 GB of data at 1 GB a second, 40 GB of holes at 2 GB a second in the middle; and an older vault, which tells nothing."""
    there = VerifyProgress(total_files=1, total_bytes=100 * GB, total_hole_bytes=40 * GB)
    progress, older = VerifyProgress(), VerifyProgress()
    view = VerifyView(progress)

    def headline(now: float) -> str:
        there.hole_bytes = at([(10.0, 0), (30.0, 40 * GB)], now)
        there.bytes = there.hole_bytes + at([(0.0, 0), (10.0, 10 * GB), (30.0, 10 * GB), (80.0, 60 * GB)], now)
        note_checking(progress, checking(there, tells_holes=True))
        note_checking(older, checking(there, tells_holes=False))
        return view.headline(now)

    require_truth(headline, 80.0, 14.0)
    assert (progress.total_hole_bytes, older.total_hole_bytes, older.total_bytes) == (40 * GB, 0, 100 * GB)


@pytest.mark.parametrize("rate_of_holes", [300 * MB, 4 * GB])
def test_a_verification_counts_holes_at_their_own_rate(rate_of_holes: int) -> None:
    """60 GB of data at 1 GB a second with 40 GB of holes in the middle."""
    seconds = 40 * GB / rate_of_holes
    data: Points = [(0.0, 0), (10.0, 10 * GB), (10.0 + seconds, 10 * GB), (60.0 + seconds, 60 * GB)]
    holes: Points = [(10.0, 0), (10.0 + seconds, 40 * GB)]
    progress = VerifyProgress(total_files=1, total_bytes=100 * GB, total_hole_bytes=40 * GB)
    view = VerifyView(progress)

    def headline(now: float) -> str:
        progress.hole_bytes = at(holes, now)
        progress.bytes = progress.hole_bytes + at(data, now)
        return view.headline(now)

    require_truth(headline, 60.0 + seconds, 14.0)


def test_a_verification_of_data_and_holes_that_take_turns_counts_them_together() -> None:
    progress = VerifyProgress(total_files=1, total_bytes=50 * GB, total_hole_bytes=30 * GB)
    view = VerifyView(progress)

    def headline(now: float) -> str:
        progress.hole_bytes = at([(0.0, 0), (40.0, 30 * GB)], now)
        progress.bytes = progress.hole_bytes + at([(0.0, 0), (40.0, 20 * GB)], now)
        return view.headline(now)

    require_truth(headline, 40.0, 5.0)


def test_a_verification_counts_small_files_by_their_number_too() -> None:
    """100,000 small files at 10,000 a second, then one large file."""
    progress = VerifyProgress(total_files=100_001, total_bytes=20 * GB + 100 * MB)
    view = VerifyView(progress)

    def headline(now: float) -> str:
        files = at([(0.0, 0), (10.0, 100_000)], now)
        progress.files, progress.bytes = files, files * 1000 + at([(10.0, 0), (40.0, 20 * GB)], now)
        return view.headline(now)

    require_truth(headline, 40.0, 14.0)


def test_a_verification_from_afar_is_told_of_twice_a_second_and_begins_slowly() -> None:
    """Documents and small files come first, at a fraction of the rate; it ends after eight seconds."""
    progress = VerifyProgress(total_files=2000, total_bytes=3 * GB)
    view = VerifyView(progress)

    def headline(now: float) -> str:
        heard = now // 0.5 * 0.5
        progress.files = at([(1.0, 0), (2.5, 1999)], heard)
        progress.bytes = at([(1.0, 0), (2.5, 50 * MB), (8.0, 3 * GB)], heard)
        return view.headline(now)

    require_truth(headline, 8.0, 6.4)
