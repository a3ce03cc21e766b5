"""A vault that works is not silent, whatever it works on and however long the disk takes: nobody gives it up."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.acquire import connect as connect_module
from evidencesync.acquire import handshake as handshake_module
from evidencesync.acquire import remote_source
from evidencesync.acquire.connect import connect_to_vault
from evidencesync.acquire.custody import RecordDraft, append_record
from evidencesync.acquire.push import push
from evidencesync.connection import inbox as inbox_module
from evidencesync.connection import link as link_module
from evidencesync.connection import read_ahead as read_ahead_module
from evidencesync.connection import sender_connection
from evidencesync.connection.link import Link, LocalLink
from evidencesync.connection.progress import Progress
from evidencesync.connection.sender_connection import sign_seconds
from evidencesync.custody.documents import SshPeer
from evidencesync.errors import EvidenceSyncError
from evidencesync.ingest import custody as custody_module
from evidencesync.ingest import receive as receive_module
from evidencesync.ingest import session as session_module
from evidencesync.ingest.streams import StreamIntake
from evidencesync.ingest.tree import TreeBuilder
from evidencesync.protocol import failures as failures_module
from evidencesync.protocol.framing import FrameDecoder, decode_message
from evidencesync.protocol.messages import PATIENT_VERSION, PROTOCOL_VERSION, VERSIONS, Alive, Message, Patience, Status
from evidencesync.serve.source_server import serve_source
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions
from evidencesync.vault.item import VaultItem
from evidencesync.vault.ledger import Ledger
from evidencesync.vault.staging import Staging
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.custody_client import custody_request
from tests.support.patience import PATIENCE_SECONDS
from tests.support.pulling import pull_from

MIB = 1 << 20
OFTEN = 0.05


class Heard:
    """A link that counts the messages of one kind that arrive on it."""

    peer: SshPeer | None = None
    wire_sent = wire_received = 0

    def __init__(self, link: Link, kind: type[Message]) -> None:
        self.link = link
        self._kind = kind
        self._count = threading.Semaphore(0)
        self._frames = FrameDecoder()

    def read(self) -> bytes:
        block = self.link.read()
        for number, body in self._frames.update(block):
            if isinstance(decode_message(number, body), self._kind):
                self._count.release()
        return block

    def write(self, data: bytes) -> None:
        self.link.write(data)

    def close(self) -> None:
        self.link.close()

    def has_come(self) -> bool:
        """Whether any has arrived."""
        return self._count.acquire(blocking=False)

    def wait(self, times: int) -> None:
        """Waits until it has arrived so many times more."""
        while self._count.acquire(blocking=False):
            pass
        for _ in range(times):
            assert self._count.acquire(timeout=PATIENCE_SECONDS), "the other end says nothing while it works"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = make_bench(tmp_path)
    (made.source / "image").write_bytes(os.urandom(MIB))
    (made.source / "small").write_bytes(b"one")
    return made


def hold(patch: pytest.MonkeyPatch, where: object, name: str, until: Callable[[], object]) -> list[str]:
    """Makes the first call of a function wait; returns a list that then has its name."""
    real, held = getattr(where, name), list[str]()

    def waiting(*given: object, **named: object) -> object:
        if not held:
            held.append(name)
            until()
        return real(*given, **named)

    patch.setattr(where, name, waiting)
    return held


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (VaultItem, "locked"),
        (receive_module, "complete_unfinished"),
        (VaultItem, "state"),
        (session_module, "catch_up"),
        (Staging, "keep_reserve"),
        (StreamIntake, "on_segment"),
        (StreamIntake, "on_closed"),
        (TreeBuilder, "write"),
        (Staging, "finish"),
        (Staging, "sync"),
        (session_module, "check_finish"),
        (session_module, "publish"),
        (session_module, "state_head"),
        (Staging, "close"),
    ],
)
def test_a_vault_says_that_it_is_alive_at_every_step_that_takes_long(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, where: object, name: str
) -> None:
    monkeypatch.setattr(sender_connection, "SIGN_SECONDS", OFTEN)
    link, thread = bench.serve()
    heard = Heard(link, Status)
    held = hold(monkeypatch, where, name, lambda: heard.wait(2))
    assert push(heard, bench.request(), Progress()).acquisition == 1
    assert held == [name]
    thread.join(PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("where", "name"),
    [(custody_module, "_show"), (custody_module, "_read_history"), (Ledger, "append"), (custody_module, "state_head")],
)
def test_a_vault_says_that_it_is_alive_in_a_custody_session_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, where: object, name: str
) -> None:
    assert bench.push().acquisition == 1
    monkeypatch.setattr(sender_connection, "SIGN_SECONDS", OFTEN)
    link, thread = bench.serve()
    heard = Heard(link, Status)
    held = hold(monkeypatch, where, name, lambda: heard.wait(2))
    noted = append_record(lambda: heard, custody_request(bench), lambda _: RecordDraft("noted", {"text": "again"}))
    assert noted.record.record.details == {"text": "again"}
    assert held == [name]
    thread.join(PATIENCE_SECONDS)


@pytest.mark.parametrize("end", ["client", "vault"])
def test_an_end_of_an_earlier_version_has_a_custody_session_without_signs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """It would take a Status for a breach of the protocol."""
    assert bench.push().acquisition == 1
    monkeypatch.setattr(sender_connection, "SIGN_SECONDS", OFTEN)
    monkeypatch.setattr(handshake_module if end == "client" else failures_module, "VERSIONS", (PROTOCOL_VERSION, PATIENT_VERSION))
    if end == "vault":
        monkeypatch.setattr(handshake_module, "VERSIONS", VERSIONS)
    pause = threading.Event()
    link, thread = bench.serve()
    heard = Heard(link, Status)
    hold(monkeypatch, custody_module, "_read_history", lambda: pause.wait(4 * OFTEN))  # nothing is waited for: a slow step
    noted = append_record(lambda: heard, custody_request(bench), lambda _: RecordDraft("noted", {"text": "again"}))
    assert noted.record.record.details == {"text": "again"}
    assert not heard.has_come()
    thread.join(PATIENCE_SECONDS)


@pytest.mark.parametrize("timeout_ms", [0, 1, 100, 1000, 10_000, 60_000, 2**32 - 1])
def test_signs_of_life_come_several_times_within_the_timeout_and_never_in_a_flood(timeout_ms: int) -> None:
    often = sign_seconds(Patience(timeout_ms, 0, 0))
    assert 0.05 <= often <= 1.0
    assert often <= timeout_ms / 1000 / 2 or timeout_ms < 100


def test_a_source_hears_that_it_is_not_forgotten_while_the_vault_takes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay between the two waits for the vault by then, and has no time for either."""
    (bench.source / "image").write_bytes(os.urandom(8 * MIB))
    monkeypatch.setattr(inbox_module, "_SIGNS", 60 / OFTEN)
    monkeypatch.setattr(link_module, "_LOCAL_BUFFER", MIB)
    monkeypatch.setattr(read_ahead_module, "_AHEAD_BYTES", MIB)
    hearing: list[Heard] = []

    def far_end(link: LocalLink) -> None:
        hearing.append(Heard(link, Alive))
        serve_source(hearing[0], os.fsencode(bench.source))

    held = hold(monkeypatch, StreamIntake, "on_segment", lambda: hearing[0].wait(10))
    assert pull_from(bench, far_end, timeout_seconds=60).acquisition == 1
    assert held


def test_a_source_is_not_given_up_while_the_vault_beside_it_works(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has nothing to send until the vault has taken what was sent: who made nobody move is to be blamed."""
    monkeypatch.setattr(inbox_module, "_SIGNS", 60 / OFTEN)
    monkeypatch.setattr(sender_connection, "SIGN_SECONDS", OFTEN)
    monkeypatch.setattr(remote_source, "MAX_STANDSTILL_SECONDS", 4 * OFTEN)
    monkeypatch.setattr(remote_source, "MAX_CLAIMED_SECONDS", 4 * OFTEN)
    hearing: list[Heard] = []

    def far_end(link: LocalLink) -> None:
        hearing.append(Heard(link, Alive))
        with contextlib.suppress(EvidenceSyncError):  # the other end is told
            serve_source(hearing[0], os.fsencode(bench.source))

    held = hold(monkeypatch, StreamIntake, "on_segment", lambda: hearing[0].wait(20))
    assert pull_from(bench, far_end, timeout_seconds=60).acquisition == 1
    assert held


def test_a_vault_in_this_process_is_never_silent_for_too_long(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be lost between two threads: only an error ends what a slow vault does, and that is told."""
    timeout = 0.1
    pause = threading.Event()
    monkeypatch.setattr(sender_connection, "SIGN_SECONDS", 60.0)
    for where, name in ((connect_module, "_serve_local"), (session_module, "publish")):
        hold(monkeypatch, where, name, lambda: pause.wait(4 * timeout))  # nothing is waited for: this is the slow step
    link = connect_to_vault(Address.parse(str(bench.vault.layout.root)), SshOptions())
    assert push(link, bench.request(timeout_seconds=timeout), Progress()).acquisition == 1
    hold(monkeypatch, connect_module, "_serve_local", lambda: pause.wait(4 * timeout))
    address = Address.parse(str(bench.vault.layout.root))
    request = custody_request(bench, timeout_seconds=timeout)
    append_record(lambda: connect_to_vault(address, SshOptions()), request, lambda _: RecordDraft("noted", {"text": "seen"}))
