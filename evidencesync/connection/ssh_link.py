"""Connects to an evidencesync on another machine through the user's ssh: see `evidencesync.ssh.ssh_process`."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import sys
import threading
import time
from collections.abc import Sequence
from fcntl import ioctl
from termios import FIONREAD
from typing import Final

from evidencesync.custody.documents import SshPeer
from evidencesync.errors import EvidenceSyncError, LinkLostError, ResourcesError
from evidencesync.evidence.number_format import seconds_text
from evidencesync.limits import MIB
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions
from evidencesync.ssh.route import find_route
from evidencesync.ssh.ssh_process import SshProcess

_BLOCK: Final = 1 * MIB
_POLL_SECONDS: Final = 1.0
_LAST_WRITE_SECONDS: Final = 3.0  # for a write that is still running when the link is closed
_DRAIN_SECONDS: Final = 5.0  # for the data written last, and for the other end to close
_DRAIN_POLL_SECONDS: Final = 0.005
_ANSWERED_SECONDS: Final = 0.05  # the same, where the other end has answered everything
_REASON_SECONDS: Final = 2.0


class SshLink:
    """A Link over ssh. One thread reads, one thread writes. See `connection.link.Link`.

    It is made before it is connected, so that ssh can log in while other work is done: `finish_open` waits for that. Call `close`
    or `kill` in any case. Bytes are counted at ssh's pipes: without the overhead of SSH packets.
    """

    def __init__(self, address: Address, options: SshOptions, command: Sequence[str]) -> None:
        """Starts ssh with the remote command line `<remote command> <command, quoted for a shell>`.

        Raises the errors of `find_route` and SshProcess (exit codes 2, 12 and 21 among others).
        """
        self.timeout_seconds = options.timeout_seconds
        self.peer: SshPeer | None = None
        self.wire_sent = 0
        self.wire_received = 0
        self._unanswered = False
        self._has_written_all = False
        self._is_finished = False
        self._is_closed = False
        self._failure: EvidenceSyncError | None = None
        self._reading, self._writing = threading.Lock(), threading.Lock()
        line = " ".join([options.remote_command, *map(shlex.quote, command)])
        route = find_route(address, options)
        with contextlib.ExitStack() as stack:
            self._closing, self._closer = _pipe(stack)
            self._child = SshProcess(route, options, line)
            stack.pop_all()

    @property
    def process_id(self) -> int:
        """The process id of ssh."""
        return self._child.process_id

    def finish_open(self) -> None:
        """Waits until ssh has logged in, which may ask a person. Raises its errors: exit codes 20 to 23, and 2."""
        self.peer = self._child.wait_ready()

    @property
    def ending(self) -> str:
        """See `ToldLink`."""
        return self._child.ending

    def read(self) -> bytes:
        """Returns the next bytes, waiting for them; `b""` once the other end has finished. Raises LinkLostError, ConnectError."""
        with self._reading:
            if self._is_closed or self._is_finished:
                return self._read_end()
            self._wait_for(self._child.source, select.POLLIN)
            if self._is_closed:
                return self._read_end()
            block = os.read(self._child.source, _BLOCK)
            if not block:
                return self._end()
            self._child.begin_receiving()
            self.wire_received += len(block)
            self._unanswered = False
            return block

    def _read_end(self) -> bytes:
        if self._failure is not None:
            raise self._failure
        if self._is_closed:
            raise LinkLostError("the connection was closed")
        return b""

    def _end(self) -> bytes:
        self._failure = self._failure or self._child.end()
        self._is_finished = True
        return self._read_end()

    def write(self, data: bytes) -> None:
        """Writes all of `data` to ssh, waiting while the pipe is full. Raises LinkLostError.

        Also where the other end takes nothing and sends nothing for the whole timeout: its process may hang while its server,
        and so the SSH connection, is alive.
        """
        view = memoryview(data)
        with self._writing:
            moved, heard = time.monotonic(), self.wire_received
            while view:
                if self._is_closed or self._has_written_all:
                    raise self._failure or LinkLostError("the connection was closed")
                written = self._write_some(view)
                if written or self.wire_received != heard:
                    moved, heard = time.monotonic(), self.wire_received
                    self.wire_sent += written
                    self._unanswered = True
                    view = view[written:]
                elif self.timeout_seconds and time.monotonic() - moved >= self.timeout_seconds:
                    self._fail(LinkLostError(f"the other end has taken nothing for {seconds_text(self.timeout_seconds)}"))
                else:
                    self._wait_for(self._child.sink, select.POLLOUT, _POLL_SECONDS)

    def _write_some(self, view: memoryview) -> int:
        try:
            return os.write(self._child.sink, view)
        except BlockingIOError:
            return 0
        except OSError as error:
            # ssh knows the reason once it has ended: wait for that a moment, for a better message than "broken pipe".
            ended = self._child.end() if self._child.wait(_REASON_SECONDS) else None
            raise self._failure or ended or LinkLostError("the connection takes nothing more") from error

    def _fail(self, failure: EvidenceSyncError) -> None:
        self._failure = self._failure or failure
        self._child.kill()
        raise self._failure

    def finish_writing(self) -> None:
        """Closes the outgoing direction. Reading goes on."""
        with self._writing:
            self._has_written_all = True
            self._child.end_input()

    def close(self) -> None:
        """Waits some seconds at most until ssh has sent everything, and ends it. Safe to call again.

        A thread that waits in `read` or `write` is woken.
        """
        if self._is_closed:
            return
        if self._writing.acquire(timeout=_LAST_WRITE_SECONDS):
            self._writing.release()
            if not self._has_written_all:
                self._wait_until_taken()
                self.finish_writing()
            self._child.wait(_DRAIN_SECONDS if self._unanswered else _ANSWERED_SECONDS)
        self.kill()

    def _wait_until_taken(self) -> None:
        """Waits until ssh has taken everything from the pipe: then it has sent it, or will before it ends."""
        until = time.monotonic() + _DRAIN_SECONDS
        while time.monotonic() < until and int.from_bytes(ioctl(self._child.sink, FIONREAD, bytes(4)), sys.byteorder):
            if self._child.wait(_DRAIN_POLL_SECONDS):
                return

    def kill(self) -> None:
        """Ends ssh and the connection at once. Safe to call again, and after `close`."""
        if self._is_closed:
            return
        self._is_closed = True
        self._child.kill()
        os.close(self._closer)  # wakes a thread that waits in `read` or `write`
        with self._reading, self._writing:  # no descriptor is closed while a thread may still use it
            self._child.release()
            os.close(self._closing)

    def _wait_for(self, descriptor: int, event: int, seconds: float | None = None) -> None:
        """Waits until the descriptor is ready, or the link is closed."""
        poll = select.poll()
        poll.register(descriptor, event)
        poll.register(self._closing, select.POLLIN)
        with contextlib.suppress(InterruptedError):
            poll.poll(None if seconds is None else seconds * 1000)


def _pipe(stack: contextlib.ExitStack) -> tuple[int, int]:
    try:
        ends = os.pipe()
    except OSError as error:
        raise ResourcesError(f"a connection can't be begun: {error.strerror}") from error
    for end in ends:
        stack.callback(os.close, end)
    return ends
