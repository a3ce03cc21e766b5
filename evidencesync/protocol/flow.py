"""Decides when to ask: what a sender sends first (a name, a list, or the bytes), and whether a vault requests pieces.

Hard links and copies of a file produce the same small files and segments again, which the vault finds among the contents of the
session. So a sender asks where it has sent the same thing before, and new content costs no round trip. These memories are
guesses, never proofs: a wrong guess costs one question.
"""

from __future__ import annotations

from enum import Enum
from typing import Final
from zlib import crc32

from evidencesync.delta.chunker import Segment
from evidencesync.evidence.digest import Buffer, chunk_digest_of
from evidencesync.limits import KIB, MIN_CHUNK

_MISSES_BEFORE_EAGER: Final = 4
_PROBE_EVERY: Final = 16
_FRUITLESS_GAPS: Final = 8
_REFINE_EVERY: Final = 8
_LEAST_FOUND: Final = 100


class Opening(Enum):
    """How the next segment or page is opened."""

    NAME = "name"
    """With its digest alone: the peer probably has it."""
    LIST = "list"
    """With the digests of its parts: the last one was known in part."""
    BYTES = "bytes"
    """With its bytes at once: the peer probably has nothing of it."""


class AskPolicy:
    """Decides, from the answers so far, whether asking first is worth the round trip.

    After several answers "missing" it sends bytes without asking, and asks about one in sixteen as a probe; the first hit makes
    it ask again. So does the next content: beside a new file lies an old one. Where the peer announced that it knows nothing at
    all, it never asks.
    """

    def __init__(self, *, peer_knows_nothing: bool) -> None:
        self._never_ask = peer_knows_nothing
        self._misses = 0
        self._since_probe = 0
        self._partly_known = False

    def opening(self) -> Opening:
        """Returns how to open the next one."""
        if self._never_ask:
            return Opening.BYTES
        if self._misses >= _MISSES_BEFORE_EAGER:
            self._since_probe += 1
            if self._since_probe % _PROBE_EVERY:
                return Opening.BYTES
            return Opening.LIST
        return Opening.LIST if self._partly_known else Opening.NAME

    def record_known(self) -> None:
        """Records that the peer had all of it."""
        self._misses = 0
        self._partly_known = False

    def begin_content(self) -> None:
        """Records that another content begins, of which the last one tells nothing: it is asked about, once if in vain."""
        self._misses = min(self._misses, _MISSES_BEFORE_EAGER - 1)

    def record_parts(self, missing: int, asked: int) -> None:
        """Records that the peer lacked `missing` of the `asked` parts."""
        if missing >= asked:
            self._misses += 1
        else:
            self._misses = 0
            self._partly_known = missing > 0


class RefinePolicy:
    """Decides, from the gaps so far, whether naming the pieces of the next one is worth it.

    After eight gaps in a row of which next to nothing was found, only one in eight is tried, until one of them is found in part.
    """

    def __init__(self) -> None:
        self._misses = 0
        self._since_probe = 0

    def wants_pieces(self) -> bool:
        """Returns whether the next gap is to be refined."""
        if self._misses < _FRUITLESS_GAPS:
            return True
        self._since_probe += 1
        return self._since_probe % _REFINE_EVERY == 0

    def record_found(self, found: int, size: int) -> None:
        """Records how many of a gap's bytes were in the basis. Below a hundredth the digests cost more than they saved.

        A gap that is smaller than any chunk lies among zeros: a miss there says nothing about other gaps.
        """
        if found * _LEAST_FOUND >= size:
            self._misses = 0
        elif size >= MIN_CHUNK:
            self._misses += 1


_REMEMBERED: Final = 65_536
"""Entries that are remembered of each kind, the latest: about 8 MiB."""
_MISSES: Final = 8
_KEY: Final = 8
_EDGE: Final = 256
LEAST_CONTENT: Final = 64
"""Size in bytes below which a small content costs more to remember than to send."""

Key = bytes | tuple[int, int]


class RepeatMemory:
    """Remembers keys of what was sent, bounded. After misses in a row (an older vault finds nothing) it is not used any more."""

    def __init__(self) -> None:
        self._seen: dict[Key, None] = {}
        self._misses = 0

    def has(self, key: Key) -> bool:
        """Returns whether this key was sent before, and asking is worth a round trip."""
        return self._misses < _MISSES and key in self._seen

    def add(self, key: Key) -> None:
        """Remembers a key, and drops the oldest one when the memory is full."""
        if len(self._seen) >= _REMEMBERED and key not in self._seen:
            del self._seen[next(iter(self._seen))]
        self._seen[key] = None

    def record_answer(self, *, known: bool) -> None:
        """Records the vault's answer about something that was sent before."""
        self._misses = 0 if known else self._misses + 1


def content_key(content: bytes) -> Key:
    """Returns the key by which a small content is remembered: its length, its beginning and its end.

    To take a checksum of all of it would cost as much as its SHA-256.
    """
    return len(content), crc32(content[-_EDGE:], crc32(content[:_EDGE]))


def segment_key(segment: Segment) -> Key | None:
    """Returns the key by which a segment is remembered: its lengths and its first KiB. None for a segment of zeros alone."""
    first: Buffer | None = next((part for part in segment.parts if part is not None), None)
    if first is None:
        return None
    shape = crc32(b"".join([length.to_bytes(4, "little") for length in segment.lengths]))
    return chunk_digest_of(first[:KIB])[:_KEY] + shape.to_bytes(4, "little")
