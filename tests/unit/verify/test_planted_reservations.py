"""A reservation that somebody has planted in a custody folder is told, and no writer puts it into the chain."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace

from evidencesync.custody.documents import CustodyRecord, Person
from evidencesync.custody.record import decode_record
from evidencesync.custody.sshsig import SigningKey
from evidencesync.errors import EvidenceSyncError
from evidencesync.vault.heads import record_heads
from evidencesync.vault.item import lock_item
from evidencesync.vault.ledger import sign_record
from evidencesync.vault.publish import complete_unfinished
from evidencesync.vault.reservations import NewRecord
from tests.unit.vault.acquiring import Acquirer, item_name, new_signer
from tests.unit.verify.sample import ITEM, Made, edit, slugs

RESERVATION: Final = f"{ITEM}/custody/.new-0005-1"


def of_item(made: Made, signer: SigningKey, **fields: object) -> CustodyRecord:
    """A note that follows the item's chain, by the examiner's name and a signer's key."""
    head = made.open().item(item_name()).ledger.head()
    first = decode_record((made.item / "custody/0001-acquired.json").read_bytes())
    note = CustodyRecord(
        format=first.format,
        vault_id=first.vault_id,
        sequence=head.sequence + 1,
        type="noted",
        time=first.time,
        case=first.case,
        item=first.item,
        actor=Person(name="Ana", principal=first.actor.principal, key=signer.public_key.fingerprint),
        previous_sha256=head.sha256,
        details={"text": "never said"},
    )
    return replace(note, **fields)


def a_strangers(made: Made) -> NewRecord:
    stranger = new_signer()
    return NewRecord.of(*sign_record(of_item(made, stranger), stranger))


def a_strangers_seal(made: Made) -> NewRecord:
    stranger = new_signer()
    return NewRecord.of(*sign_record(of_item(made, stranger, type="sealed", details={"reason": "x"}), stranger))


def by_another_than_it_names(made: Made) -> NewRecord:
    return NewRecord.of(*sign_record(of_item(made, made.examiner), new_signer()))


def of_another_item(made: Made) -> NewRecord:
    return NewRecord.of(*sign_record(of_item(made, made.examiner, item="another"), made.examiner))


def with_a_signature_of_something_else(made: Made) -> NewRecord:
    one, two = (sign_record(of_item(made, made.examiner, details={"text": text}), made.examiner) for text in ("one", "two"))
    return NewRecord.of(one[0], two[1])


@pytest.mark.parametrize(
    "plant",
    [a_strangers, a_strangers_seal, by_another_than_it_names, of_another_item, with_a_signature_of_something_else],
)
def test_a_forged_reservation_is_told_and_never_gets_into_the_chain(made: Made, plant: Callable[[Made], NewRecord]) -> None:
    reservation = plant(made)
    (made.path / RESERVATION).write_bytes(reservation.encoded())
    verdict = made.audit()
    assert (verdict.exit_code, slugs(verdict)) == (31, {"extra-entry"})
    Acquirer(made.open(), made.examiner).acquire({b"third": b"3"})
    assert not (made.item / "custody" / reservation.name).exists()
    assert made.audit().findings == []


def test_a_reservation_of_a_known_signer_is_no_attack_and_is_finished(made: Made) -> None:
    reservation = NewRecord.of(*sign_record(of_item(made, made.examiner), made.examiner))
    (made.path / RESERVATION).write_bytes(reservation.encoded())
    verdict = made.audit()
    assert (verdict.verdict, slugs(verdict, "info", "warning", "error")) == ("pass", {"unfinished-change"})
    other = NewRecord.of(*sign_record(of_item(made, made.examiner, details={"text": "mine"}), made.examiner))
    with pytest.raises(EvidenceSyncError, match="somebody else has added custody record 5"):
        made.open().item(item_name()).ledger.append(other.data, other.signature)
    assert (made.item / "custody" / reservation.name).read_bytes() == reservation.data


def test_a_reservation_of_a_signer_who_was_revoked_since_is_told_and_not_finished(made: Made) -> None:
    second = new_signer()
    made.open().trust.add(second.public_key, "ben@lab")
    actor = Person(name="Ben", principal="ben@lab", key=second.public_key.fingerprint)
    reservation = NewRecord.of(*sign_record(of_item(made, second, actor=actor), second))
    made.open().trust.revoke(second.public_key)
    (made.path / RESERVATION).write_bytes(reservation.encoded())
    assert made.audit().verdict == "pass"
    Acquirer(made.open(), made.examiner).acquire({b"third": b"3"})
    assert made.audit().findings == []


def test_a_forged_reservation_on_the_vaults_own_chain_is_told_and_never_gets_into_it(made: Made) -> None:
    record_heads(made.open())
    vault, stranger = made.open(), new_signer()
    last = vault.ledger.last("heads")
    assert last is not None
    actor = replace(last.record.actor, key=stranger.public_key.fingerprint)
    record = replace(last.record, sequence=last.record.sequence + 1, previous_sha256=last.sha256, actor=actor)
    (made.path / f"custody/.new-{record.sequence:04d}-1").write_bytes(NewRecord.of(*sign_record(record, stranger)).encoded())
    assert made.audit().exit_code == 31
    vault.trust.add(new_signer().public_key, "ben@lab")
    assert made.audit().findings == []


def test_a_reservation_larger_than_any_is_told_and_keeps_nobody_out(made: Made) -> None:
    (made.path / RESERVATION).touch()
    os.truncate(made.path / RESERVATION, 1 << 40)
    assert made.audit().exit_code == 31
    Acquirer(made.open(), made.examiner).acquire({b"third": b"3"})
    assert made.audit().findings == []


@pytest.mark.parametrize("which", ["acquired.json.sig", "received.json.sig"])
def test_of_an_acquisition_that_the_vault_never_signed_for_nothing_joins_the_chain(made: Made, which: str) -> None:
    for number in (3, 4):
        for file in (made.item / "custody").glob(f"{number:04d}-*"):
            file.unlink()
    other: Path = made.acquisition(1) / which
    edit(made.acquisition(2) / which, other.read_bytes())
    with lock_item(made.open().item(item_name())) as item, pytest.raises(EvidenceSyncError):
        complete_unfinished(item)
    assert not [name for name in os.listdir(made.item / "custody") if name[:4] in ("0003", "0004")]
