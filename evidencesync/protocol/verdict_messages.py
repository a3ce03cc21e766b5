"""Defines the messages with which a vault verifies itself for who asks from afar. `docs/protocol.md` explains their order."""

# No annotations of the __future__ here: msgspec would have to compile each of these texts at every start.
from typing import Annotated

import msgspec

from evidencesync.limits import MAX_VERDICT_FILE, NONCE
from evidencesync.protocol.document_messages import Number
from evidencesync.protocol.messages import Message, ShortText, Signature, Size

AcquisitionNumber = Annotated[int, msgspec.Meta(ge=1, le=9999)]


class VerifyAsk(Message, frozen=True):
    """Asks the vault to verify itself, a case, an item or an acquisition, as `verify` does, and to sign what it has found.

    From ASKING_VERSION on, in a session with the purpose `read`. The nonce is the reader's, and fresh.
    """

    nonce: Annotated[bytes, msgspec.Meta(min_length=NONCE, max_length=NONCE)]
    case: Number | None
    item: Number | None
    acquisition: AcquisitionNumber | None
    all_digests: bool


class Checking(Message, frozen=True):
    """How far the vault is: files and bytes that it has read, of how many (0: not known yet), and where. Also its keep-alive."""

    files: Size
    bytes: Size
    total_files: Size
    total_bytes: Size
    place: ShortText


class CheckingHoles(Checking, frozen=True):
    """The same with how much of these bytes are holes, which are hashed and not read. In its place from HOLES_VERSION on."""

    hole_bytes: Size
    total_hole_bytes: Size


class RecordAsk(Message, frozen=True):
    """Asks whether the reader's key may add custody records now, in a case, or (None) in any. From HOLES_VERSION on.

    If not, the session ends with the reason.
    """

    case: Number | None


class RecordAllowed(Message, frozen=True):
    """It may."""


class VerdictShown(Message, frozen=True):
    """The vault's verdict follows as data of `size` bytes: a document. `signature` is of the vault's key, over it."""

    size: Annotated[int, msgspec.Meta(ge=1, le=MAX_VERDICT_FILE)]
    signature: Signature
