"""Events of a watch have short lines: the date where it changes, and then times to the second."""

from __future__ import annotations

from pathlib import Path

import pytest

from evidencesync.cli import watch_events
from evidencesync.cli.console import Console
from evidencesync.cli.summary import changed_text
from evidencesync.cli.watch_events import WatchEvents
from evidencesync.custody.documents import Earlier
from evidencesync.evidence.entry import Entry
from evidencesync.localstate.receipts import FinishedReceipt
from evidencesync.protocol.messages import Changes
from evidencesync.source.changes import SourceSnapshot
from tests.unit.cli.outcomes import NAME, make_outcome


def test_the_date_stands_where_it_changes_and_the_time_before_each_event(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    events = WatchEvents(Console(), NAME)
    for now in ("2026-11-28T23:59:58.123456789Z", "2026-11-28T23:59:59.9Z", "2026-11-29T00:00:00.1Z"):
        monkeypatch.setattr(watch_events, "_now", lambda now=now: now)
        events.back()
    assert capsys.readouterr().err.splitlines() == [
        "2026-11-28  (times are UTC)",
        "23:59:58  the source is there again",
        "23:59:59  the source is there again",
        "2026-11-29  (times are UTC)",
        "00:00:00  the source is there again",
    ]


def test_quiet_drops_the_date_with_the_event(capsys: pytest.CaptureFixture[str]) -> None:
    WatchEvents(Console(quiet=True), NAME).back()
    assert capsys.readouterr().err == ""


def test_what_is_to_be_pushed_is_said_in_a_short_line(capsys: pytest.CaptureFixture[str]) -> None:
    WatchEvents(Console(), NAME).changed(SourceSnapshot(b"", 7, 0, None))
    assert capsys.readouterr().err.splitlines()[1][10:] == "to be pushed: new or changed, 7 entries in all"


def test_what_has_changed_is_counted() -> None:
    assert changed_text(Changes(added=1, removed=0, moved=0, changed=2, metadata=0, filtered=0)) == "1 added, 2 changed"


def test_what_was_not_read_again_is_said_with_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    events, kept = WatchEvents(Console(), NAME), FinishedReceipt(Path("/receipts/x"), None)
    outcome = make_outcome()
    events.record(outcome, kept)
    events.pushed()
    outcome.tally.manifest.add(Entry("file", "k", size=500, blake3="ab" * 32, sha256="cd" * 32, read_in=1))
    events.record(outcome, kept)
    events.pushed()
    assert events.last is not None
    assert events.last.earlier == Earlier(1, 500, 1)
    published = [line for line in capsys.readouterr().err.splitlines() if "published" in line]
    assert ["(1 file not read again); " in line for line in published] == [False, True]
