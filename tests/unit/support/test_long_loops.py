"""What a long loop tells while it runs."""

from __future__ import annotations

import pytest

from tests.support import soak


def test_a_failure_is_told_at_once_and_how_far_it_is_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    tally = soak.Tally("sessions", clock=lambda: now)
    assert tally.count(["seed 7: lost"]) == ["seed 7: lost"]
    assert capsys.readouterr().out == "FAILED seed 7: lost\n"
    tally.count()
    assert capsys.readouterr().out == ""
    now = 61.0
    tally.count()
    assert capsys.readouterr().out == "sessions: 3 done, 1 failed\n"
