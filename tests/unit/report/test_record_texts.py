"""What a program recorded reads as a sentence, what a person stated as labels; nothing is lost where a record is unusual."""

from __future__ import annotations

from typing import Any

import pytest

from evidencesync.custody.documents import CustodyRecord, Person
from evidencesync.report.record_texts import record_text

DIGEST = "ab" * 32
TIMESTAMPED = {
    "token_sha256": DIGEST,
    "gen_time": "2026-06-01T10:00:00.000000Z",
    "policy": "1.2.3",
    "serial": "77",
    "authority": "CN=Clock",
    "imprint": "sha512:00",
}


def record(kind: Any, **details: str) -> CustodyRecord:
    return CustodyRecord(
        format="evidencesync-custody/1",
        vault_id="0" * 32,
        sequence=2,
        type=kind,
        time="2026-06-01T10:00:00.000000Z",
        case="c",
        item="i",
        actor=Person(name="Ana", principal="ana@lab", key="SHA256:x"),
        previous_sha256=DIGEST,
        details=details,
    )


def test_a_timestamp_is_a_sentence_with_a_time_in_utc() -> None:
    assert record_text(record("timestamped", **TIMESTAMPED)) == (
        "CN=Clock states that the manifest's signature existed at 2026-06-01 10:00:00 UTC. Its answer has the number 77 under "
        f"the policy 1.2.3, and the SHA-256 {DIGEST}."
    )


def test_a_report_is_told_with_its_digest_and_where_the_chain_ended() -> None:
    details = {
        "report_sha256": DIGEST,
        "report_format": "pdf",
        "report_made_at": "2026-06-01T10:00:00.5Z",
        "report_verdict": "fail",
        "report_chain_head": f"11 {DIGEST}",
        "report_volumes": "2",
    }
    assert record_text(record("exported", **details)) == (
        "A report was made as PDF at 2026-06-01T10:00:00.5Z, with the verdict FAIL, and signed. "
        f"Its SHA-256 is {DIGEST}. The chain ended then with record 11, SHA-256 {DIGEST}. "
        "Volumes (the SHA-256 is that of volume 1): 2"
    )


@pytest.mark.parametrize("missing", ["authority", "gen_time"])
def test_a_record_without_what_its_sentence_needs_is_shown_with_all_that_it_has(missing: str) -> None:
    details = {name: value for name, value in TIMESTAMPED.items() if name != missing}
    said = record_text(record("timestamped", **details))
    assert all(value in said for value in details.values())
    assert "states that" not in said


def test_what_a_person_stated_has_labels_and_no_control_character() -> None:
    said = record_text(record("corrected", record="3", serial_number="7\x1bK", text="{authority}"))
    assert said == r"Corrects record: 3; Serial number: 7\x1bK; Text: {authority}"


def test_a_verdict_counts_the_records_of_items_and_those_of_the_vault_apart_and_an_older_one_as_it_did() -> None:
    names = ("verdict", "scope", "digests", "trust", "chain_head", "files", "bytes", "errors", "warnings", "acquisitions")
    details = dict.fromkeys(names, "1")
    assert ", 11 custody records and 100 of the vault's own, " in record_text(
        record("verified", **details, records="11", vault_records="100")
    )
    assert ", 111 custody records, " in record_text(record("verified", **details, records="111"))
