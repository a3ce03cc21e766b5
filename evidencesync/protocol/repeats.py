"""What a sender has sent in this session, as far as it remembers: what comes again is named first, and not sent at once.

Two names of one file (hard links), and copies of it, give the same small files and the same segments. A vault finds what it
stored earlier in the same session. The sender asks only where it has seen the same thing go by: what is new costs no round trip.
What is remembered here is a guess, never a proof. A wrong one costs a question.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

from evidencesync.delta.chunker import Segment
from evidencesync.evidence.digest import Buffer, chunk_digest_of

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

    def note_answer(self, *, known: bool) -> None:
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
