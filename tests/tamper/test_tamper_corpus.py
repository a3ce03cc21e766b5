"""Tampering with a vault in hundreds of ways: `verify` finds each for what it is, and no other command says otherwise.

`make tamper` asks all commands about all rows; the suite asks `verify` about two of each finding and some more, and the other
commands about a few.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest

from evidencesync.evidence.path import from_json_fields
from evidencesync.localstate.heads import HeadMemory
from evidencesync.verify.audit import audit_vault
from evidencesync.verify.findings import Finding, Verdict
from tests.support.verified_once import verify_each_signature_once
from tests.tamper.commands import Trial
from tests.tamper.row import Row
from tests.tamper.table import ROWS, SOUND
from tests.tamper.vault import Workshop, workshop

Told = set[tuple[str, str, str]]
EVERYTHING: Final = os.environ.get("TAMPER", "") == "all"
STEP: Final = 1 if EVERYTHING else 80
ASKED: Final = {**{name: ROWS[name] for name in list(ROWS)[::STEP]}, **{name: SOUND[name] for name in list(SOUND)[::STEP]}}


def judged() -> Iterator[str]:
    """The names of the rows that `verify` is asked about: of each finding two, and of all rows every sixteenth."""
    seen: Counter[tuple[str, int, bool]] = Counter()
    for number, (name, row) in enumerate(ROWS.items()):
        seen[row.finding] += 1
        if EVERYTHING or seen[row.finding] <= 2 or number % 16 == 0:
            yield name


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with pytest.MonkeyPatch.context() as patch, workshop(tmp_path_factory.mktemp("tamper")) as made:
        verify_each_signature_once(patch)
        yield made


@pytest.fixture(scope="module")
def untouched(shop: Workshop) -> Told:
    """What is said of the vault as it was made: nothing but words about its gaps, its timestamp and a retired signer."""
    shop.renew()
    told = told_of(audit(shop))
    assert {severity for severity, _, _ in told} == {"info"}
    return told


def place_of(finding: Finding) -> str:
    named = finding.path is not None or finding.path_b64 is not None
    return os.fsdecode(from_json_fields(finding.path, finding.path_b64)) if named else ""


def told_of(verdict: Verdict) -> Told:
    return {(one.severity, one.slug, place_of(one)) for one in verdict.findings}


def audit(shop: Workshop, memory: HeadMemory | None = None) -> Verdict:
    return audit_vault(shop.vault, now_ns=time.time_ns(), roots=shop.roots, memory=memory)


def check(shop: Workshop, row: Row, untouched: Told) -> None:
    shop.renew()
    row.do(shop)
    verdict = audit(shop, HeadMemory(shop.state) if row.memory else None)
    told = told_of(verdict)
    assert verdict.exit_code == row.code, sorted(told - untouched)
    found = {slug for severity, slug, place in told if (severity == "error") == bool(row.code) and place == row.place}
    if row.code or row.slug:
        assert (row.slug in found) if row.slug else (found or not row.place), sorted(told - untouched)
    else:
        assert not [one for one in told - untouched if one[0] != "info"]


def test_the_table_has_more_than_six_hundred_kinds() -> None:
    assert len(ROWS) >= 600
    assert len({id(row.do) for row in ROWS.values()}) == len(ROWS)


@pytest.mark.parametrize("name", list(judged()))
def test_verify_finds_it_for_what_it_is(shop: Workshop, untouched: Told, name: str) -> None:
    check(shop, ROWS[name], untouched)


@pytest.mark.parametrize("name", SOUND)
def test_verify_accuses_nobody_of_what_is_sound(shop: Workshop, untouched: Told, name: str) -> None:
    assert SOUND[name].code == 0
    check(shop, SOUND[name], untouched)


@pytest.mark.parametrize("name", ASKED)
def test_no_command_says_otherwise_than_verify(shop: Workshop, name: str) -> None:
    shop.renew()
    ASKED[name].do(shop)
    assert Trial(shop, ASKED[name]).all_objections() == []
