"""Makes standard input and output a Link, for a process that sshd has started."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import stat
import sys
import time
from typing import Final

from evidencesync.custody.documents import SshPeer
from evidencesync.errors import LinkLostError
from evidencesync.limits import MIB, SILENCE_SECONDS

_READ_BYTES: Final = 1 * MIB
_POLL_SECONDS: Final = 1.0


class StdioLink:
    """A Link over two descriptors, read and written by threads that block. Bytes are counted without the overhead of SSH."""

    peer: SshPeer | None = None

    def __init__(self, source: int, sink: int) -> None:
        """Takes over both descriptors."""
        self.wire_sent = 0
        self.wire_received = 0
        self.timeout_seconds = SILENCE_SECONDS
        self._source = source
        _enlarge(source)
        _enlarge(sink)
        self._sink: _Sink | None = _Sink(sink)

    def read(self) -> bytes:
        """Returns the next bytes; `b""` when the other end has finished."""
        try:
            block = os.read(self._source, _READ_BYTES)
        except OSError as error:
            raise LinkLostError(f"the connection broke: {error.strerror}") from error
        self.wire_received += len(block)
        return block

    def write(self, data: bytes) -> None:
        """Writes all of it. Raises LinkLostError where nothing at all is taken for `timeout_seconds`."""
        view, moved = memoryview(data), time.monotonic()
        try:
            while view:
                if self._sink is None:
                    raise LinkLostError("the connection was closed")
                written = self._sink.write(view)
                if written:
                    self.wire_sent += written
                    view, moved = view[written:], time.monotonic()
                elif time.monotonic() - moved >= self.timeout_seconds:
                    raise LinkLostError(f"the other end has taken nothing for {self.timeout_seconds:g} seconds")
                else:
                    self._sink.wait(min(self.timeout_seconds, _POLL_SECONDS))
        except OSError as error:
            raise LinkLostError(f"the connection broke: {error.strerror}") from error

    def close(self) -> None:
        """Ends the outgoing stream. The incoming one ends with the process: a thread may still wait in a read of it."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None


class _Sink:
    """A descriptor that is written without blocking, so that the writer can give up after a timeout.

    O_NONBLOCK is a property of the open file description, which may be shared with a shell. So a pipe is opened again where the
    system allows it, and a socket is written with MSG_DONTWAIT. Anything else (a file, a terminal) is written as it is.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._socket: socket.socket | None = None
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(descriptor))
        elif stat.S_ISFIFO(mode):
            self._descriptor = _opened_anew(descriptor)

    def write(self, data: memoryview) -> int:
        """Writes; returns how many bytes were taken, 0 where there is no room. Raises OSError."""
        try:
            if self._socket is not None:
                return self._socket.send(data, socket.MSG_DONTWAIT)
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0

    def wait(self, seconds: float) -> None:
        """Waits until there is room, or the time is over."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        poll.poll(seconds * 1000)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        os.close(self._descriptor)


def _opened_anew(pipe: int) -> int:
    """Opens a pipe again, with O_NONBLOCK of its own. Takes over the descriptor."""
    try:
        own = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # no /proc, or a pipe of another user
        os.set_blocking(pipe, False)
        return pipe
    os.close(pipe)
    return own


def take_standard_streams() -> StdioLink:
    """Takes standard input and output for the protocol. From now on a stray `print` goes to stderr, and nothing reads 0."""
    if sys.stdout is not None:  # it was closed when this process began
        sys.stdout.flush()
    source, sink = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    return StdioLink(source, sink)


def _enlarge(descriptor: int) -> None:
    """Makes a pipe hold 1 MiB where the system lets it; anything else stays as it is."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _READ_BYTES)
        except OSError:  # a socket, or the limit on pipe buffers is reached: slower, not wrong
            return
