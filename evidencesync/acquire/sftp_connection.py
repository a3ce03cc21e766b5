"""Keeps a connection to an SFTP server: after a lost connection it makes another, and repeats the last request.

Everything that was read is in this process, and stays valid. So reading continues where it was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Final, Generic, TypeVar

from evidencesync.acquire.connect import not_regained, pause_seconds
from evidencesync.connection.progress import Progress
from evidencesync.custody.documents import SshPeer
from evidencesync.errors import (
    ConnectError,
    EvidenceSyncError,
    HostKeyChangedError,
    LinkLostError,
    SourceNotFoundError,
    SourceReadError,
)
from evidencesync.ssh.sftp import SAFE_READ, SftpSource, outcome_of

_T = TypeVar("_T")
Question = Callable[[SftpSource], Coroutine[Any, Any, _T]]
_RETRIED: Final = (ConnectError, LinkLostError)  # errors that another attempt may not meet


class SftpConnection:
    """Used by one thread at a time; `close` may be called from any thread.

    `again` begins another connection to the same server; without it a lost connection is an error. `retries`: attempts in a row
    without reading anything.
    """

    def __init__(self, server: SftpSource, again: Callable[[], SftpSource] | None, retries: int, progress: Progress) -> None:
        self.root: bytes | None = None
        """A folder that must exist after reconnecting: otherwise everything in it would be recorded as vanished."""
        self._server = server
        self._again = again
        self._retries = retries
        self._progress = progress
        self._attempts = 0
        self._peer = server.peer
        self._wire = (0, 0)
        self._new_server: SftpSource | None = None
        self._is_over = threading.Event()
        self._lock = threading.Lock()

    @property
    def server(self) -> SftpSource:
        """The present connection."""
        return self._server

    @property
    def peer(self) -> SshPeer | None:
        """The SSH server."""
        return self._peer

    @property
    def wire_sent(self) -> int:
        """Bytes sent, over all connections."""
        return self._wire[0] + self._server.wire_sent

    @property
    def wire_received(self) -> int:
        """Bytes received, over all connections."""
        return self._wire[1] + self._server.wire_received

    def ask(self, question: Question[_T]) -> _T:
        """Returns the answer to one request, which is repeated where the connection is lost."""
        while True:
            server = self._server
            try:
                answer = server.run(question(server))
            except LinkLostError as lost:
                self.reconnect(server, lost)
                continue
            except SourceReadError:
                self.reset_attempts()  # a refusal is an answer, too
                raise
            self.reset_attempts()
            return answer

    def begin(self, question: Question[_T]) -> PendingAnswer[_T]:
        """Sends a request, without waiting for the answer."""
        return PendingAnswer(self, question)

    def reset_attempts(self) -> None:
        """Renews all attempts, after something more was read."""
        self._attempts = 0

    def reconnect(self, server: SftpSource, lost: LinkLostError) -> None:
        """Makes another connection in place of `server`, which was lost.

        Waits between the attempts, longer each time. Raises LinkLostError when there are no more attempts, and at once an error
        that no other attempt would change: another host key, a refused login, a source that is not there any more.
        """
        if server is not self._server:
            return
        if self._again is None or not self._retries or self._is_over.is_set():
            raise lost
        self._progress.interruptions += 1
        reason: EvidenceSyncError = lost
        while self._attempts < self._retries:
            self._progress.stage = "reconnecting"
            server.close()
            if self._is_over.wait(pause_seconds(self._attempts)):
                raise lost
            self._attempts += 1
            try:
                self._switch_to(self._again())
            except _RETRIED as error:
                reason = error
                continue
            if self._progress.stage == "reconnecting":
                self._progress.stage = "reading"
            return
        raise not_regained(self._attempts, reason) from lost

    def close(self) -> None:
        """Closes the connection, and one that is being made. Safe to call again."""
        with self._lock:
            self._is_over.set()
            coming = self._new_server
        if coming is not None:
            coming.close()
        self._server.close()

    def _switch_to(self, found: SftpSource) -> None:
        """Switches to a new connection, if it leads to the same server, which still has the source."""
        with self._lock:
            self._new_server = found
        try:
            if self._is_over.is_set():
                raise LinkLostError("the connection was closed")
            found.finish_open()
            if found.peer is None or self._peer is None or found.peer.host_key != self._peer.host_key:
                raise HostKeyChangedError("the server shows another host key than before the link was lost")
            found.looks_first = True
            if self._attempts > 1:  # the last connection did not last for one block: the server may not stand large reads
                found.read_size = SAFE_READ
            if self.root is not None:
                self._require_root(self.root, found)
            with self._lock:
                if self._is_over.is_set():
                    raise LinkLostError("the connection was closed")
                self._wire = self.wire_sent, self.wire_received
                self._server, self._new_server = found, None
        except BaseException:
            found.close()
            raise

    @staticmethod
    def _require_root(root: bytes, found: SftpSource) -> None:
        try:
            is_there = found.run(found.status(root)).kind == "directory"
        except SourceReadError:
            is_there = False
        if not is_there:
            raise SourceNotFoundError("the link is back, and the source is not there any more")


class PendingAnswer(Generic[_T]):
    """A request whose answer was not taken yet."""

    def __init__(self, connection: SftpConnection, question: Question[_T]) -> None:
        self._connection = connection
        self._question = question
        self._server = connection.server
        self._answer: Future[_T] | None = None
        try:
            self._answer = self._server.start(question(self._server))
        except LinkLostError:
            return  # `answer` repeats the request

    def answer(self) -> _T:
        """Waits for the answer. Raises what `SftpConnection.ask` raises."""
        if self._answer is None:
            return self._connection.ask(self._question)
        try:
            return outcome_of(self._answer)
        except LinkLostError as lost:
            self._connection.reconnect(self._server, lost)
        return self._connection.ask(self._question)
