"""A server that has no place: who is dropped, or told that it is busy, waits, says so, and asks again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.acquire import connect
from evidencesync.acquire.connect import connect_first, not_regained, pause_seconds
from evidencesync.acquire.push import push
from evidencesync.connection.link import LocalLink, local_pair
from evidencesync.connection.progress import Progress
from evidencesync.connection.sender_connection import Host
from evidencesync.errors import (
    AuthenticationError,
    BusyError,
    ConnectError,
    DroppedError,
    EvidenceSyncError,
    LinkLostError,
    LockedError,
    NoRemoteError,
    ResourcesError,
)
from evidencesync.ingest.receive import receive
from evidencesync.protocol.failures import error_of, failure_of, version_in_common
from evidencesync.protocol.messages import PATIENT_VERSION, PROTOCOL_VERSION
from tests.support.bench_of_evidence import Bench, make_bench


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "FIRST_PAUSE", 0.0)


class Server:
    """Answers each attempt to connect as it is told."""

    def __init__(self, *answers: EvidenceSyncError | str) -> None:
        self._answers = list(answers)

    def __call__(self) -> str:
        answer = self._answers.pop(0)
        if isinstance(answer, EvidenceSyncError):
            raise answer
        return answer


def test_a_first_connection_that_is_dropped_is_made_again_and_said() -> None:
    told: list[str] = []
    server = Server(DroppedError("dropped"), DroppedError("dropped"), "a link")
    assert connect_first(server, server, 5, Progress(notify=told.append)) == "a link"
    assert [line.rpartition(" (")[2] for line in told] == ["1 of 5)", "2 of 5)"]
    assert all("dropped; trying again" in line for line in told)


def test_it_is_dropped_for_good_after_so_many_attempts() -> None:
    server = Server(*[DroppedError(str(number)) for number in range(9)])
    with pytest.raises(DroppedError, match="3"):
        connect_first(server, server, 3, Progress())


@pytest.mark.parametrize("kind", [ConnectError, NoRemoteError, AuthenticationError, LinkLostError])
def test_what_another_attempt_would_not_change_is_raised_at_once(kind: type[EvidenceSyncError]) -> None:
    with pytest.raises(kind):
        connect_first(Server(kind("no"), "a link"), Server("a link"), 5, Progress())


def test_pauses_grow_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "FIRST_PAUSE", 0.5)
    pauses = [pause_seconds(attempt) for attempt in (*range(12), 10_000)]
    assert 0.25 <= pauses[0] <= 0.5
    assert all(15.0 <= pause <= 30.0 for pause in pauses[7:])


def served(bench: Bench, host: Host) -> Callable[[], LocalLink]:
    def serve(link: LocalLink) -> None:
        try:
            receive(link, bench.vault, "a test", may_reconnect=False, host=host)
        except EvidenceSyncError:
            return

    def reach() -> LocalLink:
        ours, theirs = local_pair()
        threading.Thread(target=serve, args=(theirs,), daemon=True).start()
        return ours

    return reach


def test_a_push_waits_for_a_server_that_is_busy(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    (bench.source / "a").write_bytes(b"one")
    answers = iter([False, False, True])
    reach = served(bench, Host(lambda _who, _waits: next(answers), lambda: False))
    told: list[str] = []
    outcome = push(reach(), bench.request(retries=5), Progress(notify=told.append), again=reach)
    assert outcome.acquisition == 1
    assert ["as many sessions as it takes; trying again" in line for line in told] == [True, True]


def test_a_push_that_never_gets_a_place_ends_as_busy(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    reach = served(bench, Host(lambda _who, _waits: False, lambda: False))
    with pytest.raises(BusyError):
        push(reach(), bench.request(retries=2), Progress(), again=reach)
    assert bench.acquisitions() == []


def test_who_waits_in_line_at_the_server_hears_of_it(tmp_path: Path) -> None:
    """So that a sender with a short timeout does not give up."""
    bench = make_bench(tmp_path)

    def wait(_who: str, waits: Callable[[], None]) -> bool:
        for _ in range(3):
            waits()
        return True

    assert push(served(bench, Host(wait, lambda: False))(), bench.request(), Progress()).acquisition == 1


@pytest.mark.parametrize(
    ("error", "old"),
    [
        (BusyError("x"), "locked"),
        (ResourcesError("x"), "internal-error"),
        (LockedError("x"), "locked"),
        (DroppedError("x"), "link-lost"),
    ],
)
def test_an_end_of_the_first_version_is_told_in_words_that_it_knows(error: EvidenceSyncError, old: str) -> None:
    assert failure_of(error, PROTOCOL_VERSION).slug == failure_of(error, None).slug == old
    assert type(error_of(failure_of(error, PATIENT_VERSION))) is type(error)


def test_the_newest_version_in_common_is_spoken() -> None:
    assert version_in_common([1]) == PROTOCOL_VERSION
    assert version_in_common([1, 101, 999]) == PATIENT_VERSION
    assert version_in_common([2, 77]) is None


@pytest.mark.parametrize(
    ("attempts", "said"),
    [
        (0, "the end of the line"),
        (1, "the link was lost, and the attempt to get it back has failed: the end of the line"),
        (3, "the link was lost, and 3 attempts to get it back have failed; the last: the end of the line"),
    ],
)
def test_a_link_that_stays_lost_is_told_with_the_attempts_that_were_made(attempts: int, said: str) -> None:
    assert not_regained(attempts, ConnectError("the end of the line")).message == said
