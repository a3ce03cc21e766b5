"""Whatever is bad, and however it is filled: what is sent is what was hashed, and the map says what is missing of the source."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evidencesync.acquire.streaming import ContentReader
from evidencesync.connection.progress import Progress
from evidencesync.delta.chunker import Segment
from evidencesync.evidence.digest import blake3_of, sha256_of
from evidencesync.evidence.entry import ReadError
from evidencesync.limits import KIB, MIB
from evidencesync.source.filters import FilterRules
from evidencesync.source.reader import open_file
from evidencesync.source.walker import walk
from tests.support.bad_disk import BadFile, bad_disk
from tests.support.soak import often

SIZE = 5 * MIB + 777


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, BadFile]]:
    data = bytearray(random.Random(9).randbytes(SIZE))
    data[2 * MIB : 3 * MIB] = bytes(MIB)
    file = BadFile(data)
    with bad_disk(tmp_path_factory.mktemp("gaps") / "bad", {"disk": file}) as mounted:
        yield mounted.place, file


@settings(max_examples=often(20, 800), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, SIZE - 1), st.one_of(st.integers(1, 20_000), st.integers(1, 2 * MIB))), max_size=6),
)
def test_what_is_delivered_is_what_the_map_says(disk: tuple[Path, BadFile], bad: list[tuple[int, int]]) -> None:
    place, file = disk
    file.bad = [(start, min(start + length, SIZE)) for start, length in bad]
    steps = walk(place / "disk", FilterRules.none())
    next(steps)
    found = next(steps)
    segments: list[Segment] = []
    with ThreadPoolExecutor(1) as pool, open_file(found) as opened:
        read = ContentReader(pool, "zero", Progress()).read(opened, segments.extend)
    steps.close()  # type: ignore[attr-defined]
    sent = b"".join(
        bytes(length) if part is None else bytes(part)
        for segment in segments
        for length, part in zip(segment.lengths, segment.parts, strict=True)
    )
    wanted, position = b"", 0
    for error in read.read_errors:
        wanted += file.data[position : error.offset] + bytes(error.length)
        position = error.offset + error.length
        assert error.fill == "zero"
    assert sent == wanted + file.data[position:]
    assert (read.size, read.read_size) == (len(sent), SIZE)
    assert (read.blake3, read.sha256) == (blake3_of(sent), sha256_of(sent))
    assert read.beginning == sent[: 128 * KIB]
    for start, end in file.bad:
        assert any(error.offset <= start and end <= error.offset + error.length for error in _joined(read.read_errors))
    assert sum(error.length for error in read.read_errors) <= sum(end - start for start, end in file.bad) + 8 * KIB * len(bad)


def _joined(errors: list[ReadError]) -> list[ReadError]:
    """Ranges that touch, as one: they may have failed in different ways."""
    joined: list[ReadError] = []
    for error in errors:
        last = joined[-1] if joined else None
        if last is not None and last.offset + last.length == error.offset:
            joined[-1] = ReadError(last.offset, last.length + error.length, last.errno, last.fill)
        else:
            joined.append(error)
    return joined
