"""Defines the messages with which evidence is read from afar. `docs/protocol.md` explains their order."""

# No annotations of the __future__ here: msgspec would have to compile each of these texts at every start.
from typing import Annotated, Literal

import msgspec

from evidencesync.limits import (
    MAX_ERROR_TEXT,
    MAX_EVIDENCE_PART,
    MAX_EVIDENCE_PARTS,
    MAX_KEPT_MANIFEST,
    MAX_OLDER_PIECES,
    MAX_PATCH_RUNS,
    MAX_PATCHED,
    MAX_PATH,
    PIECE_DIGEST,
)
from evidencesync.protocol.document_messages import Number
from evidencesync.protocol.messages import U32, Message, Size

LackKind = Literal["gone", "shorter", "unreadable"]
_Path = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_PATH)]
_Length = Annotated[int, msgspec.Meta(ge=1, le=MAX_EVIDENCE_PART)]
_Fresh = Annotated[int, msgspec.Meta(ge=0, le=MAX_PATCHED)]
_Piece = Annotated[int, msgspec.Meta(ge=0, le=MAX_OLDER_PIECES)]
_Place = Annotated[int, msgspec.Meta(ge=0, lt=MAX_EVIDENCE_PARTS)]


class EvidenceAsk(Message, frozen=True):
    """Asks for parts of files of one acquisition: path, offset and length of each. From ASKING_VERSION on.

    Further questions may be sent before this one is answered: they are answered in their order.
    """

    case: Number
    item: Number
    acquisition: U32
    parts: Annotated[list[tuple[_Path, Size, _Length]], msgspec.Meta(min_length=1, max_length=MAX_EVIDENCE_PARTS)]


class EvidenceParts(Message, frozen=True):
    """The next `count` parts that were asked for. Their bytes follow as data, one after the other.

    `lacks` names those of them, from 0 on and in order, of which no byte follows, and why: the file is `gone` (or is no regular
    file), `shorter` than the end of the part, or `unreadable`. Each has a text for people.
    """

    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_EVIDENCE_PARTS)]
    lacks: Annotated[
        list[tuple[_Place, LackKind, Annotated[str, msgspec.Meta(max_length=MAX_ERROR_TEXT)]]],
        msgspec.Meta(max_length=MAX_EVIDENCE_PARTS),
    ]


class PatchAsk(Message, frozen=True):
    """Asks for a part of a file by what it differs in from older bytes. From PATCH_VERSION on, and in the order of EvidenceAsk.

    `pieces` names these, cut by content: 2 bytes length (little-endian) and 4 bytes digest each.
    """

    case: Number
    item: Number
    acquisition: U32
    path: _Path
    offset: Size
    length: Annotated[int, msgspec.Meta(ge=1, le=MAX_PATCHED)]
    pieces: Annotated[bytes, msgspec.Meta(min_length=2 + PIECE_DIGEST, max_length=(2 + PIECE_DIGEST) * MAX_OLDER_PIECES)]


class Patch(Message, frozen=True):
    """The answer to PatchAsk: runs of so many bytes of those that follow as data, and then so many older pieces from one on.

    `lack`: in place of all that, why the part cannot be sent, as in EvidenceParts.
    """

    runs: Annotated[list[tuple[_Fresh, _Piece, _Piece]], msgspec.Meta(max_length=MAX_PATCH_RUNS)]
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_PATCHED)]
    lack: tuple[LackKind, Annotated[str, msgspec.Meta(max_length=MAX_ERROR_TEXT)]] | None


class RowsAsk(Message, frozen=True):
    """Asks for the rows of chunks of one acquisition. From ASKING_VERSION on."""

    case: Number
    item: Number
    acquisition: U32


class Rows(Message, frozen=True):
    """The rows of chunks follow as data of `size` bytes; 0: they are not there, or cannot be read."""

    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_KEPT_MANIFEST)]
