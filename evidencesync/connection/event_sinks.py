"""Writes events: appended to a file, or sent to the system's log. Several processes may append to one file.

A line is one write(2) with O_APPEND, so on a local file system two lines never mix, and none replaces another. What could not be
written is counted, said once, and said in the log as a `gap` when it can be written again.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from evidencesync.connection.event_log import LogEvent, line_of
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.files.disk import close_quietly

SYSTEM_LOG: Final = "/dev/log"
"""Where syslog daemons and journald listen. Source: syslog(3), systemd-journald.service(8)."""
_USER: Final = 1 << 3  # the facility (RFC 5424 §6.2.1)
_WARNING, _NOTICE, _INFO = 4, 5, 6
_SEVERITIES: Final = {
    **dict.fromkeys(("refused", "unreadable", "changed-while-read", "link-lost", "gap"), _WARNING),
    **dict.fromkeys(("entry", "difference", "skipped"), _INFO),
}
_SECONDS: Final = 1.0  # to wait for a system's log that is busy; once it has not kept up, nobody waits until it does


class FileSink:
    """Appends lines to an open file. Takes over the descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._is_torn = False

    def put(self, line: bytes, _event: LogEvent) -> None:
        """Appends a line. Raises OSError where not all of it could be written: the next one then begins on a line of its own."""
        data = (b"\n" if self._is_torn else b"") + line + b"\n"
        written = os.write(self._descriptor, data)
        self._is_torn = written < len(data)
        if self._is_torn:
            raise OSError(0, "the disk is full")

    def close(self) -> None:
        """Closes the file."""
        close_quietly(self._descriptor)


class SystemSink:
    """Sends messages to the system's log, each in one datagram (RFC 3164 without a time, which the daemon adds)."""

    def __init__(self, place: str = SYSTEM_LOG) -> None:
        """Raises OSError where nobody listens there."""
        self._place = place
        self._socket: socket.socket | None = self._connected()
        self._waits = True

    def put(self, line: bytes, event: LogEvent) -> None:
        """Sends a message. Raises OSError."""
        priority = _USER | (_SEVERITIES.get(event.event, _NOTICE) if not event.code else _WARNING)
        message = b"<%d>evidencesync[%d]: %b" % (priority, os.getpid(), line)
        waited, self._waits = self._waits, False
        try:
            self._send(message, _SECONDS if waited else 0)
        except (ConnectionError, FileNotFoundError):  # the daemon was started anew
            self.close()
            self._send(message, 0)
        self._waits = True

    def close(self) -> None:
        """Closes the socket."""
        made, self._socket = self._socket, None
        if made is not None:
            made.close()

    def _send(self, message: bytes, seconds: float) -> None:
        if self._socket is None:
            self._socket = self._connected()
        self._socket.settimeout(seconds)
        self._socket.send(message)

    def _connected(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            made.settimeout(_SECONDS)
            made.connect(self._place)
        except OSError:
            made.close()
            raise
        return made


class EventLog:
    """Writes events to a sink, and goes on where that fails. Used by any thread. `report` is called once, with the reason."""

    def __init__(self, sink: FileSink | SystemSink, report: Callable[[str], None]) -> None:
        self.lost = 0
        """How many events could not be written."""
        self._sink = sink
        self._report = report
        self._lock = threading.Lock()
        self._untold = 0

    def write(self, event: LogEvent) -> None:
        """Writes an event. Raises nothing."""
        with self._lock:
            try:
                if self._untold:
                    gap = LogEvent(format_utc_time(time.time_ns()), "gap", event.role, event.pid, lost=self._untold)
                    self._sink.put(line_of(gap), gap)
                    self._untold = 0
                self._sink.put(line_of(event), event)
            except OSError as error:
                self._lose(error)

    def close(self) -> None:
        """Closes it."""
        with contextlib.suppress(OSError):
            self._sink.close()

    def _lose(self, error: OSError) -> None:
        self._untold += 1
        self.lost += 1
        if self.lost == 1:
            self._report(error.strerror or "it takes nothing more")
