"""Encodes and decodes messages, and the frames that carry them.

A frame: four bytes length of the body (big-endian), one byte type, body of at most 1 MiB.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from evidencesync.errors import LimitExceededError, ProtocolError, VersionError
from evidencesync.evidence.digest import Buffer
from evidencesync.limits import FRAME_HEADER, KIB, MAX_FRAME_BODY, MAX_PREAMBLE
from evidencesync.protocol import (
    document_messages,
    evidence_messages,
    messages,
    pull_messages,
    trust_messages,
    verdict_messages,
)
from evidencesync.protocol.messages import PREAMBLE, Message

_HEADER: Final = struct.Struct(">IB")


DATA_FRAME: Final = 2
"""Frame type of data: DATA_HEAD, then the bytes."""
DATA_HEAD: Final = struct.Struct(">BI")
"""One byte codec, four bytes raw length."""

MESSAGE_TYPES: Final[dict[int, type[Message]]] = {
    1: messages.Failure,
    3: messages.Alive,
    4: messages.Patience,
    10: messages.Hello,
    11: messages.Welcome,
    12: messages.Begin,
    13: messages.Ready,
    14: messages.Resumed,
    15: messages.Previous,
    16: messages.Alike,
    17: messages.KeyChanges,
    20: messages.PageOffer,
    21: messages.PageAnswer,
    22: messages.Page,
    23: messages.Want,
    24: messages.Files,
    25: messages.PagesStored,
    30: messages.Open,
    31: messages.SegmentOffer,
    32: messages.SegmentAnswer,
    33: messages.Chunks,
    34: messages.Need,
    35: messages.SegmentData,
    36: messages.ChunkData,
    37: messages.SegmentsStored,
    38: messages.Close,
    40: messages.Finish,
    41: messages.Status,
    42: messages.Published,
    43: messages.Withdraw,
    44: messages.Changes,
    45: messages.Pieces,
    46: messages.NeedPieces,
    47: messages.Resembles,
    48: messages.Kept,
    49: messages.KeptLost,
    50: messages.Records,
    51: messages.Standing,
    52: messages.Append,
    53: messages.Attach,
    58: verdict_messages.CheckingHoles,
    59: verdict_messages.Checking,
    60: document_messages.DocumentsAsk,
    61: document_messages.DocumentBatch,
    62: verdict_messages.VerifyAsk,
    63: verdict_messages.VerdictShown,
    64: evidence_messages.EvidenceAsk,
    65: evidence_messages.EvidenceParts,
    66: evidence_messages.RowsAsk,
    67: evidence_messages.Rows,
    68: evidence_messages.PatchAsk,
    69: evidence_messages.Patch,
    70: pull_messages.SourceAsk,
    71: pull_messages.SourceOffer,
    72: pull_messages.Fetch,
    73: pull_messages.SourceSeen,
    74: pull_messages.SourceEnd,
    75: pull_messages.SurveyAsk,
    76: pull_messages.SurveyPage,
    77: pull_messages.SurveyEnd,
    78: pull_messages.SourceSeenHoles,
    80: document_messages.ManifestsAsk,
    81: document_messages.RoomAsk,
    82: document_messages.RoomShown,
    83: document_messages.Unread,
    84: document_messages.Stray,
    85: document_messages.AllManifestsAsk,
    86: verdict_messages.RecordAsk,
    87: verdict_messages.RecordAllowed,
    90: trust_messages.OwnDocumentsAsk,
    91: trust_messages.TrustAsk,
}
HANDSHAKE: Final = (
    messages.Patience,
    messages.Hello,
    messages.Welcome,
    messages.Begin,
    messages.Ready,
    messages.Resumed,
    messages.Standing,
    pull_messages.SourceAsk,
    pull_messages.SourceOffer,
    pull_messages.Fetch,
)
"""The messages of the handshake. A build from before the first release may have other fields in them."""
_TYPE_OF: Final = {message: number for number, message in MESSAGE_TYPES.items()}
_DECODERS: Final = {number: msgspec.msgpack.Decoder(message) for number, message in MESSAGE_TYPES.items()}
_ENCODER: Final = msgspec.msgpack.Encoder()
_FIELDS: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
_HANDSHAKE_NUMBERS: Final = frozenset(_TYPE_OF[message] for message in HANDSHAKE)


def encode_message(message: Message) -> tuple[int, bytes]:
    """Encodes a message; returns frame type and body."""
    body = _ENCODER.encode(message)
    if len(body) > MAX_FRAME_BODY:
        raise LimitExceededError(f"the message {type(message).__name__} would be {len(body)} bytes long")
    return _TYPE_OF[type(message)], body


def decode_message(frame_type: int, body: bytes | memoryview) -> Message:
    """Decodes the message in a frame. Raises ProtocolError for an unknown type or a body outside its bounds.

    Raises VersionError for a message of the handshake that has another number of fields: builds from before the first release
    send such messages, and are not hostile.
    """
    decoder = _DECODERS.get(frame_type)
    if decoder is None:
        raise ProtocolError(f"unknown message type {frame_type}")
    try:
        message: Message = decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        name, known = MESSAGE_TYPES[frame_type].__name__, len(MESSAGE_TYPES[frame_type].__struct_fields__)
        count = _count_of_fields(body)
        if frame_type in _HANDSHAKE_NUMBERS and count is not None and count != known:
            raise VersionError(
                f"the other end speaks another version: its {name} message has {count} fields, not {known}"
            ) from error
        raise ProtocolError(f"a {name} message is malformed") from error
    return message


def _count_of_fields(body: bytes | memoryview) -> int | None:
    """Returns how many fields a well-formed short MessagePack array has; None for anything else."""
    if not len(body) or body[0] & 0xF0 != 0x90:
        return None
    try:
        return len(_FIELDS.decode(body))
    except (msgspec.MsgspecError, RecursionError):
        return None


def encode_frame(frame_type: int, *parts: Buffer) -> bytes:
    """Encodes a frame, its body given in parts. Raises LimitExceededError for a body that no peer would take."""
    size = sum(map(len, parts))
    if size > MAX_FRAME_BODY:
        raise LimitExceededError(f"a frame of {size} bytes is larger than {MAX_FRAME_BODY}")
    return b"".join((_HEADER.pack(size, frame_type), *parts))


def frame_of(message: Message) -> bytes:
    """Encodes a message as a frame."""
    frame_type, body = encode_message(message)
    return encode_frame(frame_type, body)


_SMALL: Final = 4 * KIB


class _Begun(msgspec.Struct):
    """A frame of which only a part has come. A body is put together once, when it is complete: it passes by in megabytes."""

    frame_type: int
    size: int
    parts: list[memoryview | bytearray] = msgspec.field(default_factory=list)
    filled: int = 0

    def fill(self, view: memoryview) -> memoryview:
        """Adds bytes; returns those beyond the frame."""
        part, rest = view[: self.size - self.filled], view[self.size - self.filled :]
        if len(part) >= _SMALL:
            self.parts.append(part)
        elif self.parts and isinstance(self.parts[-1], bytearray):
            self.parts[-1] += part  # many small parts would take more memory than the frame
        else:
            self.parts.append(bytearray(part))
        self.filled += len(part)
        return rest


class FrameDecoder:
    """Decodes frames from bytes as they arrive. Holds at most one incomplete frame.

    Before the first frame it looks for the preamble. Output before it (a login shell's greeting) is kept in `noise`, for a hint;
    more than `limits.MAX_PREAMBLE` of it is a ProtocolError. With `begun` another process has read the preamble already.
    """

    def __init__(self, *, begun: bool = False) -> None:
        self.noise = b""
        self.started = begun
        self._head = b""  # bytes before the first frame, or the beginning of a frame's header
        self._begun: _Begun | None = None

    def update(self, data: bytes) -> Iterator[tuple[int, memoryview]]:
        """Yields type and body of each frame that is now complete. Bodies stay valid for as long as they are held.

        Raises LimitExceededError as soon as a header announces more than a frame may hold.
        """
        if not self.started:
            found = self._find_preamble(self._head + data)
            if found is None:
                return
            self._head, data = b"", found
        view = memoryview(data)
        if (begun := self._begun) is not None:
            view = begun.fill(view)
            if begun.filled < begun.size:
                return
            self._begun = None
            yield begun.frame_type, memoryview(b"".join(begun.parts))
        elif self._head:
            view = memoryview(self._head + data)
            self._head = b""
        while len(view) >= FRAME_HEADER:
            size, frame_type = _HEADER.unpack_from(view)
            if size > MAX_FRAME_BODY:
                raise LimitExceededError(f"the peer announces a frame of {size} bytes; the limit is {MAX_FRAME_BODY}")
            end = FRAME_HEADER + size
            if end > len(view):
                begun = _Begun(frame_type, size)
                begun.fill(view[FRAME_HEADER:])
                self._begun = begun
                return
            yield frame_type, view[FRAME_HEADER:end]
            view = view[end:]
        self._head = bytes(view)

    def _find_preamble(self, buffer: bytes) -> bytes | None:
        at = buffer.find(PREAMBLE, 0, MAX_PREAMBLE + len(PREAMBLE))
        if at >= 0:
            self.noise = buffer[:at]
            self.started = True
            return buffer[at + len(PREAMBLE) :]
        self._head = buffer
        self.noise = buffer[:MAX_PREAMBLE]
        if len(buffer) >= MAX_PREAMBLE + len(PREAMBLE):
            raise ProtocolError("the other end does not speak the evidencesync protocol")
        return None

    @property
    def data_begun(self) -> int:
        """About how many raw bytes have come of a data frame that is not complete yet. May be read in another thread."""
        begun = self._begun
        if begun is None or begun.frame_type != DATA_FRAME:
            return 0
        head = b"".join([bytes(part[: DATA_HEAD.size]) for part in begun.parts[:2]])
        filled = begun.filled - DATA_HEAD.size
        if len(head) < DATA_HEAD.size or filled <= 0:
            return 0
        raw: int = DATA_HEAD.unpack_from(head)[1]
        return min(raw, MAX_FRAME_BODY) * filled // max(begun.size - DATA_HEAD.size, filled)

    @property
    def is_empty(self) -> bool:
        """Whether the stream is between two frames; if it ends anywhere else, it was cut off."""
        return self.started and not self._head and self._begun is None
