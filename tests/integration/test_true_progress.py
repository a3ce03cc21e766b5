"""What a display says of a transfer over a slow link is what has arrived, not what was read or written into buffers."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from evidencesync.acquire.connect import connect_for_pull
from evidencesync.acquire.pull import pull
from evidencesync.acquire.push import push
from evidencesync.cli.progress_display import PushView
from evidencesync.connection.link import LocalLink
from evidencesync.connection.progress import Progress
from evidencesync.connection.ssh_link import SshLink
from evidencesync.custody.documents import SshPeer
from evidencesync.custody.manifest import CheckedLine
from evidencesync.protocol.messages import Message, SegmentsStored
from evidencesync.ssh.address import Address
from evidencesync.vault.readback import ReadBack
from tests.integration.cli_program import far_program
from tests.integration.conftest import Sshd
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.hostile_vault import TamperedLink
from tests.support.line import NetworkLine
from tests.support.link_in_between import LinkInBetween
from tests.support.patience import PATIENCE_SECONDS, wait_until
from tests.support.proxy import Proxy
from tests.support.pulling import far_end, link_to
from tests.support.small_segments import cut_smaller

SIZE = 16 << 20
STEPS = 16
PEER = SshPeer("ana", "vault.lab", 22, "SHA256:" + "A" * 43, {})


class DeepLink(LinkInBetween):
    """A link with buffers that take everything at once, and of which only as much arrives as a test lets through."""

    peer = PEER

    def __init__(self, link: LocalLink) -> None:
        super().__init__(link)
        self._taken = bytearray()
        self._open = threading.Condition()
        self._may_pass = 0
        self._is_closed = False
        self.arrived = 0
        self.written = 0
        threading.Thread(target=self._deliver, daemon=True).start()

    @property
    def wire_sent(self) -> int:
        return self.written

    def write(self, data: bytes) -> None:
        with self._open:
            self._taken += data
            self.written += len(data)
            self._open.notify_all()

    def let_through(self, size: int) -> None:
        """Lets `size` bytes in all arrive."""
        with self._open:
            self._may_pass = size
            self._open.notify_all()

    def close(self) -> None:
        with self._open:
            self._is_closed = True
            self._open.notify_all()
        super().close()

    def _deliver(self) -> None:
        while True:
            with self._open:
                self._open.wait_for(lambda: self._is_closed or (self._taken and self.arrived < self._may_pass))
                if self._is_closed:
                    return
                part = bytes(self._taken[: self._may_pass - self.arrived])
                del self._taken[: len(part)]
                self.arrived += len(part)
            self._link.write(part)


class SlowPush:
    """A push of a large random file over a deep link, in a thread."""

    def __init__(self, bench: Bench) -> None:
        ours, self._vault = bench.serve()
        self.link = DeepLink(ours)
        self.progress = Progress(count_ahead=True)
        self.view = PushView(self.progress)
        self._push = threading.Thread(target=push, args=(self.link, bench.request(), self.progress), daemon=True)
        self._push.start()

    def wait_for(self, stored: int) -> None:
        """Waits until the display says that so much is stored."""
        wait_until(lambda: self.view.extent()[0] >= stored)

    def finish(self) -> None:
        self.link.let_through(1 << 40)
        self._push.join(PATIENCE_SECONDS)
        self._vault.join(PATIENCE_SECONDS)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    cut_smaller(monkeypatch)
    bench = make_bench(tmp_path)
    (bench.source / "disk.img").write_bytes(random.Random(7).randbytes(SIZE))
    return bench


def test_a_push_over_a_slow_link_shows_what_has_arrived(bench: Bench) -> None:
    run = SlowPush(bench)
    run.link.let_through(64 << 10)
    wait_until(lambda: run.link.written > SIZE)  # read to its end, and all of it in buffers
    assert run.view.extent()[0] <= 64 << 10
    assert run.view.extent()[1] == SIZE
    for step in range(1, STEPS + 1):
        passed = SIZE * step // STEPS
        run.link.let_through(passed)
        run.wait_for(passed - SIZE // 10)
        done, total = run.view.extent()
        wait_until(lambda: (run.progress.link_bytes or 0) >= passed - SIZE // 10)  # noqa: B023 - called in this round alone
        assert passed - SIZE // 10 <= done <= passed
        assert (run.progress.link_bytes or 0) <= passed + SIZE // 10
        assert total == SIZE
        assert run.progress.known_bytes == 0
    run.finish()
    assert run.progress.stage == "done"


def test_what_the_vault_had_is_told_apart_from_what_was_sent(bench: Bench) -> None:
    bench.push()
    with (bench.source / "disk.img").open("ab") as file:
        file.write(random.Random(8).randbytes(SIZE // 4))
    run = SlowPush(bench)
    run.finish()
    progress = run.progress
    assert progress.arrived_bytes == SIZE + SIZE // 4
    assert SIZE * 0.95 <= progress.known_bytes <= SIZE


def test_a_file_that_cannot_be_read_is_not_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from evidencesync.acquire import reading
    from evidencesync.errors import SourceReadError

    def refuse(found: object) -> object:
        raise SourceReadError("cannot read it", errno=5)

    monkeypatch.setattr(reading, "open_file", refuse)
    run = SlowPush(bench)
    run.finish()
    progress = run.progress
    assert (progress.total_bytes, progress.missed_bytes, progress.arrived_bytes) == (SIZE, SIZE, 0)


def test_a_push_over_a_slow_line_to_a_real_server_shows_what_has_arrived(sshd: Sshd, tmp_path: Path) -> None:
    """Whenever the line stands still: ssh, sshd and the kernel hold megabytes that were written, and have not arrived."""
    bench = make_bench(tmp_path)
    (bench.source / "disk.img").write_bytes(random.Random(7).randbytes(SIZE))
    with Proxy(("127.0.0.1", sshd.port), NetworkLine(rate=16 << 20)) as proxy:
        known_hosts = tmp_path / "proxy_hosts"
        known_hosts.write_text(f"[127.0.0.1]:{proxy.port} ssh-ed25519 {sshd.host_key}\n")
        vault = str(bench.vault.layout.root)
        address = Address.parse(f"ssh://{sshd.user}@127.0.0.1:{proxy.port}{vault}")
        link = SshLink(address, sshd.options(known_hosts=known_hosts, remote_command=far_program()), ("serve", "--vault", vault))
        link.finish_open()
        progress = Progress(count_ahead=True)
        pushing = threading.Thread(target=push, args=(link, bench.request(), progress), daemon=True)
        pushing.start()
        for step in range(1, STEPS):
            wait_until(lambda: proxy.moved[0] >= SIZE * step // STEPS)  # noqa: B023 - called in this round alone
            proxy.stall("up")
            passed = proxy.moved[0]
            wait_until(lambda: progress.arrived_bytes >= passed - SIZE // 10 or not pushing.is_alive())  # noqa: B023
            assert passed - SIZE // 10 <= progress.arrived_bytes <= passed
            proxy.go()
        pushing.join(PATIENCE_SECONDS)
    assert progress.stage == "done"
    assert progress.arrived_bytes == progress.stored_bytes == SIZE


class SlowRead(LinkInBetween):
    """A link on which only as much arrives as a test lets through, in blocks of 64 KiB at the most."""

    peer = PEER

    def __init__(self, link: LocalLink) -> None:
        super().__init__(link)
        self._open = threading.Condition()
        self._may_pass = 0
        self._waiting = b""
        self.arrived = 0

    @property
    def wire_received(self) -> int:
        return self.arrived

    def let_through(self, size: int) -> None:
        """Lets `size` bytes in all arrive."""
        with self._open:
            self._may_pass = size
            self._open.notify_all()

    def read(self) -> bytes:
        self._waiting = self._waiting or super().read()
        with self._open:
            assert self._open.wait_for(lambda: self.arrived < self._may_pass, PATIENCE_SECONDS)
            size = min(65536, self._may_pass - self.arrived)
        part, self._waiting = self._waiting[:size], self._waiting[size:]
        self.arrived += len(part)
        return part


def test_a_pull_over_a_slow_link_shows_what_has_arrived_of_a_frame_too(bench: Bench) -> None:
    link, progress = SlowRead(link_to(far_end(bench.source))), Progress(count_ahead=True)
    vault = partial(connect_for_pull, str(bench.vault.layout.root))
    pulling = threading.Thread(target=pull, args=(link, vault, bench.request(vault=b""), progress), daemon=True)
    pulling.start()
    frame = 1 << 20
    before = 0
    for passed in range(3 * frame, SIZE, frame // 4):
        link.let_through(passed)
        wait_until(lambda: link.arrived == passed and progress.link_bytes == passed)  # noqa: B023 - called in this round alone
        assert before < progress.arrived_bytes <= passed
        assert progress.arrived_bytes >= passed - frame // 8
        before = progress.arrived_bytes
    link.let_through(1 << 40)
    pulling.join(PATIENCE_SECONDS)
    assert progress.stage == "done"
    assert progress.arrived_bytes == SIZE


class NarrowLink(TamperedLink):
    """A link on which a write waits until it may pass, and which tells when the vault says that something is stored."""

    peer = PEER

    def __init__(self, link: LocalLink) -> None:
        self.has_stored = threading.Event()
        self._open = threading.Condition()
        self._may_pass = 0
        self._passed = 0
        super().__init__(link, self._look)

    def _look(self, message: Message) -> Message:
        if isinstance(message, SegmentsStored):
            self.has_stored.set()
        return message

    def let_through(self, size: int) -> None:
        """Lets `size` bytes in all pass."""
        with self._open:
            self._may_pass = size
            self._open.notify_all()

    def write(self, data: bytes) -> None:
        for at in range(0, len(data), 65536):
            with self._open:
                assert self._open.wait_for(lambda: self._passed < self._may_pass, PATIENCE_SECONDS)
                self._passed += len(data[at : at + 65536])
            super().write(data[at : at + 65536])


@pytest.mark.parametrize("limit_rate", [None, 1 << 30])
def test_what_is_stored_is_shown_while_the_rest_is_still_asked_for_and_not_sent(tmp_path: Path, limit_rate: int | None) -> None:
    """The vault asks for all segments at once: what it says of the first stands behind that, and must not wait for the last."""
    bench = make_bench(tmp_path)
    image = bench.source / "image"
    image.write_bytes(random.Random(1).randbytes(SIZE))
    bench.push()
    image.write_bytes(random.Random(2).randbytes(SIZE))
    ours, thread = bench.serve()
    link, progress = NarrowLink(ours), Progress()
    pushing = threading.Thread(target=push, args=(link, bench.request(limit_rate=limit_rate), progress), daemon=True)
    pushing.start()
    link.let_through(6 << 20)
    assert link.has_stored.wait(PATIENCE_SECONDS)
    link.let_through(9 << 20)
    wait_until(lambda: progress.stored_bytes > 0)
    assert progress.arrived_bytes <= SIZE // 2 + (1 << 20)
    link.let_through(1 << 40)
    pushing.join(PATIENCE_SECONDS)
    thread.join(PATIENCE_SECONDS)
    assert bench.acquisitions() == ["0001", "0002"]


class StagesSeen(Progress):
    """Progress that remembers each stage it was set to."""

    stages: list[str] = msgspec.field(default_factory=list)

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "stage":
            self.stages.append(str(value))


def test_what_the_vault_says_that_it_does_stays_on_the_screen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The read-back of gigabytes of zeros takes minutes, in which nothing else is heard of the vault."""
    from evidencesync.ingest import session

    progress = StagesSeen()

    def slow_read_back(data_fd: int, lines: Iterable[CheckedLine], count: Callable[[int, int], None]) -> ReadBack:
        count(0, SIZE // 2)
        wait_until(lambda: progress.stages.count("read-back") >= 3)
        return ReadBack(1, SIZE)

    monkeypatch.setattr(session, "read_back", slow_read_back)
    ours, vault = bench.serve()
    pushing = threading.Thread(target=push, args=(ours, bench.request(), progress), daemon=True)
    pushing.start()
    pushing.join(PATIENCE_SECONDS)
    vault.join(PATIENCE_SECONDS)
    assert progress.stage == "done"
    assert "finishing" not in progress.stages[progress.stages.index("read-back") :]
