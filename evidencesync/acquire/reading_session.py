"""A link to a far vault over which a reader asks one thing after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

from evidencesync.acquire.handshake import ReadingRequest, begin_reading_session
from evidencesync.connection.inbox import alive_seconds
from evidencesync.connection.link import Link
from evidencesync.connection.process import SteadyClock
from evidencesync.connection.vault_answers import VaultAnswers
from evidencesync.errors import IncompleteError, LinkLostError, ProtocolError, StorageError
from evidencesync.protocol.framing import frame_of
from evidencesync.protocol.messages import Alive, Message

_M = TypeVar("_M", bound=Message)


class ReadingSession:
    """Is open as soon as it is made: the vault has shown who it is, and taken our key."""

    def __init__(
        self,
        link: Link,
        request: ReadingRequest,
        now: Callable[[], int],
        recall: Callable[[str], None],
        least_bytes: int = 0,
        purpose: Literal["read", "trust"] = "read",
    ) -> None:
        """Takes over the link. `least_bytes`: what a push that is planned needs at the least.

        Raises what the vault refuses us with, VersionError, ProtocolError, LinkLostError.
        """
        self._link = link
        self._answers = VaultAnswers(link, request.timeout_seconds)
        self._alive_seconds = alive_seconds(request.timeout_seconds)
        self._said_at = time.monotonic()
        try:
            with self.explained():
                introduced = begin_reading_session(request, link, self._answers.expect, now, recall, least_bytes, purpose)
                self.welcome, self.keys = introduced.welcome, introduced.keys
                self._answers.may_say_status = True
        except BaseException:
            self.close()
            raise

    @property
    def wire_received(self) -> int:
        """Bytes received on the connection so far."""
        return self._link.wire_received

    def ask(self, message: Message) -> None:
        """Sends a question. Raises LinkLostError, or the reason why the vault has hung up."""
        with self.explained():
            self._write(message)

    def try_ask(self, message: Message) -> bool:
        """The same; False where the link is lost. What has come over it until then can still be taken."""
        try:
            self._write(message)
        except LinkLostError:
            return False
        return True

    def keep_alive(self) -> None:
        """Keeps the link while this end works for long without a question. To be called often. A lost link is no error here."""
        if time.monotonic() - self._said_at >= self._alive_seconds:
            self.try_ask(Alive())

    def expect(self, *kinds: type[_M]) -> _M:
        """Returns the next message, which must be of one of these kinds. Raises as `VaultAnswers.expect` does."""
        with self.explained():
            return self._answers.expect(*kinds)

    def data(self, size: int) -> Iterator[memoryview]:
        """Yields `size` bytes of data. Raises as `VaultAnswers.data` does."""
        with self.explained():
            yield from self._answers.data(size)

    def close(self) -> None:
        """Closes the link. Safe to call again."""
        self._answers.close()

    def _write(self, message: Message) -> None:
        self._said_at = time.monotonic()
        self._answers.begin_waiting()
        self._link.write(frame_of(message))

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raises, in place of LinkLostError, the reason that the vault has given before it hung up, where there is one.

        What its disk does not give is an IncompleteError: there, too, it is no failure of the command.
        """
        try:
            yield
        except LinkLostError as lost:
            said = self._answers.reason_for(lost)
            raise (IncompleteError.of(said) if isinstance(said, StorageError) else said) from lost
        except StorageError as refused:
            raise IncompleteError.of(refused) from refused


@dataclass(frozen=True, slots=True)
class FarReader:
    """A vault on another machine: the session that is open, and how another one is made where the link is lost."""

    connect: Callable[[], Link]
    request: ReadingRequest
    session: ReadingSession

    def connected_again(self) -> ReadingSession:
        """Makes another session with the same vault. Raises ProtocolError where another one answers, and as `connect` does."""
        session = ReadingSession(self.connect(), self.request, SteadyClock(), lambda _: None)
        before, now = self.session.welcome, session.welcome
        if (before.vault_id, before.vault_key) != (now.vault_id, now.vault_key):
            session.close()
            raise ProtocolError("another vault answers than the one whose documents were read")
        return session

    def with_new_session(self) -> FarReader:
        """The same over a new link, where the one that is open was ended: by a verification, which is a link's last question."""
        return FarReader(self.connect, self.request, self.connected_again())
