"""Ways to spoil a frame of a session on its way: each gives what travels in its place."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from evidencesync.errors import EvidenceSyncError
from evidencesync.protocol.framing import MESSAGE_TYPES, decode_message, encode_frame, encode_message
from evidencesync.protocol.messages import Message

Frame = tuple[int, bytes]
Mutation = Callable[[random.Random, Frame, Sequence[Frame]], bytes]
"""`chance`, the frame, and frames of this and of another session, to be put in its place or beside it."""

_ODD_NUMBERS: Final = (0, 1, -1, 2**7, 2**15 - 1, 2**16, 2**31, 2**32 - 1, 2**32, 2**53, 2**63, 2**64 - 1)
_TYPES: Final = (*MESSAGE_TYPES, 0, 1, 99, 255)


def _as_is(frame: Frame) -> bytes:
    return encode_frame(*frame)


def _flip(chance: random.Random, frame: Frame, others: Sequence[Frame]) -> bytes:
    body = bytearray(frame[1] or b"\0")
    for _ in range(chance.choice((1, 1, 2, 8))):
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
    return encode_frame(frame[0], bytes(body))


def _flip_header(chance: random.Random, frame: Frame, others: Sequence[Frame]) -> bytes:
    data = bytearray(_as_is(frame))
    data[chance.randrange(5)] ^= 1 << chance.randrange(8)
    return bytes(data)


def _retype(chance: random.Random, frame: Frame, others: Sequence[Frame]) -> bytes:
    return encode_frame(chance.choice(_TYPES), frame[1])


def _cut(chance: random.Random, frame: Frame, others: Sequence[Frame]) -> bytes:
    return encode_frame(frame[0], frame[1][: chance.randrange(len(frame[1]) + 1)])


def _extend(chance: random.Random, frame: Frame, others: Sequence[Frame]) -> bytes:
    return encode_frame(frame[0], frame[1][: 2**20 - 64], chance.randbytes(chance.choice((1, 4, 64))))


def _lie_about_length(chance: random.Random, frame: Frame, others: Sequence[Frame]) -> bytes:
    size = chance.choice((0, 1, len(frame[1]) + 1, max(len(frame[1]) - 1, 0), 2**20, 2**20 + 1, 2**32 - 1))
    return struct.pack(">IB", size, frame[0]) + frame[1]


def _drop(chance: random.Random, frame: Frame, others: Sequence[Frame]) -> bytes:
    return b""


def _double(chance: random.Random, frame: Frame, others: Sequence[Frame]) -> bytes:
    return _as_is(frame) * chance.choice((2, 2, 3, 50))


def _insert(chance: random.Random, frame: Frame, others: Sequence[Frame]) -> bytes:
    """Another frame before it: an earlier one of this session, or one of another."""
    return (_as_is(chance.choice(others)) if others else b"") + _as_is(frame)


def _replace(chance: random.Random, frame: Frame, others: Sequence[Frame]) -> bytes:
    return _as_is(chance.choice(others)) if others else b""


def _noise(chance: random.Random, frame: Frame, others: Sequence[Frame]) -> bytes:
    return chance.randbytes(chance.choice((1, 5, 100, 5000)))


def _zeros(chance: random.Random, frame: Frame, others: Sequence[Frame]) -> bytes:
    return encode_frame(frame[0], bytes(len(frame[1])))


def _field(chance: random.Random, frame: Frame, others: Sequence[Frame]) -> bytes:
    """One field of the message has another value of its kind: the form stays good, as far as a value may be."""
    try:
        message = decode_message(*frame)
    except EvidenceSyncError:
        return _flip(chance, frame, others)
    names = message.__struct_fields__
    if not names:
        return _retype(chance, frame, others)
    name = chance.choice(names)
    return _encoded(frame[0], msgspec.structs.replace(message, **{name: _other(chance, getattr(message, name))}))


def _encoded(kind: int, message: Message) -> bytes:
    try:
        return encode_frame(*encode_message(message))
    except (OverflowError, EvidenceSyncError):  # larger than MessagePack has numbers, or a frame has room
        return encode_frame(kind, msgspec.msgpack.encode([2**63]))


def _other(chance: random.Random, value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int():
            return chance.choice((*_ODD_NUMBERS, value + 1, value - 1, value * 2))
        case bytes():
            return chance.choice((b"", value[:-1], value + b"\0", value * 2, bytes(len(value)), chance.randbytes(len(value))))
        case str():
            return chance.choice(("", value + "x", "\x1b[2J" * 9, "../" * 9, "\u202e", "x" * 255))
        case list():
            return chance.choice(([], value[:-1], value + value[:1], value * 3, value[::-1]))
        case None:
            return chance.choice((b"", b"\0" * 32, 0))
    return None


MUTATIONS: Final[dict[str, Mutation]] = {
    "bits": _flip,
    "header": _flip_header,
    "type": _retype,
    "cut": _cut,
    "longer": _extend,
    "length": _lie_about_length,
    "dropped": _drop,
    "again": _double,
    "inserted": _insert,
    "replaced": _replace,
    "noise": _noise,
    "zeros": _zeros,
    "field": _field,
}
WEIGHTS: Final = tuple(5 if name == "field" else 2 if name in ("bits", "inserted", "replaced") else 1 for name in MUTATIONS)
