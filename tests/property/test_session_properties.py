"""Both ends of a session together: whatever the vault knows, however the bytes are cut and whenever a link is lost, what was
sent is what is built.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evidencesync.connection.inbox import Inbox
from evidencesync.delta import chunker
from evidencesync.delta.chunker import Segment, SegmentCutter
from evidencesync.evidence.digest import blake3_of, chunk_digest_of
from evidencesync.limits import KIB, MAX_SEGMENT
from evidencesync.protocol import receiving_order, sender
from evidencesync.protocol.data_frames import Compress
from evidencesync.protocol.framing import FrameDecoder, decode_message, frame_of
from evidencesync.protocol.messages import PREAMBLE, Finish, Message
from evidencesync.protocol.receiver import Receiver
from evidencesync.protocol.sender import Sender
from tests.support.model_of_a_vault import PIECE_KEY, Knowledge, ModelVault, digest_of_rows, lines_for
from tests.support.soak import often, seeds


@dataclass(frozen=True)
class PageToSend:
    lines: bytes
    contents: list[bytes]


@dataclass(frozen=True)
class StreamBegins:
    size: int


@dataclass(frozen=True)
class StreamEnds:
    content: bytes


Item = PageToSend | StreamBegins | StreamEnds | Segment

PIECES = [random.Random(seed).randbytes(size) for seed, size in enumerate([300, 5_000, 40_000, 90_000, 200_000])]
PIECES += [bytes(70 * KIB), bytes(300 * KIB), b"the same line again\n" * 4000]

contents = st.lists(st.sampled_from(range(len(PIECES))), max_size=8)
smalls = st.lists(st.integers(1, 6_000), max_size=9)
plans = st.lists(
    st.one_of(contents.map(lambda pieces: ("stream", pieces)), smalls.map(lambda sizes: ("page", sizes))), max_size=14
)


def cut(content: bytes) -> list[Segment]:
    cutter = SegmentCutter()
    room = cutter.buffer(len(content))
    room[:] = content
    return cutter.commit(len(content)) + cutter.finish()


def bytes_of(segment: Segment) -> bytes:
    return b"".join(
        bytes(length) if part is None else bytes(part) for length, part in zip(segment.lengths, segment.parts, strict=True)
    )


def items_of(plan: list[tuple[str, list[int]]]) -> Iterator[Item]:
    for number, (kind, values) in enumerate(plan):
        if kind == "page":
            made = [random.Random(size).randbytes(size) for size in values]
            yield PageToSend(lines_for(number, made), made)
            continue
        content = b"".join(PIECES[piece] for piece in values)
        yield StreamBegins(len(content))
        yield from cut(content)
        yield StreamEnds(content)


def knowledge_of(items: list[Item], chance: random.Random, known: float, bad: float) -> Knowledge:
    """What a vault knows of what will come: a random part, of which a part is damaged."""
    knowledge = Knowledge()
    for item in items:
        if isinstance(item, PageToSend):
            if chance.random() < known:
                knowledge.pages[chunk_digest_of(item.lines)] = item.lines
            knowledge.smalls |= {data: chance.random() >= bad for data in item.contents if chance.random() < known}
        elif isinstance(item, Segment):
            rows = item.rows()
            if chance.random() < known:
                knowledge.segments[digest_of_rows(rows)] = (rows, bytes_of(item), chance.random() >= bad)
            for row, part in zip(rows, item.parts, strict=True):
                if part is not None and chance.random() < known:
                    knowledge.chunks[row.digest] = (bytes(part), chance.random() >= bad)
                if part is not None and chance.random() < known:
                    knowledge.similar[row.digest] = changed(bytes(part), chance)
    return knowledge


def changed(content: bytes, chance: random.Random) -> bytes:
    """Somewhat other bytes: some are overwritten, some are gone, some are more."""
    for _ in range(chance.randrange(3)):
        at = chance.randrange(len(content) + 1)
        gone = chance.choice([0, 0, 10, 5000])
        more = chance.randbytes(chance.choice([0, 1, 600, gone]))
        content = content[:at] + more + content[at + gone :]
    return content


class Wire:
    """One direction: bytes go in as they are written and come out in pieces of any size."""

    def __init__(self, chance: random.Random) -> None:
        self._bytes = bytearray(PREAMBLE)
        self._chance = chance
        self.frames = FrameDecoder()

    def put(self, data: bytes) -> None:
        self._bytes += data

    @property
    def is_empty(self) -> bool:
        return not self._bytes

    def take(self) -> bytes:
        size = self._chance.choice([1, 3, 20, 1000, 50_000, 10**7])
        data = bytes(self._bytes[:size])
        del self._bytes[:size]
        return data

    def rest(self) -> bytes:
        data = bytes(self._bytes)
        self._bytes.clear()
        return data


class Session:
    """A sender, a receiver and the model of a vault, with wires between, and links that are lost.

    `drops` says after how many frames a link is lost, one number for each link: frames that the receiver has got (1, 2, ...), or
    answers that the sender has got (-1, -2, ...). After the last of them the link holds.
    """

    def __init__(
        self, items: list[Item], knowledge: Knowledge, chance: random.Random, compress: Compress, drops: Sequence[int] = ()
    ) -> None:
        self.to_send = deque(items)
        plan = {item.lines: item.contents for item in items if isinstance(item, PageToSend)}
        self.sender = Sender(
            knows_nothing=not (knowledge.smalls or knowledge.segments or knowledge.chunks),
            has_previous=bool(knowledge.pages),
            piece_key=PIECE_KEY,
            compress=compress,
            clock=lambda: 0.0,
        )
        self.receiver = Receiver()
        self.vault = ModelVault(self.receiver, knowledge, plan, chance)
        self.got = self.heard = self.losses = self.lost_bytes = 0
        self.window: int = vars(sender)["WINDOW"]  # as the test has it
        self._drops = deque(drops)
        self._chance = chance
        self._inbox: Inbox[None, Message] = Inbox()
        self._finish: bytes | None = None
        self._new_wires()

    def _new_wires(self) -> None:
        self._up, self._down = Wire(self._chance), Wire(self._chance)
        self._link = self._inbox.begin_link()
        self.got = self.heard = 0

    def run(self) -> None:
        """Lets anything happen that can, in any order, until nothing can."""
        while steps := list(self._possible()):
            self._chance.choice(steps)()
            if self._is_cut():
                self._lose_link()
            self._up.put(b"".join(self.sender.take_output()))
            self._down.put(self.receiver.take_output())
            assert held_bytes(self.sender) <= self.window + MAX_SEGMENT + 64 * KIB, "more is held than the window and one thing"

    def _possible(self) -> Iterator[Callable[[], None]]:
        if self.to_send and self.sender.has_room:
            yield self._add
        if not self._up.is_empty:
            yield self._deliver_up
        if not self._down.is_empty:
            yield self._deliver_down
        if self.vault.has_work:
            yield self.vault.work

    def _add(self) -> None:
        match self.to_send.popleft():
            case PageToSend(lines=lines, contents=made):
                self.sender.add_page(lines, made)
            case StreamBegins(size=size):
                self.sender.open_stream(size, b"the/same/path")
            case StreamEnds(content=content):
                self.sender.close_stream(len(content), blake3_of(content))
            case Segment() as segment:
                self.sender.add_segment(segment)

    def _deliver_up(self) -> None:
        for number, body in self._up.frames.update(self._up.take()):
            for event in self.receiver.receive(number, body):
                self.vault.take(event)
            self.got += 1
            if self._is_cut():
                return

    def _deliver_down(self) -> None:
        answers = [decode_message(number, body) for number, body in self._down.frames.update(self._down.take())]
        self._inbox.put_peer(self._link, answers, 1)
        self._hear(len(answers))

    def _hear(self, count: int) -> None:
        """Takes so many answers out of the inbox, as far as they are there."""
        for _ in range(count):
            if self._is_cut() or self._inbox.would_wait(local=False):
                return
            _, answer = self._inbox.take(local=False, timeout_seconds=0)
            assert answer is not None
            self.sender.receive(answer)
            self.heard += 1

    # Losses.

    def _is_cut(self) -> bool:
        if not self._drops or self.vault.finished:
            return False
        at = self._drops[0]
        return self.got >= at if at >= 0 else self.heard >= -at

    def _lose_link(self) -> None:
        """Both directions end at once. What was under way is gone, but for answers that come late, over the old link."""
        self._drops.popleft()
        self.losses += 1
        self._lose_output()
        while self.to_send and self.sender.has_room and self._chance.random() < 0.4:  # it has not noticed yet
            self._add()
            self._lose_output()
        old = self._link
        late = [decode_message(number, body) for number, body in self._down.frames.update(self._down.rest())]
        if self._chance.random() < 0.2:  # where the vault stands is said on a link that is lost, too
            self.vault.resume()
        resumed, self.receiver = self.vault.resume()
        held = held_bytes(self.sender)
        self.lost_bytes += held
        self._new_wires()
        self._inbox.put_peer(old, late, 1)
        assert self._inbox.would_wait(local=False), "an answer of a lost link was taken for one of the next"
        self.sender.resume(resumed)
        assert held_bytes(self.sender) <= held
        assert (self.sender._pages.stored, self.sender._segments.stored) == (resumed.pages, resumed.segments)
        if self._finish is not None:
            self._up.put(b"".join(self.sender.take_output()) + self._finish)

    def _lose_output(self) -> None:
        self.sender.take_output()

    def finish(self) -> None:
        """Says that this was all. What was stored is not sent again, whatever becomes of the link now."""
        self._finish = frame_of(Finish(0, bytes(32), b"", b"", b"", self.sender.pages_sent))
        self._up.put(self._finish)
        self.run()


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows and segments so small that a short transfer fills them; the same at both ends, as the real ones are."""
    monkeypatch.setattr(chunker, "_SEGMENT_BITS", 1)
    for end in (sender, receiving_order):
        monkeypatch.setattr(end, "WINDOW", 256 * KIB)
        monkeypatch.setattr(end, "MAX_OPEN_ROWS", 12)
    for end in (sender, receiving_order):
        monkeypatch.setattr(end, "MAX_OPEN_PAGES", 3)
    for end in (sender, receiving_order):
        monkeypatch.setattr(end, "MAX_OPEN_SEGMENTS", 4)
    # A sender looks before it adds a page or a segment, and one segment may be sent again while it is stored.
    monkeypatch.setattr(receiving_order, "_SLACK", 2 * MAX_SEGMENT)


def assert_moved(
    plan: list[tuple[str, list[int]]], seed: int, known: float, bad: float, compress: Compress, drops: Sequence[int] = ()
) -> Session:
    chance = random.Random(seed)
    items = list(items_of(plan))
    session = Session(items, knowledge_of(items, chance, known, bad), chance, compress, drops)
    session.run()
    assert not session.to_send, "the sender waits for room that never comes"
    assert session.sender.all_stored, "the two ends wait for each other"
    assert session.sender.has_room
    session.finish()
    assert session.vault.finished
    assert session.vault.streams == [item.content for item in items if isinstance(item, StreamEnds)]
    assert session.vault.pages == [(item.lines, item.contents) for item in items if isinstance(item, PageToSend)]
    assert_nothing_is_left(session)
    lost = session.sender.counts.literal_bytes - session.vault.literal_bytes
    assert 0 <= lost <= 2 * session.lost_bytes, "what is sent once more is what was not stored, and that is what was held"
    return session


def assert_nothing_is_left(session: Session) -> None:
    """Both ends are idle, and count nothing as open."""
    sending, receiver = session.sender, session.receiver
    assert (held_bytes(sending), sending._pages.open, sending._segments.open, sending._segments.rows) == (0, 0, 0, 0)
    window = receiver._segments._window
    assert (window._held_bytes, window._open_rows, window._held, window._rows) == (0, 0, {}, {})
    pages, segments = receiver._pages, receiver._segments
    assert (pages._stages, segments._stages, segments._named_bytes, segments._needed_bytes) == ({}, {}, {}, {})
    assert segments._gaps == {}
    assert not any(pages._files_due.values())
    assert not receiver._data.is_due
    assert not receiver._streams.is_open


def held_bytes(sending: Sender) -> int:
    """What a sender holds of its window."""
    return sending._pages.held_bytes + sending._segments.held_bytes


@pytest.mark.usefixtures("narrow")
@settings(max_examples=often(40, 20_000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plan=plans,
    seed=st.integers(0, 2**32),
    known=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    bad=st.sampled_from([0.0, 0.2, 1.0]),
    compress=st.sampled_from(["auto", "always", "never"]),
)
def test_what_was_sent_is_what_is_built(
    plan: list[tuple[str, list[int]]], seed: int, known: float, bad: float, compress: Compress
) -> None:
    session = assert_moved(plan, seed, known, bad, compress)
    assert session.vault.literal_bytes == session.sender.counts.literal_bytes


@pytest.mark.usefixtures("narrow")
@settings(max_examples=often(60, 50_000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plan=plans,
    seed=st.integers(0, 2**32),
    known=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    bad=st.sampled_from([0.0, 0.2, 1.0]),
    compress=st.sampled_from(["auto", "always", "never"]),
    drops=st.lists(st.integers(-12, 40), min_size=1, max_size=12),
)
def test_what_was_sent_is_what_is_built_whenever_links_are_lost(
    plan: list[tuple[str, list[int]]], seed: int, known: float, bad: float, compress: Compress, drops: list[int]
) -> None:
    assert_moved(plan, seed, known, bad, compress, drops)


# A bit of everything: small files, none, a stream within one segment and over several, zeros, an empty stream.
MIXED = [
    ("page", [300, 2_000]),
    ("stream", [2, 3, 4, 5, 4]),
    ("page", []),
    ("stream", []),
    ("stream", [3, 6]),
    ("page", [50] * 5),
]


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("known", [0.0, 0.5, 1.0])
def test_a_link_may_be_lost_after_any_message_of_either_end(known: float) -> None:
    seed = 5
    quiet = assert_moved(MIXED, seed, known, 0.3, "auto")
    assert min(quiet.got, quiet.heard) > len(MIXED)
    for at in range(-quiet.heard, quiet.got):
        assert assert_moved(MIXED, seed, known, 0.3, "auto", [at]).losses == 1 or at < 0
        assert_moved(MIXED, seed, known, 0.3, "auto", [at, at, 3, at])


@settings(max_examples=often(15, 2_000), deadline=None)
@given(
    plan=plans,
    seed=st.integers(0, 2**32),
    known=st.sampled_from([0.0, 0.5, 1.0]),
    bad=st.sampled_from([0.0, 0.3]),
    drops=st.lists(st.integers(-12, 40), max_size=3),
)
def test_the_same_with_the_real_windows(
    plan: list[tuple[str, list[int]]], seed: int, known: float, bad: float, drops: list[int]
) -> None:
    assert_moved(plan, seed, known, bad, "auto", drops)


@pytest.mark.usefixtures("narrow")
@settings(max_examples=often(30, 5_000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans, seed=st.integers(0, 2**32), drops=st.lists(st.integers(0, 40), max_size=6))
def test_what_is_stored_is_not_sent_again(plan: list[tuple[str, list[int]]], seed: int, drops: list[int]) -> None:
    session = assert_moved(plan, seed, 0.0, 0.0, "never", drops)
    literal = sum(item.literal_bytes for item in items_of(plan) if isinstance(item, Segment))
    literal += sum(sum(map(len, item.contents)) for item in items_of(plan) if isinstance(item, PageToSend))
    assert literal <= session.sender.counts.literal_bytes <= literal + session.lost_bytes


@settings(max_examples=often(20, 2_000), deadline=None)
@given(plan=plans, seed=st.integers(0, 2**32), drops=st.lists(st.integers(-12, 40), max_size=3))
def test_what_is_known_and_good_is_not_sent(plan: list[tuple[str, list[int]]], seed: int, drops: list[int]) -> None:
    assert assert_moved(plan, seed, 1.0, 0.0, "auto", drops).sender.counts.literal_bytes == 0


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("seed", seeds(3, 500))
def test_a_long_transfer_through_narrow_windows(seed: int) -> None:
    chance = random.Random(seed)
    plan = [
        ("page", [chance.randrange(1, 6000) for _ in range(chance.randrange(9))])
        if chance.random() < 0.5
        else ("stream", [chance.randrange(len(PIECES)) for _ in range(chance.randrange(9))])
        for _ in range(80)
    ]
    assert_moved(plan, seed, 0.5, 0.3, "auto")
    drops = [chance.randrange(-20, 60) for _ in range(20)]
    assert assert_moved(plan, seed, 0.5, 0.3, "auto", drops).losses > 10
