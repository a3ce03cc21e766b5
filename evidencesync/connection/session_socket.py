"""Listens on a Unix socket per ingest session: its own sender resumes through it, and another sender can ask the session to end.

A session outlives its link: the process that serves it keeps the item's lock and its state in memory, and listens on a socket in
its staging folder. A sender that reconnects reaches a new process. That process authenticates it, connects to the socket, and
then only copies bytes. So nothing is read or hashed again, however often a link breaks.

The kernel names the user of the connecting process (SO_PEERCRED): only the vault's own user and root are accepted. Where the file
system has no sockets, or the system no /proc, there is no session socket: the next run continues from what was staged.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from evidencesync.custody.documents import SshPeer
from evidencesync.errors import LinkLostError
from evidencesync.evidence.number_format import seconds_text
from evidencesync.limits import KIB, MIB, SILENCE_SECONDS

SOCKET_NAME: Final = "door"
_REQUEST_BYTES: Final = 1024
_STATE_BYTES: Final = 16 * KIB
_ANSWER_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 2.0  # how often a waiting session checks that its socket is still there and its server is not closing
_READ_BYTES: Final = 1 * MIB
_CREDENTIALS: Final = struct.Struct("3i")
_TIMEVAL: Final = struct.Struct("@ll")
_ACCEPTED: Final = b"E"
_ENDING: Final = b"L"
_REFUSED: Final = b"N"
_STATE_REQUEST: Final = b'{"asks":"who"}'  # a session of an older version does not understand it, and closes the connection


class ResumeRequest(msgspec.Struct, frozen=True):
    """Names an authenticated examiner's session and key, and whether it resumes that session or asks another one to end."""

    session: str
    key: str
    resumes: bool


class SessionState(msgspec.Struct, frozen=True):
    """Describes a running session to the vault's own user: whose it is, and what it does now.

    `since_ns`: since when it does that. `ends_ns`: when it ends by itself, if its sender does not reconnect; None where it does
    not wait.
    """

    principal: str
    key: str
    received_from: str
    process: int
    state: Literal["receiving", "waiting", "finishing"]
    since_ns: int
    ends_ns: int | None


_RESUME: Final = msgspec.json.Decoder(ResumeRequest)
_STATE: Final[msgspec.json.Decoder[SessionState | None]] = msgspec.json.Decoder(SessionState | None)


class SocketLink:
    """A connected socket as a Link."""

    peer: SshPeer | None = None

    def __init__(self, connection: socket.socket) -> None:
        """Takes over the socket."""
        self.wire_sent = 0
        self.wire_received = 0
        self._socket = connection
        self._timeout_seconds = 0.0
        self.timeout_seconds = SILENCE_SECONDS

    @property
    def timeout_seconds(self) -> float:
        """See `connection.link.PatientLink`."""
        return self._timeout_seconds

    @timeout_seconds.setter
    def timeout_seconds(self, seconds: float) -> None:
        self._timeout_seconds = seconds
        whole = int(seconds)
        with contextlib.suppress(OSError):  # a socket that is closed already
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(whole, int((seconds - whole) * 1e6)))

    def read(self) -> bytes:
        """Returns the next bytes; `b""` at the end."""
        try:
            block = self._socket.recv(_READ_BYTES)
        except OSError as error:
            raise LinkLostError(f"the connection broke: {error.strerror}") from error
        self.wire_received += len(block)
        return block

    def write(self, data: bytes) -> None:
        """Sends all of `data`."""
        try:
            self._socket.sendall(data)
        except BlockingIOError as error:
            raise LinkLostError(f"the other end has taken nothing for {seconds_text(self._timeout_seconds)}") from error
        except OSError as error:
            raise LinkLostError(f"the connection broke: {error.strerror}") from error
        self.wire_sent += len(data)

    def close(self) -> None:
        """Ends both directions. Safe to call again."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class SessionSocket:
    """Listens for resume requests for as long as a session runs.

    `may_end` returns whether another session may have the item now; `interrupt` is called when the sender has reconnected or the
    session must end. Both are called in the thread of this socket. `is_closing` returns whether the process is ending: then no
    sender is waited for.
    """

    def __init__(
        self,
        session_fd: int,
        session: str,
        key: str,
        *,
        may_end: Callable[[], bool],
        interrupt: Callable[[], None],
        is_closing: Callable[[], bool] = lambda: False,
        describe: Callable[[], SessionState | None] = lambda: None,
    ) -> None:
        self._session = session
        self._key = key
        self._may_end = may_end
        self._is_closing = is_closing
        self._describe = describe
        self._interrupt = interrupt
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._new_link: SocketLink | None = None
        self.ending = False
        self._session_fd = session_fd
        self._socket = _listen(session_fd)
        if self._socket is not None:
            threading.Thread(target=self._serve, args=(self._socket,), name="session-socket", daemon=True).start()

    def wait(self, seconds: float) -> SocketLink | None:
        """Returns the link of the sender that has reconnected; None when it has not in time, or the session was asked to end.

        Returns None, too, when the socket's name is gone: the staging folder was removed, and no sender can reconnect.
        """
        end = time.monotonic() + seconds
        with self._lock:
            while not (self._new_link or self.ending or self._socket is None):
                left = end - time.monotonic()
                if left <= 0 or not self._is_there() or self._is_closing():
                    break
                self._changed.wait(min(left, _POLL_SECONDS))
            link, self._new_link = self._new_link, None
            return link

    def _is_there(self) -> bool:
        try:
            return stat.S_ISSOCK(os.stat(SOCKET_NAME, dir_fd=self._session_fd, follow_symlinks=False).st_mode)
        except OSError:
            return False

    def close(self) -> None:
        """Ends listening, and closes a link that was accepted and not taken."""
        with self._lock:
            listening, self._socket = self._socket, None
            link, self._new_link = self._new_link, None
        if listening is not None:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)  # wakes the thread
            listening.close()
        if link is not None:
            link.close()

    def _serve(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return  # closed
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                connection.settimeout(_ANSWER_SECONDS)
                if self._answer(connection):
                    continue
            connection.close()

    def _answer(self, connection: socket.socket) -> bool:
        """Answers one request; returns whether the connection was accepted as the session's new link."""
        if not _is_own_user(connection):
            return False
        request = connection.recv(_REQUEST_BYTES)
        if request == _STATE_REQUEST:
            connection.sendall(msgspec.json.encode(self._describe()))
            return False
        resume = _RESUME.decode(request)
        if resume.resumes and (resume.session, resume.key) == (self._session, self._key):
            return self._accept(connection)
        if not resume.resumes and self._may_end():
            connection.sendall(_ENDING)  # before the session can end, and with it this process
            with self._lock:
                self.ending = True
                self._changed.notify_all()
            self._interrupt()
        else:
            connection.sendall(_REFUSED)
        return False

    def _accept(self, connection: socket.socket) -> bool:
        with self._lock:
            if self._socket is None:  # closed meanwhile: the link would never be taken, nor closed
                return False
            connection.sendall(_ACCEPTED)
            connection.settimeout(None)
            if self._new_link is not None:
                self._new_link.close()
            self._interrupt()  # before the new link can be taken: what is interrupted is the link that it replaces
            self._new_link = SocketLink(connection)
            self._changed.notify_all()
        return True


def request_resume(session_fd: int, request: ResumeRequest) -> SocketLink | bool:
    """Sends a request to a session's socket; returns the link to continue with, or whether that session is ending."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_ANSWER_SECONDS)
        connection.connect(_address(session_fd))
        connection.sendall(msgspec.json.encode(request))
        answer = connection.recv(1)
    except OSError:
        connection.close()
        return False  # no session listens there
    if answer == _ACCEPTED:
        connection.settimeout(None)
        return SocketLink(connection)
    connection.close()
    return answer == _ENDING


def ask_state(session_fd: int) -> SessionState | None:
    """Asks a session for its state through its socket; None where no session answers."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    answer = b""
    try:
        connection.settimeout(_ANSWER_SECONDS)
        connection.connect(_address(session_fd))
        connection.sendall(_STATE_REQUEST)
        while len(answer) <= _STATE_BYTES and (block := connection.recv(_STATE_BYTES)):
            answer += block
        return _STATE.decode(answer)
    except (OSError, msgspec.MsgspecError):
        return None
    finally:
        connection.close()


def _listen(session_fd: int) -> socket.socket | None:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(_address(session_fd))
        listening.listen(4)
    except OSError:
        listening.close()
        return None
    return listening


def _address(session_fd: int) -> str:
    """Names the socket through /proc, which is short enough for any folder (sun_path has 108 bytes)."""
    return f"/proc/self/fd/{session_fd}/{SOCKET_NAME}"


def _is_own_user(connection: socket.socket) -> bool:
    if not hasattr(socket, "SO_PEERCRED"):
        return False
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(packed)[1] in (os.getuid(), 0)  # root can do all of it anyway
