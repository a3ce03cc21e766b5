"""What a report says of an item's chain of custody beside the records themselves."""

from __future__ import annotations

from collections.abc import Mapping

from evidencesync.custody.documents import CustodyRecord, Person, RecordType
from evidencesync.report.blocks import Table
from evidencesync.report.custody_pages import custody_section, holding_facts
from evidencesync.report.document import CustodyStep, Item, SignatureState
from tests.unit.report.test_timestamps import judged

_DAY = "2026-06-0{}T10:00:00.000000Z"


def _step(
    sequence: int, kind: RecordType, details: Mapping[str, str] | None = None, signature: SignatureState = "good"
) -> CustodyStep:
    record = CustodyRecord(
        format="evidencesync-custody/1",
        vault_id="0" * 32,
        sequence=sequence,
        type=kind,
        time=_DAY.format(sequence),
        case="C",
        item="I",
        actor=Person(name="Ana", principal="ana@lab", key="SHA256:" + "A" * 43),
        previous_sha256="0" * 64,
        details=dict(details or {}),
        acquisition=1 if kind == "timestamped" else None,
    )
    return CustodyStep(sequence, record, "0" * 64, signature, "a reason")


def _item(*custody: CustodyStep) -> Item:
    return Item("C", "I", "cases/C/I", None, [], None, None, list(custody), [], [], None)


def test_an_item_that_is_sealed_says_since_when_on_its_own_page() -> None:
    (fact,) = holding_facts(_item(_step(1, "noted"), _step(2, "sealed")))
    assert (fact.label, fact.value) == (
        "Sealed",
        "since 2026-06-02 10:00:00 UTC (custody record 2): it takes no more acquisitions",
    )
    assert not list(holding_facts(_item(_step(1, "sealed", signature="refused"))))


def test_a_record_that_was_corrected_names_each_correction() -> None:
    wrong, right = _step(1, "noted", {"text": "x"}), {"record": "1", "text": "y"}
    item = _item(wrong, _step(2, "corrected", right), _step(3, "corrected", right), _step(4, "corrected", right, "refused"))
    (table,) = (block for block in custody_section("a", item, judged()).blocks if isinstance(block, Table))
    assert str(table.rows[0][4]).endswith(" [corrected by record 2, 3]")
    assert "[corrected" not in str(table.rows[1:])
