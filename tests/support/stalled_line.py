"""A line between two ends that stops: from some byte on nothing passes in one direction, and nobody hangs up."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import Final, Literal, Self

from evidencesync.connection.session_socket import SocketLink
from evidencesync.serve.serving import StdioLink

Direction = Literal["up", "down"]
_BUFFER: Final = 16 * 1024  # so that a writer notices soon that nobody takes anything


class StalledLine:
    """Two ends: ours is the client's, theirs that of a process that sshd started. After `after` bytes one direction stands still.

    What stands still is neither read nor passed on: the one end hears nothing more, the other can write nothing more.
    """

    def __init__(self, direction: Direction, after: int, timeout_seconds: float) -> None:
        near, self._near = socket.socketpair()
        far, self._far = socket.socketpair()
        for sock in (near, self._near, far, self._far):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self.ours = SocketLink(near)
        self.ours.timeout_seconds = timeout_seconds
        self.theirs = StdioLink(os.dup(far.fileno()), os.dup(far.fileno()))
        self._kept = far
        self.stalled = threading.Event()
        self._over = threading.Event()
        up, down = (after, None) if direction == "up" else (None, after)
        self._threads = [
            threading.Thread(target=self._pass, args=(self._near, self._far, up), daemon=True),
            threading.Thread(target=self._pass, args=(self._far, self._near, down), daemon=True),
        ]

    def _pass(self, source: socket.socket, sink: socket.socket, left: int | None) -> None:
        with suppress(OSError):
            while left is None or left > 0:
                block = source.recv(_BUFFER if left is None else min(left, _BUFFER))
                if not block:
                    break
                sink.sendall(block)
                left = None if left is None else left - len(block)
            if left == 0:
                self.stalled.set()
                self._over.wait()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for sock in (self._near, self._far, self._kept):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self.ours.close()
        for thread in self._threads:
            thread.join()
        for sock in (self._near, self._far, self._kept):
            sock.close()
