"""Runs of manifest lines: the fast way accepts nothing that the slow, typed way refuses, and gives the same entries."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidencesync.custody.entries import _decode_fast, _decode_line, decode_run
from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.entry import Entry

DECODER = msgspec.json.Decoder(Entry)
FULL = Entry(
    type="file",
    path="a/b",
    size=1,
    blake3="ab" * 32,
    sha256="cd" * 32,
    mode="0644",
    uid=1,
    gid=2,
    user="ana",
    group="lab",
    mtime="1.000000000",
    atime="-2.000000000",
    ctime="3.123456789",
    btime="4.000000000",
    inode="5",
    device="6",
    links=1,
    xattrs={"user.a": "AA=="},
    holes=[(0, 1)],
    flags=["vanished"],
)
LINE = msgspec.json.encode(FULL)
PIECES = st.sampled_from(
    [b"\n", b"\\n", b"\\u0030", b" ", b"null", b"0", b"-", b'"', b",", b"{", b"}", "١".encode(), b"\xff", b"A"]
)
TEXTS = ("blake3", "sha256", "mode", "mtime", "atime", "ctime", "btime", "inode", "device")


def outcome_of(line: bytes) -> Any:
    try:
        return _decode_line(line, "line")
    except MalformedDocumentError:
        return None


@given(st.lists(st.tuples(st.integers(0, len(LINE)), st.integers(0, 4), st.one_of(PIECES, st.binary(max_size=3))), max_size=3))
def test_both_ways_agree_on_any_change_of_a_line(changes: list[tuple[int, int, bytes]]) -> None:
    line = LINE
    for at, removed, put in changes:
        line = line[:at] + put + line[at + removed :]
    if b"\n" in line:
        return
    fast = _decode_fast(line + b"\n")
    assert fast == (None if outcome_of(line) is None else [outcome_of(line)])


@given(
    st.sampled_from(TEXTS),
    st.text(max_size=12) | st.from_regex(r"-?[0-9]{1,21}\.[0-9]{8,10}\n?") | st.from_regex(r"[0-9]{0,22}\n?"),
)
def test_both_ways_agree_on_any_value_that_has_a_pattern(name: str, value: str) -> None:
    line = msgspec.json.encode(msgspec.structs.replace(FULL, **{name: value}))
    fast = _decode_fast(line + b"\n")
    assert fast == (None if outcome_of(line) is None else [outcome_of(line)])
    if fast is not None:
        assert DECODER.decode(line) == fast[0]
        assert value.isascii()
        assert "\n" not in value


def test_every_field_with_a_pattern_is_checked() -> None:
    for name in TEXTS:
        for value in ("", "x", "None", "0\n", "0\n0", " 0", "0x0"):
            line = msgspec.json.encode(msgspec.structs.replace(FULL, **{name: value}))
            assert _decode_fast(line + b"\n") is None, (name, value)
            assert _decode_fast(LINE + b"\n" + line + b"\n" + LINE + b"\n") is None


def test_a_run_gives_entries_of_the_one_type() -> None:
    run = decode_run(LINE + b"\n" + LINE + b"\n", 0)
    assert run == [FULL, FULL]
    assert {type(entry) for entry in run} == {Entry}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_error_names_the_line(number: int) -> None:
    lines = [LINE] * 3
    lines[number] = b"{}"
    with pytest.raises(MalformedDocumentError, match=f"line {11 + number} "):
        decode_run(b"\n".join(lines) + b"\n", 10)
