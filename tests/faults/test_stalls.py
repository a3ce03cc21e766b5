"""A peer that stops reading, or stops writing, in every phase and in both directions: both ends give up, each in its time.

What is asserted is that they end, and that nobody is accused; not how long it took.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.acquire import pull as pull_module
from evidencesync.acquire.custody import RecordDraft, append_record, read_chain
from evidencesync.acquire.push import push
from evidencesync.connection import inbox as inbox_module
from evidencesync.connection import sender_connection as line_module
from evidencesync.connection.inbox import Inbox, alive_seconds
from evidencesync.connection.link import local_pair
from evidencesync.connection.progress import Progress
from evidencesync.connection.sender_connection import SenderConnection
from evidencesync.connection.session_socket import SocketLink
from evidencesync.connection.writer import BufferedWriter
from evidencesync.delta.refine import DELTA_PARAMETERS
from evidencesync.errors import EvidenceSyncError, LinkLostError
from evidencesync.ingest.receive import receive
from evidencesync.limits import ALIVE_SECONDS, LEAST_SILENCE_SECONDS, SILENCE_SECONDS
from evidencesync.protocol.framing import frame_of
from evidencesync.protocol.messages import (
    PREAMBLE,
    Alive,
    Patience,
)
from evidencesync.protocol.pull_messages import (
    SourceAsk,
)
from evidencesync.serve import source_server as offering_module
from evidencesync.serve.serving import StdioLink
from evidencesync.serve.source_server import serve_source
from evidencesync.vault.item import lock_item
from tests.support.at_once import try_all
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.custody_client import custody_request
from tests.support.pulling import pull_from
from tests.support.stalled_line import Direction, StalledLine

MIB = 1 << 20
SECONDS = 120.0
TIMEOUT = 0.4


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bounds, scaled to the short timeout of these tests."""
    for module in (line_module, offering_module):
        monkeypatch.setattr(module, "HANDSHAKE_SECONDS", 4 * TIMEOUT)
    for module in (line_module, offering_module, inbox_module):
        monkeypatch.setattr(module, "SILENCE_SECONDS", 4 * TIMEOUT)
    monkeypatch.setattr(inbox_module, "LEAST_SILENCE_SECONDS", TIMEOUT)
    monkeypatch.setattr(pull_module, "ALIVE_SECONDS", TIMEOUT)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_filled_bench(tmp_path)


def make_filled_bench(folder: Path, size: int = 3 * MIB) -> Bench:
    made = make_bench(folder)
    (made.source / "image").write_bytes(os.urandom(size))
    (made.source / "small").write_bytes(b"one")
    return made


class Served:
    """One end in a thread, and what it ended with."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.error: BaseException | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - whatever it is, a test looks at it
            self.error = error

    def ended(self) -> BaseException | None:
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "this end waits for ever"
        return self.error


def assert_lost(error: BaseException | None) -> None:
    """A stall is a lost link to whoever meets it, and no attack and no defect."""
    assert isinstance(error, LinkLostError), error


def assert_free(bench: Bench) -> None:
    """Who gave up holds the item no longer."""
    with lock_item(bench.vault.item(bench.name, create=True)):
        pass


# Where a push stands after so many bytes: before the first word, in the greeting, before the item is locked, in the data.
UP = [0, 40, 600, 5_000, MIB]
DOWN = [0, 40, 300, 1_200, 2_400]


def test_both_ends_of_a_push_give_up(tmp_path: Path) -> None:
    def give_up(folder: Path, direction: Direction, after: int) -> None:
        bench = make_filled_bench(folder)
        with StalledLine(direction, after, TIMEOUT) as line:
            vault = Served(lambda: receive(line.theirs, bench.vault, "a test"))
            sender = Served(lambda: push(line.ours, bench.request(timeout_seconds=TIMEOUT), Progress()))
            ends = sender.ended(), vault.ended()
            stalled = line.stalled.is_set()  # if not, there was less to say, or a busy machine was slower than the timeout
        for error in ends:
            if error is not None:  # one of the two may have had all that it needed
                assert_lost(error)
        assert not stalled or ends != (None, None)
        assert_free(bench)

    try_all(give_up, [*(("up", after) for after in UP), *(("down", after) for after in DOWN)], tmp_path)


def test_all_ends_of_a_pull_give_up(tmp_path: Path) -> None:
    def give_up(folder: Path, direction: Direction, after: int) -> None:
        bench = make_filled_bench(folder)
        with StalledLine(direction, after, TIMEOUT) as line:
            source = Served(lambda: serve_source(line.theirs, os.fsencode(bench.source)))
            near = Served(lambda: pull_from(bench, link=line.ours, timeout_seconds=TIMEOUT))
            ends = near.ended(), source.ended()
            stalled = line.stalled.is_set()
        for error in ends:
            if error is not None:
                assert_lost(error)
        assert not stalled or ends != (None, None)
        assert_free(bench)

    places = [("up", 0), ("up", 100), ("up", 400), ("down", 0), ("down", 300), ("down", 1_500), ("down", MIB)]
    try_all(give_up, places, tmp_path)


@pytest.mark.parametrize("appends", [True, False])
def test_both_ends_of_a_custody_conversation_give_up(tmp_path: Path, appends: bool) -> None:
    def give_up(folder: Path, direction: Direction, after: int) -> None:
        bench = make_filled_bench(folder, 100)
        bench.push()
        request = custody_request(bench, timeout_seconds=TIMEOUT)
        with StalledLine(direction, after, TIMEOUT) as line:
            vault = Served(lambda: receive(line.theirs, bench.vault, "a test"))

            def talk() -> object:
                if appends:
                    return append_record(lambda: line.ours, request, lambda _: RecordDraft("noted", {"text": "seen"}))
                return read_chain(lambda: line.ours, request)

            ends = Served(talk).ended(), vault.ended()
        for error in ends:
            if error is not None:
                assert_lost(error)

    places = [("up", 0), ("up", 40), ("up", 900), ("down", 0), ("down", 300), ("down", 1_000), ("down", 3_500)]
    try_all(give_up, places, tmp_path)


def test_a_source_that_goes_silent_after_its_offer_holds_the_item_no_longer_than_the_timeout(bench: Bench) -> None:
    """It answers the first word, and then says nothing at all."""
    ours, theirs = socket.socketpair()
    link = SocketLink(ours)
    far = StdioLink(os.dup(theirs.fileno()), os.dup(theirs.fileno()))

    class Silent:
        peer = None
        wire_sent = wire_received = 0

        def __init__(self) -> None:
            self.writes = 0

        def read(self) -> bytes:
            return far.read()

        def write(self, data: bytes) -> None:
            self.writes += 1
            if self.writes <= 2:  # the preamble, the offer
                far.write(data)

        def close(self) -> None:
            far.close()

    source = Served(lambda: serve_source(Silent(), os.fsencode(bench.source)))
    try:
        with pytest.raises(LinkLostError, match="silent"):
            pull_from(bench, link=link, timeout_seconds=TIMEOUT)
        with lock_item(bench.vault.item(bench.name, create=True)):
            pass
    finally:
        theirs.close()
        link.close()
        source.ended()


@pytest.mark.parametrize("asks", [False, True])
def test_who_only_says_that_he_is_alive_is_not_waited_for_by_a_source(bench: Bench, asks: bool) -> None:
    """Before he has said what he wants, and before he fetches it."""
    ours, theirs = local_pair()
    source = Served(lambda: serve_source(theirs, os.fsencode(bench.source)))
    wish = SourceAsk(
        [1],
        "test",
        DELTA_PARAMETERS,
        b"",
        [],
        [],
        None,
        one_file_system=False,
        on_read_error="zero",
        retries_changed=None,
        counts=False,
    )
    ours.write(PREAMBLE + (frame_of(wish) if asks else b""))
    over = threading.Event()

    def live() -> None:
        with contextlib.suppress(LinkLostError):
            while not over.wait(TIMEOUT / 4):  # the rate of his words, no synchronisation
                ours.write(frame_of(Alive()))

    thread = threading.Thread(target=live)
    thread.start()
    try:
        assert_lost(source.ended())
    finally:
        over.set()
        ours.close()
        thread.join()


@pytest.mark.parametrize(
    ("timeout", "silence"), [(0.1, LEAST_SILENCE_SECONDS), (10, 30), (60, SILENCE_SECONDS), (86_400, SILENCE_SECONDS)]
)
def test_for_how_long_a_vaults_end_hears_nothing(monkeypatch: pytest.MonkeyPatch, timeout: float, silence: float) -> None:
    monkeypatch.undo()
    line = SenderConnection(local_pair()[0])
    line.set_patience(Patience(int(timeout * 1000), 0, 0))
    assert line._silence_seconds == silence
    line.close()


@pytest.mark.parametrize(("timeout", "sign"), [(1.0, 0.25), (60.0, 15.0), (3_600.0, ALIVE_SECONDS)])
def test_how_often_a_sender_gives_a_sign(timeout: float, sign: float) -> None:
    assert alive_seconds(timeout) == sign


def test_a_source_that_gives_something_now_and_then_does_not_make_the_wait_for_the_vault_longer() -> None:
    inbox: Inbox[int, int] = Inbox()
    over = threading.Event()

    def feed() -> None:
        while not over.wait(0.01):
            inbox.put_local(1, 1)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    try:
        with pytest.raises(LinkLostError, match="silent"):
            inbox.take(local=False, timeout_seconds=0.1)
    finally:
        over.set()
        thread.join()


def test_a_low_limit_on_the_rate_is_no_silence() -> None:
    """What may be sent at once is what a second allows, so that something always moves."""
    sent: list[int] = []

    class Sink:
        peer = None
        wire_sent = wire_received = 0

        def read(self) -> bytes:
            return b""

        def write(self, data: bytes) -> None:
            sent.append(len(data))

        def close(self) -> None:
            pass

    writer = BufferedWriter(Sink(), 20_000)
    before = time.monotonic()
    writer.put([bytes(30_000)])
    writer.flush()
    assert sum(sent) == 30_000
    assert max(sent) <= 20_000
    assert time.monotonic() - before > 1.0
    assert not writer.has_partial_frame


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_standard_output_that_nobody_reads_is_given_up(kind: str) -> None:
    if kind == "pipe":
        reader, writer = os.pipe()
    else:
        one, other = socket.socketpair()
        reader, writer = one.detach(), other.detach()
    link = StdioLink(os.open(os.devnull, os.O_RDONLY), writer)
    link.timeout_seconds = 0.2
    with pytest.raises(LinkLostError, match="taken nothing"):
        link.write(bytes(8 * MIB))
    link.close()
    os.close(reader)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_standard_output_that_is_read_slowly_is_not_given_up(kind: str) -> None:
    if kind == "pipe":
        reader, writer = os.pipe()
    else:
        one, other = socket.socketpair()
        reader, writer = one.detach(), other.detach()
    link = StdioLink(os.open(os.devnull, os.O_RDONLY), writer)
    link.timeout_seconds = 60.0
    got = 0

    def read() -> None:
        nonlocal got
        while got < 2 * MIB:
            got += len(os.read(reader, 50_000))

    thread = threading.Thread(target=read)
    thread.start()
    link.write(bytes(2 * MIB))
    thread.join()
    assert (got, link.wire_sent) == (2 * MIB, 2 * MIB)
    link.close()
    with pytest.raises(EvidenceSyncError):
        link.write(b"x")
    os.close(reader)
