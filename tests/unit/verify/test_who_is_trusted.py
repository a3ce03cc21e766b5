"""Signers: from the vault or from outside, retired, revoked, or never known; and lists that were changed in secret."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.custody.documents import CUSTODY_NAMESPACE
from evidencesync.custody.sshsig import sign_document
from evidencesync.custody.trust import signer_line
from evidencesync.errors import TrustFileError
from evidencesync.evidence.digest import sha512_of
from evidencesync.evidence.utc_time import parse_utc_time, shown_time
from evidencesync.limits import MAX_RECORD
from evidencesync.vault.heads import state_head
from tests.support.forger import append_record
from tests.support.undo import remove
from tests.unit.vault.acquiring import STARTED, Acquirer, item_name, new_signer, new_vault
from tests.unit.verify.sample import Made, edit, flip, only, slugs

RECEIVED_NS = parse_utc_time(STARTED)
DAY_NS = 86_400 * 1_000_000_000
EXAMINER = ("manifest@evidencesync", "custody@evidencesync")


def test_signers_from_outside_replace_what_the_vault_says(made: Made) -> None:
    verdict = made.audit(trusted=made.outside_trust())
    assert (verdict.verdict, verdict.trust, verdict.findings) == ("pass", "outside", [])


@pytest.mark.parametrize("missing", ["vault_key", "examiner"])
def test_a_key_that_the_list_from_outside_lacks_is_not_trusted(made: Made, missing: str) -> None:
    verdict = made.audit(trusted=made.outside_trust(**{missing: False}))
    assert (verdict.verdict, verdict.exit_code, slugs(verdict)) == ("fail", 32, {"untrusted-signer"})


def test_an_empty_list_from_outside_trusts_nobody(made: Made) -> None:
    assert made.audit(trusted=b"").exit_code == 32


def test_a_list_from_outside_that_cannot_be_read_is_refused(made: Made) -> None:
    with pytest.raises(TrustFileError):
        made.audit(trusted=b"\xff\xfe")


def test_the_vaults_lists_are_not_relied_on_where_others_were_brought(made: Made) -> None:
    edit(made.path / "trusted_signers", b"nonsense\n")
    assert made.audit().exit_code == 32
    verdict = made.audit(trusted=made.outside_trust())
    assert (verdict.verdict, slugs(verdict, "warning", "error")) == ("pass", {"trust-not-used"})


@pytest.mark.parametrize("name", ["trusted_signers", "revoked_keys"])
def test_a_list_that_was_changed_without_a_record_is_found(made: Made, name: str) -> None:
    file = made.path / name
    edit(file, file.read_bytes() + b"# a comment changes nothing but the file\n")
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code, slugs(verdict)) == ("fail", 32, {"trust-changed"})
    assert only(verdict, "trust-changed").path == name


def test_a_stranger_who_added_himself_is_found(made: Made) -> None:
    file = made.path / "trusted_signers"
    line = signer_line("eve", new_signer().public_key, EXAMINER)
    edit(file, file.read_bytes() + line.encode() + b"\n")
    assert made.audit().exit_code == 32


def test_a_retired_key_keeps_what_it_signed_before_and_the_finding_says_by_whose_clock(made: Made) -> None:
    made.open().trust.retire(made.examiner.public_key, at_ns=RECEIVED_NS + DAY_NS)
    verdict = made.audit()
    assert verdict.verdict == "pass"
    retired = [one for one in verdict.findings if one.slug == "retired-signer"]
    assert {one.severity for one in retired} == {"info"}
    assert all("the vault signed for it" in one.message for one in retired)
    assert {one.acquisition for one in retired} >= {1, 2}


def bad_signature(file: Path) -> None:
    signature = file.with_name(file.name + ".sig")
    edit(signature, file.with_name("0001-acquired.json.sig").read_bytes())


def another_signature(file: Path) -> None:
    signature = file.with_name(file.name + ".sig")
    edit(signature, sign_document(new_signer(), CUSTODY_NAMESPACE, sha512_of(file.read_bytes())))


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGE: dict[str, tuple[str, Callable[[Path], object], set[str]]] = {
    "acquired, its content": ("0001-acquired.json", lambda file: edit(file, file.read_bytes()[:-3]), {"malformed-document"}),
    "acquired, a bit": ("0001-acquired.json", lambda file: flip(file, 10), {"malformed-document"}),
    "received, its content": ("0002-received.json", lambda file: edit(file, file.read_bytes()[:-3]), {"malformed-document"}),
    "received, its signature": ("0002-received.json", bad_signature, {"bad-signature"}),
    "received, signed by another key": ("0002-received.json", another_signature, {"wrong-signer"}),
    "received, a folder": ("0002-received.json", a_folder, {"wrong-type"}),
    "received, too large": ("0002-received.json", lambda file: edit(file, b" " * (MAX_RECORD + 1)), {"malformed-document"}),
    "received, gone": ("0002-received.json", lambda file: file.unlink(), {"missing-record"}),
    "received, without its signature": ("0002-received.json.sig", lambda file: file.unlink(), {"missing-document"}),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_retired_key_is_not_judged_by_an_invented_date_where_the_record_that_dates_it_is_damaged(made: Made, name: str) -> None:
    file, damage, found = DAMAGE[name]
    made.open().trust.retire(made.examiner.public_key, at_ns=RECEIVED_NS + DAY_NS)
    assert made.audit().verdict == "pass"
    damage(made.item / "custody" / file)
    verdict = made.audit()
    assert verdict.verdict == "fail"
    assert slugs(verdict) >= found
    assert "untrusted-signer" not in slugs(verdict)
    named = [f"{one.path}: {one.message}" for one in verdict.findings if one.slug in found]
    assert all(file in text or "record 2 is missing" in text for text in named), named


def test_a_retired_key_is_not_judged_by_an_invented_date_where_the_end_of_the_chain_is_gone(made: Made) -> None:
    vault = made.open()
    append_record(made, "noted", made.examiner)
    Acquirer(vault, made.examiner).acquire({b"x": b"1"})
    state_head(vault, item_name(), vault.item(item_name()).ledger.head(), at_ns=RECEIVED_NS)
    vault.trust.retire(made.examiner.public_key, at_ns=RECEIVED_NS + DAY_NS)
    assert made.audit().verdict == "pass"
    for file in [*made.item.glob("custody/0006-*"), *made.item.glob("custody/0007-*")]:
        file.unlink()
    remove(made.acquisition(3))
    assert slugs(made.audit()) == {"rolled-back", "not-compared"}


def test_a_key_that_nobody_ever_trusted_is_refused_also_where_what_dates_its_signature_is_damaged(made: Made) -> None:
    append_record(made, "noted", new_signer())
    edit(made.item / "custody" / "0002-received.json", b"{}")
    assert slugs(made.audit()) >= {"malformed-document", "untrusted-signer"}


def test_a_key_that_was_retired_before_is_not_trusted(made: Made) -> None:
    made.open().trust.retire(made.examiner.public_key, at_ns=RECEIVED_NS - DAY_NS)
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code, slugs(verdict)) == ("fail", 32, {"untrusted-signer"})
    assert shown_time(RECEIVED_NS) in verdict.findings[0].message


def test_what_the_vault_stated_before_it_retired_a_key_counts_whatever_its_clock_said(made: Made) -> None:
    """A clock was three days ahead while evidence was received, and was set right before the examiner left."""
    vault = made.open()
    state_head(vault, item_name(), vault.item(item_name()).ledger.head(), at_ns=RECEIVED_NS)
    vault.trust.retire(made.examiner.public_key, at_ns=RECEIVED_NS - 3 * DAY_NS)
    verdict = made.audit()
    assert (verdict.verdict, slugs(verdict)) == ("pass", set())
    retired = [one.message for one in verdict.findings if one.slug == "retired-signer"]
    assert {one.acquisition for one in verdict.findings if one.slug == "retired-signer"} >= {1, 2}
    when = shown_time(RECEIVED_NS - 3 * DAY_NS)
    assert all(f"as of {when}, when the vault, which had signed for it before, recorded" in message for message in retired)
    assert "times-contradict" in slugs(verdict, "warning")


def test_what_was_signed_before_a_key_was_retired_by_a_fast_clock_and_again_by_a_right_one_counts(made: Made) -> None:
    """The clock was three days ahead while evidence was received and while its signer was retired, and was set right then."""
    vault = made.open()
    state_head(vault, item_name(), vault.item(item_name()).ledger.head(), at_ns=RECEIVED_NS)
    for at_ns in (RECEIVED_NS + DAY_NS, RECEIVED_NS - 2 * DAY_NS):
        vault.trust.retire(made.examiner.public_key, at_ns=at_ns)
    verdict = made.audit()
    assert (verdict.verdict, slugs(verdict)) == ("pass", set())


def test_what_was_signed_by_a_key_that_a_fast_clock_added_and_retired_counts_after_a_right_one_has_retired_it(made: Made) -> None:
    path, ben = made.path.parent / "other", new_signer()
    vault = new_vault(path, made.examiner)
    vault.trust.add(ben.public_key, "ana", at_ns=RECEIVED_NS - DAY_NS)
    Acquirer(vault, ben).acquire({b"x": b"1"})
    state_head(vault, item_name(), vault.item(item_name()).ledger.head(), at_ns=RECEIVED_NS)
    for days in (1, -30):
        vault.trust.retire(ben.public_key, at_ns=RECEIVED_NS + days * DAY_NS)
    verdict = Made(path, made.examiner).audit()
    assert (verdict.verdict, slugs(verdict)) == ("pass", set())


@pytest.mark.parametrize("days", [-30, -2])
def test_what_was_signed_by_a_key_that_a_fast_clock_added_counts_after_a_right_one_has_retired_it(made: Made, days: int) -> None:
    """The clock was ahead while the key was added and evidence received; it was set right, and the examiner left."""
    path, ben = made.path.parent / "other", new_signer()
    vault = new_vault(path, made.examiner)
    vault.trust.add(ben.public_key, "ana", at_ns=RECEIVED_NS - DAY_NS)  # a second key
    Acquirer(vault, ben).acquire({b"x": b"1"})
    state_head(vault, item_name(), vault.item(item_name()).ledger.head(), at_ns=RECEIVED_NS)
    vault.trust.retire(ben.public_key, at_ns=RECEIVED_NS + days * DAY_NS)
    verdict = Made(path, made.examiner).audit()
    assert (verdict.verdict, slugs(verdict)) == ("pass", set())
    assert "retired-signer" in slugs(verdict, "info")


def test_a_key_that_a_slow_clock_shows_as_not_trusted_yet_is_not_called_retired(made: Made) -> None:
    path, ben = made.path.parent / "other", new_signer()
    vault = new_vault(path, made.examiner)
    vault.trust.add(ben.public_key, "ana", at_ns=RECEIVED_NS - DAY_NS)
    Acquirer(vault, ben).acquire({b"x": b"1"})
    verdict = Made(path, made.examiner).audit(now_ns=RECEIVED_NS - 2 * DAY_NS)
    assert (verdict.verdict, slugs(verdict, "info")) == ("pass", set())


def test_a_renamed_folder_does_not_make_a_retired_signer_an_untrusted_one(made: Made) -> None:
    """When the vault had stated the records is known by the numbers in them, whatever somebody calls the folder."""
    vault = made.open()
    item = vault.layout.item(item_name())
    append_record(made, "noted", made.examiner)
    state_head(vault, item_name(), vault.item(item_name()).ledger.head(), at_ns=RECEIVED_NS)
    vault.trust.retire(made.examiner.public_key, at_ns=RECEIVED_NS + DAY_NS)
    assert made.audit().verdict == "pass"
    item.root.rename(item.root.with_name("put-away"))
    assert slugs(made.audit()) == {"wrong-place", "rolled-back"}


def test_what_the_vault_stated_after_it_retired_a_key_does_not_count(made: Made) -> None:
    vault = made.open()
    vault.trust.retire(made.examiner.public_key, at_ns=RECEIVED_NS - DAY_NS)
    state_head(vault, item_name(), vault.item(item_name()).ledger.head(), at_ns=RECEIVED_NS + DAY_NS)
    verdict = made.audit()
    assert (verdict.exit_code, slugs(verdict)) == (32, {"untrusted-signer"})


@pytest.mark.parametrize("added_again", [False, True])
def test_what_a_clock_that_was_set_back_dates_before_a_retirement_that_came_first_is_not_judged(
    made: Made, *, added_again: bool
) -> None:
    vault = made.open()
    vault.trust.retire(made.examiner.public_key, at_ns=RECEIVED_NS + 4 * DAY_NS)
    if added_again:
        vault.trust.add(made.examiner.public_key, "ana", at_ns=RECEIVED_NS - DAY_NS)
    state_head(vault, item_name(), vault.item(item_name()).ledger.head(), at_ns=RECEIVED_NS + DAY_NS)
    verdict = made.audit()
    assert (verdict.exit_code, slugs(verdict)) == ((0, set()) if added_again else (3, {"not-compared"}))


def test_what_an_older_version_stated_only_after_a_retirement_counts_where_no_date_contradicts(made: Made) -> None:
    vault = made.open()
    vault.trust.retire(made.examiner.public_key, at_ns=RECEIVED_NS + DAY_NS)
    state_head(vault, item_name(), vault.item(item_name()).ledger.head(), at_ns=RECEIVED_NS + 2 * DAY_NS)
    verdict = made.audit()
    assert (verdict.verdict, slugs(verdict)) == ("pass", set())


def test_signers_from_outside_who_were_retired_by_the_vaults_date_and_not_by_its_order_are_not_judged(made: Made) -> None:
    """Somebody else has retired them. One of the vault's two dates is wrong, and from outside nobody can tell which."""
    vault = made.open()
    state_head(vault, item_name(), vault.item(item_name()).ledger.head(), at_ns=RECEIVED_NS)
    vault.trust.retire(made.examiner.public_key, at_ns=RECEIVED_NS - DAY_NS)
    line = signer_line("ana", made.examiner.public_key, EXAMINER, None, RECEIVED_NS - DAY_NS)
    verdict = made.audit(trusted=made.outside_trust(examiner=False) + line.encode() + b"\n")
    assert (verdict.exit_code, slugs(verdict)) == (3, {"not-compared"})


@pytest.mark.parametrize("stated", [True, False])
def test_signers_from_outside_who_were_retired_before_the_vaults_dates_are_not_trusted(made: Made, *, stated: bool) -> None:
    vault = made.open()
    if stated:
        state_head(vault, item_name(), vault.item(item_name()).ledger.head(), at_ns=RECEIVED_NS)
        vault.trust.retire(made.examiner.public_key, at_ns=RECEIVED_NS - DAY_NS)
    line = signer_line("ana", made.examiner.public_key, EXAMINER, None, RECEIVED_NS - 2 * DAY_NS)
    verdict = made.audit(trusted=made.outside_trust(examiner=False) + line.encode() + b"\n")
    assert (verdict.exit_code, slugs(verdict)) == (32, {"untrusted-signer"})


def test_a_revoked_key_has_never_counted(made: Made) -> None:
    made.open().trust.revoke(made.examiner.public_key, "stolen", at_ns=RECEIVED_NS + DAY_NS)
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code, slugs(verdict)) == ("fail", 32, {"revoked-signer"})


def test_a_key_that_the_vault_revoked_is_said_where_others_still_trust_it(made: Made) -> None:
    made.open().trust.revoke(made.examiner.public_key, at_ns=RECEIVED_NS + DAY_NS)
    verdict = made.audit(trusted=made.outside_trust())
    assert (verdict.verdict, slugs(verdict, "warning")) == ("pass", {"revoked-by-vault"})


def test_trust_that_begins_later_does_not_reach_back(made: Made) -> None:
    later = signer_line("ana", made.examiner.public_key, EXAMINER, RECEIVED_NS + DAY_NS)
    verdict = made.audit(trusted=made.outside_trust(examiner=False) + later.encode() + b"\n")
    assert (verdict.exit_code, slugs(verdict)) == (32, {"untrusted-signer"})


def test_a_key_under_another_name_is_not_the_examiner(made: Made) -> None:
    other = signer_line("bob", made.examiner.public_key, EXAMINER)
    verdict = made.audit(trusted=made.outside_trust(examiner=False) + other.encode() + b"\n")
    assert (verdict.exit_code, slugs(verdict)) == (32, {"untrusted-signer"})


def test_a_change_of_trust_that_was_interrupted_is_used_as_the_record_states_it(made: Made) -> None:
    before = (made.path / "trusted_signers").read_bytes()
    made.open().trust.add(new_signer().public_key, "bea")
    after = (made.path / "trusted_signers").read_bytes()
    edit(made.path / "trusted_signers", before)
    (made.path / ".new-trusted_signers").write_bytes(after)
    verdict = made.audit()
    assert (verdict.verdict, slugs(verdict, "info", "warning", "error")) == ("pass", {"unfinished-change"})


@pytest.mark.parametrize("name", ["0001-made.json", "0001-made.json.sig"])
def test_a_changed_record_of_the_vault_itself_is_found(made: Made, name: str) -> None:
    flip(made.path / "custody" / name, 300)
    verdict = made.audit()
    assert verdict.verdict == "fail"
    assert f"custody/{name}" in {one.path for one in verdict.findings}


def test_a_vault_without_its_own_chain_is_found(made: Made) -> None:
    for file in (made.path / "custody").iterdir():
        file.unlink()
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code) == ("fail", 34)


def test_damaged_settings_do_not_stop_the_audit(made: Made) -> None:
    edit(made.path / "vault.toml", b"\0")
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code, slugs(verdict)) == ("fail", 32, {"malformed-document"})
    assert verdict.checked.acquisitions == 2


def test_another_public_key_beside_the_vault_is_found(made: Made) -> None:
    edit(made.path / "vault_key.pub", new_signer().public_key.line().encode() + b"\n")
    assert only(made.audit(), "wrong-signer").path == "vault_key.pub"


def test_without_settings_and_first_record_nothing_is_called_checked(made: Made) -> None:
    edit(made.path / "vault.toml", b"")
    (made.path / "custody" / "0001-made.json").unlink()
    verdict = made.audit()
    assert verdict.verdict == "fail"
    assert verdict.checked.acquisitions == 0
    assert "not-compared" in slugs(verdict)


@pytest.mark.parametrize("field", ["id", "key"])
def test_settings_of_another_vault_are_named_and_nothing_else(made: Made, field: str) -> None:
    settings = made.path / "vault.toml"
    data = settings.read_bytes()
    at = data.index(f'\n{field} = "'.encode()) + len(field) + 14
    settings.write_bytes(data[:at] + (b"1" if data[at : at + 1] == b"0" else b"0") + data[at + 1 :])
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code, slugs(verdict)) == ("fail", 32, {"wrong-place"})
    assert only(verdict, "wrong-place").path == "vault.toml"
