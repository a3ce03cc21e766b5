"""Links that are lost at any moment: the session goes on where the vault stands, and the result is that of a quiet run."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from evidencesync.acquire import connect
from evidencesync.connection.session_socket import ResumeRequest, SocketLink
from evidencesync.errors import LinkLostError
from evidencesync.ingest import receive
from evidencesync.limits import SMALL_FILE, WINDOW
from evidencesync.vault.item import VaultItem, lock_item
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.cut_links import FlakyBench
from tests.support.hostile_client import HostileClient
from tests.support.patience import PATIENCE_SECONDS
from tests.support.small_segments import UNIT, cut_smaller

SIZE = 24 * UNIT
CUTS = [40, 400, 3_000, 40_000, UNIT, 5 * UNIT, 11 * UNIT, 17 * UNIT]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_smaller(monkeypatch)
    # Short, but many: on a busy machine it takes its time until the vault's end has noticed that a link is lost.
    monkeypatch.setattr(connect, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(connect, "LONGEST_PAUSE", 0.2)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What most tests acquire, and none changes."""
    source = tmp_path_factory.mktemp("evidence")
    chance = random.Random(7)
    (source / "a-image").write_bytes(chance.randbytes(9 * UNIT) + bytes(3 * UNIT) + chance.randbytes(5 * UNIT))
    (source / "small").mkdir()
    for number in range(200):
        (source / "small" / f"{number:03}").write_bytes(chance.randbytes(chance.randrange(7_500)))
    for number in range(8):
        (source / f"z-{number}").write_bytes(chance.randbytes(SMALL_FILE + 4000))
    return source


@pytest.fixture
def bench(tmp_path: Path, evidence: Path) -> Bench:
    return replace(make_bench(tmp_path), source=evidence)


@pytest.fixture
def changing(tmp_path: Path, evidence: Path) -> Bench:
    """The same, with a source of its own."""
    bench = make_bench(tmp_path)
    shutil.copytree(evidence, bench.source, dirs_exist_ok=True)
    return bench


def assert_as_undisturbed(bench: Bench, number: int = 1) -> None:
    """The acquisition has what the source has, and verifies."""
    data = bench.acquisition(number) / "data"
    for folder, _, names in os.walk(bench.source):
        for name in names:
            path = Path(folder) / name
            assert (data / path.relative_to(bench.source)).read_bytes() == path.read_bytes()
    verdict = audit_vault(bench.vault.layout.root, now_ns=time.time_ns())
    assert (verdict.verdict, [finding.slug for finding in verdict.findings if finding.severity == "error"]) == ("pass", [])
    assert os.listdir(bench.vault.layout.item(bench.name).incoming) == []


@pytest.mark.parametrize("after", CUTS)
def test_a_link_lost_while_sending_is_made_anew_and_the_session_goes_on(bench: Bench, after: int) -> None:
    flaky = FlakyBench(bench)
    outcome = flaky.push([{"sent": after}, None])
    flaky.join()
    assert outcome.acquisition == 1
    assert flaky.links == 2
    assert outcome.interruptions == 1
    assert outcome.literal_bytes < SIZE + after + WINDOW
    assert_as_undisturbed(bench)


def test_a_lost_link_and_the_new_one_stand_in_the_logs_of_both_ends(bench: Bench) -> None:
    flaky = FlakyBench(bench)
    outcome = flaky.push([{"sent": 5 * UNIT}, None])
    flaky.join()
    quiet = ("entry", "begun", "ended")
    assert [name for name in flaky.log.names("push") if name not in quiet] == ["link-lost", "resumed"]
    assert [name for name in flaky.log.names("vault") if name not in quiet] == ["link-lost", "resumed", "published"]
    about = {(one["session"], one["acquisition"]) for one in flaky.log.events if one["event"] in ("published", "difference")}
    assert about == {(outcome.session, 1)}


@pytest.mark.parametrize("after", [10, 200, 700, 900, 1_200, 2_000])
def test_a_link_lost_while_answers_come_is_made_anew_and_the_session_goes_on(bench: Bench, after: int) -> None:
    flaky = FlakyBench(bench)
    outcome = flaky.push([{"received": after}, None])
    flaky.join()
    assert outcome.acquisition == 1
    assert_as_undisturbed(bench)


def test_a_half_open_link_does_not_keep_its_own_sender_out(bench: Bench) -> None:
    flaky = FlakyBench(bench)
    outcome = flaky.push([{"sent": 10 * UNIT, "silent": True}, None])
    flaky.join()
    assert (outcome.acquisition, outcome.interruptions) == (1, 1)
    assert_as_undisturbed(bench)


def test_many_losses_one_after_the_other_are_survived_as_long_as_something_arrives(bench: Bench) -> None:
    flaky = FlakyBench(bench)
    outcome = flaky.push([{"sent": 5 * UNIT} for _ in range(8)] + [None])
    flaky.join()
    assert outcome.acquisition == 1
    assert outcome.interruptions >= 4
    assert_as_undisturbed(bench)


def test_what_is_given_up_is_gone_on_from_by_the_next_run(bench: Bench) -> None:
    flaky = FlakyBench(bench)
    with pytest.raises(LinkLostError, match="attempts to get it back have failed"):
        flaky.push([{"sent": 12 * UNIT}], retries=3)
    assert bench.acquisitions() == []
    outcome = flaky.push_when_free([None])
    flaky.join()
    assert (outcome.acquisition, outcome.leftovers) == (1, 1)
    assert outcome.literal_bytes < SIZE - 9 * UNIT
    assert_as_undisturbed(bench)


@pytest.mark.parametrize("after", [1_500, 2_000, 3_000])
def test_a_second_attempt_that_is_given_up_early_loses_nothing_of_the_first(bench: Bench, after: int) -> None:
    """It has taken the begun file over, and has seen only a little of it again."""
    flaky = FlakyBench(bench)
    with pytest.raises(LinkLostError):
        flaky.push([{"sent": 12 * UNIT}], retries=1)
    with pytest.raises(LinkLostError):
        flaky.push_when_free([{"sent": after}], retries=1)
    outcome = flaky.push_when_free([None])
    flaky.join()
    assert outcome.acquisition == 1
    assert outcome.literal_bytes < SIZE - 9 * UNIT
    assert_as_undisturbed(bench)


@pytest.mark.parametrize("after", [4 * UNIT, 6 * UNIT, 7 * UNIT, 8 * UNIT, 9 * UNIT, 10 * UNIT, 12 * UNIT])
def test_a_page_that_waits_for_a_large_content_outlives_the_link(changing: Bench, after: int) -> None:
    """It was read before the link was lost, and all that it waits for may be there again before it is named again."""
    changing.push()
    (changing.source / "b-new").write_bytes(random.Random(8).randbytes(20 * UNIT))
    flaky = FlakyBench(changing)
    outcome = flaky.push([{"sent": after}, None])
    flaky.join()
    assert (outcome.acquisition, outcome.interruptions) == (2, 1)
    assert_as_undisturbed(changing, 2)


def test_a_session_that_was_lost_before_anything_arrived_leaves_nothing(changing: Bench) -> None:
    for path in changing.source.rglob("*"):
        if path.is_file():
            path.unlink()
    for number, after in enumerate(range(100, 1_300, 50), start=1):  # the vault's first words, and the item's state
        flaky = FlakyBench(changing)
        assert flaky.push([{"received": after}, None]).acquisition == number
        flaky.join()
        assert os.listdir(changing.vault.layout.item(changing.name).incoming) == []


@pytest.mark.parametrize("after", [1_800, 6_000])
def test_a_run_that_goes_on_and_is_lost_itself_costs_nothing_that_was_staged(changing: Bench, after: int) -> None:
    """The second run takes the staged file over, and knows little of it when it ends."""
    (changing.source / "a-image").write_bytes(random.Random(9).randbytes(40 * UNIT))
    flaky = FlakyBench(changing, may_reconnect=False)
    incoming = changing.vault.layout.item(changing.name).incoming
    staged = []
    for sent in (36 * UNIT, after):
        with pytest.raises(LinkLostError):
            flaky.push([{"sent": sent}], retries=0)
        flaky.join()
        staged.append(sum(path.stat().st_size for path in incoming.glob("*/contents/*")))
    assert staged[0] > UNIT
    assert staged[1] >= staged[0]
    outcome = flaky.push([None])
    flaky.join()
    assert outcome.literal_bytes <= 48 * UNIT - staged[0]  # the image, and the other files with something to spare
    assert_as_undisturbed(changing)


@pytest.mark.parametrize("waits_for_the_lock", [True, False])
def test_a_sender_who_is_gone_before_he_sent_anything_is_not_waited_for(
    bench: Bench, waits_for_the_lock: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session may get its lock when its sender has long gone. It would keep the item for an hour, for nothing."""
    bench.push()
    client = HostileClient(bench, may_reconnect=True)
    if waits_for_the_lock:
        with lock_item(bench.vault.item(bench.name, create=True)):
            finds_it_locked, request_resume = threading.Event(), receive._request_resume

            def request_and_report(item: VaultItem, request: ResumeRequest) -> SocketLink | bool:
                finds_it_locked.set()
                return request_resume(item, request)

            monkeypatch.setattr(receive, "_request_resume", request_and_report)
            client.send(client.begin(client.claim(client.hello())))
            assert finds_it_locked.wait(PATIENCE_SECONDS)
            client.link.close()
    else:
        client.shake_hands()
    client.hang_up()
    assert bench.push().acquisition == 2
