"""Asks a vault what a push into an item would meet: room, name, next acquisition, and what it would be refused with."""

from __future__ import annotations

from evidencesync.acquire.reading_session import ReadingSession
from evidencesync.errors import ProtocolError
from evidencesync.evidence.display import is_clean
from evidencesync.evidence.identity import ItemName
from evidencesync.limits import MAX_TITLE
from evidencesync.protocol.document_messages import RoomAsk, RoomShown
from evidencesync.protocol.messages import ASKING_VERSION
from evidencesync.vault.layout import MAX_ACQUISITION


def ask_for_room(session: ReadingSession, name: ItemName) -> RoomShown | None:
    """Asks the vault's end. None: it is of an earlier version, and does not know the question.

    Raises ProtocolError for an answer that no vault gives, and as `ReadingSession.expect` does.
    """
    if session.welcome.version < ASKING_VERSION:
        return None
    session.ask(RoomAsk(name.case.text, name.item.text))
    return checked_room(session.expect(RoomShown))


def checked_room(shown: RoomShown) -> RoomShown:
    """Returns the answer. Raises ProtocolError where it names somebody or something by an impossible name or number."""
    if not 1 <= len(shown.principal) <= MAX_TITLE or not is_clean(shown.principal):
        raise ProtocolError("the vault knows the examiner by an impossible name")
    if not all(map(is_clean, (*shown.alike.items, *shown.alike.cases))):
        raise ProtocolError("the vault names an impossible case or item")
    if shown.acquisition is not None and not 1 <= shown.acquisition <= MAX_ACQUISITION:
        raise ProtocolError("the vault states an impossible acquisition")
    return shown
