"""Defines the messages with which a vault's documents are read from afar. `docs/protocol.md` explains their order."""

from __future__ import annotations

from typing import Annotated

import msgspec

from evidencesync.limits import MAX_DOCUMENT_PATH, MAX_DOCUMENTS_IN_MESSAGE, MAX_TITLE, MAX_WHOLE_MANIFESTS
from evidencesync.protocol.messages import U32, Message, Size

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


class DocumentBatch(Message, frozen=True):
    """Names documents by their paths in the vault, each with its size. Their bytes follow as data, one after the other.

    A size of one byte more than the document may have says that it is larger than any, or has holes: none of its bytes follow.
    The path of a folder, with the size 0, says that a symbolic link lies in its place.
    Without any name it is the last one: all that was asked for has been sent.
    """

    files: Annotated[list[tuple[DocumentPath, Size]], msgspec.Meta(max_length=MAX_DOCUMENTS_IN_MESSAGE)]
