"""A folder's lock is had by one at a time; nobody waits for ever for a holder that was stopped."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from evidencesync.errors import LockedError
from evidencesync.files import disk
from evidencesync.files.disk import locked_folder
from tests.support.patience import PATIENCE_SECONDS


def test_a_lock_that_is_held_is_refused_at_once_unless_it_is_waited_for(tmp_path: Path) -> None:
    with locked_folder(tmp_path, "a folder"), pytest.raises(LockedError, match="a folder"), locked_folder(tmp_path, "a folder"):
        pass


def test_who_waits_gets_the_lock_when_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, had = threading.Event(), threading.Event()
    real = time.sleep

    def sleep(seconds: float) -> None:
        waits.set()
        real(seconds)

    def wait_for_it() -> None:
        with locked_folder(tmp_path, "a folder", wait=True):
            had.set()

    monkeypatch.setattr(time, "sleep", sleep)
    with locked_folder(tmp_path, "a folder"):
        thread = threading.Thread(target=wait_for_it, daemon=True)
        thread.start()
        assert waits.wait(PATIENCE_SECONDS)
        assert not had.is_set()
    assert had.wait(PATIENCE_SECONDS)
    thread.join(PATIENCE_SECONDS)


def test_a_holder_that_never_lets_go_is_not_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LONGEST_LOCK_SECONDS", 0.05)
    with (
        locked_folder(tmp_path, "a folder"),
        pytest.raises(LockedError, match="a folder"),
        locked_folder(tmp_path, "a folder", wait=True),
    ):
        pass
