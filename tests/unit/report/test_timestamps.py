"""What a report says of a timestamp: nothing reads as trusted whose authority nobody has checked."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from evidencesync.custody.documents import CustodyRecord, Person
from evidencesync.report import texts
from evidencesync.report.blocks import Table
from evidencesync.report.custody_pages import custody_section
from evidencesync.report.document import Acquisition, Contents, CustodyStep, Item, Judgement, State
from evidencesync.report.timestamps import is_checked, timestamp_text, timestamps_text
from evidencesync.verify.findings import ByVault, Checked, Finding, Reporter
from evidencesync.verify.findings import Findings as Found

_DAY = "2026-06-0{}T10:00:00.000000Z"
_STATED = {"gen_time": _DAY.format(1), "authority": "TSA"}


def judged(*slugs: str, state: State = "pass", by_vault: ByVault | None = None) -> Judgement:
    found = Found()
    for slug in slugs:
        Reporter(found, case="C", item="I", acquisition=1).report(12, slug, "said", "timestamp.tsr")  # type: ignore[arg-type]
    checked = Checked(1, 1, 1, 1, 3, 1, 1)
    return Judgement(state, "checked", None, 0, _DAY.format(2), 0, "vault", ["blake3"], checked, [], found.listed(), by_vault)


def _item(details: Mapping[str, str] | None) -> Item:
    record = CustodyRecord(
        format="evidencesync-custody/1",
        vault_id="0" * 32,
        sequence=3,
        type="timestamped",
        time=_DAY.format(1),
        case="C",
        item="I",
        actor=Person(name="Ana", principal="ana@lab", key="SHA256:" + "A" * 43),
        previous_sha256="0" * 64,
        details=dict(details or {}),
        acquisition=1,
    )
    custody = [CustodyStep(3, record, "0" * 64, "good", "a reason")] if details is not None else []
    return Item("C", "I", "cases/C/I", None, [], None, None, custody, [_acquisition(timestamped=True)], [], None)


def _acquisition(*, timestamped: bool) -> Acquisition:
    contents = Contents(None, 0, [], [], 0, {}, [], 0, 0, None)
    return Acquisition(1, None, None, None, None, contents, [], [], timestamped, None)


_VAULT = ByVault("vault.lab:/v", "SHA256:" + "A" * 43, "evidencesync 1", _DAY.format(1), _DAY.format(2), None, "pass", None)


@pytest.mark.parametrize(
    ("judgement", "said"),
    [
        (judged("timestamp"), texts.AUTHORITY_CHECKED),
        (judged("authority-not-checked"), texts.AUTHORITY_NO_ROOT),
        (judged(), texts.AUTHORITY_NOT_CHECKED),
        (judged("timestamp", state="not-verified"), texts.AUTHORITY_NOT_CHECKED),
        (judged("timestamp", "timestamp-differs", state="fail"), texts.TIMESTAMP_WRONG.format(mark="✗")),
        (judged("untrusted-authority", state="fail"), texts.TIMESTAMP_WRONG.format(mark="✗")),
        (judged("timestamp", by_vault=_VAULT), texts.AUTHORITY_BY_VAULT),
        (judged("timestamp", by_vault=msgspec.structs.replace(_VAULT, documents="pass")), texts.AUTHORITY_CHECKED),
    ],
)
def test_each_place_that_shows_a_timestamp_says_whether_its_authority_was_checked(judgement: Judgement, said: str) -> None:
    item = _item(_STATED)
    whole = f"2026-06-01 10:00:00 UTC, stated by TSA (custody record 3); {said}"
    assert timestamp_text(judgement, item, item.acquisitions[0]) == whole
    assert timestamps_text(judgement, [item]) == f"item I, acquisition 1: {said}"
    assert is_checked(judgement, item, 1) is (said == texts.AUTHORITY_CHECKED)
    (table,) = (block for block in custody_section("a", item, judgement).blocks if isinstance(block, Table))
    assert table.rows[0][4].endswith(f" [{said}]")


def test_what_was_found_of_one_acquisition_says_nothing_of_another() -> None:
    other: Finding = msgspec.structs.replace(judged("timestamp").findings[0], acquisition=2)
    judgement = msgspec.structs.replace(judged(), findings=[other])
    assert not is_checked(judgement, _item(_STATED), 1)


def test_no_timestamp_is_none_and_one_without_a_record_is_said_to_be_that() -> None:
    item = _item(None)
    without = msgspec.structs.replace(item, acquisitions=[_acquisition(timestamped=False)])
    assert timestamp_text(judged(), item, without.acquisitions[0]) == timestamps_text(judged(), [without]) == "none"
    said = timestamp_text(judged("timestamp-not-recorded", state="fail"), item, item.acquisitions[0])
    assert said == f"there is one, which no custody record states; {texts.TIMESTAMP_WRONG.format(mark='✗')}"
