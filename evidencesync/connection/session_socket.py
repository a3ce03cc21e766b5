"""The door of a session at the vault's end: where its own sender comes back to, and where the next one asks it to leave.

A session outlives its link: the process that serves it keeps the item's lock and all that it knows, and listens on a
socket in its staging folder. A sender that reconnects reaches a new process, which proves who he is, knocks, and then
only passes bytes on. So nothing is read or hashed again, however often a link breaks.

The system says whose process knocks (SO_PEERCRED): only the vault's own user, and root, are let in. A file system without
sockets, or a system without /proc, has no doors: then the next run goes on from what was staged.
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
from evidencesync.limits import KIB, MIB, SILENCE_SECONDS

DOOR: Final = "door"
_KNOCK_BYTES: Final = 1024
_OCCUPANT_BYTES: Final = 16 * KIB
_ANSWER_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 2.0  # how often a session that waits looks whether its door is still there, and its server goes on
_READ_BYTES: Final = 1 * MIB
_CREDENTIALS: Final = struct.Struct("3i")
_TIMEVAL: Final = struct.Struct("@ll")
_ENTER: Final = b"E"
_LEAVING: Final = b"L"
_NO: Final = b"N"
_WHO: Final = b'{"asks":"who"}'  # a door of before does not understand it, and hangs up


class ResumeRequest(msgspec.Struct, frozen=True):
    """Who is at the door: an admitted examiner's session and key, and whether he is this session's own sender."""

    session: str
    key: str
    resumes: bool


class SessionState(msgspec.Struct, frozen=True):
    """What a session says of itself to the vault's own user: whose it is, and what it does now.

    `since_ns`: since when it does that. `ends_ns`: when it ends by itself, if nobody comes back; None where it does not wait.
    """

    principal: str
    key: str
    received_from: str
    process: int
    state: Literal["receiving", "waiting", "finishing"]
    since_ns: int
    ends_ns: int | None


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
        """See `transfer.link.PatientLink`."""
        return self._timeout_seconds

    @timeout_seconds.setter
    def timeout_seconds(self, seconds: float) -> None:
        self._timeout_seconds = seconds
        whole = int(seconds)
        with contextlib.suppress(OSError):  # a socket that is closed already
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(whole, int((seconds - whole) * 1e6)))

    def read(self) -> bytes:
        """The next bytes; `b""` at the end."""
        try:
            block = self._socket.recv(_READ_BYTES)
        except OSError as error:
            raise LinkLostError(f"the connection broke: {error.strerror}") from error
        self.wire_received += len(block)
        return block

    def write(self, data: bytes) -> None:
        """Sends all of it."""
        try:
            self._socket.sendall(data)
        except BlockingIOError as error:
            raise LinkLostError(f"the other end has taken nothing for {self._timeout_seconds:g} seconds") from error
        except OSError as error:
            raise LinkLostError(f"the connection broke: {error.strerror}") from error
        self.wire_sent += len(data)

    def close(self) -> None:
        """Ends both directions. Safe to call again."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class SessionSocket:
    """Listens for as long as a session lives.

    `may_leave` says whether another session may have the item now; `disturb` is called when somebody has come in or the
    session is to leave. Both are called in the door's thread. `is_closing`: the process is to end, and nobody is waited for.
    """

    def __init__(
        self,
        session_fd: int,
        session: str,
        key: str,
        *,
        may_leave: Callable[[], bool],
        disturb: Callable[[], None],
        is_closing: Callable[[], bool] = lambda: False,
        describe: Callable[[], SessionState | None] = lambda: None,
    ) -> None:
        self._session = session
        self._key = key
        self._may_leave = may_leave
        self._is_closing = is_closing
        self._describe = describe
        self._disturb = disturb
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._visitor: SocketLink | None = None
        self.leaving = False
        self._session_fd = session_fd
        self._socket = _listen(session_fd)
        if self._socket is not None:
            threading.Thread(target=self._serve, args=(self._socket,), name="door", daemon=True).start()

    def wait(self, seconds: float) -> SocketLink | None:
        """The sender who has come back; None when he did not within that time, or another session wants the item.

        None, too, when the door itself is gone: somebody has removed the staging folder, and nobody can come any more.
        """
        end = time.monotonic() + seconds
        with self._lock:
            while not (self._visitor or self.leaving or self._socket is None):
                left = end - time.monotonic()
                if left <= 0 or not self._is_there() or self._is_closing():
                    break
                self._changed.wait(min(left, _LOOK_SECONDS))
            visitor, self._visitor = self._visitor, None
            return visitor

    def _is_there(self) -> bool:
        try:
            return stat.S_ISSOCK(os.stat(DOOR, dir_fd=self._session_fd, follow_symlinks=False).st_mode)
        except OSError:
            return False

    def close(self) -> None:
        """Nobody comes in any more."""
        with self._lock:
            listening, self._socket = self._socket, None
            visitor, self._visitor = self._visitor, None
        if listening is not None:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)  # wakes the thread
            listening.close()
        if visitor is not None:
            visitor.close()

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
        """Lets a visitor in, or says why not; whether he is in."""
        if not _is_own_user(connection):
            return False
        said = connection.recv(_KNOCK_BYTES)
        if said == _WHO:
            connection.sendall(msgspec.json.encode(self._describe()))
            return False
        request_resume = msgspec.json.decode(said, type=ResumeRequest)
        if request_resume.resumes and (request_resume.session, request_resume.key) == (self._session, self._key):
            return self._let_in(connection)
        if not request_resume.resumes and self._may_leave():
            connection.sendall(_LEAVING)  # before the session can end, and with it this process
            with self._lock:
                self.leaving = True
                self._changed.notify_all()
            self._disturb()
        else:
            connection.sendall(_NO)
        return False

    def _let_in(self, connection: socket.socket) -> bool:
        with self._lock:
            if self._socket is None:  # closed meanwhile, and nobody would take him, nor ever close his connection
                return False
            connection.sendall(_ENTER)
            connection.settimeout(None)
            if self._visitor is not None:
                self._visitor.close()
            self._disturb()  # before he can be taken: what is disturbed is the link that he replaces
            self._visitor = SocketLink(connection)
            self._changed.notify_all()
        return True


def request_resume(session_fd: int, visitor: ResumeRequest) -> SocketLink | bool:
    """Knocks at a session's door: a link to go on with, or whether the session there is leaving."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_ANSWER_SECONDS)
        connection.connect(_address(session_fd))
        connection.sendall(msgspec.json.encode(visitor))
        answer = connection.recv(1)
    except OSError:
        connection.close()
        return False  # nobody is there
    if answer == _ENTER:
        connection.settimeout(None)
        return SocketLink(connection)
    connection.close()
    return answer == _LEAVING


def ask_state(session_fd: int) -> SessionState | None:
    """Asks at a session's door who is there; None where nobody answers."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    answer = b""
    try:
        connection.settimeout(_ANSWER_SECONDS)
        connection.connect(_address(session_fd))
        connection.sendall(_WHO)
        while len(answer) <= _OCCUPANT_BYTES and (block := connection.recv(_OCCUPANT_BYTES)):
            answer += block
        return msgspec.json.decode(answer, type=SessionState | None)
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
    """A name of the socket that is short enough for any folder (sun_path has 108 bytes)."""
    return f"/proc/self/fd/{session_fd}/{DOOR}"


def _is_own_user(connection: socket.socket) -> bool:
    if not hasattr(socket, "SO_PEERCRED"):
        return False
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(packed)[1] in (os.getuid(), 0)  # root can do all of it anyway
