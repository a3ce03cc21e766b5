"""Serves one link at the vault's end: handshake, authentication and the item's lock, then a transfer or a custody session.

The same code serves SSH and links inside one process. The transfer itself is in `ingest.session`. Nothing is visible under
`acquisitions/` before everything is verified, durable and signed.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final, TypeVar

import evidencesync
from evidencesync.connection.event_log import Events
from evidencesync.connection.link import Link
from evidencesync.connection.process import SteadyClock
from evidencesync.connection.sender_connection import AT_WORK, SINGLE_SESSION, Caller, Host, Pulled, SenderConnection
from evidencesync.connection.session_socket import ResumeRequest, SocketLink, request_resume
from evidencesync.custody.record import decode_record
from evidencesync.custody.roles import Role
from evidencesync.errors import (
    BusyError,
    EvidenceSyncError,
    LinkLostError,
    LockedError,
    MissingOrExtraError,
    OtherWriterError,
    ProtocolError,
    SessionGoneError,
    UntrustedSignerError,
)
from evidencesync.evidence.digest import sha256_of
from evidencesync.files.disk import load_file, opened_folder
from evidencesync.files.shortages import unexpected
from evidencesync.ingest.admission import Admitted, Reader, admit, admit_reader, key_changes, show_since, welcome
from evidencesync.ingest.room import check_room
from evidencesync.ingest.transfers import add_holder
from evidencesync.limits import MAX_RECORD, NONCE
from evidencesync.protocol.failures import another_service, error_of, failure_of
from evidencesync.protocol.framing import DATA_FRAME, decode_message, frame_of
from evidencesync.protocol.messages import (
    ALIKE_VERSION,
    CHANGES_VERSION,
    PATIENT_VERSION,
    PREAMBLE,
    SIGNS_VERSION,
    Begin,
    Failure,
    Hello,
    Message,
    Patience,
    Published,
    Purpose,
)
from evidencesync.protocol.pull_messages import (
    SourceAsk,
)
from evidencesync.vault.heads import state_head, was_stated
from evidencesync.vault.item import VaultItem
from evidencesync.vault.layout import RECEIPT, RECEIPT_SIGNATURE, RECEIVED, RECEIVED_SIGNATURE
from evidencesync.vault.ledger import ChainHead
from evidencesync.vault.publish import complete_unfinished
from evidencesync.vault.staging import opened_sessions
from evidencesync.vault.vault import Vault

_M = TypeVar("_M", bound=Message)
_ENDING_SECONDS: Final = 20.0  # for a session that was asked to end, and may still be storing a segment
_NOTICE_SECONDS: Final = 3.0  # for a session whose sender was just killed, and which has not noticed it yet
_POLL_SECONDS: Final = 0.1


def receive(
    link: Link,
    vault: Vault,
    received_from: str,
    now: Callable[[], int] | None = None,
    *,
    host_key: str | None = None,
    may_reconnect: bool = True,
    pulled: Pulled | None = None,
    host: Host = SINGLE_SESSION,
) -> None:
    """Serves one session on a link, and closes it. An error is sent to the other end, and raised.

    `received_from` and `host_key` describe the connection as this process itself knows it; the key is None where sshd holds it.
    With `may_reconnect` a session whose link is lost waits for its sender. `pulled`: the sender is a pull in this process.
    `host` is asked for a place once the sender has proved a key that the vault trusts; without a place, BusyError is raised.
    Whatever is raised, nothing of a session that was not published is visible among the evidence.
    """
    session = _Session(link, vault, Caller(received_from, host_key, may_reconnect, pulled, host), now or SteadyClock())
    try:
        session.run()
        session.events.record("ended", code=0)
    except EvidenceSyncError as error:
        session.send_failure(error)
        session.events.refuse(error)
        raise
    except Exception as error:
        failure = unexpected(error)
        session.send_failure(failure)
        session.events.refuse(failure)
        raise failure from error
    finally:
        session.close()


def _load_the_rest() -> None:
    """Imports what a transfer needs while the sender signs: the import takes a tenth of a second."""
    import evidencesync.ingest.session  # noqa: F401


def refuse(link: Link, error: EvidenceSyncError) -> None:
    """Sends a client the reason why there is no session for it, and closes the link."""
    try:
        link.write(PREAMBLE + frame_of(failure_of(error, None)))
    except LinkLostError:
        return
    finally:
        link.close()


class _Session:
    """One session of one client."""

    def __init__(
        self,
        link: Link,
        vault: Vault,
        caller: Caller,
        now: Callable[[], int],
    ) -> None:
        self._connection = SenderConnection(link)
        self._version: int | None = None
        self._least_bytes = 0
        self._vault = vault
        self._caller = caller
        self._now = now
        self.events = caller.host.events.about(peer=caller.received_from)
        """Where it is told what happens; it knows who it is as soon as a key is proved."""

    def send_failure(self, error: EvidenceSyncError) -> None:
        """Sends the reason why the session ends, if the link still works."""
        self._connection.send_last(failure_of(error, self._version))

    def close(self) -> None:
        """Closes the link and ends the thread that reads it."""
        self._connection.close()

    def run(self) -> None:
        """Runs the handshake, then the transfer under the item's lock; or relays the link to the process that has the session."""
        self._connection.write(PREAMBLE)
        admitted, purpose = self._shake_hands()
        events = self._begin_events(admitted, purpose)
        version = self._version or 0
        has_signs = purpose == "push" or version >= SIGNS_VERSION
        send_status = self._send_waiting_status if has_signs else lambda: None
        if not self._caller.host.has_place(admitted.principal, send_status):
            raise BusyError("the server has as many sessions as it takes")
        if purpose != "push" and has_signs:
            self._connection.begin_signs_of_life(lambda: AT_WORK)
        if isinstance(admitted, Reader):
            self._answer(admitted, purpose, version, events)
            return
        if purpose == "custody":
            from evidencesync.ingest.custody import serve_custody

            serve_custody(self._connection, self._vault, admitted, self._now, events)
            return
        from evidencesync.ingest.session import IngestSession  # see `_load_the_rest`

        check_room(self._vault, admitted.name, self._least_bytes)
        item = self._vault.item(admitted.name, create=True)
        ingest = IngestSession(self._connection, self._vault, item, admitted, self._caller, self._now)
        ingest.least_bytes = self._least_bytes
        ingest.events = events
        ingest.compares = version >= CHANGES_VERSION
        ingest.tells_alike = version >= ALIKE_VERSION
        self._connection.begin_signs_of_life(ingest.status)
        with ExitStack() as stack:
            owner = self._lock(stack, item, admitted)
            if owner is not None:
                self._connection.end_signs_of_life()  # that process sends its own
                self._relay(owner)
                return
            complete_unfinished(item)
            completed = item.find_session(admitted.session)
            if completed is not None:
                acknowledgement = [*self._repeat_acknowledgement(item, completed, admitted)]
            elif admitted.resumes:
                raise SessionGoneError("the vault's end of this session has ended")
            else:
                acknowledgement = ingest.run()
        # Only when the lock is released: a sender that receives the acknowledgement may begin the next transfer at once.
        self._connection.end_signs_of_life()
        self._connection.take_new_link()
        for message in acknowledgement:
            self._connection.try_send(message)
        ingest.catch_up()  # last: the index is a cache

    def _answer(self, reader: Reader, purpose: Purpose, version: int, events: Events) -> None:
        """Answers who reads, or changes whom the vault trusts."""
        from evidencesync.ingest.reading import ReadingTerms, serve_reader

        terms = ReadingTerms(self._now, self._caller.host.shows_evidence, version, self._least_bytes, events)
        if purpose != "trust":
            serve_reader(self._connection, self._vault, reader, terms)
            return
        from evidencesync.ingest.trust import serve_trust

        serve_trust(self._connection, self._vault, reader, terms)

    def _begin_events(self, admitted: Admitted | Reader, purpose: Purpose) -> Events:
        """Tells who has proved which key, and what for. Before that, nobody is known, and only a refusal is told."""
        item = (admitted.name.case.text, admitted.name.item.text) if isinstance(admitted, Admitted) else (None, None)
        self.events = self.events.about(
            session=admitted.session, case=item[0], item=item[1], principal=admitted.principal, key=admitted.key.fingerprint
        )
        self.events.record("begun", what=purpose, tool=evidencesync.__version__)
        return self.events

    def _send_waiting_status(self) -> None:
        self._connection.send(AT_WORK)

    # Handshake.

    def _expect(self, kind: type[_M]) -> _M:
        frame_type, body = next(self._connection.frames())
        message = decode_message(frame_type, body) if frame_type != DATA_FRAME else None
        if isinstance(message, Failure):
            raise error_of(message)
        if isinstance(message, SourceAsk):
            raise another_service("a source", "a vault")
        if not isinstance(message, kind):
            raise ProtocolError(f"the message {kind.__name__} was expected")
        return message

    def _shake_hands(self) -> tuple[Admitted | Reader, Purpose]:
        """Runs the handshake; returns who has been authenticated, and the purpose of the session."""
        hello = self._expect(Hello)
        offered = welcome(hello, self._vault, os.urandom(NONCE), self._now())
        self._version = offered.version
        if (changes := key_changes(offered, self._vault)) is not None:
            self._connection.send(changes)
        self._connection.send(offered)
        if hello.purpose == "push":
            _load_the_rest()
        if offered.version >= PATIENT_VERSION:
            patience = self._expect(Patience)
            self._least_bytes = patience.least_bytes
            if self._caller.pulled is not None:
                self._connection.disable_silence_timeout(patience)
            elif hello.purpose == "push":  # a custody chain is shown to a person, who may take long before signing
                self._connection.set_patience(patience)
            else:
                self._connection.set_sign_interval(patience)
        begin, now = self._expect(Begin), self._now()
        if hello.purpose in ("read", "trust"):
            admitted: Admitted | Reader = admit_reader(begin, offered, self._vault, now, hello.purpose)
        else:
            roles: tuple[Role, ...] = ("acquire",) if hello.purpose == "push" else ("custody", "read")  # a chain is shown first
            admitted = admit(begin, offered, self._vault, now, roles)
        self._connection.lift_deadline()
        return admitted, hello.purpose

    # The item's lock.

    def _lock(self, stack: ExitStack, item: VaultItem, admitted: Admitted) -> SocketLink | None:
        """Takes the item's lock; or returns a link to the process that holds it, where that is this very session.

        A session that waits for another sender is asked to end, and the lock is tried again until it has. Raises LockedError.
        """
        request = ResumeRequest(admitted.session, admitted.key.fingerprint, admitted.resumes)
        ending, until = False, time.monotonic() + _NOTICE_SECONDS
        while True:
            try:
                stack.enter_context(item.locked())
            except OtherWriterError:
                raise
            except LockedError as locked:
                answer = False if ending else _request_resume(item, request)
                if isinstance(answer, SocketLink):
                    return answer
                if answer:
                    ending, until = True, time.monotonic() + _ENDING_SECONDS
                if time.monotonic() >= until:
                    add_holder(locked, item.layout)
                    raise
                time.sleep(_POLL_SECONDS)  # the other session needs a moment to end, or to notice that its link is lost
            else:
                return None

    def _relay(self, owner: SocketLink) -> None:
        """Copies bytes between the link and the process that has the session, until either ends."""
        forth = threading.Thread(target=_copy, args=(self._connection.read_raw, owner.write, owner.close), daemon=True)
        forth.start()
        _copy(owner.read, self._connection.write, self._connection.close)
        owner.close()
        forth.join()

    def _repeat_acknowledgement(self, item: VaultItem, number: int, admitted: Admitted) -> Iterator[Message]:
        """Yields the acknowledgement of a published session once more, for its own examiner: it may have been lost.

        Raises UntrustedSignerError for another examiner.
        """
        if item.header(number).examiner.key != admitted.key.fingerprint:
            raise UntrustedSignerError("this session was another examiner's")
        with opened_folder(item.layout.acquisition(number)) as folder:
            documents = {name: _require(folder, name) for name in (RECEIPT, RECEIPT_SIGNATURE, RECEIVED, RECEIVED_SIGNATURE)}
        record = decode_record(documents[RECEIVED])
        head = ChainHead(record.sequence, sha256_of(documents[RECEIVED]).hex())
        # Stated once: repeating an old session must not make the vault state a head that is not the head any more.
        if item.ledger.head() == head or not was_stated(self._vault, item.name, head):
            state_head(self._vault, item.name, head, at_ns=self._now(), may_be_stated=True)
        yield from show_since(self._vault.ledger, admitted.vault_seen)
        yield Published(
            number,
            documents[RECEIPT],
            documents[RECEIPT_SIGNATURE],
            documents[RECEIVED],
            documents[RECEIVED_SIGNATURE],
            damaged=0,
            repeated=True,
        )


def _request_resume(item: VaultItem, request: ResumeRequest) -> SocketLink | bool:
    """Sends the request to the sockets of the item's sessions: to the one that it resumes, else to each until one accepts."""
    for session, session_fd in opened_sessions(item.layout):
        if not request.resumes or session == request.session:
            answer = request_resume(session_fd, request)
            if answer:
                return answer
    return False


def _copy(read: Callable[[], bytes], write: Callable[[bytes], None], end: Callable[[], None]) -> None:
    """Copies until one side ends, and then ends the other."""
    with contextlib.suppress(LinkLostError):
        while block := read():
            write(block)
    end()


def _require(folder_fd: int, name: str) -> bytes:
    data = load_file(folder_fd, name, MAX_RECORD)
    if data is None:
        raise MissingOrExtraError(f"a published acquisition lacks {name}")
    return data
