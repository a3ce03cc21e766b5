"""The door of a session: who comes while it is being closed is not let in, and nothing stays open."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from evidencesync.connection import session_socket
from evidencesync.connection.session_socket import ResumeRequest, SessionSocket, SocketLink, request_resume
from tests.support.patience import PATIENCE_SECONDS

SENDER = ResumeRequest("5" * 32, "SHA256:his", resumes=True)


def test_who_comes_while_the_door_is_being_closed_is_not_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    came, closed = threading.Event(), threading.Event()

    def wait_for_the_close(connection: socket.socket) -> bool:
        came.set()
        return closed.wait(PATIENCE_SECONDS)

    monkeypatch.setattr(session_socket, "_is_own_user", wait_for_the_close)
    session_fd = os.open(tmp_path, os.O_RDONLY)
    try:
        opened = SessionSocket(session_fd, SENDER.session, SENDER.key, may_end=lambda: False, interrupt=lambda: None)
        answers: list[SocketLink | bool] = []
        requesting = threading.Thread(target=lambda: answers.append(request_resume(session_fd, SENDER)))
        requesting.start()
        assert came.wait(PATIENCE_SECONDS)
        opened.close()
        closed.set()
        requesting.join(PATIENCE_SECONDS)
        assert answers == [False]
        assert opened.wait(0) is None
    finally:
        os.close(session_fd)
