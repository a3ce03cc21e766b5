"""The receipt: one form, and every way in which it can disagree with what is known."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidencesync.custody.documents import (
    BroughtAgent,
    Clock,
    HostKeys,
    ManifestFooter,
    ManifestHeader,
    Method,
    NotInSums,
    Origin,
    Person,
    Point,
    Points,
    Receipt,
    Stored,
    Tally,
    Traffic,
)
from evidencesync.custody.receipt import ReceiptFacts, check_receipt, decode_receipt, encode_receipt
from evidencesync.errors import EvidenceSyncError, MalformedDocumentError

KEY = "SHA256:" + "A" * 43
MOMENT = "2024-06-01T10:00:00.000000Z"
POINT = Point(taken=True, method="read", digests=["blake3", "sha256"], files=3, bytes=30)
ARRIVAL = msgspec.structs.replace(POINT, digests=["blake3"])
NONE = Tally(files=0, bytes=0)

RECEIPT = Receipt(
    format="evidencesync-receipt/1",
    vault_id="0" * 32,
    vault_key=KEY,
    case="2024/17",
    item="1",
    acquisition=1,
    session="1" * 32,
    manifest_sha256="a" * 64,
    manifest_signature_sha256="b" * 64,
    sha256sums_sha256="c" * 64,
    blake3sums_sha256="d" * 64,
    chunks_sha256="e" * 64,
    acquired_sha256="f" * 64,
    acquired_sequence=1,
    previous_receipt_sha256=None,
    points=Points(source=POINT, arrival=ARRIVAL, disk=POINT),
    stored=Stored(written=Tally(files=1, bytes=10), linked=Tally(files=2, bytes=20), reflinked=NONE, copied=NONE),
    transfer=Traffic(
        wire_received_bytes=1,
        wire_sent_bytes=2,
        literal_bytes=3,
        reused_bytes=4,
        zero_bytes=5,
        interruptions=0,
        seconds="1.500",
    ),
    host_keys=HostKeys(receiver=KEY, sender=None),
    lookup="case",
    not_in_sums=NotInSums(sha256sums=0, blake3sums=0),
    received_from="192.0.2.1",
    finished=MOMENT,
)
FACTS = ReceiptFacts(
    header=ManifestHeader(
        format="evidencesync-manifest/1",
        vault_id="0" * 32,
        vault_key=KEY,
        case="2024/17",
        item="1",
        acquisition=1,
        session="1" * 32,
        previous_manifest_sha256=None,
        examiner=Person(name="Ana", principal="ana@lab", key=KEY),
        direction="push",
        digests_taken_at="source",
        source=Origin(host="h", operating_system="Linux"),
        method=Method(tool="t", version="0", command_line=[], digests=[], filters=[], options={}),
        ssh=None,
        started=MOMENT,
        clock=Clock(utc_offset="+00:00"),
        notes=[],
    ),
    footer=ManifestFooter(counts={"file": 3}, flags={}, bytes=30, finished=MOMENT),
    contents=3,
    manifest_sha256="a" * 64,
    manifest_signature_sha256="b" * 64,
    acquired_sha256="f" * 64,
    acquired_sequence=1,
    sha256sums_sha256="c" * 64,
    blake3sums_sha256="d" * 64,
    chunks_sha256="e" * 64,
)


def changed(**fields: Any) -> Receipt:
    return msgspec.structs.replace(RECEIPT, **fields)


def test_a_receipt_comes_back_and_agrees() -> None:
    data = encode_receipt(RECEIPT)
    assert decode_receipt(data) == RECEIPT
    assert check_receipt(RECEIPT, FACTS) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"vault_id": "1" * 32},
        {"vault_key": "SHA256:" + "B" * 43},
        {"case": "x"},
        {"item": "x"},
        {"acquisition": 2},
        {"session": "2" * 32},
        {"manifest_sha256": "0" * 64},
        {"manifest_signature_sha256": "0" * 64},
        {"sha256sums_sha256": "0" * 64},
        {"blake3sums_sha256": "0" * 64},
        {"chunks_sha256": "0" * 64},
        {"acquired_sha256": "0" * 64},
        {"acquired_sequence": 2},
    ],
)
def test_every_field_that_disagrees_is_named(fields: dict[str, Any]) -> None:
    (difference,) = check_receipt(changed(**fields), FACTS)
    assert [difference.field] == list(fields)
    assert str(fields[difference.field]) in str(difference)


def test_a_receipt_states_the_agent_that_the_manifest_states_and_no_other() -> None:
    agent = BroughtAgent("/dev/shm/agent", "a" * 64, KEY)
    brought = msgspec.structs.replace(FACTS, header=msgspec.structs.replace(FACTS.header, agent=agent))
    assert check_receipt(changed(agent=agent), brought) == []
    assert [one.field for one in check_receipt(changed(agent=agent), FACTS)] == ["agent"]
    assert [one.field for one in check_receipt(RECEIPT, brought)] == ["agent"]


def test_what_a_sender_cannot_know_is_not_compared() -> None:
    facts = ReceiptFacts(FACTS.header, FACTS.footer, 3, "a" * 64, "b" * 64, "f" * 64, 1)
    assert check_receipt(changed(chunks_sha256="0" * 64), facts) == []
    assert check_receipt(changed(manifest_sha256="0" * 64), facts) != []


def test_points_and_stored_contents_must_be_those_of_the_manifest() -> None:
    not_taken = msgspec.structs.replace(POINT, taken=False, digests=[], files=0, bytes=0)
    for name in ("source", "arrival", "disk"):
        fewer = msgspec.structs.replace(getattr(RECEIPT.points, name), files=2)
        points = msgspec.structs.replace(RECEIPT.points, **{name: fewer})
        assert [one.field for one in check_receipt(changed(points=points), FACTS)] == [f"points.{name}"]
    unread = changed(points=msgspec.structs.replace(RECEIPT.points, disk=not_taken))
    assert check_receipt(unread, FACTS) == []
    boast = changed(points=msgspec.structs.replace(RECEIPT.points, disk=msgspec.structs.replace(POINT, taken=False)))
    assert [one.field for one in check_receipt(boast, FACTS)] == ["points.disk", "points.disk.digests"]
    idle = changed(points=msgspec.structs.replace(RECEIPT.points, source=not_taken))
    assert [one.field for one in check_receipt(idle, FACTS)] == ["points.source.taken"]
    blind = changed(points=msgspec.structs.replace(RECEIPT.points, arrival=not_taken))
    assert [one.field for one in check_receipt(blind, FACTS)] == ["points.arrival.taken"]
    lost = changed(stored=msgspec.structs.replace(RECEIPT.stored, linked=NONE))
    assert [one.field for one in check_receipt(lost, FACTS)] == ["stored"]


@pytest.mark.parametrize(
    "digests", [[], ["blake3"], ["sha256"], ["md5"], [""], ["sha256", "blake3"], ["blake3", "sha256", "md5"]]
)
@pytest.mark.parametrize("name", ["source", "arrival", "disk"])
def test_a_point_states_the_digests_that_are_taken_there_and_no_others(name: str, digests: list[str]) -> None:
    point = getattr(RECEIPT.points, name)
    points = msgspec.structs.replace(RECEIPT.points, **{name: msgspec.structs.replace(point, digests=digests)})
    found = [one.field for one in check_receipt(changed(points=points), FACTS)]
    assert found == ([] if digests == point.digests else [f"points.{name}.digests"])


@pytest.mark.parametrize(
    "fields",
    [
        {"case": ".."},
        {"received_from": "\x1b[31m"},
        {"finished": "2024-02-30T10:00:00.000000Z"},
        {"acquisition": 2},
        {"previous_receipt_sha256": "0" * 64},
        {"acquired_sequence": -1},
        {"transfer": msgspec.structs.replace(RECEIPT.transfer, seconds="١.500")},
        {"transfer": msgspec.structs.replace(RECEIPT.transfer, seconds="1.500\n")},
    ],
)
def test_a_receipt_that_no_reader_would_take_is_not_written(fields: dict[str, Any]) -> None:
    with pytest.raises(MalformedDocumentError):
        encode_receipt(changed(**fields))


@given(st.binary(max_size=100), st.integers(min_value=0))
def test_any_bytes_raise_our_errors_only(data: bytes, at: int) -> None:
    good = encode_receipt(RECEIPT)
    at %= len(good)
    for attempt in (data, good[:at] + data + good[at:], good + data):
        try:
            assert decode_receipt(attempt) == RECEIPT or data
        except EvidenceSyncError:
            continue
