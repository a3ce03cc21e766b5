"""Computes digests: the only module that uses blake3 and hashlib directly for evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Final, NewType, Protocol

import msgspec
from blake3 import blake3

from evidencesync.limits import MIB

Buffer = bytes | bytearray | memoryview

Blake3Digest = NewType("Blake3Digest", bytes)
"""BLAKE3 of a whole content, 32 bytes."""
Sha256Digest = NewType("Sha256Digest", bytes)
"""SHA-256 of a whole content or document, 32 bytes."""
ChunkDigest = NewType("ChunkDigest", bytes)
"""The first 16 bytes of BLAKE3 of a chunk. Only a hint: a content is always checked against its whole digest."""
SegmentDigest = NewType("SegmentDigest", bytes)
"""The first 16 bytes of BLAKE3 over a segment's chunk list (see evidencesync.delta.rows)."""

CHUNK_DIGEST_SIZE: Final = 16
HexDigest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$", min_length=64, max_length=64)]
"""A 32-byte digest in a document: lower-case hexadecimal."""

_ZEROS: Final = memoryview(bytes(4 * MIB))


class _Hash(Protocol):
    def update(self, data: Buffer, /) -> object: ...
    def digest(self) -> bytes: ...


class ContentHasher:
    """Computes both digests of one content, updated in order. Large buffers release the interpreter lock."""

    __slots__ = ("_blake3", "_sha256")

    def __init__(self) -> None:
        self._blake3 = blake3()
        self._sha256 = hashlib.sha256()

    def update(self, data: Buffer) -> None:
        """Adds the next bytes."""
        self._blake3.update(data)
        self._sha256.update(data)

    def digests(self) -> tuple[Blake3Digest, Sha256Digest]:
        """Returns the digests of all bytes so far."""
        return Blake3Digest(self._blake3.digest()), Sha256Digest(self._sha256.digest())


def new_blake3() -> blake3:
    """Returns an incremental BLAKE3 in one thread: a thread pool for each hasher would cost more than it gains."""
    return blake3()


def new_sha256() -> _Hash:
    """Returns an incremental SHA-256."""
    return hashlib.sha256()


def update_zeros(update: Callable[[Buffer], object], length: int) -> None:
    """Hashes `length` zero bytes (a hole), from one buffer. There is no shortcut: it takes as long as other bytes."""
    for start in range(0, length, len(_ZEROS)):
        update(_ZEROS[: length - start])


def blake3_of(data: Buffer) -> Blake3Digest:
    """Returns the BLAKE3 of one buffer."""
    return blake3(data).digest()  # type: ignore[return-value]  # for each file: to name a NewType calls a function


def sha256_of(data: Buffer) -> Sha256Digest:
    """Returns the SHA-256 of one buffer."""
    return hashlib.sha256(data).digest()  # type: ignore[return-value]  # as above


def chunk_digest_of(data: Buffer) -> ChunkDigest:
    """Returns the short digest that both ends use as the name of a chunk."""
    return ChunkDigest(blake3(data).digest(length=CHUNK_DIGEST_SIZE))


def sha512_of(data: Buffer) -> bytes:
    """Returns the SHA-512 of one document: an SSHSIG signature is over it."""
    return hashlib.sha512(data).digest()
