"""The serving end of a connection that sshd made: standard input and output as a Link."""

from __future__ import annotations

import fcntl
import os
import sys

from evidencesync.custody.documents import SshPeer
from evidencesync.errors import LinkLostError
from evidencesync.limits import MIB

_READ_BYTES = 1 * MIB


class StdioLink:
    """Two descriptors, read and written by threads that block. Bytes are counted as they pass: ciphertext is sshd's."""

    peer: SshPeer | None = None

    def __init__(self, source: int, sink: int) -> None:
        """Takes over both descriptors."""
        self.wire_sent = 0
        self.wire_received = 0
        self._source = source
        self._sink = sink
        _enlarge(source)
        _enlarge(sink)

    def read(self) -> bytes:
        """What has arrived; `b""` when the other end has finished."""
        try:
            block = os.read(self._source, _READ_BYTES)
        except OSError as error:
            raise LinkLostError(f"the connection broke: {error.strerror}") from error
        self.wire_received += len(block)
        return block

    def write(self, data: bytes) -> None:
        """Writes all of it."""
        view = memoryview(data)
        try:
            while view:
                written = os.write(self._sink, view)
                self.wire_sent += written
                view = view[written:]
        except OSError as error:
            raise LinkLostError(f"the connection broke: {error.strerror}") from error

    def close(self) -> None:
        """Ends the outgoing stream. The incoming one ends with the process: a thread may still wait in a read of it."""
        if self._sink >= 0:
            os.close(self._sink)
            self._sink = -1


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
        except OSError:  # a socket, or a user at his limit: slower, not wrong
            return
