"""Answers who reads a vault from afar: one question after another, until the reader ends the link."""

from __future__ import annotations

from contextlib import closing

from evidencesync.connection.sender_connection import SenderConnection
from evidencesync.errors import LinkLostError, ProtocolError
from evidencesync.ingest.documents import send_documents
from evidencesync.ingest.evidence import EvidenceSender
from evidencesync.ingest.room import send_room
from evidencesync.protocol.document_messages import DocumentsAsk, RoomAsk
from evidencesync.protocol.evidence_messages import EvidenceAsk, RowsAsk
from evidencesync.protocol.failures import error_of
from evidencesync.protocol.framing import DATA_FRAME, decode_message
from evidencesync.protocol.messages import Alive, Failure, Message
from evidencesync.vault.vault import Vault


def serve_reader(connection: SenderConnection, vault: Vault, principal: str) -> None:
    """Answers each question of a reader, whom the vault knows as `principal`. Returns when it ends the link after an answer.

    Raises LinkLostError for one that ends it before, ProtocolError for what is no question, and what answering raises.
    """
    with closing(EvidenceSender(connection, vault)) as evidence:
        _answer(connection, vault, principal, evidence, _next_message(connection))
        while True:
            try:
                message = _next_message(connection)
            except LinkLostError:
                return
            _answer(connection, vault, principal, evidence, message)


def _answer(connection: SenderConnection, vault: Vault, principal: str, evidence: EvidenceSender, message: Message) -> None:
    match message:
        case DocumentsAsk():
            send_documents(connection, vault, message)
        case EvidenceAsk():
            evidence.send(message)
        case RowsAsk():
            evidence.send_rows(message)
        case RoomAsk():
            send_room(connection, vault, principal, message)
        case Alive():
            return  # it compares what it has, and will ask again
        case Failure():
            raise error_of(message)
        case _:
            raise ProtocolError(f"the message {type(message).__name__} is no question of a reader")


def _next_message(connection: SenderConnection) -> Message:
    """Returns the next message. Raises ProtocolError for data, which a reader never sends, and LinkLostError."""
    frame_type, body = next(connection.frames())
    if frame_type == DATA_FRAME:
        raise ProtocolError("data stand where a question of a reader was expected")
    return decode_message(frame_type, body)
