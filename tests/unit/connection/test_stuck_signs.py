"""A session that ends does not wait long for a sign of life that its sender never takes."""

from __future__ import annotations

import threading

import pytest

from evidencesync.connection import sender_connection
from evidencesync.connection.sender_connection import SenderConnection
from evidencesync.custody.documents import SshPeer
from evidencesync.errors import LinkLostError
from evidencesync.protocol.messages import Failure, Status
from tests.support.patience import PATIENCE_SECONDS


class StuckLink:
    """A link whose other end reads nothing and sends nothing. A write ends only when the link is closed."""

    peer: SshPeer | None = None
    wire_sent = wire_received = 0

    def __init__(self) -> None:
        self.timeout_seconds = 180.0
        self.is_stuck = threading.Event()
        self._closed = threading.Event()

    def read(self) -> bytes:
        self._closed.wait()
        return b""

    def write(self, data: bytes) -> None:
        self.is_stuck.set()
        self._closed.wait()
        raise LinkLostError("the link was closed")

    def close(self) -> None:
        self._closed.set()


def test_a_session_ends_although_a_sign_of_life_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_connection, "SIGN_SECONDS", 0.05)
    monkeypatch.setattr(sender_connection, "LAST_WORD_SECONDS", 0.05)
    link = StuckLink()
    connection = SenderConnection(link)
    connection._sign_seconds = 0.05
    connection.begin_signs_of_life(lambda: Status("receiving", 0, 0))
    assert link.is_stuck.wait(PATIENCE_SECONDS)

    def end() -> None:
        connection.send_last(Failure("storage", "the disk has failed", None))
        connection.close()

    ending = threading.Thread(target=end, daemon=True)
    ending.start()
    ending.join(PATIENCE_SECONDS)
    stuck = ending.is_alive()
    link.close()
    assert not stuck
    assert link.timeout_seconds == 0.05
    assert connection._signs is not None
    assert not connection._signs.is_alive()
