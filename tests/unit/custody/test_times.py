"""What an acquisition's documents say of when things were done, and when that cannot be."""

from __future__ import annotations

from typing import Final

import msgspec
import pytest
from msgspec.structs import replace

from evidencesync.custody.documents import Clock, Direction
from evidencesync.custody.times import BACKWARDS, SECOND, AcquisitionTimes, Step, clock_difference, measured_clocks
from tests.support.manifest_of_a_folder import header_by

HOUR: Final = 3600 * SECOND
NOON: Final = 1_700_000_000 * SECOND
SOUND: Final = AcquisitionTimes(NOON, NOON + HOUR, NOON + HOUR + SECOND, NOON + HOUR + 2 * SECOND, NOON + HOUR + 2 * SECOND)


def test_times_that_follow_each_other_are_no_contradiction() -> None:
    assert list(SOUND.contradictions()) == []
    assert list(SOUND.of_the_future(Step("it is noon", NOON + HOUR))) == []


@pytest.mark.parametrize(
    ("what", "by", "told"),
    [
        ("began_ns", BACKWARDS + HOUR + SECOND, ["the reading ended at"]),
        ("ended_ns", BACKWARDS + HOUR, ["the examiner signed at"]),
        ("ended_ns", -BACKWARDS - HOUR - SECOND, ["the reading ended at"]),
        ("signed_ns", BACKWARDS + 2 * SECOND, ["the vault received at"]),
        ("signed_ns", -72 * HOUR, ["the examiner signed at", "the vault received at"]),
        ("receipt_ns", -BACKWARDS - SECOND, ["the vault's receipt is dated at"]),
        ("receipt_ns", BACKWARDS + SECOND, ["the vault's receipt is dated at"]),
        ("receipt_ns", BACKWARDS, []),
        ("receipt_ns", -BACKWARDS, []),
    ],
)
def test_a_time_that_cannot_be_is_told_once(what: str, by: int, told: list[str]) -> None:
    found = list(replace(SOUND, **{what: getattr(SOUND, what) + by}).contradictions())
    assert [text.split(", ")[1].split(" 20")[0] for text in found] == told


def test_what_no_document_says_contradicts_nothing() -> None:
    assert list(AcquisitionTimes().contradictions()) == []
    assert list(AcquisitionTimes().of_the_future(Step("it is noon", NOON))) == []
    for name in ("began_ns", "ended_ns", "signed_ns", "received_ns", "receipt_ns"):
        assert list(replace(SOUND, **{name: None}).contradictions()) == []


def test_what_the_vault_dates_after_its_arrival_is_told() -> None:
    (received, receipt) = SOUND.of_the_future(Step("it is early", NOON))
    assert received.startswith("the vault received at ")
    assert receipt.endswith("1 h 00 min earlier")


@pytest.mark.parametrize(
    ("direction", "stated", "said"),
    [
        ("push", None, None),
        ("local", "0.252411360", "no difference from the vault's clock that could be measured (under 1 second)"),
        ("pull", "-0.999999999", "no difference from the source's clock that could be measured (under 1 second)"),
        ("push", "5.299999999", "the vault's clock was about 5.3 seconds ahead"),
        ("push", "-1.000000000", "the vault's clock was about 1 second behind"),
        ("pull", "-10800.252411360", "the source's clock was about 3 h 00 min behind"),
    ],
)
def test_a_difference_of_clocks_is_told_as_exactly_as_it_can_be_known(
    direction: Direction, stated: str | None, said: str | None
) -> None:
    header = msgspec.structs.replace(
        header_by("SHA256:none"), direction=direction, clock=Clock(utc_offset="+00:00", peer_offset_seconds=stated)
    )
    assert clock_difference(header) == said
    assert measured_clocks(header) == ("" if said is None else f"; {said}, as the manifest says")
