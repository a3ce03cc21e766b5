"""Decides when to ask: what a sender sends first (a name, a list, or the bytes), and whether a vault asks for pieces.

Two names of one file (hard links), and copies of it, give the same small files and the same segments. A vault finds what it
stored earlier in the same session. The sender asks only where it has seen the same thing go by: what is new costs no round trip.
What is remembered here is a guess, never a proof. A wrong one costs a question.
"""

from __future__ import annotations

from enum import Enum
from typing import Final
from zlib import crc32

from evidencesync.delta.chunker import Segment
from evidencesync.evidence.digest import Buffer, chunk_digest_of
from evidencesync.limits import MIN_CHUNK

_MISSES_BEFORE_EAGER: Final = 4
_PROBE_EVERY: Final = 16
_FRUITLESS_GAPS: Final = 8
_REFINE_EVERY: Final = 8
_LEAST_FOUND: Final = 100


class Opening(Enum):
    """How the next segment or page is opened."""

    NAME = "name"
    """By its digest alone: the peer probably has it."""
    LIST = "list"
    """By the digests of its parts: the last one was known in part."""
    BYTES = "bytes"
    """With its bytes at once: the peer probably has nothing of it."""


class AskPolicy:
    """Decides, from the answers so far, whether asking first is worth the round trip.

    While answers come back "missing" it sends bytes without asking, and still asks for one in sixteen; the first hit
    makes it ask again. Where the peer said at the start that it knows nothing at all, it never asks.
    """

    def __init__(self, *, peer_knows_nothing: bool) -> None:
        self._never_ask = peer_knows_nothing
        self._misses = 0
        self._since_probe = 0
        self._partly_known = False

    def opening(self) -> Opening:
        """How to open the next one."""
        if self._never_ask:
            return Opening.BYTES
        if self._misses >= _MISSES_BEFORE_EAGER:
            self._since_probe += 1
            if self._since_probe % _PROBE_EVERY:
                return Opening.BYTES
            return Opening.LIST
        return Opening.LIST if self._partly_known else Opening.NAME

    def record_known(self) -> None:
        """The peer had all of it."""
        self._misses = 0
        self._partly_known = False

    def record_parts(self, missing: int, asked: int) -> None:
        """The peer lacked `missing` of the `asked` parts."""
        if missing >= asked:
            self._misses += 1
        else:
            self._misses = 0
            self._partly_known = missing > 0


class RefinePolicy:
    """Decides, from the gaps so far, whether naming the pieces of the next one is worth it.

    After eight gaps in a row of which nothing to speak of was found, only one in eight is tried; the first that has some
    ends that.
    """

    def __init__(self) -> None:
        self._misses = 0
        self._since_probe = 0

    def wants_pieces(self) -> bool:
        """Whether the next gap is to be refined."""
        if self._misses < _FRUITLESS_GAPS:
            return True
        self._since_probe += 1
        return self._since_probe % _REFINE_EVERY == 0

    def record_found(self, found: int, size: int) -> None:
        """So many of a gap's bytes were in the basis. Below a hundredth the digests were dearer than what they spared.

        A gap smaller than any chunk stands among zeros, and that nothing of it was found says nothing of others.
        """
        if found * _LEAST_FOUND >= size:
            self._misses = 0
        elif size >= MIN_CHUNK:
            self._misses += 1


_REMEMBERED: Final = 65_536
"""Things that are remembered of each kind, the latest: some 8 MiB."""
_MISSES: Final = 8
_KEY: Final = 8
LEAST_CONTENT: Final = 64
"""Bytes of a small content below which it is dearer to remember than to send."""

Key = bytes | tuple[int, int]


class Repeats:
    """A bounded memory of keys. A vault that has nothing of what came again (an older one) is not asked for ever."""

    def __init__(self) -> None:
        self._seen: dict[Key, None] = {}
        self._misses = 0

    def has(self, key: Key) -> bool:
        """Whether such a thing went by, and asking for it is worth while."""
        return self._misses < _MISSES and key in self._seen

    def add(self, key: Key) -> None:
        """Something goes by."""
        if len(self._seen) >= _REMEMBERED and key not in self._seen:
            del self._seen[next(iter(self._seen))]
        self._seen[key] = None

    def record_answer(self, *, known: bool) -> None:
        """What the vault has said of something that came again."""
        self._misses = 0 if known else self._misses + 1


def content_key(content: bytes) -> Key:
    """By what a small content is remembered."""
    return len(content), crc32(content)


def segment_key(segment: Segment) -> Key | None:
    """By what a segment is remembered: its lengths, and its first chunk alone. None for one that is zeros from end to end."""
    first: Buffer | None = next((part for part in segment.parts if part is not None), None)
    if first is None:
        return None
    shape = crc32(b"".join([length.to_bytes(4, "little") for length in segment.lengths]))
    return chunk_digest_of(first)[:_KEY] + shape.to_bytes(4, "little")
