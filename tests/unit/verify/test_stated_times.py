"""Every time that a finding states is the time of what it says was done then."""

from __future__ import annotations

import re
from typing import Final

import pytest
from msgspec.structs import replace

from evidencesync.custody.documents import CustodyRecord
from evidencesync.custody.record import decode_record
from evidencesync.evidence.number_format import exact_time_text, time_text
from evidencesync.evidence.utc_time import format_utc_time, parse_utc_time, shown_time
from evidencesync.localstate.heads import HeadMemory
from evidencesync.vault.item import ItemState
from evidencesync.vault.staging import Staging
from evidencesync.verify.chain_times import Stopwatch
from tests.unit.vault.acquiring import STARTED, Acquirer, new_signer, new_vault
from tests.unit.verify.busy import Busy
from tests.unit.verify.sample import NOW_NS, Made, slugs

RECEIVED_NS: Final = parse_utc_time(STARTED)
DAY_NS: Final = 86_400 * 1_000_000_000
TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.]+ UTC")


def to_the_second(nanoseconds: int) -> str:
    return time_text(format_utc_time(nanoseconds))


def test_a_retired_key_is_told_with_the_times_of_its_end_of_the_check_and_of_the_signature(made: Made) -> None:
    made.open().trust.retire(made.examiner.public_key, at_ns=RECEIVED_NS + DAY_NS)
    told = [one.message for one in made.audit().findings if one.slug == "retired-signer"]
    assert told
    for message in told:
        assert f"was trusted until {to_the_second(RECEIVED_NS + DAY_NS)}" in message
        assert f"not at {to_the_second(NOW_NS)}, the time of this check" in message
        assert f"the signature counts as of {exact_time_text(STARTED)}, when the vault signed for it" in message
        assert len(TIME.findall(message)) == 3
        assert "the signature is of" not in message


def test_a_key_that_was_never_trusted_then_is_told_with_the_time_by_which_it_was_judged(made: Made) -> None:
    made.open().trust.retire(made.examiner.public_key, at_ns=RECEIVED_NS - DAY_NS)
    told = [one.message for one in made.audit().findings if one.slug == "untrusted-signer"]
    assert told
    for message in told:
        assert f"was trusted until {to_the_second(RECEIVED_NS - DAY_NS)}, not at {to_the_second(RECEIVED_NS)}" in message
        assert f"(judged at {exact_time_text(STARTED)}, when the vault signed for it)" in message


@pytest.mark.parametrize(("hours", "warned"), [(-1, True), (0, False), (1, False)])
@pytest.mark.parametrize("kind", ["acquired", "received"])
def test_an_acquisition_that_is_dated_before_the_one_in_front_of_it_is_a_warning(
    made: Made, monkeypatch: pytest.MonkeyPatch, kind: str, hours: int, *, warned: bool
) -> None:
    vault = new_vault(made.path.parent / "other", made.examiner)
    acquirer = Acquirer(vault, made.examiner)
    acquirer.acquire({b"x": b"1"})
    at = format_utc_time(RECEIVED_NS + hours * 3_600_000_000_000)
    plain = Acquirer.record_value

    def dated(self: Acquirer, staging: Staging, state: ItemState, which: str) -> CustodyRecord:
        record = plain(self, staging, state, which)
        return replace(record, time=at) if which == kind else record

    monkeypatch.setattr(Acquirer, "record_value", dated)
    acquirer.acquire({b"x": b"2"})
    verdict = Made(made.path.parent / "other", made.examiner).audit()
    assert verdict.verdict == "pass"
    told = [one for one in verdict.findings if "the acquisition before" in one.message]
    assert [(one.slug, one.severity, one.acquisition) for one in told] == [("times-contradict", "warning", 2)] * warned
    for one in told:
        assert TIME.findall(one.message) == [exact_time_text(STARTED), exact_time_text(at)]
        second = sorted((made.path.parent / "other" / "cases").glob(f"*/*/custody/*-{kind}.json"))[1]
        assert decode_record(second.read_bytes()).time == at
    assert slugs(verdict) == set()


HOUR_NS: Final = 3_600_000_000_000


def contradictions(made: Made, **options: object) -> list[str]:
    verdict = made.audit(**options)
    assert verdict.verdict == "pass"
    return [one.message for one in verdict.findings if one.slug == "times-contradict"]


@pytest.mark.parametrize(("hours", "warned"), [(-1, True), (0, False), (1, False)])
def test_a_record_that_is_dated_before_the_one_it_follows_is_a_warning(made: Made, hours: int, *, warned: bool) -> None:
    """In the vault's own chain, where a clock was set back between two pushes."""
    trust = made.open().trust
    trust.add(new_signer().public_key, "ben", at_ns=RECEIVED_NS)
    trust.add(new_signer().public_key, "cleo", at_ns=RECEIVED_NS + hours * HOUR_NS)
    told = contradictions(made)
    assert len(told) == warned
    for message in told:
        assert TIME.findall(message) == [shown_time(RECEIVED_NS - HOUR_NS), exact_time_text(STARTED)]
        assert "0003-trust-changed.json is dated" in message
        assert "record 2 before it" in message
        assert "1 h 00 min earlier" in message


@pytest.mark.parametrize(("hours", "warned"), [(-1, True), (0, False), (1, False)])
def test_what_is_noted_of_an_item_before_the_record_that_it_follows_is_a_warning(made: Made, hours: int, *, warned: bool) -> None:
    vault = made.open()
    name = next(vault.items())
    busy = Busy(made.path, made.examiner, new_signer(), HeadMemory(made.path.parent / "state"), RECEIVED_NS + hours * HOUR_NS)
    busy.note(made.examiner, "ana", name)
    told = [one for one in contradictions(made) if "noted" in one]
    assert len(told) == warned
    assert all("-noted.json is dated" in one and one.endswith(" earlier") for one in told)


def test_records_that_are_dated_after_the_check_are_a_warning_for_each_chain(made: Made) -> None:
    trust = made.open().trust
    for days in (1, 2):
        trust.add(new_signer().public_key, f"ben{days}", at_ns=NOW_NS + days * DAY_NS)
    (told,) = contradictions(made)
    assert told.startswith("2 records of this chain are dated after this check, at ")
    assert told.endswith(f"; the latest is 0003-trust-changed.json, of {shown_time(NOW_NS + 2 * DAY_NS)}")


def test_a_record_that_came_while_a_check_ran_for_days_is_not_of_the_future(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    made.open().trust.add(new_signer().public_key, "ben", at_ns=NOW_NS + DAY_NS)
    assert contradictions(made)
    monkeypatch.setattr(Stopwatch, "elapsed_ns", lambda _: DAY_NS)
    assert not contradictions(made)
    monkeypatch.undo()
    for ahead in ("_steady_ns", "_clock_ns"):
        watch = Stopwatch()
        setattr(watch, ahead, getattr(watch, ahead) - DAY_NS)
        assert DAY_NS <= watch.elapsed_ns() < DAY_NS + HOUR_NS
