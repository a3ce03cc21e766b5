"""Sessions that wait for senders whose links are lost: how many there may be, and who ends for the next one."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from evidencesync.connection.sender_connection import Host
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.ingest.transfers import find_transfers
from evidencesync.protocol.messages import Alive
from evidencesync.serve.serving import WaitingSession, WaitingSessions
from tests.support.bench_of_evidence import make_bench
from tests.support.hostile_client import SECONDS, HostileClient


def test_a_principal_that_loses_link_after_link_ends_its_own_oldest_sessions_alone() -> None:
    sessions = WaitingSessions(total=6, of_one=4)
    with ExitStack() as stack:

        def wait(who: str) -> WaitingSession:
            one = WaitingSession(sessions)
            stack.enter_context(one.waiting(who))
            return one

        honest = wait("ana")
        hostile = [wait("eve") for _ in range(10)]
        assert [one.is_over for one in hostile] == [True] * 6 + [False] * 4
        also_honest = [wait("bo") for _ in range(2)]
        assert [one.is_over for one in hostile] == [True] * 7 + [False] * 3
        assert not any(one.is_over for one in (honest, *also_honest))


def test_a_session_that_goes_on_gives_its_place_back_and_may_wait_again() -> None:
    sessions = WaitingSessions(total=1, of_one=1)
    one, other = WaitingSession(sessions), WaitingSession(sessions)
    with one.waiting("ana"):
        pass
    with other.waiting("ana"):
        assert not one.is_over
        with one.waiting("ana"):
            assert other.is_over
            assert not one.is_over
    with other.waiting("ana"):
        assert not other.is_over


@pytest.mark.slow
def test_a_vaults_end_that_must_wait_no_longer_ends_and_the_other_ones_stay(tmp_path: Path) -> None:
    bench, sessions = make_bench(tmp_path), WaitingSessions(total=2, of_one=2)
    clients = []
    for number in range(3):
        session = WaitingSession(sessions)
        host = Host(lambda _who, _waits: True, lambda session=session: session.is_over, session.waiting)  # type: ignore[misc]
        one = HostileClient(replace(bench, name=ItemName(Title("C"), Title(f"I{number}"))), may_reconnect=True, host=host)
        one.shake_hands()
        one.send(Alive())
        clients.append(one)
    for number, one in enumerate(clients):
        one.link.close()
        until = time.monotonic() + SECONDS
        while number < 2 and sum(found.waits for found in find_transfers(bench.vault.layout)) <= number:
            assert time.monotonic() < until
    assert clients[0].ended().slug == "link-lost"
    assert {found.item for found in find_transfers(bench.vault.layout)} == {"I1", "I2"}
