"""Proof of possession: by what a sender shows that he has the bytes of which he knows the digests.

Digests are no secrets: they stand in manifests and in published lists. So a vault that looks for content in other cases than
the one that is pushed into wants a digest of the very bytes under a key that nobody could know before the session. The key
comes from the claim that the examiner signed: it names the vault's fresh nonce, the vault, the session and the examiner's key,
so a proof is of no use in another session, at another vault, or to somebody else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from evidencesync.evidence.digest import Buffer, SegmentDigest
from evidencesync.limits import PROOF

_CONTENT_CONTEXT: Final = "evidencesync 2026 key for proofs of possession of small contents"
_SEGMENT_CONTEXT: Final = "evidencesync 2026 key for proofs of possession of segments"


@dataclass(frozen=True, slots=True)
class Possession:
    """The keys of one session's proofs, over all of its links."""

    _contents: bytes
    _segments: bytes

    @classmethod
    def of_session(cls, claim: bytes) -> Possession:
        """The keys that follow from a session's claim, as it was signed."""
        return cls(
            blake3(claim, derive_key_context=_CONTENT_CONTEXT).digest(),
            blake3(claim, derive_key_context=_SEGMENT_CONTEXT).digest(),
        )

    def of_content(self, content: Buffer) -> bytes:
        """Proof that one has a small content."""
        return blake3(content, key=self._contents).digest(PROOF)

    def of_segment(self, name: SegmentDigest, parts: Iterable[Buffer]) -> bytes:
        """Proof that one has the chunks of a segment. Its name says where they lie between its zeros, and which those are."""
        hasher = blake3(name, key=self._segments)
        for part in parts:
            hasher.update(part)
        return hasher.digest(PROOF)
