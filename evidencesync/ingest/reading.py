"""Answers who reads a vault from afar: one question after another, until the reader ends the link."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from evidencesync.connection.event_log import NO_EVENTS, Events
from evidencesync.connection.sender_connection import SenderConnection
from evidencesync.errors import LinkLostError, ProtocolError
from evidencesync.ingest.admission import Reader
from evidencesync.ingest.documents import send_documents, send_own_documents
from evidencesync.ingest.evidence import EvidenceSender
from evidencesync.ingest.rights import Rights
from evidencesync.ingest.room import PlannedPush, send_room
from evidencesync.protocol.document_messages import AllManifestsAsk, DocumentsAsk, RoomAsk
from evidencesync.protocol.evidence_messages import EvidenceAsk, PatchAsk, RowsAsk
from evidencesync.protocol.failures import error_of
from evidencesync.protocol.framing import DATA_FRAME, decode_message
from evidencesync.protocol.messages import HOLES_VERSION, Alive, Failure, Message
from evidencesync.protocol.trust_messages import OwnDocumentsAsk
from evidencesync.protocol.verdict_messages import RecordAllowed, RecordAsk, VerifyAsk
from evidencesync.vault.vault import Vault


@dataclass(frozen=True, slots=True)
class ReadingTerms:
    """How a reader is answered: by which clock, whether evidence is shown, and which version of the protocol the reader speaks.

    `least_bytes`: what a push that the reader plans needs at the least, as it has said. `events`: where each reading is recorded.
    """

    now: Callable[[], int]
    shows_evidence: bool
    version: int
    least_bytes: int
    events: Events = NO_EVENTS


def serve_reader(connection: SenderConnection, vault: Vault, reader: Reader, terms: ReadingTerms) -> None:
    """Answers each question. Returns when the reader ends the link after an answer.

    Raises LinkLostError for one that ends it before, ProtocolError for what is no question, and what answering raises.
    """
    with closing(EvidenceSender(connection, vault, terms.events, shows_evidence=terms.shows_evidence)) as evidence:
        answers = _Answers(connection, vault, evidence, reader, Rights(vault, reader.key, terms.now), terms)
        answers.to(next_message(connection))
        while True:
            try:
                message = next_message(connection)
            except LinkLostError:
                return
            answers.to(message)


@dataclass(frozen=True, slots=True)
class _Answers:
    """Answers the questions of one reader."""

    connection: SenderConnection
    vault: Vault
    evidence: EvidenceSender
    reader: Reader
    rights: Rights
    terms: ReadingTerms

    def to(self, message: Message) -> None:
        """Answers one. Raises ProtocolError for what is none, NotAllowedError, and what answering raises."""
        match message:
            case DocumentsAsk() | AllManifestsAsk():
                if message.case is None and isinstance(message, DocumentsAsk):
                    self.rights.require_somewhere("read")
                else:  # all of a vault is verified by it: nothing may seem to be missing
                    self.rights.require("read", message.case)
                events = self.terms.events.about(case=message.case, item=message.item)
                events.record("read", what="documents")  # before the first byte: the link may be lost before the last
                sent = send_documents(self.connection, self.vault, message, self.rights, self.terms.version)
                events.record("read", what="documents", files=sent[0], bytes=sent[1])
            case OwnDocumentsAsk():
                self.rights.require_somewhere("read", "admin")
                self.terms.events.record("read", what="trust")
                send_own_documents(self.connection, self.vault)
            case VerifyAsk():
                self.rights.require_shown("verify", message.case)
                from evidencesync.ingest.verdict import send_verdict  # all of `verify`, which other questions do not need

                about = {"case": message.case, "item": message.item, "acquisition": message.acquisition}
                self.terms.events.record("read", what="verdict", **about)
                tells_holes = self.terms.version >= HOLES_VERSION
                send_verdict(self.connection, self.vault, self.reader, message, self.terms.now, tells_holes=tells_holes)
            case RecordAsk():
                self.rights.require_recorder(message.case)
                self.connection.send(RecordAllowed())
            case EvidenceAsk() | PatchAsk() | RowsAsk():
                self.rights.require_shown("read", message.case)
                self.evidence.answer(message, self.reader.session)
            case RoomAsk():
                self.rights.require("acquire", message.case)
                self.terms.events.record("read", what="room", case=message.case, item=message.item)
                planned = PlannedPush(self.reader.principal, self.terms.least_bytes, self.rights.knows)
                send_room(self.connection, self.vault, message, planned)
            case Alive():
                return  # it compares what it has, and will ask again
            case Failure():
                raise error_of(message)
            case _:
                raise ProtocolError(f"the message {type(message).__name__} is no question of a reader")


def next_message(connection: SenderConnection) -> Message:
    """Returns the next message. Raises ProtocolError for data, which a reader never sends, and LinkLostError."""
    frame_type, body = next(connection.frames())
    if frame_type == DATA_FRAME:
        raise ProtocolError("data stand where a question of a reader was expected")
    return decode_message(frame_type, body)
