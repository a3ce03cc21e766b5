"""A proof of possession is of one session, one question, and the very bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evidencesync.delta.possession import Possession
from evidencesync.evidence.digest import SegmentDigest
from evidencesync.limits import PROOF

MINE = Possession.of_session(b'{"nonce":"1"}')
OTHER = Possession.of_session(b'{"nonce":"2"}')
NAME = SegmentDigest(b"n" * 16)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_a_proof_tells_contents_and_sessions_apart(one: bytes, two: bytes) -> None:
    assert (MINE.of_content(one) == MINE.of_content(two)) == (one == two)
    assert MINE.of_content(one) != OTHER.of_content(one)
    assert len(MINE.of_content(one)) == PROOF


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_a_segments_proof_is_over_its_name_and_its_bytes_however_they_lie_in_memory(parts: list[bytes]) -> None:
    proof = MINE.of_segment(NAME, parts)
    assert proof == MINE.of_segment(NAME, [memoryview(b"".join(parts))])
    assert len({proof, OTHER.of_segment(NAME, parts), MINE.of_segment(SegmentDigest(b"m" * 16), parts)}) == 3
    assert proof != MINE.of_segment(NAME, [*parts, b"x"])


def test_a_segments_proof_is_no_contents_proof() -> None:
    assert MINE.of_segment(NAME, [b"bytes"]) != MINE.of_content(NAME + b"bytes")


def test_the_keys_have_not_changed() -> None:
    assert MINE.of_content(b"content").hex() == "9235ed11503ecd1cb87e44da4096e285"
    assert MINE.of_segment(NAME, [b"chunk"]).hex() == "b7d9487a5ef1eb440c8563e2a06b2ec8"
