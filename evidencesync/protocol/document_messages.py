"""Defines the messages with which a vault's documents are read from afar. `docs/protocol.md` explains their order."""

# No annotations of the __future__ here: msgspec would have to compile each of these texts at every start.
from typing import Annotated

import msgspec

from evidencesync.limits import (
    MAX_DOCUMENT_PATH,
    MAX_DOCUMENTS_IN_MESSAGE,
    MAX_ERROR_TEXT,
    MAX_NAME,
    MAX_TITLE,
    MAX_WHOLE_MANIFESTS,
)
from evidencesync.protocol.messages import U32, Alike, Failure, Message, ShortText, Size

Number = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TITLE)]
DocumentPath = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_DOCUMENT_PATH)]


class DocumentsAsk(Message, frozen=True):
    """Asks for the documents of a vault, of a case, or of an item. After Begin, in a session with the purpose `read`.

    Of a manifest come the first and the last line alone, and of the rows of chunks nothing, but for the acquisitions in `whole`
    of the one item that is asked for; 0 means its last one.
    """

    case: Number | None
    item: Number | None
    whole: Annotated[list[U32], msgspec.Meta(max_length=MAX_WHOLE_MANIFESTS)]


class ManifestsAsk(DocumentsAsk, frozen=True):
    """Asks for the same, but never for the rows of chunks: they say nothing of names and times. From ASKING_VERSION on."""


class AllManifestsAsk(Message, frozen=True):
    """Asks for the documents of a vault, of a case, or of an item, with all of every manifest and no rows of chunks.

    From MANIFESTS_VERSION on.
    """

    case: Number | None
    item: Number | None


class DocumentBatch(Message, frozen=True):
    """Names documents by their paths in the vault, each with its size. Their bytes follow as data, one after the other.

    A size of one byte more than the document may have says that it is larger than any, or has holes, and of
    two that it is no regular file: none of its bytes follow.
    The path of a folder, with the size 0, says that a symbolic link lies in its place.
    Without any name it is the last one: all that was asked for has been sent.
    """

    files: Annotated[list[tuple[DocumentPath, Size]], msgspec.Meta(max_length=MAX_DOCUMENTS_IN_MESSAGE)]


class Unread(Message, frozen=True):
    """Says that a document, or a folder on the way to documents, cannot be read there, and why. It comes among the batches.

    From TELLING_VERSION on; an end of an earlier version would take what is not sent for missing, so there the session ends.
    """

    path: DocumentPath
    text: Annotated[str, msgspec.Meta(max_length=MAX_ERROR_TEXT)]


class Stray(Message, frozen=True):
    """Names what lies in a folder of documents and is none. It comes among the batches, from TELLING_VERSION on.

    Among custody records that is what only seems to be a record by its name, among acquisitions a folder without a document.
    """

    folder: DocumentPath
    name: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_NAME)]


class RoomAsk(Message, frozen=True):
    """Asks what a push into an item would meet now. From ASKING_VERSION on."""

    case: Number
    item: Number


class RoomShown(Message, frozen=True):
    """What a push into an item would meet now. Nothing is held for it: the next one may meet something else.

    `principal`: under which name the reader's key is trusted. `acquisition`: the number that it would get; nil where that is not
    known. `free`: bytes that evidence may take, without the reserve; nil where the file system does not say. `knows_case`: the
    case is there, and contents that need not travel may be. `holder`: who pushes into the item just now, for people. `alike`: as
    before Ready. `refusal`: with what a push would be refused, whatever it brings.
    """

    principal: ShortText
    acquisition: U32 | None
    free: Size | None
    knows_case: bool
    holder: ShortText | None
    alike: Alike
    refusal: Failure | None
