"""The sending end: what goes out first, what is held until it is stored, and what a vault may not answer."""

from __future__ import annotations

import random
import struct

import pytest

from evidencesync.delta.chunker import Segment
from evidencesync.delta.refine import cut_pieces, piece_digests
from evidencesync.delta.rows import segment_digest
from evidencesync.errors import ProtocolError
from evidencesync.evidence.digest import blake3_of, chunk_digest_of
from evidencesync.limits import (
    MAX_CHUNK,
    MAX_OPEN_PAGES,
    MAX_OPEN_ROWS,
    MAX_OPEN_SEGMENTS,
    MAX_ZERO_EXTENT,
    MEAN_CHUNK,
    MIN_ZERO_RUN,
    WINDOW,
)
from evidencesync.protocol.data_frames import MAX_DATA, DataDecoder
from evidencesync.protocol.framing import DATA_FRAME, FrameDecoder, decode_message
from evidencesync.protocol.messages import (
    PREAMBLE,
    ChunkData,
    Chunks,
    Close,
    Files,
    Kept,
    KeptLost,
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
    Resumed,
    SegmentAnswer,
    SegmentData,
    SegmentOffer,
    SegmentsStored,
    Want,
)
from evidencesync.protocol.packing import ZERO_BIT, pack_bits
from evidencesync.protocol.pages import ContentNotRead
from evidencesync.protocol.sender import Sender


def new_sender(*, knows_nothing: bool = False, has_previous: bool = True) -> Sender:
    return Sender(
        knows_nothing=knows_nothing,
        has_previous=has_previous,
        piece_key=bytes(32),
        compress="never",
        clock=lambda: 0.0,
    )


def sent(sender: Sender) -> list[Message | bytes]:
    """What goes out: messages, and data as bytes."""
    decoder = DataDecoder()
    return [
        bytes(decoder.decode(body)) if number == DATA_FRAME else decode_message(number, body)
        for number, body in FrameDecoder().update(PREAMBLE + b"".join(sender.take_output()))
    ]


def segment_of(*parts: bytes | int) -> Segment:
    """Chunks as bytes, runs of zeros as numbers."""
    lengths = [part if isinstance(part, int) else len(part) for part in parts]
    chunks = [None if isinstance(part, int) else memoryview(part) for part in parts]
    return Segment(lengths, chunks, sum(len(part) for part in parts if isinstance(part, bytes)))


ONE, TWO = b"1" * 20_000, b"2" * 30_000
MIXED = segment_of(ONE, MIN_ZERO_RUN, TWO)


def test_a_page_that_may_be_known_is_named_first() -> None:
    sender = new_sender()
    sender.add_page(b"lines\n", [b"a"])
    assert sent(sender) == [PageOffer(0, chunk_digest_of(b"lines\n"))]
    sender.receive(PageAnswer(0, known=False))
    assert sent(sender) == [Page(0, 6, with_files=False, proofs=b""), b"lines\n"]
    sender.receive(Want(0, 1, b"\1"))
    assert sent(sender) == [Files(0, 1, b"\1", 1), b"a"]
    sender.receive(PagesStored(1))
    assert sender.all_stored


def test_a_page_that_is_known_is_not_sent_but_its_files_may_be() -> None:
    sender = new_sender()
    sender.add_page(b"lines\n", [b"a", b"bc", b"d"])
    sent(sender)
    sender.receive(PageAnswer(0, known=True))
    assert sent(sender) == []
    sender.receive(Want(0, 3, b"\5"))
    assert sent(sender) == [Files(0, 3, b"\5", 2), b"ad"]


def test_a_vault_that_knows_nothing_gets_everything_at_once() -> None:
    sender = new_sender(knows_nothing=True, has_previous=False)
    sender.add_page(b"lines\n", [b"a", b"b"])
    sender.open_stream(len(ONE) + MIN_ZERO_RUN + len(TWO))
    sender.add_segment(MIXED)
    sender.close_stream(5, blake3_of(b"x"))
    sender.add_page(b"empty\n", [])
    lengths = struct.pack("<III", len(ONE), ZERO_BIT | MIN_ZERO_RUN, len(TWO))
    assert sent(sender) == [
        Page(0, 6, with_files=True, proofs=b""), b"lines\n", Files(0, 2, b"\3", 2), b"ab",
        Open(0, len(ONE) + MIN_ZERO_RUN + len(TWO)),
        SegmentData(0, lengths, len(ONE) + len(TWO)), ONE + TWO,
        Close(0, 5, blake3_of(b"x")),
        Page(1, 6, with_files=False, proofs=b""), b"empty\n",
    ]  # fmt: skip
    assert (sender.counts.literal_bytes, sender.counts.zero_bytes) == (len(ONE) + len(TWO) + 2, MIN_ZERO_RUN)


def test_contents_with_equal_ends_are_asked_about_and_each_is_sent_where_the_vault_lacks_it() -> None:
    sender = new_sender(knows_nothing=True, has_previous=False)
    one, other = bytes(4000), bytes(2000) + b"x" + bytes(1999)
    for number, content in enumerate((one, other)):
        sender.add_page(b"lines\n", [content])
        asked = bool(number)
        files = [] if asked else [Files(number, 1, b"\1", 4000), content]
        assert sent(sender) == [Page(number, 6, with_files=not asked, proofs=b""), b"lines\n", *files]
    sender.receive(Want(1, 1, b"\1"))
    assert sent(sender) == [Files(1, 1, b"\1", 4000), other]
    sender.add_page(b"lines\n", [bytes(4001)])  # another length is another content
    assert sent(sender)[-1] == bytes(4001)


def test_a_segment_is_named_then_listed_then_sent_as_far_as_it_is_needed() -> None:
    sender = new_sender()
    sender.add_segment(MIXED)
    rows = MIXED.rows()
    assert sent(sender) == [SegmentOffer(0, segment_digest(rows), MIXED.total_bytes, b"")]
    sender.receive(SegmentAnswer(0, known=False))
    packed = b"".join(struct.pack("<I16s", row.length, row.digest) for row in rows)
    assert sent(sender) == [Chunks(0, packed)]
    sender.receive(Need(0, 3, b"\4", b""))
    assert sent(sender) == [ChunkData(0, len(TWO)), TWO]
    sender.receive(Need(0, 3, b"\1", b""))
    assert sent(sender) == [ChunkData(0, len(ONE)), ONE]
    sender.receive(Need(0, 3, b"\0", b""))
    assert sent(sender) == [ChunkData(0, 0)]
    sender.receive(SegmentsStored(1))
    assert sender.all_stored


def test_a_stream_names_its_file_where_there_is_an_acquisition_before() -> None:
    sender = new_sender()
    sender.open_stream(5, b"a/b")
    assert sent(sender) == [Open(0, 5), Resembles(0, b"a/b")]
    sender = new_sender(has_previous=False)
    sender.open_stream(5, b"a/b")
    assert sent(sender) == [Open(0, 5)]


def test_of_a_gap_only_the_pieces_that_are_lacked_are_sent() -> None:
    content = random.Random(1).randbytes(20_000)
    sender = new_sender()
    sender.add_segment(segment_of(content, MIN_ZERO_RUN, TWO))
    sender.receive(SegmentAnswer(0, known=False))
    sent(sender)
    sender.receive(Need(0, 3, b"\5", gaps((0, 1, 32))))
    cut = [32] + [512] * 39
    assert sent(sender) == [Pieces(0, b"", piece_digests(bytes(32), content, cut))]
    sender.receive(NeedPieces(0, 40, b"\3\0\0\0\x80", b"\0"))
    assert sent(sender) == [ChunkData(0, len(TWO) + 32 + 512 + 512), TWO + content[: 32 + 512] + content[-512:]]
    assert sender.counts.literal_bytes == len(TWO) + 1056
    sender.receive(Need(0, 3, b"\1", b""))  # what was put together was wrong
    assert sent(sender) == [ChunkData(0, len(content)), content]


def test_a_gap_may_be_cut_again_by_content() -> None:
    content = random.Random(1).randbytes(20_000)
    sender = new_sender()
    sender.add_segment(segment_of(content, MIN_ZERO_RUN, TWO))
    sender.receive(SegmentAnswer(0, known=False))
    sent(sender)
    sender.receive(Need(0, 3, b"\5", gaps((0, 1, 0), (2, 1, 0))))
    sent(sender)
    count = 40 + 59
    sender.receive(NeedPieces(0, count, (1 << 98).to_bytes(13, "little"), b"\1"))
    cut = cut_pieces(content, None)
    digests = piece_digests(bytes(32), content, cut)
    assert sent(sender) == [Pieces(0, struct.pack(f"<{len(cut)}H", *cut), digests)]
    sender.receive(NeedPieces(0, len(cut), pack_bits([number == 1 for number in range(len(cut))]), b"\0"))
    last = len(TWO) - 58 * 512
    wanted = content[cut[0] : cut[0] + cut[1]] + TWO[-last:]
    assert sent(sender) == [ChunkData(0, len(wanted)), wanted]


def test_a_vault_may_find_out_that_it_does_not_have_a_segment_after_all() -> None:
    sender = new_sender()
    sender.add_segment(MIXED)
    sender.receive(SegmentAnswer(0, known=True))
    sent(sender)
    sender.receive(SegmentAnswer(0, known=False))
    assert [type(message) for message in sent(sender)] == [Chunks]


def test_data_is_never_cut_within_a_part() -> None:
    sender = new_sender(knows_nothing=True)
    parts = [random.Random(size).randbytes(size) for size in (MAX_CHUNK, 200_000, MAX_CHUNK, 100_000, MAX_CHUNK, 16_384)]
    sender.add_segment(segment_of(*parts))
    _, *blocks = sent(sender)
    assert b"".join(block for block in blocks if isinstance(block, bytes)) == b"".join(parts)
    assert [len(block) for block in blocks if isinstance(block, bytes)] == [2 * MAX_CHUNK + 300_000, MAX_CHUNK + 16_384]
    assert 2 * MAX_CHUNK + 300_000 <= MAX_DATA


def test_a_little_that_is_new_among_zeros_does_not_end_asking() -> None:
    sender = new_sender()
    for number in range(20):
        sender.add_segment(segment_of(MIN_ZERO_RUN, b"new" * 1000, MIN_ZERO_RUN))
        assert not any(isinstance(message, SegmentData) for message in sent(sender))
        sender.receive(SegmentAnswer(number, known=False))
        sender.receive(Need(number, 3, b"\2", b""))
        sent(sender)


def test_answers_that_come_late_tell_nothing_of_the_content_that_has_begun_since() -> None:
    sender = new_sender()
    sender.open_stream(6 * len(ONE))
    for number in range(6):
        sender.add_segment(segment_of(random.Random(number).randbytes(MEAN_CHUNK)))
    sender.close_stream(6 * MEAN_CHUNK, blake3_of(b"x"))
    sender.open_stream(2 * len(TWO))
    sender.add_segment(segment_of(random.Random(6).randbytes(MEAN_CHUNK)))
    for number in range(6):
        sender.receive(SegmentAnswer(number, known=False))
        sender.receive(Need(number, 1, b"\1", b""))
    sent(sender)
    sender.add_segment(segment_of(random.Random(7).randbytes(MEAN_CHUNK)))
    assert not any(isinstance(message, SegmentData) for message in sent(sender))


def test_known_files_end_eager_sending() -> None:
    """A vault says nothing when it lacks nothing; that, too, is an answer."""
    sender = new_sender(has_previous=False)
    for number in range(8):  # new files, until it is no use to ask
        sender.add_page(b"%d\n" % number, [b"x"])
        if Files not in map(type, sent(sender)):
            sender.receive(Want(number, 1, b"\1"))
        sender.receive(PagesStored(number + 1))
    eager = 0
    for number in range(8, 108):  # from here on the vault has them all
        sender.add_page(b"%d\n" % number, [b"x"])
        eager += any(isinstance(message, Files) for message in sent(sender))
        sender.receive(PagesStored(number + 1))
    assert eager < 20


# The window.


def test_bytes_that_are_not_stored_fill_the_window() -> None:
    sender = new_sender()
    big = bytes(1) * MAX_CHUNK
    count = 0
    while sender.has_room:
        sender.add_segment(segment_of(*[big] * 16))
        count += 1
    assert count == WINDOW // (16 * MAX_CHUNK)
    sender.receive(SegmentsStored(1))
    assert sender.has_room


def test_pages_and_their_contents_fill_the_window() -> None:
    sender = new_sender()
    while sender.has_room:
        sender.add_page(b"x\n", [bytes(10 << 20)])
    assert sender.pages_sent == 7
    sender.receive(PagesStored(1))
    assert sender.has_room


def test_no_more_than_so_many_pages_are_open() -> None:
    sender = new_sender()
    while sender.has_room:
        sender.add_page(b"x\n", [])
    assert sender.pages_sent == MAX_OPEN_PAGES


def test_no_more_than_so_many_segments_are_open() -> None:
    sender = new_sender()
    count = 0
    while sender.has_room:
        sender.add_segment(segment_of(b"x"))
        count += 1
    assert count == MAX_OPEN_SEGMENTS


def test_rows_are_bounded_too() -> None:
    sender = new_sender()
    rows: list[bytes | int] = [b"x", MIN_ZERO_RUN]
    thin = segment_of(*rows * 256)
    count = 0
    while sender.has_room:
        sender.add_segment(thin)
        count += 1
    assert count == MAX_OPEN_ROWS // 512
    sender.receive(SegmentsStored(1))
    assert sender.has_room


def test_zeros_take_a_little_of_the_window() -> None:
    sender = new_sender()
    count = 0
    while sender.has_room:
        sender.add_segment(segment_of(MAX_ZERO_EXTENT))
        count += 1
        assert count < 1000
    assert 16 <= count <= 256


def test_what_is_stored_is_counted_by_where_it_came_from() -> None:
    sender = new_sender(knows_nothing=True, has_previous=False)
    sender.add_page(b"lines\n", [b"a", b"bc"])
    sender.add_segment(MIXED)
    counts = sender.counts
    assert (counts.literal_bytes, counts.stored_bytes) == (50_003, 0)
    sender.receive(SegmentsStored(1))
    assert (counts.stored_bytes, counts.acknowledged_on_link, counts.known_bytes) == (50_000, 50_000, 0)
    sender.receive(PagesStored(1))
    assert (counts.stored_bytes, counts.acknowledged_on_link, counts.known_bytes) == (50_003, 50_003, 0)


def test_what_the_vault_knew_is_not_counted_as_sent() -> None:
    sender = new_sender()
    sender.add_page(b"lines\n", [b"a", b"bc"])
    sender.add_segment(MIXED)
    sender.receive(PageAnswer(0, known=True))
    sender.receive(Want(0, 2, b"\1"))
    sender.receive(SegmentAnswer(0, known=False))
    sender.receive(Need(0, 3, b"\4", b""))
    sender.receive(SegmentsStored(1))
    sender.receive(PagesStored(1))
    counts = sender.counts
    assert (counts.acknowledged_on_link, counts.known_bytes) == (30_001, 20_002)


def test_what_was_acknowledged_on_an_earlier_link_is_told_apart() -> None:
    sender = new_sender(knows_nothing=True, has_previous=False)
    sender.add_page(b"lines\n", [b"a", b"bc"])
    sender.add_segment(MIXED)
    sender.resume(Resumed(1, 0, 0, stream_open=False, concluding=False))
    assert (sender.counts.stored_bytes, sender.counts.acknowledged_on_link) == (3, 0)


def test_what_is_sent_again_on_another_link_counts_once() -> None:
    """Else more would count as stored of what a link brought than it has brought, and nothing new would seem to come."""
    sender = new_sender(knows_nothing=True, has_previous=False)
    sender.add_page(b"lines\n", [b"a", b"bc"])
    sender.add_segment(MIXED)
    sender.resume(Resumed(0, 0, 0, stream_open=False, concluding=False))
    sender.receive(PageAnswer(0, known=False))
    sender.receive(SegmentsStored(1))
    sender.receive(PagesStored(1))
    counts = sender.counts
    assert (counts.stored_bytes, counts.acknowledged_on_link, counts.known_bytes) == (50_003, 50_003, 0)


def test_what_is_stored_is_cumulative() -> None:
    sender = new_sender()
    for _ in range(3):
        sender.add_page(b"x\n", [])
        sender.add_segment(segment_of(b"x"))
    sender.receive(PagesStored(0))
    sender.receive(PagesStored(2))
    sender.receive(PagesStored(2))
    sender.receive(SegmentsStored(3))
    assert not sender.all_stored
    sender.receive(PagesStored(3))
    assert sender.all_stored


# What a vault may not answer.


def gaps(*triples: tuple[int, int, int]) -> bytes:
    return b"".join(struct.pack("<HHH", *triple) for triple in triples)


LISTED: list[Message] = [SegmentAnswer(0, known=False)]
REFINE = Need(0, 3, b"\1", gaps((0, 1, 32)))  # a grid: 32 bytes, and 39 sectors
BY_CONTENT = Need(0, 3, b"\1", gaps((0, 1, 65_535)))

ILLEGAL: dict[str, list[Message]] = {
    "a page that is not there": [PageAnswer(1, known=True)],
    "a page twice": [PageAnswer(0, known=True), PageAnswer(0, known=True)],
    "a page lacked twice": [PageAnswer(0, known=False), PageAnswer(0, known=False)],
    "a page lacked after all": [PageAnswer(0, known=True), PageAnswer(0, known=False)],
    "a page that is stored": [PagesStored(1), PageAnswer(0, known=True)],
    "files of no page": [Want(1, 2, b"\1")],
    "files of a stored page": [PagesStored(1), Want(0, 2, b"\1")],
    "more files than a page has": [Want(0, 3, b"\1")],
    "fewer files than a page has": [Want(0, 1, b"\1")],
    "bits beyond the last file": [Want(0, 2, b"\4")],
    "a bitmap that is too long": [Want(0, 2, b"\1\0")],
    "a bitmap that is too short": [Want(0, 2, b"")],
    "pages stored that were not sent": [PagesStored(2)],
    "pages stored backwards": [PagesStored(1), PagesStored(0)],
    "a segment that is not there": [SegmentAnswer(1, known=True)],
    "a segment known twice": [SegmentAnswer(0, known=True), SegmentAnswer(0, known=True)],
    "a segment lacked twice": [SegmentAnswer(0, known=False), SegmentAnswer(0, known=False)],
    "a segment known after it was listed": [SegmentAnswer(0, known=False), SegmentAnswer(0, known=True)],
    "a segment that is stored": [SegmentsStored(1), SegmentAnswer(0, known=False)],
    "chunks of no segment": [Need(1, 3, b"\1", b"")],
    "chunks of a stored segment": [SegmentsStored(1), Need(0, 3, b"\1", b"")],
    "more chunks than a segment has": [SegmentAnswer(0, known=False), Need(0, 4, b"\1", b"")],
    "fewer chunks than a segment has": [SegmentAnswer(0, known=False), Need(0, 2, b"\1", b"")],
    "a run of zeros": [SegmentAnswer(0, known=False), Need(0, 3, b"\2", b"")],
    "bits beyond the last chunk": [SegmentAnswer(0, known=False), Need(0, 3, b"\x08", b"")],
    "a gap without chunks": [*LISTED, Need(0, 3, b"\5", gaps((0, 0, 0)))],
    "a gap of a run of zeros": [*LISTED, Need(0, 3, b"\5", gaps((0, 2, 0)))],
    "a gap of chunks that are not needed": [*LISTED, Need(0, 3, b"\1", gaps((2, 1, 0)))],
    "a gap beyond the segment": [*LISTED, Need(0, 3, b"\4", gaps((2, 2, 0)))],
    "a gap far beyond the segment": [*LISTED, Need(0, 3, b"\4", gaps((60_000, 1, 0)))],
    "gaps out of order": [*LISTED, Need(0, 3, b"\5", gaps((2, 1, 0), (0, 1, 0)))],
    "a gap twice": [*LISTED, Need(0, 3, b"\5", gaps((0, 1, 0), (0, 1, 0)))],
    "a gap with an impossible first piece": [*LISTED, Need(0, 3, b"\5", gaps((0, 1, 512)))],
    "gaps cut off": [*LISTED, Need(0, 3, b"\5", bytes(5))],
    "pieces that were not named": [*LISTED, NeedPieces(0, 0, b"", b"")],
    "pieces of no segment": [NeedPieces(1, 0, b"", b"")],
    "pieces of a segment that was sent whole": [*LISTED, Need(0, 3, b"\1", b""), NeedPieces(0, 0, b"", b"")],
    "chunks while pieces are open": [*LISTED, REFINE, Need(0, 3, b"\1", b"")],
    "gaps while pieces are open": [*LISTED, REFINE, REFINE],
    "gaps a second time": [*LISTED, REFINE, NeedPieces(0, 40, bytes(5), b"\0"), REFINE],
    "fewer pieces than were named": [*LISTED, REFINE, NeedPieces(0, 39, bytes(5), b"\0")],
    "more pieces than were named": [*LISTED, REFINE, NeedPieces(0, 41, bytes(6), b"\0")],
    "bits beyond the last piece": [*LISTED, REFINE, NeedPieces(0, 40, bytes(6), b"\0")],
    "more gaps than there are, again": [*LISTED, REFINE, NeedPieces(0, 40, bytes(5), b"\2")],
    "no word on what is cut again": [*LISTED, REFINE, NeedPieces(0, 40, bytes(5), b"")],
    "pieces of a gap that is cut again": [*LISTED, REFINE, NeedPieces(0, 40, b"\1\0\0\0\0", b"\1")],
    "a gap cut by content again": [*LISTED, BY_CONTENT, NeedPieces(0, 5, b"\0", b"\1")],
    "pieces twice": [*LISTED, REFINE, NeedPieces(0, 40, bytes(5), b"\0"), NeedPieces(0, 40, bytes(5), b"\0")],
    "pieces of a stored segment": [*LISTED, REFINE, SegmentsStored(1), NeedPieces(0, 40, bytes(5), b"\0")],
    "segments stored that were not sent": [SegmentsStored(2)],
    "segments stored backwards": [SegmentsStored(1), SegmentsStored(0)],
    "a message of this end": [Page(0, 1, with_files=False, proofs=b"")],
    "an end of this end": [Close(0, 0, bytes(32))],
}


@pytest.mark.parametrize("case", ILLEGAL)
def test_an_answer_that_answers_nothing_is_refused(case: str) -> None:
    sender = new_sender()
    sender.add_page(b"lines\n", [b"a", b"b"])
    sender.add_segment(MIXED)
    for message in ILLEGAL[case][:-1]:
        sender.receive(message)
    with pytest.raises(ProtocolError):
        sender.receive(ILLEGAL[case][-1])


# --- What was not read ---------------------------------------------------------------------------------------------------

DIGEST = blake3_of(b"a large file")
SIZE = 1 << 20


def test_a_page_with_a_content_that_was_not_read_is_never_sent_with_its_files() -> None:
    sender = new_sender(knows_nothing=True, has_previous=False)
    sender.add_page(b"lines\n", [b"a", 7])
    assert sent(sender) == [Page(0, 6, with_files=False, proofs=b""), b"lines\n"]
    sender.receive(Want(0, 2, pack_bits([True, False])))
    assert sent(sender) == [Files(0, 2, pack_bits([True, False]), 1), b"a"]
    with pytest.raises(ContentNotRead):
        sender.receive(Want(0, 2, pack_bits([False, True])))


def test_a_kept_file_is_one_message_and_comes_again_until_its_page_is_stored() -> None:
    sender = new_sender()
    sender.keep_stream(SIZE, DIGEST, b"a")
    sender.keep_stream(SIZE, DIGEST, b"b")
    sender.add_page(b"lines\n", [])
    kept = [Kept(0, SIZE, DIGEST, b"a"), Kept(1, SIZE, DIGEST, b"b")]
    assert sent(sender)[:2] == kept
    sender.resume(Resumed(0, 0, 1, stream_open=False, concluding=False))
    assert kept[0] not in sent(sender)
    sender.resume(Resumed(0, 0, 0, stream_open=False, concluding=False))
    assert sent(sender)[:2] == kept
    sender.resume(Resumed(1, 0, 2, stream_open=False, concluding=False))
    assert sent(sender) == []
    assert sender.counts.stored_bytes == 2 * SIZE


def test_a_vault_may_lack_only_what_was_kept_and_is_not_stored() -> None:
    sender = new_sender()
    sender.keep_stream(SIZE, DIGEST, b"a")
    sender.open_stream(SIZE)
    with pytest.raises(ProtocolError):
        sender.receive(KeptLost(1))
    with pytest.raises(ContentNotRead):
        sender.receive(KeptLost(0))
    sender.close_stream(SIZE, DIGEST)
    sender.add_page(b"lines\n", [])
    sender.receive(PageAnswer(0, known=True))
    sender.receive(PagesStored(1))
    with pytest.raises(ProtocolError):
        sender.receive(KeptLost(0))


def test_many_kept_files_wait_for_pages_to_be_stored() -> None:
    sender = new_sender()
    for number in range(MAX_OPEN_SEGMENTS):
        assert sender.has_room
        sender.keep_stream(SIZE, DIGEST, b"%06d" % number)
    assert not sender.has_room


def test_the_memory_of_what_was_sent_does_not_grow_with_kept_files_behind_a_stream_that_is_not_stored() -> None:
    sender = new_sender()
    sender.open_stream(SIZE)
    sender.add_segment(MIXED)
    sender.close_stream(SIZE, DIGEST)
    sender.receive(SegmentsStored(1))
    for number in range(5000):
        sender.keep_stream(SIZE, DIGEST, b"%06d" % number)
        sender.add_page(b"lines\n", [])
        sender.receive(PageAnswer(number, known=True))
        sender.receive(PagesStored(number + 1))
    assert len(sender._log._sent) < 2100
    sender.take_output()
    sender.resume(Resumed(5000, 1, 5001, stream_open=False, concluding=False))
    assert sent(sender) == []
