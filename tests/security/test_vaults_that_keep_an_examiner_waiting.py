"""A vault's end that says something for ever, and never what is waited for, when it is asked for a custody chain."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.acquire import custody_exchange, remote_source, vault_connection
from evidencesync.acquire.custody import RecordDraft, append_record, read_chain
from evidencesync.acquire.push import push
from evidencesync.acquire.vault_connection import VaultConnection
from evidencesync.connection import vault_answers
from evidencesync.connection.link import LocalLink, OwnVaultLink, local_pair
from evidencesync.connection.progress import Progress
from evidencesync.custody.documents import SshPeer
from evidencesync.errors import AuthenticationError, LimitExceededError, LinkLostError, ProtocolError
from evidencesync.protocol.framing import frame_of
from evidencesync.protocol.messages import (
    PREAMBLE,
    PROTOCOL_VERSION,
    SIGNS_VERSION,
    Alive,
    Begin,
    Finish,
    Message,
    Page,
    PageOffer,
    PagesStored,
    Records,
    Resumed,
    SegmentsStored,
    Status,
)
from evidencesync.protocol.pull_messages import (
    SourceSeen,
)
from tests.security.test_hostile_source import OFFER
from tests.support.bench_of_evidence import Bench, copy_of, make_bench
from tests.support.custody_client import custody_request
from tests.support.hostile_vault import MadeUpVault, TamperedLink, push_to
from tests.support.patience import PATIENCE_SECONDS
from tests.support.pulling import pull_from

TIMEOUT = 0.4


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = make_bench(tmp_path_factory.mktemp("template"))
    (made.source / "small").write_bytes(b"evidence")
    made.push()
    return made


@pytest.fixture
def bench(template: Bench, tmp_path: Path) -> Bench:
    return copy_of(template, tmp_path)


class Trickle:
    """The examiner's end of a link to the real vault, of whose words after the first few only a byte comes now and then."""

    peer: SshPeer | None = None
    wire_sent = wire_received = 0

    def __init__(self, link: LocalLink, whole: int, over: threading.Event) -> None:
        self._link = link
        self._whole = whole
        self._over = over
        self._kept = b""

    def read(self) -> bytes:
        if self._whole > 0:
            block = self._link.read()
            self._kept += block[self._whole :]
            self._whole -= len(block[: self._whole])
            return block[: len(block) - len(self._kept)] or self.read()
        self._over.wait(TIMEOUT / 4)  # the rate of the attack, no synchronisation
        if not self._kept:
            self._kept = self._link.read()
        said, self._kept = self._kept[:1], self._kept[1:]
        return said

    def write(self, data: bytes) -> None:
        self._link.write(data)

    def close(self) -> None:
        self._over.set()
        self._link.close()


def ended(work: Callable[[], object]) -> BaseException | None:
    """What it ends with, if it ends."""
    caught: list[BaseException | None] = []

    def run() -> None:
        try:
            work()
            caught.append(None)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            caught.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive(), "it waits for ever"
    return caught[0]


@pytest.mark.parametrize("whole", [10, 150, 700])
def test_a_vault_that_gives_a_byte_now_and_then_is_a_silent_one(bench: Bench, whole: int) -> None:
    over = threading.Event()
    link, thread = bench.serve()
    error = ended(lambda: read_chain(lambda: Trickle(link, whole, over), custody_request(bench, timeout_seconds=TIMEOUT)))
    assert isinstance(error, LinkLostError), error
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def answer_with(bench: Bench, say: Callable[[MadeUpVault], object], version: int = PROTOCOL_VERSION) -> BaseException | None:
    """What asking a made-up vault for a chain ends with, where it says something again and again."""
    ours, theirs = local_pair()

    def run() -> None:
        vault = MadeUpVault(bench, theirs)
        try:
            vault.welcome(version=version)
            for _ in range(100_000):
                say(vault)
        except LinkLostError:
            return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    error = ended(lambda: read_chain(lambda: ours, custody_request(bench)))
    theirs.close()
    thread.join(PATIENCE_SECONDS)
    return error


def test_a_vault_that_stores_nothing_more_and_hangs_up_again_and_again_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time it says anew what it has stored long ago."""
    monkeypatch.setattr(vault_connection, "pause_seconds", lambda _attempt: 0.0)
    links = 0

    def link() -> LocalLink:
        nonlocal links
        links += 1
        ours, theirs = local_pair()
        threading.Thread(target=run, args=(theirs, links == 1), daemon=True).start()
        return ours

    def run(theirs: LocalLink, is_first: bool) -> None:
        vault = MadeUpVault(bench, theirs)
        try:
            if is_first:
                vault.ready()
                vault.hear(Page)
            else:
                vault.welcome()
                vault.hear(Begin)
                vault.say(Resumed(0, 0, 0, stream_open=False, concluding=False), PagesStored(0), SegmentsStored(0))
                vault.hear(PageOffer)
        except LinkLostError:
            pass
        finally:
            theirs.close()

    def again() -> LocalLink:
        if links > 20:
            raise AuthenticationError("it has tried for too long")
        return link()

    error = ended(lambda: push(link(), bench.request(retries=3), Progress(), again=again))
    assert isinstance(error, LinkLostError), error
    assert links == 1 + 3


def test_records_that_are_none_are_not_taken_for_ever(bench: Bench) -> None:
    error = answer_with(bench, lambda vault: vault.say(Records(1, [], more=True)))
    assert isinstance(error, ProtocolError)


def test_records_that_nobody_looks_at_any_more_are_not_taken_for_ever(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one is wrong already: that is kept for the end, and what follows is bounded all the same."""
    monkeypatch.setattr(custody_exchange, "MAX_SHOWN_RECORDS", 1 << 20)
    error = answer_with(bench, lambda vault: vault.say(Records(1, [(bytes(1 << 16), b"s")], more=True)))
    assert isinstance(error, LimitExceededError)


def test_who_thinks_for_longer_than_the_timeout_before_he_signs_loses_no_link(bench: Bench) -> None:
    """What the vault answers then may come in parts."""
    over = threading.Event()

    class Halves(TamperedLink):
        """Each answer in two parts."""

        rest = b""

        def read(self) -> bytes:
            said, self.rest = self.rest or super().read(), b""
            half = len(said) // 2
            if half > 20:
                said, self.rest = said[:half], said[half:]
            return said

    def think(_: object) -> RecordDraft:
        over.wait(2 * TIMEOUT)  # nothing sets it
        return RecordDraft("noted", {"text": "seen"})

    link, thread = bench.serve()
    request = custody_request(bench, timeout_seconds=TIMEOUT)
    appended = append_record(lambda: Halves(link, lambda message: message), request, think)
    assert appended.record.record.sequence == 3
    thread.join(PATIENCE_SECONDS)


AT_WORK = Status("receiving", 0, 0)


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (vault_answers, vault_connection, remote_source):
        for name in ("MAX_STANDSTILL_SECONDS", "MAX_CUSTODY_WORK_SECONDS", "MAX_CLAIMED_SECONDS"):
            monkeypatch.setattr(module, name, TIMEOUT, raising=False)


def say_for_ever(say: Callable[[], object]) -> None:
    rate = threading.Event()
    with contextlib.suppress(LinkLostError):
        while not rate.wait(TIMEOUT / 40):  # the rate of the attack: a flood has a bound of its own
            say()


@pytest.mark.usefixtures("short_patience")
def test_a_vault_that_always_works_and_shows_no_chain_is_given_up(bench: Bench) -> None:
    error = answer_with(bench, lambda vault: vault.say(AT_WORK), SIGNS_VERSION)
    assert isinstance(error, LinkLostError), error
    assert "done nothing" in error.message


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize("word", [AT_WORK, PagesStored(0)], ids=["it works", "it has stored what it had stored"])
@pytest.mark.parametrize("begun", [False, True])
def test_a_vault_that_always_works_and_stores_nothing_is_given_up(bench: Bench, begun: bool, word: Message) -> None:
    def script(vault: MadeUpVault) -> None:
        vault.ready() if begun else vault.welcome()
        say_for_ever(lambda: vault.say(word if begun else AT_WORK))

    error = ended(lambda: push_to(bench, script))
    assert isinstance(error, LinkLostError), error
    assert "done nothing" in error.message


@pytest.mark.usefixtures("short_patience")
def test_a_vault_that_has_read_back_more_than_there_is_has_done_nothing(bench: Bench) -> None:
    """It was sent a few bytes, and says that it reads more and more of them back."""
    done = iter(range(1, 1 << 40, 1 << 20))

    def script(vault: MadeUpVault) -> None:
        vault.ready()
        vault.hear(Finish)
        say_for_ever(lambda: vault.say(Status("read-back", next(done), 1 << 50)))

    error = ended(lambda: push_to(bench, script))
    assert isinstance(error, LinkLostError), error
    assert "done nothing" in error.message


def test_a_vault_that_reads_back_one_byte_a_link_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte would renew the attempts of `--retries`."""
    now = [0.0]
    connection: VaultConnection[bytes] = VaultConnection(local_pair()[0], bench.request(retries=3), Progress(), lambda: 0, None)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    connection.all_bytes = 1 << 40
    renewed = 0
    for done in range(1, 101):
        now[0] += 1
        connection._attempts = 1
        connection._take_stage(Status("read-back", done, 1 << 40))
        renewed += connection._attempts == 0
    assert renewed == 1  # for the stage itself


def test_a_vault_is_not_given_up_for_a_source_that_gives_nothing_for_long(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    ours, theirs = local_pair()
    theirs.write(PREAMBLE + 6 * frame_of(AT_WORK))
    link = OwnVaultLink(ours, threading.current_thread())  # its silences are no pauses
    connection: VaultConnection[bytes] = VaultConnection(link, bench.request(), Progress(), lambda: 0, None)
    for hours in (10, 20, 30):
        now[0] = hours * 3600
        assert connection.take_any(local=True) == (None, AT_WORK)
    for hours in (40, 50):
        now[0] = hours * 3600
        assert connection.take_any(local=False) == (None, AT_WORK)
    now[0] = 60 * 3600
    with pytest.raises(LinkLostError, match="done nothing"):
        connection.take_any(local=False)
    theirs.close()


@pytest.mark.usefixtures("short_patience")
def test_a_vault_that_shows_a_record_now_and_then_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record would begin the time for one answer anew, and a chain may have a hundred thousand."""
    monkeypatch.setattr(vault_answers, "LEAST_RATE", 1 << 30)
    own = bench.vault.ledger
    stored = own.load(own.files()[0])
    said = Records(1, [(stored.data, stored.signature)], more=True)
    rate = threading.Event()

    def say(vault: MadeUpVault) -> None:
        rate.wait(TIMEOUT / 40)  # nothing sets it: a flood has a bound of its own
        vault.say(said)

    error = answer_with(bench, say, SIGNS_VERSION)
    assert isinstance(error, LinkLostError), error
    assert "done nothing" in error.message


@pytest.mark.usefixtures("short_patience")
def test_a_source_that_says_for_ever_that_it_is_further_and_gives_nothing_is_given_up(bench: Bench) -> None:
    def serve(link: LocalLink) -> None:
        link.write(PREAMBLE + frame_of(OFFER))
        link.read()
        seen = iter(range(1 << 40))
        say_for_ever(lambda: link.write(frame_of(SourceSeen(next(seen), 0, 0, 0, 0, None, None, b""))))

    error = ended(lambda: pull_from(bench, serve))
    assert isinstance(error, LinkLostError), error
    assert "done nothing" in error.message


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize("word", [Alive(), SourceSeen(0, 0, 0, 0, 0, None, None, b"")])
def test_a_source_that_is_always_there_and_gives_nothing_is_given_up(bench: Bench, word: Message) -> None:
    def serve(link: LocalLink) -> None:
        link.write(PREAMBLE + frame_of(OFFER))
        link.read()
        say_for_ever(lambda: link.write(frame_of(word)))

    error = ended(lambda: pull_from(bench, serve))
    assert isinstance(error, LinkLostError), error
    assert "done nothing" in error.message
