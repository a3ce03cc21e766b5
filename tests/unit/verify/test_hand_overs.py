"""Hand-overs and corrections that do not hold, put into a chain by somebody who could write to the vault's disk."""

from __future__ import annotations

import pytest

from evidencesync.custody.documents import CustodyRecord, Person, RecordType
from evidencesync.custody.sshsig import SigningKey
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.vault.heads import state_head
from evidencesync.vault.ledger import sign_record
from evidencesync.vault.vault import Vault
from tests.unit.vault.acquiring import item_name, new_signer
from tests.unit.verify.sample import NOW_NS, Made, only, slugs

BEN = new_signer()


def _state(vault: Vault, at_ns: int) -> None:
    state_head(vault, item_name(), vault.item(item_name()).ledger.head(), at_ns=at_ns)


def put(made: Made, kind: RecordType, details: dict[str, str], signer: SigningKey, principal: str) -> int:
    """Appends a well-linked and well-signed record, as it is."""
    vault, name = made.open(), item_name()
    ledger = vault.item(name).ledger
    head = ledger.head()
    record = CustodyRecord(
        format="evidencesync-custody/1",
        vault_id=vault.settings.id,
        sequence=head.sequence + 1,
        type=kind,
        time=format_utc_time(NOW_NS),
        case=name.case.text,
        item=name.item.text,
        actor=Person(name=principal, principal=principal, key=signer.public_key.fingerprint),
        previous_sha256=head.sha256,
        details=details,
    )
    ledger.append(*sign_record(record, signer))
    return record.sequence


@pytest.fixture
def ana(made: Made) -> str:
    """The principal of the examiner; Ben is trusted, too."""
    vault = made.open()
    vault.trust.add(BEN.public_key, "ben@lab", at_ns=NOW_NS - 7 * 86_400_000_000_000)
    return vault.load_trust().principal_for(made.examiner.public_key, "custody@evidencesync", NOW_NS)


def test_a_hand_over_that_holds_is_no_finding(made: Made, ana: str) -> None:
    number = put(made, "handed-over", {"to": "ben@lab"}, made.examiner, ana)
    put(made, "accepted", {"record": str(number)}, BEN, "ben@lab")
    put(made, "corrected", {"record": "1", "make": "Dell"}, BEN, "ben@lab")
    verdict = made.audit()
    assert (verdict.verdict, verdict.findings) == ("pass", [])


def test_a_hand_over_by_another_than_the_holder_is_a_warning_unless_it_says_so(made: Made, ana: str) -> None:
    number = put(made, "handed-over", {"to": "ben@lab"}, made.examiner, ana)
    put(made, "accepted", {"record": str(number)}, BEN, "ben@lab")
    put(made, "handed-over", {"to": "carl@lab", "in_place_of": "ben@lab"}, made.examiner, ana)
    assert made.audit().findings == []
    number = put(made, "handed-over", {"to": "carl@lab"}, made.examiner, ana)
    verdict = made.audit()
    assert (verdict.verdict, slugs(verdict, "warning")) == ("pass", {"holder-passed-over"})
    assert f"in record {number} what ben@lab held" in verdict.findings[0].message


def test_an_acceptance_of_what_nobody_handed_over_is_found(made: Made, ana: str) -> None:
    number = put(made, "accepted", {"record": "1"}, BEN, "ben@lab")
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code, slugs(verdict)) == ("fail", 34, {"no-hand-over"})
    assert (only(verdict, "no-hand-over").path or "").endswith(f"custody/{number:04}-accepted.json")


def test_an_acceptance_by_who_handed_over_is_found(made: Made, ana: str) -> None:
    number = put(made, "handed-over", {"to": "ben@lab"}, made.examiner, ana)
    put(made, "accepted", {"record": str(number)}, made.examiner, ana)
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code, slugs(verdict)) == ("fail", 32, {"wrong-recipient"})


def test_an_acceptance_by_another_than_the_hand_over_names_is_found(made: Made, ana: str) -> None:
    number = put(made, "handed-over", {"to": "carl@lab"}, made.examiner, ana)
    put(made, "accepted", {"record": str(number)}, BEN, "ben@lab")
    verdict = made.audit()
    assert (verdict.exit_code, slugs(verdict)) == (32, {"wrong-recipient"})


def test_a_correction_of_nothing_is_found(made: Made, ana: str) -> None:
    put(made, "corrected", {"record": "99"}, BEN, "ben@lab")
    verdict = made.audit()
    assert (verdict.exit_code, slugs(verdict)) == (34, {"wrong-reference"})


def test_a_second_sealing_is_found(made: Made, ana: str) -> None:
    put(made, "sealed", {}, BEN, "ben@lab")
    assert made.audit().verdict == "pass"
    put(made, "sealed", {}, BEN, "ben@lab")
    verdict = made.audit()
    assert (verdict.exit_code, slugs(verdict)) == (34, {"chain-broken"})


def test_a_statement_counts_from_when_the_vault_first_stated_its_head(made: Made, ana: str) -> None:
    day = 86_400 * 1_000_000_000
    put(made, "noted", {"text": "seen"}, BEN, "ben@lab")
    vault = made.open()
    _state(vault, NOW_NS - 3 * day)
    _state(vault, NOW_NS)
    vault.trust.retire(BEN.public_key, at_ns=NOW_NS - 2 * day)
    verdict = made.audit()
    assert (verdict.verdict, slugs(verdict, "info")) == ("pass", {"retired-signer"})


def test_a_statement_made_after_its_key_was_retired_does_not_count(made: Made, ana: str) -> None:
    day = 86_400 * 1_000_000_000
    made.open().trust.retire(BEN.public_key, at_ns=NOW_NS - 3 * day)
    put(made, "noted", {"text": "seen"}, BEN, "ben@lab")
    vault = made.open()
    _state(vault, NOW_NS - 2 * day)
    verdict = made.audit()
    assert (verdict.exit_code, slugs(verdict)) == (32, {"untrusted-signer"})


def test_a_statement_that_was_cut_off_is_missed_by_the_vaults_own_chain(made: Made, ana: str) -> None:
    number = put(made, "noted", {"text": "seen"}, BEN, "ben@lab")
    vault = made.open()
    _state(vault, NOW_NS)
    for name in (f"{number:04}-noted.json", f"{number:04}-noted.json.sig"):
        (made.item / "custody" / name).unlink()
    verdict = made.audit()
    assert (verdict.exit_code, slugs(verdict)) == (34, {"rolled-back"})
