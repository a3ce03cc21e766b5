"""What a push does not wait for: on a far link each wait is a round trip."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from evidencesync.acquire.push import push
from evidencesync.connection.link import LocalLink
from evidencesync.connection.progress import Progress
from evidencesync.custody.documents import SshPeer
from evidencesync.protocol.framing import MESSAGE_TYPES, FrameDecoder
from evidencesync.protocol.messages import Finish, Ready
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.patience import PATIENCE_SECONDS

MANY = 300_000
SECONDS = PATIENCE_SECONDS


class HeldLink:
    """A link that gives what the vault says only when `may_pass`, which is asked again and again, says so."""

    peer: SshPeer | None = None

    def __init__(self, link: LocalLink) -> None:
        self.sent_finish = threading.Event()
        self.heard_ready = False
        self._link = link
        self._out = FrameDecoder()
        self._in = FrameDecoder()

    @property
    def wire_sent(self) -> int:
        return self._link.wire_sent

    @property
    def wire_received(self) -> int:
        return self._link.wire_received

    def may_pass(self) -> bool:
        return True

    def read(self) -> bytes:
        block = self._link.read()
        deadline = time.monotonic() + SECONDS
        while not self.may_pass():
            assert time.monotonic() < deadline, "the push waits for the vault"
            time.sleep(0.005)
        self.heard_ready = self.heard_ready or any(MESSAGE_TYPES.get(kind) is Ready for kind, _ in self._in.update(block))
        return block

    def write(self, data: bytes) -> None:
        self._link.write(data)
        if any(MESSAGE_TYPES.get(kind) is Finish for kind, _ in self._out.update(data)):
            self.sent_finish.set()

    def close(self) -> None:
        self._link.close()


class AnswersAfterTheEnd(HeldLink):
    """Nothing that comes after Ready passes before Finish was sent."""

    def may_pass(self) -> bool:
        return not self.heard_ready or self.sent_finish.is_set()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = make_bench(tmp_path)
    chance = random.Random(5)
    (bench.source / "large").write_bytes(chance.randbytes(MANY))
    (bench.source / "small").write_bytes(b"small")
    return bench


def test_the_signatures_do_not_wait_until_everything_is_stored(bench: Bench) -> None:
    ours, thread = bench.serve()
    first = push(AnswersAfterTheEnd(ours), bench.request(), Progress())
    thread.join(SECONDS)
    # The second time everything is asked about, and still the end is said before the first answer.
    (bench.source / "small").write_bytes(b"other")
    ours, thread = bench.serve()
    second = push(AnswersAfterTheEnd(ours), bench.request(), Progress())
    thread.join(SECONDS)
    assert (first.acquisition, second.acquisition) == (1, 2)
    assert first.literal_bytes == MANY + 5
    assert second.literal_bytes == 5


def test_a_damaged_basis_is_asked_for_after_the_end_was_announced(bench: Bench) -> None:
    bench.push()
    stored = bench.acquisition(1) / "data" / "large"
    stored.chmod(0o600)
    with stored.open("r+b") as file:
        file.seek(100_000)
        file.write(bytes(100))
    ours, thread = bench.serve()
    outcome = push(AnswersAfterTheEnd(ours), bench.request(), Progress())
    thread.join(SECONDS)
    assert (outcome.acquisition, outcome.damaged) == (2, 1)
    assert (bench.acquisition(2) / "data" / "large").read_bytes() == (bench.source / "large").read_bytes()


def test_the_source_is_read_while_the_vault_is_being_greeted(bench: Bench) -> None:
    progress = Progress()

    class AnswersAfterReading(HeldLink):
        def may_pass(self) -> bool:
            return progress.files == 2

    ours, thread = bench.serve()
    outcome = push(AnswersAfterReading(ours), bench.request(), progress)
    thread.join(SECONDS)
    assert outcome.acquisition == 1
