"""Reading ahead: whoever waits for bytes is told when there will be none."""

from __future__ import annotations

import threading

import pytest

from evidencesync.connection.link import local_pair
from evidencesync.connection.read_ahead import ReadAhead
from evidencesync.errors import LinkLostError
from tests.support.patience import PATIENCE_SECONDS


def test_what_has_arrived_comes_before_the_end() -> None:
    ours, theirs = local_pair()
    ahead = ReadAhead(ours)
    theirs.write(b"last words")
    theirs.close()
    assert ahead.take() == b"last words"
    with pytest.raises(LinkLostError):
        ahead.take()


@pytest.mark.parametrize("late", [b"", b"a block that comes when nobody takes it any more"])
def test_whoever_waits_is_woken_by_the_close(late: bytes) -> None:
    ours, theirs = local_pair()
    ahead = ReadAhead(ours)
    lost: list[LinkLostError] = []

    def wait() -> None:
        try:
            ahead.take()
        except LinkLostError as error:
            lost.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while ahead.idle_seconds() == 0.0:
        pass
    ahead.close()
    theirs.write(late)
    waiting.join(PATIENCE_SECONDS)
    assert not waiting.is_alive()
    assert len(lost) == 1
    theirs.close()
