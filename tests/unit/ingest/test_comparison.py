"""What has changed is counted from pages that differ, and no line is taken for one of another entry."""

from __future__ import annotations

from evidencesync.custody.manifest import encode_continuation, encode_entry
from evidencesync.evidence.digest import chunk_digest_of
from evidencesync.evidence.entry import Continuation, Entry
from evidencesync.ingest.comparison import ManifestComparison
from evidencesync.protocol.messages import Changes


def _file(path: str, size: int = 1) -> bytes:
    digest = f"{size:064x}"
    return encode_entry(Entry(type="file", path=path, size=size, blake3=digest, sha256=digest))


def _more(value: str) -> bytes:
    return encode_continuation(Continuation(xattrs={"user.k": value}))


def _compared(before: list[bytes], after: list[bytes]) -> Changes | None:
    places, offset = {}, 0
    for page in before:
        places[chunk_digest_of(page)] = (offset, len(page))
        offset += len(page)
    old, new = b"".join(before), b"".join(after)
    comparison = ManifestComparison(places, lambda start, length: old[start : start + length])
    for page in after:
        digest = chunk_digest_of(page)
        comparison.add_page(len(page), digest if digest in places else None)
    return comparison.changes(lambda start, length: new[start : start + length])


def test_a_further_line_of_an_entry_in_an_equal_page_is_not_another_entrys() -> None:
    equal = _file("c")
    before = [_file("a", 1) + _file("b"), equal, _more("QQ==")]
    after = [_file("a", 2) + _file("b"), equal, _more("Qg==")]
    assert _compared(before, after) == Changes(0, 0, 0, 1, 0, 0)


def test_a_further_line_in_the_next_page_is_its_entrys() -> None:
    before = [_file("a", 1) + _file("b"), _more("QQ==")]
    after = [_file("a", 2) + _file("b"), _more("Qg==")]
    assert _compared(before, after) == Changes(0, 0, 0, 1, 1, 0)
