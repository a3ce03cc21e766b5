"""The receiving end holds every peer to the order, the numbers and the windows of the protocol."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from evidencesync.delta.refine import Gap
from evidencesync.delta.rows import ZERO_DIGEST, Row
from evidencesync.errors import EvidenceSyncError, LimitExceededError, NoSpaceError, PeerError, ProtocolError
from evidencesync.evidence.digest import ChunkDigest
from evidencesync.limits import (
    MAX_CHUNK,
    MAX_OPEN_PAGES,
    MAX_OPEN_ROWS,
    MAX_OPEN_SEGMENTS,
    MAX_PAGE,
    MAX_SEGMENT,
    MAX_ZERO_EXTENT,
    MIB,
    MIN_CHUNK,
    MIN_ZERO_RUN,
    PIECE_DIGEST,
    WINDOW,
)
from evidencesync.protocol.data_frames import MAX_DATA, split_blocks
from evidencesync.protocol.framing import DATA_FRAME, FrameDecoder, decode_message, encode_message, frame_of
from evidencesync.protocol.messages import (
    PREAMBLE,
    Begin,
    ChunkData,
    Chunks,
    Close,
    Failure,
    Files,
    Finish,
    Hello,
    Message,
    Need,
    NeedPieces,
    Open,
    Page,
    PageAnswer,
    PageOffer,
    PagesStored,
    Pieces,
    Resembles,
    SegmentAnswer,
    SegmentData,
    SegmentOffer,
    SegmentsStored,
    Status,
    Want,
)
from evidencesync.protocol.packing import ZERO_BIT, pack_bits
from evidencesync.protocol.receiver import (
    ChunksArrived,
    ChunksListed,
    Event,
    FilesArrived,
    FinishRequested,
    PageArrived,
    PageNamed,
    PiecesListed,
    Receiver,
    SegmentArrived,
    SegmentNamed,
    StreamClosed,
    StreamOpened,
)

Step = Message | bytes | Callable[[Receiver], None]
DIGEST = b"\1" * 16
BIG = 2**40


def data_body(data: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(data)) + data


def play(receiver: Receiver, *steps: Step) -> list[Event]:
    events: list[Event] = []
    for step in steps:
        if isinstance(step, Message):
            number, body = encode_message(step)
            events += receiver.receive(number, memoryview(body))
        elif isinstance(step, bytes):
            events += receiver.receive(DATA_FRAME, memoryview(data_body(step)))
        else:
            step(receiver)
    return events


def said(receiver: Receiver) -> list[Message]:
    return [decode_message(number, body) for number, body in FrameDecoder().update(PREAMBLE + receiver.take_output())]


def page(number: int, size: int = 1, *, with_files: bool = False) -> Page:
    return Page(number, size, with_files=with_files, proofs=b"")


def whole(number: int, *lengths: int) -> SegmentData:
    """A segment of chunks, and of runs of zeros where a length is negative."""
    packed = b"".join(struct.pack("<I", length if length > 0 else ZERO_BIT | -length) for length in lengths)
    return SegmentData(number, packed, sum(length for length in lengths if length > 0))


def listed(number: int, *lengths: int) -> Chunks:
    rows = (struct.pack("<I16s", abs(length), DIGEST if length > 0 else ZERO_DIGEST) for length in lengths)
    return Chunks(number, b"".join(rows))


def knows_page(number: int, *, known: bool) -> Step:
    return lambda receiver: receiver.answer_page(number, known=known)


def knows_segment(number: int, *, known: bool, rows: int = 0) -> Step:
    return lambda receiver: receiver.answer_segment(number, known=known, rows=rows)


def needs(number: int, missing: list[bool], size: int) -> Step:
    return lambda receiver: receiver.need_chunks(number, missing, size)


GRID = Gap(0, 1, 1500, 476)  # pieces of 476, 512 and 512 bytes
BY_CONTENT = Gap(2, 1, 600, None)


def refines(number: int, missing: list[bool], size: int, *gaps: Gap) -> Step:
    return lambda receiver: receiver.need_chunks(number, missing, size, gaps)


def needs_pieces(number: int, missing: list[bool], spared: int, again: list[bool]) -> Step:
    return lambda receiver: receiver.need_pieces(number, missing, spared, again)


def pieces(number: int, lengths: list[int], count: int) -> Pieces:
    return Pieces(number, struct.pack(f"<{len(lengths)}H", *lengths), bytes(PIECE_DIGEST * count))


def wants(number: int, missing: list[bool]) -> Step:
    return lambda receiver: receiver.want_files(number, missing)


def pages_stored(count: int) -> Step:
    return lambda receiver: receiver.pages_stored(count)


def segments_stored(count: int) -> Step:
    return lambda receiver: receiver.segments_stored(count)


def ask_again(number: int) -> Step:
    return lambda receiver: receiver.ask_again(number)


FINISH = Finish(1, bytes(32), b"", b"", b"", 0)
CLOSE = Close(0, 0, bytes(32))

REFINED: list[Step] = [
    Open(0, BIG),
    listed(0, 1500, -MIN_ZERO_RUN, 600),
    refines(0, [True, False, True], 2100, GRID, BY_CONTENT),
]
LARGE = Gap(0, 1, 9000, None)
ALL_NEEDED = needs_pieces(0, [True] * 5, 0, [False, False])
ONE_NEEDED = needs_pieces(0, [False, True, False, False, False], 2100 - 512, [False, False])
AGAIN = needs_pieces(0, [False] * 3 + [True] * 2, 0, [True, False])

OUT_OF_ORDER: dict[str, list[Step]] = {
    "a page that is not the next": [page(1)],
    "a page twice": [page(0), b"x", page(0)],
    "a page again after it was stored": [page(0), b"x", pages_stored(1), page(0)],
    "a page named that is not the next": [PageOffer(1, DIGEST)],
    "a page named twice": [PageOffer(0, DIGEST), PageOffer(0, DIGEST)],
    "a page named after it was sent": [page(0), b"x", PageOffer(0, DIGEST)],
    "a page sent before it was answered": [PageOffer(0, DIGEST), page(0)],
    "a page sent that is known": [PageOffer(0, DIGEST), knows_page(0, known=True), page(0)],
    "a page sent twice after an answer": [PageOffer(0, DIGEST), knows_page(0, known=False), page(0), b"x", page(0)],
    "files of no page": [Files(0, 1, b"\1", 1)],
    "files that nobody wants": [page(0), b"x", Files(0, 1, b"\1", 1)],
    "files of nothing that nobody wants": [page(0), b"x", Files(0, 0, b"", 0)],
    "files twice": [page(0, with_files=True), b"x", Files(0, 1, b"\1", 1), b"y", Files(0, 1, b"\1", 1)],
    "files promised, and fewer sent": [page(0, with_files=True), b"x", Files(0, 2, b"\1", 1)],
    "wanted files, and others sent": [page(0), b"x", wants(0, [True, False]), Files(0, 2, b"\2", 1)],
    "wanted files, and more sent": [page(0), b"x", wants(0, [True, False]), Files(0, 2, b"\3", 1)],
    "wanted files, and fewer sent": [page(0), b"x", wants(0, [True, True]), Files(0, 2, b"\1", 1)],
    "wanted files of another page": [page(0), b"x", page(1), b"x", wants(0, [True]), Files(1, 1, b"\1", 1)],
    "files of a page that is stored": [page(0), b"x", wants(0, [True]), pages_stored(1), Files(0, 1, b"\1", 1)],
    "a message where data was announced": [page(0), PageOffer(1, DIGEST)],
    "a message in the middle of data": [Open(0, BIG), whole(0, *[MAX_CHUNK] * 4), bytes(MAX_DATA), CLOSE],
    "data at first": [b"x"],
    "data after data": [page(0), b"x", b"y"],
    "data after a message without any": [PageOffer(0, DIGEST), b"x"],
    "more data than announced": [page(0, 3), b"four"],
    "more data than is left": [Open(0, BIG), whole(0, *[MAX_CHUNK] * 5), bytes(MAX_DATA), bytes(MAX_DATA)],
    "empty data": [page(0), b""],
    "data in crumbs": [page(0, 3), b"x"],
    "data in parts that are too small": [Open(0, BIG), whole(0, *[MAX_CHUNK] * 8), bytes(MAX_DATA - MAX_CHUNK)],
    "a stream that is not the next": [Open(1, 5)],
    "a stream in a stream": [Open(0, 5), Open(1, 5)],
    "a stream opened twice": [Open(0, 5), Open(0, 5)],
    "a stream again after its end": [Open(0, 5), CLOSE, Open(0, 5)],
    "a stream closed that is not open": [CLOSE],
    "another stream closed": [Open(0, 5), Close(1, 0, bytes(32))],
    "a stream closed twice": [Open(0, 5), CLOSE, CLOSE],
    "a segment outside of a stream": [whole(0, 5)],
    "a segment named outside of a stream": [SegmentOffer(0, DIGEST, 5, b"")],
    "a segment listed outside of a stream": [listed(0, 5)],
    "a segment after its stream": [Open(0, 5), CLOSE, whole(0, 5)],
    "a segment that is not the next": [Open(0, 5), whole(1, 5)],
    "a segment named that is not the next": [Open(0, 5), SegmentOffer(1, DIGEST, 5, b"")],
    "a segment listed that is not the next": [Open(0, 5), listed(1, 5)],
    "a segment twice": [Open(0, 50), whole(0, 5), b"fives", whole(0, 5)],
    "a segment sent that was named": [Open(0, 50), SegmentOffer(0, DIGEST, 5, b""), whole(0, 5)],
    "a segment sent that is lacked": [Open(0, 50), SegmentOffer(0, DIGEST, 5, b""), knows_segment(0, known=False), whole(0, 5)],
    "a segment listed before it was answered": [Open(0, 50), SegmentOffer(0, DIGEST, 5, b""), listed(0, 5)],
    "a segment listed that is known": [Open(0, 50), SegmentOffer(0, DIGEST, 5, b""), knows_segment(0, known=True), listed(0, 5)],
    "a segment listed twice": [Open(0, 50), listed(0, 5), listed(0, 5)],
    "a segment listed that was sent": [Open(0, 50), whole(0, 5), b"fives", listed(0, 5)],
    "a segment named twice": [Open(0, 50), SegmentOffer(0, DIGEST, 5, b""), SegmentOffer(0, DIGEST, 5, b"")],
    "a segment again after it was stored": [Open(0, 50), whole(0, 5), b"fives", segments_stored(1), whole(0, 5)],
    "chunks of no segment": [ChunkData(0, 5)],
    "chunks before they are needed": [Open(0, 50), listed(0, 5), ChunkData(0, 5)],
    "chunks of a segment that was sent": [Open(0, 50), whole(0, 5), b"fives", ChunkData(0, 5)],
    "chunks twice": [Open(0, 50), listed(0, 5), needs(0, [True], 5), ChunkData(0, 5), b"fives", ChunkData(0, 5)],
    "chunks after they are stored": [Open(0, 50), listed(0, 5), needs(0, [True], 5), segments_stored(1), ChunkData(0, 5)],
    "other chunks than needed": [Open(0, 50), listed(0, 5), needs(0, [True], 5), ChunkData(0, 4)],
    "chunks where none are needed": [Open(0, 50), listed(0, 5), needs(0, [False], 0), ChunkData(0, 5)],
    "a hint without a stream": [Resembles(0, b"a")],
    "a hint about another stream": [Open(0, 50), Resembles(1, b"a")],
    "a hint twice": [Open(0, 50), Resembles(0, b"a"), Resembles(0, b"a")],
    "a hint after a segment": [Open(0, 50), listed(0, 5), Resembles(0, b"a")],
    "a hint after the end of its stream": [Open(0, 50), CLOSE, Resembles(0, b"a")],
    "a hint that leads elsewhere": [Open(0, 50), Resembles(0, b"../a")],
    "an absolute hint": [Open(0, 50), Resembles(0, b"/etc/passwd")],
    "pieces of no segment": [Open(0, 50), pieces(0, [], 0)],
    "pieces that nobody asked for": [Open(0, 50), listed(0, 5), pieces(0, [], 1)],
    "pieces where chunks were needed": [Open(0, 50), listed(0, 5), needs(0, [True], 5), pieces(0, [], 1)],
    "chunks where pieces were asked for": [*REFINED, ChunkData(0, 2100)],
    "a list of chunks where pieces were asked for": [*REFINED, listed(0, 1500, -MIN_ZERO_RUN, 600)],
    "pieces twice": [*REFINED, pieces(0, [300, 300], 5), pieces(0, [300, 300], 5)],
    "chunks before it is said which pieces": [*REFINED, pieces(0, [300, 300], 5), ChunkData(0, 2100)],
    "pieces again after the chunks": [
        *REFINED,
        pieces(0, [300, 300], 5),
        ALL_NEEDED,
        ChunkData(0, 2100),
        pieces(0, [300, 300], 5),
    ],
    "more chunks than pieces were needed": [*REFINED, pieces(0, [300, 300], 5), ONE_NEEDED, ChunkData(0, 2100)],
    "fewer chunks than pieces were needed": [*REFINED, pieces(0, [300, 300], 5), ONE_NEEDED, ChunkData(0, 511)],
    "a digest too many": [*REFINED, pieces(0, [300, 300], 6)],
    "a digest too few": [*REFINED, pieces(0, [300, 300], 4)],
    "half a digest": [*REFINED, Pieces(0, struct.pack("<2H", 300, 300), bytes(PIECE_DIGEST * 5 - 1))],
    "pieces cut off": [*REFINED, Pieces(0, b"\0" * 3, bytes(PIECE_DIGEST * 5))],
    "no pieces at all": [*REFINED, pieces(0, [], 0)],
    "pieces that are longer than their gap": [*REFINED, pieces(0, [300, 301], 5)],
    "pieces that are shorter than their gap": [*REFINED, pieces(0, [300, 299], 5)],
    "a piece of nothing": [*REFINED, pieces(0, [300, 0, 300], 6)],
    "pieces smaller than any": [*REFINED, pieces(0, [255, 345], 5)],
    "a piece larger than any": [Open(0, 9000), listed(0, 9000), refines(0, [True], 9000, LARGE), pieces(0, [4097, 4096, 807], 3)],
    "a piece more than the gap": [*REFINED, pieces(0, [300, 300, 300], 6)],
    "lengths of a grid": [*REFINED, pieces(0, [476, 512, 512, 300, 300], 5)],
    "the same pieces where others were asked for": [*REFINED, pieces(0, [300, 300], 5), AGAIN, pieces(0, [300, 300], 5)],
    "chunks where pieces were asked for again": [*REFINED, pieces(0, [300, 300], 5), AGAIN, ChunkData(0, 2100)],
    "rows cut off": [Open(0, 50), Chunks(0, bytes(21))],
    "lengths cut off": [Open(0, 50), SegmentData(0, bytes(5), 5)],
    "rows that do not add up": [Open(0, 50), SegmentData(0, struct.pack("<I", 5), 6)],
    "the end in a stream": [Open(0, 5), FINISH],
    "the end with another number of pages": [page(0), b"x", FINISH],
    "the end where data was announced": [page(0), Finish(1, bytes(32), b"", b"", b"", 1)],
    "the end twice": [FINISH, FINISH],
    "a page after the end": [FINISH, page(0)],
    "a stream after the end": [FINISH, Open(0, 5)],
    "data after the end": [FINISH, b"x"],
    "a failure after the end": [FINISH, Failure("x", "x", None)],
}
LIMITS: dict[str, list[Step]] = {
    "a stream longer than announced": [Open(0, 4), whole(0, 5)],
    "a stream longer than announced, listed": [Open(0, 4), listed(0, 5)],
    "a stream longer than announced, named": [Open(0, 4), SegmentOffer(0, DIGEST, 5, b"")],
    "a stream longer than announced, in steps": [Open(0, 9), whole(0, 5), b"fives", SegmentOffer(1, DIGEST, 5, b"")],
    "a stream of zeros longer than announced": [Open(0, MIN_ZERO_RUN - 1), whole(0, -MIN_ZERO_RUN)],
    "an empty stream that is not": [Open(0, 0), listed(0, 1)],
    "a named segment that is longer": [Open(0, 50), SegmentOffer(0, DIGEST, 5, b""), knows_segment(0, known=False), listed(0, 6)],
    "a named segment that is shorter": [
        Open(0, 50),
        SegmentOffer(0, DIGEST, 5, b""),
        knows_segment(0, known=False),
        listed(0, 4),
    ],
    "a named segment of zeros": [
        Open(0, BIG),
        SegmentOffer(0, DIGEST, 5, b""),
        knows_segment(0, known=False),
        listed(0, -MAX_ZERO_EXTENT),
    ],
    "a known segment that was longer": [
        Open(0, BIG),
        SegmentOffer(0, DIGEST, 5, b""),
        knows_segment(0, known=True),
        ask_again(0),
        listed(0, -MAX_ZERO_EXTENT),
    ],
    "a chunk of nothing": [Open(0, BIG), SegmentData(0, bytes(4), 0)],
    "a chunk of nothing, listed": [Open(0, BIG), Chunks(0, bytes(4) + DIGEST)],
    "a run of no zeros": [Open(0, BIG), SegmentData(0, struct.pack("<I", ZERO_BIT), 0)],
    "a run of no zeros, listed": [Open(0, BIG), Chunks(0, bytes(20))],
    "a chunk that is too long": [Open(0, BIG), whole(0, MAX_CHUNK + 1)],
    "a chunk that is too long, listed": [Open(0, BIG), listed(0, MAX_CHUNK + 1)],
    "a run of zeros that is too long": [Open(0, BIG), whole(0, -MAX_ZERO_EXTENT - 1)],
    "a run of zeros that is too long, listed": [Open(0, BIG), listed(0, -MAX_ZERO_EXTENT - 1)],
    "a small chunk before another": [Open(0, BIG), whole(0, MIN_CHUNK - 1, MIN_CHUNK)],
    "a small chunk before another, listed": [Open(0, BIG), listed(0, MIN_CHUNK - 1, MIN_CHUNK)],
    "a short run of zeros after a chunk": [Open(0, BIG), whole(0, 5, 1 - MIN_ZERO_RUN)],
    "a short run of zeros after a chunk, listed": [Open(0, BIG), listed(0, 5, 1 - MIN_ZERO_RUN)],
    "a segment that is too long, listed": [Open(0, BIG), listed(0, *[MAX_CHUNK] * 17)],
    "half a tebibyte of zeros": [Open(0, BIG), whole(0, *[-MAX_ZERO_EXTENT] * 512)],
}


@pytest.mark.parametrize("case", OUT_OF_ORDER)
def test_what_is_out_of_order_is_refused(case: str) -> None:
    receiver = Receiver()
    play(receiver, *OUT_OF_ORDER[case][:-1])
    with pytest.raises(PeerError):
        play(receiver, OUT_OF_ORDER[case][-1])


@pytest.mark.parametrize("case", LIMITS)
def test_what_is_out_of_bounds_is_refused(case: str) -> None:
    receiver = Receiver()
    play(receiver, *LIMITS[case][:-1])
    with pytest.raises(LimitExceededError):
        play(receiver, LIMITS[case][-1])


def test_a_segment_that_is_too_long_is_refused() -> None:
    with pytest.raises(PeerError):
        play(Receiver(), Open(0, BIG), whole(0, *[MAX_CHUNK] * (MAX_SEGMENT // MAX_CHUNK), 1))


@pytest.mark.parametrize(
    "message",
    [
        Hello([1], "x", "push", b"", "x", 0),
        Begin(b"", b"", read_back=False, resumes=False, seen=0, vault_seen=0),
        PageAnswer(0, known=True),
        Want(0, 0, b""),
        PagesStored(0),
        SegmentAnswer(0, known=True),
        Need(0, 0, b"", b""),
        SegmentsStored(0),
        Status("syncing", 0, 0),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_of_another_time_or_of_this_end_is_refused(message: Message) -> None:
    with pytest.raises(ProtocolError):
        play(Receiver(), message)


@pytest.mark.parametrize("number", [0, 3, 99, 255])
def test_an_unknown_type_is_refused(number: int) -> None:
    with pytest.raises(ProtocolError):
        list(Receiver().receive(number, memoryview(b"")))


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\0\0\0\5four", b"\1\0\0\0\4four", b"\7\0\0\0\4four"])
def test_malformed_data_is_refused(body: bytes) -> None:
    receiver = Receiver()
    play(receiver, page(0, 4))
    with pytest.raises(PeerError):
        list(receiver.receive(DATA_FRAME, memoryview(body)))


def test_the_peers_failure_is_raised_as_its_error() -> None:
    with pytest.raises(NoSpaceError, match="full"):
        play(Receiver(), Failure("no-space", "full", "hint"))
    with pytest.raises(EvidenceSyncError) as caught:
        play(Receiver(), Failure("nonsense", "\x1b", None))
    assert isinstance(caught.value, PeerError)
    assert caught.value.message == "\\x1b"


# What is in order.


def test_pages_and_their_files() -> None:
    receiver = Receiver()
    events = play(
        receiver,
        page(0, 6), b"lines\n",
        PageOffer(1, DIGEST), knows_page(1, known=True),
        PageOffer(2, DIGEST), knows_page(2, known=False), page(2, 2, with_files=True), b"x\n",
        Files(2, 2, b"\3", 5), b"abcde",
        wants(1, [False, True, True]), Files(1, 3, b"\6", 2), b"fg",
        wants(1, [True, False, False]), Files(1, 3, b"\1", 0),
        pages_stored(3),
        Finish(1, bytes(32), b"", b"", b"", 3),
    )  # fmt: skip
    assert [event if not isinstance(event, FilesArrived) else (event.page, event.present) for event in events[:-1]] == [
        PageArrived(0, b"lines\n", with_files=False),
        PageNamed(1, ChunkDigest(DIGEST)),
        PageNamed(2, ChunkDigest(DIGEST)),
        PageArrived(2, b"x\n", with_files=True),
        (2, [True, True]),
        (1, [False, True, True]),
        (1, [True, False, False]),
    ]
    assert isinstance(events[-1], FinishRequested)
    assert said(receiver) == [
        PageAnswer(1, known=True),
        PageAnswer(2, known=False),
        Want(1, 3, b"\6"),
        Want(1, 3, b"\1"),
        PagesStored(3),
    ]


def test_content_that_arrives_is_counted_and_lines_are_not() -> None:
    receiver = Receiver()
    play(receiver, page(0, 10, with_files=True), b"0123456789")
    assert receiver.content_bytes(5) == 0  # what comes now is no data
    play(receiver, Files(0, 1, b"\1", 3))
    assert receiver.content_bytes(2) == 2
    play(receiver, b"abc")
    assert receiver.content_bytes(0) == 3


def test_streams_and_their_segments() -> None:
    receiver = Receiver()
    events = play(
        receiver,
        Open(0, BIG),
        whole(0, 5, -MIN_ZERO_RUN, 3), b"fiveschk"[:8],
        whole(1, -MIN_ZERO_RUN),
        SegmentOffer(2, DIGEST, 9, b""), knows_segment(2, known=True),
        SegmentOffer(3, DIGEST, 9, b""), knows_segment(3, known=False), listed(3, 9), needs(3, [True], 9),
        ChunkData(3, 9), b"nine byte",
        listed(4, 5, -MIN_ZERO_RUN), needs(4, [False, False], 0), ChunkData(4, 0),
        Close(0, 7, b"\2" * 32),
        Open(1, 0),
        Close(1, 0, b"\3" * 32),
        ask_again(2), listed(2, 9), needs(2, [True], 9), ChunkData(2, 9), b"nine byte",
        needs(4, [True, False], 5), ChunkData(4, 5), b"fives",
        segments_stored(5),
        FINISH,
    )  # fmt: skip
    shown = [
        (type(event), event.number, [bytes(block) for block in event.blocks])
        if isinstance(event, SegmentArrived | ChunksArrived)
        else type(event)
        for event in events
    ]
    nine = [b"nine byte"]
    assert shown == [
        StreamOpened, (SegmentArrived, 0, [b"fiveschk"]), (SegmentArrived, 1, []), SegmentNamed, SegmentNamed, ChunksListed,
        (ChunksArrived, 3, nine), ChunksListed, (ChunksArrived, 4, []), StreamClosed, StreamOpened, StreamClosed,
        ChunksListed, (ChunksArrived, 2, nine), (ChunksArrived, 4, [b"fives"]), FinishRequested,
    ]  # fmt: skip
    first = events[1]
    assert isinstance(first, SegmentArrived)
    assert first.lengths == [5, -MIN_ZERO_RUN, 3]
    last = events[7]
    assert isinstance(last, ChunksListed)
    assert last.rows == [Row(5, ChunkDigest(DIGEST)), Row(MIN_ZERO_RUN, ZERO_DIGEST)]


@pytest.mark.parametrize(
    "lengths",
    [
        [1],
        [MIN_CHUNK, 1],
        [1, -MIN_ZERO_RUN, 1],
        [-5],  # goes on with the run that the segment before ended in
        [-5, 1],
        [-MAX_ZERO_EXTENT, -5],
        [MAX_CHUNK] * 16,
        [MIN_CHUNK] * 256,
        [1, -MIN_ZERO_RUN] * 256,
    ],
    ids=lambda lengths: repr(lengths)[:30],
)
def test_rows_as_a_sender_cuts_them_are_taken(lengths: list[int]) -> None:
    assert play(Receiver(), Open(0, BIG), listed(0, *lengths))
    receiver = Receiver()
    play(receiver, Open(0, BIG), whole(0, *lengths))


def test_pieces_of_gaps_and_what_is_lacked_of_them() -> None:
    receiver = Receiver()
    named = Pieces(0, struct.pack("<2H", 256, 344), b"aaaabbbbccccddddeeee")
    events = play(
        receiver, *REFINED, named, AGAIN,
        Pieces(0, struct.pack("<2H", 700, 800), b"ffffgggg"), needs_pieces(0, [True, False], 800, [False]),
        ChunkData(0, 1300), bytes(1300), segments_stored(1),
    )  # fmt: skip
    assert events[2:] == [
        PiecesListed(0, [[476, 512, 512], [256, 344]], [b"aaaabbbbcccc", b"ddddeeee"]),
        PiecesListed(0, [[700, 800]], [b"ffffgggg"]),
        ChunksArrived(0, [memoryview(bytes(1300))]),
    ]
    assert said(receiver) == [
        Need(0, 3, b"\5", struct.pack("<6H", 0, 1, 476, 2, 1, 65535)),
        NeedPieces(0, 5, b"\x18", b"\1"),
        NeedPieces(0, 2, b"\1", b"\0"),
        SegmentsStored(1),
    ]


# Windows.


def test_no_more_pages_are_open_than_a_sender_may_have() -> None:
    receiver = Receiver()
    play(receiver, *(PageOffer(number, DIGEST) for number in range(MAX_OPEN_PAGES)))
    with pytest.raises(LimitExceededError):
        play(receiver, PageOffer(MAX_OPEN_PAGES, DIGEST))


def test_pages_that_are_stored_make_room() -> None:
    receiver = Receiver()
    for number in range(3 * MAX_OPEN_PAGES):
        play(receiver, page(number, MAX_PAGE), bytes(MAX_PAGE), pages_stored(number + 1))


def test_no_more_segments_are_open_than_a_sender_may_have() -> None:
    receiver = Receiver()
    play(receiver, Open(0, BIG), *(SegmentOffer(number, DIGEST, 1, b"") for number in range(MAX_OPEN_SEGMENTS)))
    with pytest.raises(LimitExceededError):
        play(receiver, SegmentOffer(MAX_OPEN_SEGMENTS, DIGEST, 1, b""))


def test_rows_are_bounded_however_they_become_known() -> None:
    ways: list[Callable[[int], list[Step]]] = [
        lambda number: [listed(number, *[5, -MIN_ZERO_RUN] * 256)],
        lambda number: [whole(number, *[5, -MIN_ZERO_RUN] * 256), bytes(5 * 256)],
        lambda number: [SegmentOffer(number, DIGEST, 5, b""), knows_segment(number, known=True, rows=512)],
    ]
    for way in ways:
        receiver = Receiver()
        play(receiver, Open(0, BIG))
        for number in range(MAX_OPEN_ROWS // 512 + 1):
            play(receiver, *way(number))
        with pytest.raises(LimitExceededError):
            play(receiver, *way(MAX_OPEN_ROWS // 512 + 1))


def test_rows_of_stored_segments_make_room() -> None:
    receiver = Receiver()
    play(receiver, Open(0, BIG))
    for number in range(3 * MAX_OPEN_ROWS // 512):
        play(receiver, listed(number, *[5, -MIN_ZERO_RUN] * 256), segments_stored(number + 1))


def test_bytes_are_bounded_by_the_window() -> None:
    receiver = Receiver()
    play(receiver, Open(0, BIG))
    fits = WINDOW // (2 * MAX_CHUNK)
    for number in range(fits):
        play(receiver, whole(number, MAX_CHUNK, MAX_CHUNK), bytes(2 * MAX_CHUNK))
    more = [whole(number, MAX_CHUNK, MAX_CHUNK) for number in range(fits, 2 * fits)]
    with pytest.raises(LimitExceededError):
        play(receiver, *(step for head in more for step in (head, bytes(2 * MAX_CHUNK))))


def test_bytes_that_are_compared_in_pieces_count_like_those_that_come() -> None:
    """They bound how many pieces there can be; a sender has them all in its window."""
    receiver = Receiver()
    play(receiver, Open(0, BIG))
    size = MAX_SEGMENT
    gap = Gap(0, size // MAX_CHUNK, size, 0)
    steps = [
        step
        for number in range(40)
        for step in (listed(number, *[MAX_CHUNK] * gap.count), refines(number, [True] * gap.count, size, gap))
    ]
    fits = 2 * WINDOW // size
    play(receiver, *steps[:fits])
    with pytest.raises(LimitExceededError):
        play(receiver, *steps[fits:])


def test_bytes_of_stored_segments_make_room() -> None:
    receiver = Receiver()
    play(receiver, Open(0, BIG))
    block = bytes(MIB // 2)
    for number in range(400):
        play(receiver, whole(number, MAX_CHUNK, MAX_CHUNK), block, segments_stored(number + 1))


def test_announced_bytes_count_before_they_come() -> None:
    receiver = Receiver()
    wanted = [True] * 2
    play(receiver, page(0), b"x", wants(0, wanted), Files(0, 2, pack_bits(wanted), WINDOW))
    receiver = Receiver()
    play(receiver, page(0), b"x", page(1), b"x", wants(0, wanted), wants(1, wanted))
    play(receiver, Files(0, 2, pack_bits(wanted), MAX_DATA), bytes(MAX_DATA))
    with pytest.raises(LimitExceededError):
        play(receiver, *[wants(0, wanted), Files(0, 2, pack_bits(wanted), MAX_DATA), bytes(MAX_DATA)] * 120)


def test_a_little_data_does_not_keep_the_large_buffer_it_came_in() -> None:
    receiver = Receiver()
    stream = frame_of(Open(0, BIG)) + frame_of(whole(0, 5)) + b"\0\0\0\x0a\x02" + data_body(b"fives") + bytes(MIB)
    decoder = FrameDecoder()
    events: list[Event] = []
    for number, body in decoder.update(PREAMBLE + stream):
        events += receiver.receive(number, body)
        if len(events) == 2:
            break
    arrived = events[1]
    assert isinstance(arrived, SegmentArrived)
    assert memoryview(arrived.blocks[0].obj).nbytes == 5


# Taking data apart.


@pytest.mark.parametrize(
    ("blocks", "sizes"),
    [
        ([], []),
        ([b"abc"], [3]),
        ([b"abc"], [1, 2]),
        ([b"abc", b"de"], [1, 2, 2]),
        ([b"a", b"b", b"c"], [1, 1, 1]),
    ],
)
def test_parts_come_out_of_frames_in_order(blocks: list[bytes], sizes: list[int]) -> None:
    parts = list(split_blocks([memoryview(block) for block in blocks], sizes))
    assert [len(part) for part in parts] == sizes
    assert b"".join(parts) == b"".join(blocks)


@pytest.mark.parametrize(
    ("blocks", "sizes"),
    [
        ([], [1]),
        ([b"abc"], []),
        ([b"abc"], [2]),
        ([b"abc"], [4]),
        ([b"abc"], [3, 1]),
        ([b"ab", b"cd"], [3, 1]),
        ([b"ab", b"cd"], [2]),
        ([b"ab", b""], [2]),
    ],
)
def test_parts_that_do_not_fit_their_frames_are_refused(blocks: list[bytes], sizes: list[int]) -> None:
    with pytest.raises(ProtocolError):
        list(split_blocks([memoryview(block) for block in blocks], sizes))
