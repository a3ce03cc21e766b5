"""Roles at the time of each document: who had not the role fails, and what is not known is neither a pass nor an accusation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evidencesync.custody.roles import USUAL, Grant, make_grant
from evidencesync.custody.sshsig import SigningKey
from evidencesync.evidence.identity import ItemName
from evidencesync.evidence.utc_time import parse_utc_time
from evidencesync.vault.heads import state_head
from evidencesync.vault.vault import Vault
from evidencesync.verify import allowed, audit
from evidencesync.verify.findings import Verdict
from tests.support.forger import append_record
from tests.support.unreadable import Unreadable
from tests.unit.vault.acquiring import MADE_NS, STARTED, Acquirer, item_name, new_signer, new_vault
from tests.unit.verify.sample import Made, edit, only, slugs

RECEIVED_NS = parse_utc_time(STARTED)
DAY_NS = 86_400 * 10**9
READ = make_grant(["read"], None, None)
CASE = item_name().case.text


def made_with(path: Path, grant: Grant | None, at_ns: int = MADE_NS + 1, *, noted: bool = False) -> Made:
    """A vault with one acquisition; before it, or after by its own chain, the examiner is told what the key may do."""
    examiner = new_signer()
    vault = new_vault(path / "vault", examiner)
    if grant is not None:
        vault.trust.change(examiner.public_key, grant, at_ns=at_ns)
    acquire(vault, examiner)
    made = Made(vault.layout.root, examiner)
    if noted:
        append_record(made, "noted", examiner, details={"text": "seen"})
    return made


def acquire(vault: Vault, examiner: SigningKey, name: ItemName | None = None) -> None:
    name = name or item_name()
    Acquirer(vault, examiner, name).acquire({b"a": b"a"})
    state_head(vault, name, vault.item(name).ledger.head(), at_ns=RECEIVED_NS)


def errors(verdict: Verdict) -> set[str]:
    return {one.slug for one in verdict.findings if one.severity == "error"}


@pytest.mark.parametrize(
    "grant",
    [
        READ,
        make_grant(["custody"], None, None),
        make_grant(["acquire"], ["2025/*"], None),
        make_grant(["acquire"], ["2026-*"], None),
        make_grant(["acquire"], None, "2023-11-13"),
    ],
)
def test_an_acquisition_by_a_key_without_the_role_fails(tmp_path: Path, grant: Grant) -> None:
    verdict = made_with(tmp_path, grant).audit()
    assert (verdict.verdict, verdict.exit_code, errors(verdict)) == ("fail", 32, {"not-allowed"})
    assert {one.path.rpartition("/")[2] for one in verdict.findings if one.slug == "not-allowed" and one.path} == {
        "manifest.jsonl",
        "0001-acquired.json",
    }


@pytest.mark.parametrize(
    "grant",
    [
        make_grant(["acquire"], None, None),
        make_grant(["acquire"], ["2026/*"], "2023-11-14"),
        make_grant(["acquire"], ["nothing", "20??/11?"], None),
    ],
)
def test_an_acquisition_by_a_key_that_had_the_role_passes_also_long_after_its_end(tmp_path: Path, grant: Grant) -> None:
    assert made_with(tmp_path, grant).audit().verdict == "pass"


def test_a_custody_record_needs_a_role_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    verdict = made_with(tmp_path, make_grant(["acquire"], None, None), noted=True).audit()
    assert (verdict.exit_code, errors(verdict)) == (32, {"not-allowed"})
    assert (only(verdict, "not-allowed").path or "").endswith("0003-noted.json")
    assert made_with(tmp_path / "other", make_grant(["acquire", "custody"], None, None), noted=True).audit().verdict == "pass"


def test_a_record_that_the_vault_stated_only_after_the_last_day_of_a_role_accuses_nobody(tmp_path: Path) -> None:
    """A crash comes between the record and its statement, and nobody writes to the item for days."""
    made = made_with(tmp_path, make_grant(["acquire", "custody"], None, "2023-11-14"), noted=True)
    for _ in range(2):
        verdict = made.audit()
        assert (verdict.verdict, errors(verdict)) == ("incomplete", {"not-compared"})
        vault = made.open()
        state_head(vault, item_name(), vault.item(item_name()).ledger.head(), at_ns=RECEIVED_NS + 3 * DAY_NS)


def test_a_record_that_its_signer_dates_after_the_last_day_of_a_role_fails(tmp_path: Path) -> None:
    made = made_with(tmp_path, make_grant(["acquire", "custody"], None, "2023-11-14"))
    append_record(made, "noted", made.examiner, details={"text": "seen"}, time="2023-11-15T00:00:00.000000Z")
    assert errors(made.audit()) == {"not-allowed"}


def test_what_was_taken_before_a_role_was_taken_away_stays_good(tmp_path: Path) -> None:
    made = made_with(tmp_path, None)
    made.open().trust.change(made.examiner.public_key, READ, at_ns=RECEIVED_NS + DAY_NS)
    assert made.audit().verdict == "pass"


def test_the_order_of_the_chain_counts_before_a_clock_that_was_ahead(tmp_path: Path) -> None:
    """The vault stated the acquisition first, by a fast clock, and took the role away later, by a right one."""
    made = made_with(tmp_path, None)
    made.open().trust.change(made.examiner.public_key, READ, at_ns=RECEIVED_NS - 30 * DAY_NS)
    assert made.audit().verdict == "pass"


def test_a_role_that_came_later_by_the_order_does_not_help(tmp_path: Path) -> None:
    made = made_with(tmp_path, READ)
    made.open().trust.change(made.examiner.public_key, USUAL, at_ns=RECEIVED_NS - 30 * DAY_NS)
    assert errors(made.audit()) == {"not-allowed"}


@pytest.mark.parametrize("then", [(), (READ,)], ids=["given", "given and taken away"])
def test_a_role_that_was_given_by_a_clock_a_little_ahead_may_be_used_once_it_is_right(tmp_path: Path, then: tuple[Grant]) -> None:
    """The vault lets the examiner push at once, and dates the acquisition before the change, which its chain has first."""
    examiner = new_signer()
    vault = new_vault(tmp_path / "vault", examiner)
    vault.trust.change(examiner.public_key, READ, at_ns=MADE_NS + 1)
    for number, grant in enumerate((USUAL, *then)):
        vault.trust.change(examiner.public_key, grant, at_ns=RECEIVED_NS + DAY_NS // 24 + number)
    acquire(vault, examiner)
    verdict = Made(vault.layout.root, examiner).audit()
    assert (verdict.verdict, errors(verdict)) == ("pass", set())


def test_a_clock_that_was_set_back_judges_nobody(tmp_path: Path) -> None:
    """The role is taken away, and then the vault dates an acquisition long before that."""
    verdict = made_with(tmp_path, READ, at_ns=RECEIVED_NS + 30 * DAY_NS).audit()
    assert (verdict.verdict, errors(verdict)) == ("incomplete", {"not-compared"})


def test_roles_are_judged_also_with_signers_from_outside(tmp_path: Path) -> None:
    made = made_with(tmp_path, READ)
    verdict = made.audit(trusted=made.outside_trust())
    assert (verdict.verdict, errors(verdict)) == ("fail", {"not-allowed"})


@pytest.mark.parametrize("suffix", ["", ".sig"])
@pytest.mark.parametrize("record", ["0001-made.json", "0002-trust-changed.json"])
def test_a_history_of_roles_that_cannot_be_read_accuses_nobody_and_passes_nobody(
    tmp_path: Path, record: str, suffix: str
) -> None:
    (tmp_path / "good").mkdir()
    for made in (made_with(tmp_path, READ), made_with(tmp_path / "good", USUAL)):
        with pytest.MonkeyPatch.context() as patch:
            Unreadable(patch, made.path / "custody" / f"{record}{suffix}", "open")
            verdict = made.audit()
        assert (verdict.verdict, errors(verdict) <= {"unreadable", "not-compared"}) == ("incomplete", True)


def test_a_history_of_roles_that_is_damaged_fails_and_accuses_no_examiner(tmp_path: Path) -> None:
    made = made_with(tmp_path, READ)
    file = made.path / "custody" / "0002-trust-changed.json"
    edit(file, file.read_bytes().replace(b'"read"', b'"reed"'))
    verdict = made.audit()
    assert verdict.verdict == "fail"
    assert "not-allowed" not in slugs(verdict)


def test_a_role_that_a_later_version_knows_is_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = made_with(tmp_path, READ)
    with monkeypatch.context() as later:
        later.setattr("evidencesync.custody.roles.ROLES", ("acquire", "custody", "verify", "admin"))
        verdict = made.audit()
    assert "not-allowed" not in slugs(verdict)
    assert (verdict.verdict, "not-compared" in slugs(verdict)) == ("fail", True)  # roles.json is not understood either


@pytest.mark.parametrize("from_outside", [False, True])
def test_a_key_that_gets_a_role_while_the_vault_is_checked_may_use_it_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_outside: bool
) -> None:
    """The vault's own chain was read before; with signers from outside, too."""
    made = made_with(tmp_path, None)
    vault, ben, name = made.open(), new_signer(), item_name(item="9")
    vault.trust.add(ben.public_key, "ana", READ, at_ns=MADE_NS + 1)

    def overtaken(*given: Any) -> None:
        monkeypatch.undo()
        allowed.check_roles(*given)
        vault.trust.change(ben.public_key, USUAL, at_ns=MADE_NS + 2)
        acquire(vault, ben, name)

    monkeypatch.setattr(audit, "check_roles", overtaken)
    outside = made.outside_trust() + f"ana {ben.public_key.line()}\n".encode()
    verdict = made.audit(trusted=outside) if from_outside else made.audit()
    assert (verdict.verdict, errors(verdict), len(verdict.heads)) == ("pass", set(), 3)
