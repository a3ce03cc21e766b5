"""Senders who end, or whose link is lost for good: the vault's end does not stay for longer than somebody may come back."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from evidencesync.acquire import push as push_module
from evidencesync.acquire.push import push
from evidencesync.cli.app import main
from evidencesync.connection import sender_connection
from evidencesync.connection import writer as outlet_module
from evidencesync.connection.link import Link, LocalLink, ThreadedLink, local_pair
from evidencesync.connection.progress import Progress
from evidencesync.connection.sender_connection import SenderConnection
from evidencesync.errors import InterruptedRunError, LinkLostError, LockedError
from evidencesync.ingest import receive as receive_module
from evidencesync.ingest.receive import receive
from evidencesync.ingest.transfers import end_waiting, find_transfers
from evidencesync.limits import MAX_RECONNECT_SECONDS, RECONNECT_SECONDS
from evidencesync.protocol.messages import Alive, Failure, PagesStored, Patience
from evidencesync.vault.item import lock_item
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.cut_links import CutLink
from tests.support.hostile_client import HostileClient

MIB = 1 << 20
SECONDS = 60.0


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = make_bench(tmp_path)
    (made.source / "image").write_bytes(os.urandom(12 * MIB))
    return made


class VaultsEnd:
    """The vault's end of a session in a thread, which waits for its sender when the link is lost; and what it ended with."""

    def __init__(self, bench: Bench) -> None:
        self.link, theirs = local_pair()
        self.error: BaseException | None = None
        self._bench = bench
        self._thread = threading.Thread(target=self._serve, args=(theirs,), daemon=True)
        self._thread.start()

    def _serve(self, link: LocalLink) -> None:
        try:
            receive(link, self._bench.vault, "192.0.2.7 port 22")
        except Exception as error:  # noqa: BLE001 - whatever it is, a test looks at it
            self.error = error

    def ended(self) -> BaseException | None:
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "the vault's end stays"
        return self.error


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never happens"
        time.sleep(0.01)


def waiting_session(bench: Bench) -> HostileClient:
    """A session whose sender has gone without a word, after he had sent something."""
    client = HostileClient(bench, may_reconnect=True)
    client.shake_hands()
    client.send_page(0, msgspec.json.encode(client.header()) + b"\n")
    client.link.close()
    wait_for(lambda: [one for one in find_transfers(bench.vault.layout) if one.waits])
    return client


def test_a_sender_who_is_interrupted_says_so_and_the_vaults_end_ends_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter(range(1000))
    step = push_module._Push._step

    def interrupted(self: push_module._Push, sender: object) -> None:
        if next(steps) == 2:
            raise KeyboardInterrupt
        step(self, sender)  # type: ignore[arg-type]

    monkeypatch.setattr(push_module._Push, "_step", interrupted)
    vault = VaultsEnd(bench)
    with pytest.raises(KeyboardInterrupt):
        push(ThreadedLink(vault.link), bench.request(retries=12), Progress(), again=lambda: pytest.fail("nobody comes back"))
    assert isinstance(vault.ended(), InterruptedRunError)
    assert find_transfers(bench.vault.layout) == []
    with lock_item(bench.vault.item(bench.name)):
        assert len(os.listdir(bench.vault.layout.item(bench.name).incoming)) == 1  # what had arrived is kept


@pytest.mark.parametrize("pause", range(3))
def test_a_sender_who_is_interrupted_in_the_middle_of_a_frame_says_so_after_the_rest_of_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, pause: int
) -> None:
    """With a limit on the rate he spends most of the time there; the vault's end waited for him for a quarter of an hour."""
    torn = 0

    class Time:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def sleep(_seconds: float) -> None:
            nonlocal torn
            if [one for one in outlets if one.has_partial_frame]:
                torn += 1
            if torn > pause:
                raise KeyboardInterrupt

    outlets: list[outlet_module.BufferedWriter] = []
    monkeypatch.setattr(outlet_module, "time", Time)
    make = outlet_module.BufferedWriter.__init__

    def made(self: outlet_module.BufferedWriter, link: Link, limit_rate: int | None) -> None:
        make(self, link, limit_rate)
        outlets.append(self)

    monkeypatch.setattr(outlet_module.BufferedWriter, "__init__", made)
    vault = VaultsEnd(bench)
    with pytest.raises(KeyboardInterrupt):
        push(
            ThreadedLink(vault.link),
            bench.request(retries=12, limit_rate=200_000),
            Progress(),
            again=lambda: pytest.fail("nobody comes back"),
        )
    assert torn > pause
    assert isinstance(vault.ended(), InterruptedRunError)
    assert find_transfers(bench.vault.layout) == []


def test_a_defect_of_the_sender_is_said_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(self: push_module._Push, sender: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(push_module._Push, "_step", defect)
    vault = VaultsEnd(bench)
    with pytest.raises(ZeroDivisionError):
        push(ThreadedLink(vault.link), bench.request(retries=12), Progress(), again=lambda: pytest.fail("nobody comes back"))
    assert not isinstance(vault.ended(), LinkLostError)


class SlowLink:
    """A link that takes half of a block, and the rest when it is told to."""

    peer = None
    wire_sent = wire_received = 0

    def __init__(self) -> None:
        self.taken = b""
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def read(self) -> bytes:
        return b""

    def write(self, data: bytes) -> None:
        half = len(data) // 2
        self.taken += data[:half]
        self.begun.set()
        assert self.go_on.wait(SECONDS)
        self.taken += data[half:]

    def close(self) -> None:
        self.go_on.set()


def test_a_frame_that_is_being_sent_when_ctrl_c_comes_is_whole_before_the_last_word() -> None:
    link = SlowLink()
    steady = ThreadedLink(link)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt() -> None:
        link.begun.wait(SECONDS)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            steady.write(b"a whole frame")
            thread.join()
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert link.taken == b"a whol"
    link.go_on.set()
    steady.write_last(b" and goodbye")
    steady.close()
    assert link.taken == b"a whole frame and goodbye"


def test_a_link_that_takes_nothing_keeps_nobody_who_wants_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evidencesync.connection.link._LAST_WORD_SECONDS", 0.01)
    link = SlowLink()
    steady = ThreadedLink(link)
    with pytest.raises(LinkLostError):
        steady._put(b"stuck", time.monotonic() + 0.01)
    steady.write_last(b"goodbye")
    steady.close()
    assert b"goodbye" not in link.taken


def test_a_sender_who_will_not_come_back_is_not_waited_for(bench: Bench) -> None:
    """Without attempts (`again`) he says so beforehand."""
    vault = VaultsEnd(bench)
    with pytest.raises(LinkLostError):
        push(CutLink(vault.link, sent=5 * MIB), bench.request(), Progress())
    assert isinstance(vault.ended(), LinkLostError)


@pytest.mark.parametrize(("told", "waits"), [(None, RECONNECT_SECONDS), (0, 0), (931, 931), (2**32 - 1, MAX_RECONNECT_SECONDS)])
def test_for_how_long_a_sender_is_waited_for(told: int | None, waits: float) -> None:
    line = SenderConnection(local_pair()[0])
    if told is not None:
        line.set_patience(Patience(60_000, told, 0))
    assert line._reconnect_seconds == waits
    line.close()


def test_a_transfer_that_waits_is_shown_by_list_and_clean_and_ended_by_clean(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    client = waiting_session(bench)
    vault = str(bench.vault.layout.root)
    assert main(["list", vault, "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["transfers"]
    assert (one["state"], one["session"], one["principal"]) == ("waiting", client.session, "ana@lab")
    assert one["key"] == bench.signer.public_key.fingerprint
    assert one["received_from"] == "a hostile test"
    assert one["since"] < one["ends"]
    assert main(["list", vault]) == 0
    shown = capsys.readouterr().out
    assert "waits for its sender" in shown
    assert "evidencesync clean VAULT" in shown

    assert main(["clean", vault, "--yes", "--json"]) == 0
    said = capsys.readouterr()
    cleaned = json.loads(said.out)
    assert [two["session"] for two in cleaned["ended"]] == [client.session]
    assert [two["session"] for two in cleaned["removed"]] == [client.session]
    assert "ana@lab" in said.err
    assert isinstance(client.ended(), LinkLostError)
    assert not bench.vault.layout.item(bench.name).root.exists()  # nothing was ever published in it
    assert main(["clean", vault]) == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_clean_asks_before_it_ends_anything(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = waiting_session(bench)
    asked: list[str] = []

    def no(_console: object, question: str) -> bool:
        asked.append(question)
        return False

    monkeypatch.setattr("evidencesync.cli.console.Console.ask", no)
    assert main(["clean", str(bench.vault.layout.root)]) == 0
    assert asked == ["End 1 waiting transfer?"]
    assert "ended 0 of 1" in capsys.readouterr().out
    assert [one.session for one in find_transfers(bench.vault.layout)] == [client.session]
    assert end_waiting(bench.vault.layout, find_transfers(bench.vault.layout))
    client.ended()


def test_a_transfer_that_is_under_way_is_shown_and_not_ended(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    client = HostileClient(bench, may_reconnect=True)
    client.shake_hands()
    (one,) = find_transfers(bench.vault.layout)
    assert (one.session_state.state, one.session_state.ends_ns) == ("receiving", None)
    assert main(["clean", str(bench.vault.layout.root), "--yes"]) == 0
    assert "nothing to remove" in capsys.readouterr().out
    assert end_waiting(bench.vault.layout, [one]) == []
    client.hang_up()


def flood_of_keep_alives(client: HostileClient) -> threading.Event:
    """Says Alive all the time, and nothing else, until the event is set or the link has ended."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set() and client.send(*[Alive()] * 100):
            pass

    threading.Thread(target=run, daemon=True).start()
    return over


def test_a_sender_who_only_says_that_he_is_there_must_let_another_one_in(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """He holds the item for ever otherwise; where nobody else wants it, a tape may take days."""
    monkeypatch.setattr(sender_connection, "MAX_STANDSTILL_SECONDS", -1.0)
    client = HostileClient(bench, may_reconnect=True)
    client.shake_hands()
    client.send_page(0, msgspec.json.encode(client.header()) + b"\n")
    client.hear(PagesStored)
    over = flood_of_keep_alives(client)
    assert bench.push().acquisition == 1
    assert isinstance(client.ended(), LinkLostError)
    over.set()


def test_a_sender_who_only_comes_back_again_and_again_must_let_another_one_in(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_connection, "MAX_STANDSTILL_SECONDS", 0.0)
    client = HostileClient(bench, may_reconnect=True)
    client.shake_hands()
    client.send_page(0, msgspec.json.encode(client.header()) + b"\n")
    client.hear(PagesStored)
    again = HostileClient(bench, session=client.session, may_reconnect=True)
    assert again.resume().pages == 1
    assert bench.push().acquisition == 1
    assert isinstance(client.ended(), LinkLostError)


def test_a_sender_who_was_still_waited_for_keeps_the_item_and_the_other_one_is_told_who_he_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive_module, "_NOTICE_SECONDS", 0.0)
    client = HostileClient(bench, may_reconnect=True)
    client.shake_hands()
    over = flood_of_keep_alives(client)
    with pytest.raises(LockedError, match=r"by another process: ana@lab, receiving since 20\d\d-"):
        bench.push()
    over.set()
    client.send(Failure("interrupted", "enough", None))
    client.ended()
