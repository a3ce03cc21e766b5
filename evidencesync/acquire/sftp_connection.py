"""Keeps a connection to an SFTP server, and reads its files: a lost connection is made again, and the last request repeated.

Everything that was read is in this process, and stays valid. So reading continues where it was.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, Final, Generic, TypeVar

from evidencesync.acquire.connect import not_regained, pause_seconds
from evidencesync.acquire.reading import CHEAP_TO_READ_AGAIN
from evidencesync.connection.progress import Progress
from evidencesync.connection.waiting import is_of_the_way
from evidencesync.custody.documents import SshPeer
from evidencesync.errors import (
    EvidenceSyncError,
    HostKeyChangedError,
    LinkLostError,
    SourceNotFoundError,
    SourceReadError,
)
from evidencesync.limits import KIB, MIB
from evidencesync.ssh.sftp import SAFE_READ, SftpSource, outcome_of
from evidencesync.ssh.sftp_answers import SftpFile, SftpStatus

_T = TypeVar("_T")
Question = Callable[[SftpSource], Coroutine[Any, Any, _T]]
_BLOCK: Final = 4 * MIB
_TAKEN_AT_ONCE: Final = 1 * MIB
_SEAM: Final = 32 * KIB


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
        self._progress.lose_link()
        reason: EvidenceSyncError = lost
        while self._attempts < self._retries:
            self._progress.stage = "reconnecting"
            server.close()
            if self._is_over.wait(pause_seconds(self._attempts)):
                raise lost
            self._attempts += 1
            try:
                self._switch_to(self._again())
            except EvidenceSyncError as error:
                if not is_of_the_way(error):
                    raise
                reason = error
                continue
            self._progress.events.record("resumed")
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


class RemoteFile:
    """An open file, whose bytes are read once, in order.

    After a lost connection it is opened again and read on from the same offset, if it is the same file: by its size, its
    modification time and the last bytes that were read. If it is not, or that cannot be known, it is to be read from its start
    again where that is cheap (`starts_again`); else the rest is of another state of the file, and `is_mixed`.
    """

    def __init__(
        self,
        connection: SftpConnection,
        path: bytes,
        *,
        may_start_again: bool,
        note_taken: Callable[[int], None] = lambda _size: None,
    ) -> None:
        """Opens the file. `note_taken` is told how many bytes more have come.

        Raises SourceReadError, and the error of reconnecting.
        """
        self._note_taken = note_taken
        self.starts_again = False
        self.is_mixed = False
        self._connection = connection
        self._path = path
        self._may_start_again = may_start_again
        self._server = connection.server
        self._file: SftpFile | None = None
        self._is_over = False
        self._taken = 0
        self._tail = b""
        while self._file is None:
            self._server = connection.server
            try:
                self._file = self._server.run(self._server.open(path))
            except LinkLostError as lost:
                connection.reconnect(self._server, lost)
        self.opened = self._file.status
        self.size = self._file.size

    def blocks(self) -> Iterator[bytes]:
        """Yields the file's bytes in blocks of about 4 MiB; ends early where it `starts_again`. Raises SourceReadError."""
        parts: list[bytes] = []
        held = 0
        while taken := self._next():
            parts += taken
            held += sum(map(len, taken))
            if held >= _BLOCK:
                yield b"".join(parts)
                parts, held = [], 0
        if parts and not self.starts_again:
            yield b"".join(parts)

    def ends(self) -> SftpStatus | None:
        """Returns, after the last block, the status of the file at its path now; None where the file is longer than its size."""
        while self._file is not None and not self.starts_again:
            try:
                return self._server.run(self._file.ends())
            except LinkLostError as lost:
                self._return(lost)
        return None

    def close(self) -> None:
        """Closes the file. A link that is lost meanwhile is no error."""
        with contextlib.suppress(LinkLostError):
            if self._file is not None:
                self._server.run(self._file.close())

    def _next(self) -> list[bytes]:
        while self._file is not None and not self.starts_again and not self._is_over:
            try:
                taken = self._server.run(self._file.next_blocks(_TAKEN_AT_ONCE))
            except LinkLostError as lost:
                self._return(lost)
                continue
            for block in taken:
                self._taken += len(block)
                self._tail = (self._tail + block[-_SEAM:])[-_SEAM:]
            if taken:
                self._note_taken(sum(map(len, taken)))
                self._connection.reset_attempts()
            return taken
        return []

    def _return(self, lost: LinkLostError) -> None:
        """Opens the file again over a new connection, and checks whether it is the same."""
        while True:
            self._connection.reconnect(self._server, lost)
            self._server, self._file = self._connection.server, None
            try:
                self._file = self._server.run(self._server.open(self._path, self._taken))
                is_same = self._is_same(self._file)
            except LinkLostError as again:
                lost = again
                continue
            except SourceReadError:
                self.close()
                raise
            break
        if not is_same:
            self.starts_again = self._may_start_again and self._taken <= CHEAP_TO_READ_AGAIN
            self.is_mixed = True
            self._is_over = bool(self.size) and not self._file.size
            self._file.size = min(self._file.size, self.size or self._file.size)  # no more than was announced

    def _is_same(self, file: SftpFile) -> bool:
        """Returns whether a file that was opened again is the same. A file of size 0 may differ at each open (/proc)."""
        if not self._taken:
            return not self.opened.differs(file.status)
        if not self.size or self.opened.differs(file.status):
            return False
        return self._server.run(file.holds(self._tail, self._taken - len(self._tail)))
