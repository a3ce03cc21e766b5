"""Every message comes back as it was sent, and whatever else arrives is one typed error, quickly and in little memory."""

from __future__ import annotations

import resource
import struct
import time
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidencesync.errors import LimitExceededError, PeerError, ProtocolError, VersionError
from evidencesync.limits import (
    MAX_ALIKE,
    MAX_DEVICE_FACTS,
    MAX_DOCUMENT_PATH,
    MAX_DOCUMENTS_IN_MESSAGE,
    MAX_ERROR_TEXT,
    MAX_EVIDENCE_PART,
    MAX_EVIDENCE_PARTS,
    MAX_FACT,
    MAX_FILE_SIZE,
    MAX_HEADER_LINE,
    MAX_KEPT_MANIFEST,
    MAX_KEY_CHANGES,
    MAX_NAME,
    MAX_OLDER_PIECES,
    MAX_PAGE,
    MAX_PAGE_LINES,
    MAX_PATCH_RUNS,
    MAX_PATCHED,
    MAX_PATH,
    MAX_PATTERN,
    MAX_PATTERNS,
    MAX_PUBLIC_KEY,
    MAX_RECORD,
    MAX_RECORDS,
    MAX_RETRIES_CHANGED,
    MAX_SEGMENT_PIECES,
    MAX_SEGMENT_ROWS,
    MAX_SIGNATURE,
    MAX_SURVEYED,
    MAX_TIMESTAMP,
    MAX_TITLE,
    MAX_VERDICT_FILE,
    PIECE_DIGEST,
    SMALL_FILE,
    WINDOW,
)
from evidencesync.protocol.document_messages import (
    AllManifestsAsk,
    DocumentBatch,
    DocumentsAsk,
    ManifestsAsk,
    RoomAsk,
    RoomShown,
    Stray,
    Unread,
)
from evidencesync.protocol.evidence_messages import EvidenceAsk, EvidenceParts, Patch, PatchAsk, Rows, RowsAsk
from evidencesync.protocol.failures import error_of
from evidencesync.protocol.framing import DATA_FRAME, HANDSHAKE, MESSAGE_TYPES, decode_message, encode_message
from evidencesync.protocol.messages import (
    Alike,
    Alive,
    Append,
    Attach,
    Begin,
    Changes,
    ChunkData,
    Chunks,
    Close,
    Failure,
    Files,
    Finish,
    Hello,
    Kept,
    KeptLost,
    KeyChanges,
    Message,
    Need,
    NeedPieces,
    Open,
    Page,
    PageAnswer,
    PageOffer,
    PagesStored,
    Patience,
    Pieces,
    Previous,
    Published,
    Ready,
    Records,
    Resembles,
    Resumed,
    SegmentAnswer,
    SegmentData,
    SegmentOffer,
    SegmentsStored,
    Standing,
    Status,
    Want,
    Welcome,
    Withdraw,
)
from evidencesync.protocol.pull_messages import (
    Fetch,
    SourceAsk,
    SourceEnd,
    SourceOffer,
    SourceSeen,
    SourceSeenHoles,
    SurveyAsk,
    SurveyEnd,
    SurveyPage,
)
from evidencesync.protocol.trust_messages import OwnDocumentsAsk, TrustAsk
from evidencesync.protocol.verdict_messages import Checking, CheckingHoles, RecordAllowed, RecordAsk, VerdictShown, VerifyAsk
from tests.support.soak import often

TYPES = sorted(MESSAGE_TYPES)

EXAMPLES: list[Message] = [
    Failure("no-space", "the disk is full", None),
    Failure("x", "m" * MAX_ERROR_TEXT, "h" * MAX_ERROR_TEXT),
    Hello([1], "0.1", "push", b"/srv/\xff\0", "fastcdc", -(2**63)),
    Hello([0, 2**32 - 1], "", "push", b"v" * MAX_PATH, "", 2**63 - 1),
    Welcome(1, "0.1", "ab" * 16, b"k" * MAX_PUBLIC_KEY, bytes(32), "fastcdc", 0),
    Begin(b"{}", b"s" * MAX_SIGNATURE, read_back=True, resumes=False, seen=0, vault_seen=0),
    Ready("ana@lab", 1, 0, None, None, 0, "case", 0),
    Ready("ana@lab", 2**32 - 1, 7, bytes(32), b"\xff" * 32, MAX_FILE_SIZE, "vault", 3),
    Resumed(2**32 - 1, 7, 0, stream_open=True, concluding=False),
    Alive(),
    Checking(0, 0, 0, 0, ""),
    CheckingHoles(1, 2, 3, 4, "p", 5, 6),
    RecordAsk("c"),
    RecordAsk(None),
    RecordAllowed(),
    SourceSeenHoles(0, 0, 0, 1, 7, 1, 2, b"", None),
    SourceSeenHoles(0, 0, 0, 1, 7, 1, 2, b"", MAX_FILE_SIZE),
    Checking(MAX_FILE_SIZE, MAX_FILE_SIZE, MAX_FILE_SIZE, MAX_FILE_SIZE, "p" * 256),
    VerifyAsk(bytes(32), None, None, None, all_digests=False),
    VerifyAsk(bytes(32), "c" * MAX_TITLE, "i" * MAX_TITLE, 9999, all_digests=True),
    VerdictShown(1, b""),
    VerdictShown(MAX_VERDICT_FILE, b"s" * MAX_SIGNATURE),
    DocumentsAsk(None, None, []),
    DocumentsAsk("c" * MAX_TITLE, "i" * MAX_TITLE, [0, 2**32 - 1]),
    ManifestsAsk("c", "i", [0]),
    AllManifestsAsk(None, None),
    AllManifestsAsk("c" * MAX_TITLE, "i" * MAX_TITLE),
    OwnDocumentsAsk(),
    TrustAsk(b"", b""),
    TrustAsk(b"r" * (MAX_RECORD - 65_536), b"s" * MAX_SIGNATURE),
    RoomAsk("c" * MAX_TITLE, "i"),
    RoomShown("ana@lab", 1, None, False, None, Alike([], []), None),  # noqa: FBT003
    RoomShown("p" * 256, None, MAX_FILE_SIZE, True, "h" * 256, Alike(["x"], ["y"]), Failure("sealed", "m", None)),  # noqa: FBT003
    Unread("p" * MAX_DOCUMENT_PATH, "m" * MAX_ERROR_TEXT),
    Stray("custody", b"\xff" * MAX_NAME),
    DocumentBatch([]),
    DocumentBatch([("p" * MAX_DOCUMENT_PATH, MAX_FILE_SIZE)] * MAX_DOCUMENTS_IN_MESSAGE),
    EvidenceAsk("C1", "I1", 1, [(b"a/b", 0, 1)]),
    EvidenceAsk(
        "c" * MAX_TITLE, "i" * MAX_TITLE, 2**32 - 1, [(b"p" * 1000, MAX_FILE_SIZE, MAX_EVIDENCE_PART)] * MAX_EVIDENCE_PARTS
    ),
    EvidenceParts(MAX_EVIDENCE_PARTS, []),
    PatchAsk("c", "i", 1, b"p", 0, 1, b"123456"),
    PatchAsk("c", "i", 1, b"p" * MAX_PATH, MAX_FILE_SIZE, MAX_PATCHED, bytes(6 * MAX_OLDER_PIECES)),
    Patch([(0, 0, 1), (MAX_PATCHED, MAX_OLDER_PIECES, 0)], MAX_PATCHED, None),
    Patch([], 0, ("gone", "m" * MAX_ERROR_TEXT)),
    EvidenceParts(2, [(0, "gone", "it is gone"), (1, "unreadable", "m" * MAX_ERROR_TEXT)]),
    RowsAsk("C1", "I1", 0),
    Rows(MAX_KEPT_MANIFEST),
    Patience(60_000, 931, 1 << 40),
    PageOffer(0, bytes(16)),
    PageAnswer(2**32 - 1, known=True),
    Page(3, MAX_PAGE, with_files=False, proofs=b""),
    Want(3, MAX_PAGE_LINES, b"\xff" * 128),
    Want(0, 0, b""),
    Files(3, 2, b"\3", WINDOW),
    PagesStored(0),
    Open(0, MAX_FILE_SIZE),
    Resembles(0, b"p" * MAX_PATH),
    Kept(2**32 - 1, MAX_FILE_SIZE, bytes(32), b"p" * MAX_PATH),
    KeptLost(2**32 - 1),
    SegmentOffer(9, bytes(16), 0, b""),
    SegmentAnswer(9, known=False),
    Chunks(9, bytes(20 * MAX_SEGMENT_ROWS)),
    Need(9, MAX_SEGMENT_ROWS, bytes(64), bytes(6 * MAX_SEGMENT_ROWS)),
    Pieces(9, bytes(2 * MAX_SEGMENT_PIECES), bytes(PIECE_DIGEST * MAX_SEGMENT_PIECES)),
    Pieces(0, b"", b""),
    NeedPieces(9, MAX_SEGMENT_PIECES, bytes((MAX_SEGMENT_PIECES + 7) // 8), bytes(64)),
    SegmentData(9, bytes(4 * MAX_SEGMENT_ROWS), 0),
    ChunkData(9, WINDOW),
    SegmentsStored(2**32 - 1),
    Close(0, MAX_FILE_SIZE, bytes(32)),
    Finish(10, bytes(32), b"sig", b"{}\n", b"sig", 4),
    Finish(MAX_FILE_SIZE, bytes(32), b"s" * MAX_SIGNATURE, b"r" * (MAX_RECORD - 65_536), b"s" * MAX_SIGNATURE, 2**32 - 1),
    Status("read-back", 1, 2),
    Previous(b"h" * MAX_HEADER_LINE, b"f"),
    Alike(["LAPTOP-1"] * MAX_ALIKE, []),
    Alike([], ["x" * MAX_TITLE]),
    KeyChanges([(b"{}\n", b"sig")] * MAX_KEY_CHANGES),
    Changes(0, 1, None, 2, MAX_FILE_SIZE, 0),
    Changes(0, 0, 3, 0, 0, 0),
    Withdraw(),
    Published(1, b"{}\n", b"sig", b"{}\n", b"sig", 0, repeated=False),
    Records(1, [(b"{}\n", b"sig")] * MAX_RECORDS, more=True),
    Records(2**32 - 1, [], more=False),
    Standing("ana@lab", 3, bytes(32)),
    Standing("", 2**32 - 1, None),
    Append(b"{}\n", b"s" * MAX_SIGNATURE),
    Append(b"r" * (MAX_RECORD - 65_536), b""),
    Attach(1, b"t", None, b"{}\n", b"s"),
    Attach(2**32 - 1, b"t" * MAX_TIMESTAMP, b"q" * MAX_TIMESTAMP, b"r" * (MAX_RECORD // 4), b"s" * MAX_SIGNATURE),
    Attach(1, b"t", b"q", b"", b""),
    SourceAsk(
        [1],
        "0.1",
        "fastcdc",
        b"p" * MAX_PATH,
        [b"x" * MAX_PATTERN] * MAX_PATTERNS,
        [b"y" * MAX_PATTERN] * MAX_PATTERNS,
        0,
        one_file_system=True,
        on_read_error="zero",
        retries_changed=MAX_RETRIES_CHANGED,
        counts=True,
    ),
    SourceAsk([1], "", "", b"", [], [], None, one_file_system=False, on_read_error="fail", retries_changed=None, counts=False),
    SourceOffer(1, "0.1", "fastcdc", 0, "host", "system", b"/a", b"/b" * (MAX_PATH // 2), "ext4", "0" * 32, None),
    SourceOffer(1, "0.1", "fastcdc", 0, "", "", b"/", b"/", None, None, {"serial": "x" * MAX_FACT}),
    Fetch(knows_nothing=True, has_previous=False, piece_key=bytes(32), compress="auto", limit_rate=None),
    Fetch(knows_nothing=False, has_previous=True, piece_key=bytes(32), compress="never", limit_rate=2**53),
    SourceSeen(MAX_FILE_SIZE, 0, 1, 0, 0, None, None, b"p" * MAX_PATH),
    SourceSeen(0, 0, 0, 1, 7, 1, 2, b""),
    SourceEnd(2**32 - 1, 3, {"metadata-unread": MAX_FILE_SIZE}),
    SurveyAsk([106], "", "", b"", [], [], None, one_file_system=False, on_read_error="zero", retries_changed=None, counts=False),
    SurveyPage([(b"", "directory", None, "0.000000000", None, None), (b"p" * MAX_PATH, "file", 2**40, None, "skipped", 7)], None),
    SurveyEnd({"access-time-changed": 1}),
]


def test_every_type_has_an_example() -> None:
    assert {type(example) for example in EXAMPLES} == set(MESSAGE_TYPES.values())


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_as_it_was_sent(message: Message) -> None:
    number, body = encode_message(message)
    assert decode_message(number, body) == message
    assert decode_message(number, memoryview(body)) == message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_no_part_of_a_message_is_one(message: Message) -> None:
    number, body = encode_message(message)
    for end in {*range(min(len(body), 40)), *range(max(len(body) - 40, 0), len(body)), len(body) // 2}:
        with pytest.raises(ProtocolError):
            decode_message(number, body[:end])


def is_refused(number: int, body: bytes) -> bool:
    try:
        decode_message(number, body)
    except ProtocolError:
        return True
    return False


@pytest.mark.parametrize("more", [b"\0", b"\xc0", b"\x91", b"x" * 1000])
def test_a_message_with_something_behind_it_is_none(more: bytes) -> None:
    for message in EXAMPLES:
        number, body = encode_message(message)
        assert is_refused(number, body + more), message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_one_field_more_or_less_is_refused(message: Message) -> None:
    """In a handshake it is another version's, before it is anything worse."""
    number, body = encode_message(message)
    fields = msgspec.msgpack.decode(body)
    refused = VersionError if type(message) in HANDSHAKE else ProtocolError
    for changed in ([*fields, None], [*fields, 0], fields[:-1], [], [fields], {"0": fields}):
        if changed == fields:
            continue
        other_count = isinstance(changed, list) and len(changed) != len(fields)
        with pytest.raises(refused if other_count else ProtocolError):
            decode_message(number, msgspec.msgpack.encode(changed))


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_no_field_takes_a_value_of_another_kind(message: Message) -> None:
    number, body = encode_message(message)
    fields = msgspec.msgpack.decode(body)
    for position, value in enumerate(fields):
        # None stands for absent where a field may be; each of the others is of a kind that no field has, or not of its own.
        others: list[Any] = [1.5, {"a": 1}, [[1]], msgspec.msgpack.Ext(1, b"x"), float("nan")]
        others += [value.decode("latin-1")] if isinstance(value, bytes) else [b"bytes"] if isinstance(value, str) else []
        others += [int(value)] if isinstance(value, bool) else [True] if isinstance(value, int) else []
        for other in others:
            changed = msgspec.msgpack.encode([*fields[:position], other, *fields[position + 1 :]])
            with pytest.raises(ProtocolError):
                decode_message(number, changed)


ASK, OFFER, FETCH, SEEN, SURVEYED = EXAMPLES[-11], EXAMPLES[-9], EXAMPLES[-7], EXAMPLES[-5], EXAMPLES[-2]
ROOM = RoomShown("ana@lab", 1, 0, False, None, Alike([], []), None)  # noqa: FBT003
BEYOND: list[tuple[Message, int, Any]] = [
    (EXAMPLES[0], 0, "s" * 65),
    (EXAMPLES[0], 1, "m" * (MAX_ERROR_TEXT + 1)),
    (EXAMPLES[0], 2, "h" * (MAX_ERROR_TEXT + 1)),
    (EXAMPLES[2], 0, []),
    (EXAMPLES[2], 0, [1] * 65),
    (EXAMPLES[2], 0, [-1]),
    (EXAMPLES[2], 0, [2**32]),
    (EXAMPLES[2], 1, "t" * 257),
    (EXAMPLES[2], 2, "pull"),
    (SURVEYED, 0, []),
    (SURVEYED, 0, [(b"", "directory", None, None, None, None)] * (MAX_SURVEYED + 1)),
    (SURVEYED, 0, [(b"p" * (MAX_PATH + 1), "file", None, None, None, None)]),
    (SURVEYED, 0, [(b"p", "folder", None, None, None, None)]),
    (SURVEYED, 0, [(b"p", "file", -1, None, None, None)]),
    (SURVEYED, 0, [(b"p", "file", 1, "\x1b[2J", None, None)]),
    (SURVEYED, 0, [(b"p", "file", 1, None, "lost", None)]),
    (EXAMPLES[2], 3, b"v" * (MAX_PATH + 1)),
    (EXAMPLES[2], 5, 2**63),
    (EXAMPLES[2], 5, 2**64 - 1),
    (EXAMPLES[4], 3, b"k" * (MAX_PUBLIC_KEY + 1)),
    (EXAMPLES[4], 4, bytes(31)),
    (EXAMPLES[4], 4, bytes(33)),
    (EXAMPLES[5], 0, bytes(MAX_RECORD - 65_535)),
    (EXAMPLES[5], 1, bytes(MAX_SIGNATURE + 1)),
    (EXAMPLES[6], 1, -1),
    (EXAMPLES[6], 3, bytes(31)),
    (EXAMPLES[6], 5, MAX_FILE_SIZE + 1),
    (EXAMPLES[6], 6, "everywhere"),
    (Stray("custody", b"x"), 1, b""),
    (Stray("custody", b"x"), 1, b"x" * (MAX_NAME + 1)),
    (Unread("custody", ""), 0, ""),
    (Unread("custody", ""), 1, "m" * (MAX_ERROR_TEXT + 1)),
    (RoomAsk("C1", "I1"), 0, ""),
    (RoomAsk("C1", "I1"), 1, "i" * (MAX_TITLE + 1)),
    (ROOM, 0, "p" * 257),
    (ROOM, 1, 2**32),
    (ROOM, 2, -1),
    (ROOM, 2, MAX_FILE_SIZE + 1),
    (ROOM, 4, "h" * 257),
    (ROOM, 5, [["x"] * (MAX_ALIKE + 1), []]),
    (ROOM, 6, ["s" * 65, "m", None]),
    (EvidenceAsk("C1", "I1", 1, [(b"a", 0, 1)]), 0, ""),
    (EvidenceAsk("C1", "I1", 1, [(b"a", 0, 1)]), 2, 2**32),
    (EvidenceAsk("C1", "I1", 1, [(b"a", 0, 1)]), 3, []),
    (EvidenceAsk("C1", "I1", 1, [(b"a", 0, 1)]), 3, [(b"a", 0, 1)] * (MAX_EVIDENCE_PARTS + 1)),
    (EvidenceAsk("C1", "I1", 1, [(b"a", 0, 1)]), 3, [(b"", 0, 1)]),
    (EvidenceAsk("C1", "I1", 1, [(b"a", 0, 1)]), 3, [(b"p" * (MAX_PATH + 1), 0, 1)]),
    (EvidenceAsk("C1", "I1", 1, [(b"a", 0, 1)]), 3, [(b"a", -1, 1)]),
    (EvidenceAsk("C1", "I1", 1, [(b"a", 0, 1)]), 3, [(b"a", 0, 0)]),
    (EvidenceAsk("C1", "I1", 1, [(b"a", 0, 1)]), 3, [(b"a", 0, MAX_EVIDENCE_PART + 1)]),
    (PatchAsk("c", "i", 1, b"p", 0, 1, b"123456"), 3, b""),
    (PatchAsk("c", "i", 1, b"p", 0, 1, b"123456"), 5, MAX_PATCHED + 1),
    (PatchAsk("c", "i", 1, b"p", 0, 1, b"123456"), 6, bytes(6 * MAX_OLDER_PIECES + 1)),
    (Patch([], 0, None), 0, [(0, 0, 1)] * (MAX_PATCH_RUNS + 1)),
    (Patch([], 0, None), 0, [(0, -1, 1)]),
    (Patch([], 0, None), 1, MAX_PATCHED + 1),
    (Patch([], 0, None), 2, ("secret", "")),
    (EvidenceParts(1, []), 0, 0),
    (EvidenceParts(1, []), 0, MAX_EVIDENCE_PARTS + 1),
    (EvidenceParts(1, []), 1, [(0, "secret", "")]),
    (EvidenceParts(1, []), 1, [(MAX_EVIDENCE_PARTS, "gone", "")]),
    (Rows(0), 0, MAX_KEPT_MANIFEST + 1),
    (PageOffer(0, bytes(16)), 1, bytes(15)),
    (PageOffer(0, bytes(16)), 1, bytes(17)),
    (Page(0, 1, with_files=False, proofs=b""), 1, 0),
    (Page(0, 1, with_files=False, proofs=b""), 1, MAX_PAGE + 1),
    (Want(0, 0, b""), 1, MAX_PAGE_LINES + 1),
    (Want(0, 0, b""), 2, bytes(129)),
    (Files(0, 0, b"", 0), 3, WINDOW + 1),
    (Open(0, 0), 1, MAX_FILE_SIZE + 1),
    (Open(0, 0), 1, -1),
    (Resembles(0, b""), 1, b"p" * (MAX_PATH + 1)),
    (Kept(0, SMALL_FILE + 1, bytes(32), b"p"), 1, SMALL_FILE),
    (Kept(0, SMALL_FILE + 1, bytes(32), b"p"), 1, MAX_FILE_SIZE + 1),
    (Kept(0, SMALL_FILE + 1, bytes(32), b"p"), 2, bytes(31)),
    (Kept(0, SMALL_FILE + 1, bytes(32), b"p"), 3, b""),
    (Kept(0, SMALL_FILE + 1, bytes(32), b"p"), 3, b"p" * (MAX_PATH + 1)),
    (KeptLost(0), 0, 2**32),
    (SegmentOffer(0, bytes(16), 0, b""), 2, 2**63),
    (Chunks(0, bytes(20)), 1, bytes(19)),
    (Chunks(0, bytes(20)), 1, bytes(20 * MAX_SEGMENT_ROWS + 1)),
    (Need(0, 0, b"", b""), 1, MAX_SEGMENT_ROWS + 1),
    (Need(0, 0, b"", b""), 3, bytes(6 * MAX_SEGMENT_ROWS + 1)),
    (Pieces(0, b"", b""), 1, bytes(2 * MAX_SEGMENT_PIECES + 1)),
    (Pieces(0, b"", b""), 2, bytes(PIECE_DIGEST * MAX_SEGMENT_PIECES + 1)),
    (NeedPieces(0, 0, b"", b""), 1, MAX_SEGMENT_PIECES + 1),
    (NeedPieces(0, 0, b"", b""), 2, bytes((MAX_SEGMENT_PIECES + 7) // 8 + 1)),
    (NeedPieces(0, 0, b"", b""), 3, bytes(129)),
    (SegmentData(0, bytes(4), 0), 1, b""),
    (SegmentData(0, bytes(4), 0), 1, bytes(4 * MAX_SEGMENT_ROWS + 1)),
    (SegmentData(0, bytes(4), 0), 2, WINDOW + 1),
    (ChunkData(0, 0), 1, WINDOW + 1),
    (Close(0, 0, bytes(32)), 2, bytes(33)),
    (Status("syncing", 0, 0), 0, "thinking"),
    (Status("syncing", 0, 0), 1, -1),
    (Records(1, [], more=False), 1, [(b"", b"")] * (MAX_RECORDS + 1)),
    (Records(1, [], more=False), 1, [(b"", b"s" * (MAX_SIGNATURE + 1))]),
    (Records(1, [], more=False), 1, [(b"",)]),
    (Standing("", 1, None), 0, "p" * 257),
    (Standing("", 1, None), 1, -1),
    (Standing("", 1, None), 2, bytes(31)),
    (Standing("", 1, None), 2, bytes(33)),
    (Append(b"", b""), 0, bytes(MAX_RECORD - 65_535)),
    (Append(b"", b""), 1, bytes(MAX_SIGNATURE + 1)),
    (ASK, 3, b"p" * (MAX_PATH + 1)),
    (ASK, 4, [b""] * (MAX_PATTERNS + 1)),
    (ASK, 5, [b"x" * (MAX_PATTERN + 1)]),
    (ASK, 8, "perhaps"),
    (ASK, 9, MAX_RETRIES_CHANGED + 1),
    (OFFER, 4, "h" * 257),
    (OFFER, 6, b""),
    (OFFER, 7, b"/" * (MAX_PATH + 1)),
    (OFFER, 9, "g" * 32),
    (OFFER, 9, "0" * 33),
    (OFFER, 10, {"Serial": ""}),
    (OFFER, 10, {"serial": "x" * (MAX_FACT + 1)}),
    (OFFER, 10, {f"fact_{number}": "" for number in range(MAX_DEVICE_FACTS + 1)}),
    (FETCH, 2, bytes(31)),
    (FETCH, 3, "perhaps"),
    (FETCH, 4, 0),
    (SEEN, 0, -1),
    (SEEN, 4, MAX_FILE_SIZE + 1),
    (SEEN, 7, b"p" * (MAX_PATH + 1)),
]


@pytest.mark.parametrize(("message", "field", "value"), BEYOND, ids=lambda value: repr(value)[:24])
def test_a_field_beyond_its_bound_is_refused(message: Message, field: int, value: Any) -> None:
    number, body = encode_message(message)
    fields = msgspec.msgpack.decode(body)
    fields[field] = value
    with pytest.raises(ProtocolError):
        decode_message(number, msgspec.msgpack.encode(fields))


def test_an_unknown_type_is_refused() -> None:
    unknown = [number for number in range(-1, 300) if number not in MESSAGE_TYPES]
    assert len(unknown) > 200
    for number in unknown:
        assert is_refused(number, b"\x90"), number


def test_data_is_no_message() -> None:
    assert DATA_FRAME not in MESSAGE_TYPES


@settings(max_examples=often(80, 6000))
@given(number=st.sampled_from(TYPES), body=st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_typed_error(number: int, body: bytes) -> None:
    try:
        message = decode_message(number, body)
    except (ProtocolError, VersionError):
        return
    assert decode_message(*encode_message(message)) == message


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.slow
@settings(max_examples=often(40, 2000))
@given(number=st.sampled_from(TYPES), fields=st.lists(plain, max_size=8))
def test_any_values_are_a_message_or_a_typed_error(number: int, fields: list[Any]) -> None:
    try:
        message = decode_message(number, msgspec.msgpack.encode(fields))
    except (ProtocolError, VersionError):
        return
    assert isinstance(message, MESSAGE_TYPES[number])


# The length that each of these announces is up to 4 GiB; what follows it is nothing.
HUGE = {
    "array": b"\xdd\xff\xff\xff\xff",
    "map": b"\xdf\xff\xff\xff\xff",
    "bytes": b"\xc6\xff\xff\xff\xff",
    "text": b"\xdb\xff\xff\xff\xff",
    "extension": b"\xc9\xff\xff\xff\xff\x01",
    "timestamp": b"\xc7\xff\xff",
    "reserved": b"\xc1",
}


@pytest.mark.parametrize("kind", HUGE)
def test_a_length_that_is_a_lie_takes_no_memory(kind: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in TYPES:
        fields = len(MESSAGE_TYPES[number].__struct_fields__)
        tracemalloc.start()
        try:
            for body in [HUGE[kind], *(bytes([0x90 | fields]) + b"\0" * position + HUGE[kind] for position in range(fields))]:
                assert is_refused(number, body), (number, body)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1_000_000, number
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


NESTED = {
    "arrays": b"\x91" * 500_000,
    "maps": b"\x81\xa1a" * 300_000,
    "maps as keys": b"\x81" * 500_000,
    "the first field": b"\x97" + b"\x91" * 500_000,
    "a field too many": b"\x97" + b"\x01" * 7 + b"\x91" * 500_000,
}


@pytest.mark.parametrize("kind", NESTED)
def test_nesting_without_end_is_refused(kind: str) -> None:
    for number in TYPES:
        began = time.thread_time()
        assert is_refused(number, NESTED[kind]), number
        assert time.thread_time() - began < 2, number


def test_text_that_is_no_utf_8_is_refused() -> None:
    body = msgspec.msgpack.encode(["slug", "????", None]).replace(b"????", b"\xff\xfe\xed\xa0")
    with pytest.raises(ProtocolError):
        decode_message(1, body)


def test_a_message_that_is_too_long_for_a_frame_is_not_sent() -> None:
    with pytest.raises(LimitExceededError):
        encode_message(Published(1, bytes(900_000), b"", bytes(900_000), b"", 0, repeated=False))


def test_numbers_are_taken_in_any_of_their_lengths() -> None:
    """MessagePack lets a number be written longer than it must; what it means is the same."""
    assert decode_message(25, b"\x91\xcf" + struct.pack(">Q", 5)) == PagesStored(5)


def test_a_reason_is_safe_and_never_sounds_like_success() -> None:
    for slug in ("source-unreadable", "source-changed", "complete", "nonsense"):
        assert isinstance(error_of(Failure(slug, "x", None)), PeerError)
    error = error_of(Failure("no-space", "\x1b[2J", "\x07"))
    assert (error.slug, error.message, error.hint) == ("no-space", "\\x1b[2J", "\\x07")
