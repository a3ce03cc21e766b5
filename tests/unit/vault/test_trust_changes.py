from __future__ import annotations

import errno
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.errors import (
    EvidenceSyncError,
    InvalidNameError,
    NoSpaceError,
    NotThereError,
    StorageError,
    TrustChangedError,
    TrustFileError,
    UntrustedSignerError,
    UsageError,
)
from evidencesync.files import placing
from evidencesync.vault import reservations, trust, trust_lists
from evidencesync.vault.key_files import VaultSigner
from evidencesync.vault.vault import Vault
from evidencesync.verify.audit import audit_vault
from tests.support.moments import LONG_AFTER_NS
from tests.unit.vault.acquiring import new_signer

NOW = LONG_AFTER_NS
DAY = 86_400_000_000_000


def allowed(vault: Vault, signer: VaultSigner, principal: str, at_ns: int) -> bool:
    try:
        vault.load_trust().check_key(principal, signer.public_key, "manifest@evidencesync", at_ns)
    except UntrustedSignerError:
        return False
    return True


def test_an_added_key_is_trusted_from_then_on_and_the_change_is_a_signed_record(vault: Vault) -> None:
    ben = new_signer()
    vault.trust.add(ben.public_key, "ben@lab", at_ns=NOW)
    assert allowed(vault, ben, "ben@lab", NOW + DAY)
    assert not allowed(vault, ben, "ben@lab", NOW - DAY)
    assert not allowed(vault, ben, "ana", NOW + DAY)
    stored = vault.ledger.last("trust-changed")
    assert stored is not None
    assert stored.record.details["action"] == "added"
    assert stored.record.details["key"] == ben.public_key.fingerprint
    assert stored.record.sequence == 2


@pytest.mark.parametrize("change", ["add", "revoke"])
def test_a_change_for_which_there_is_no_room_leaves_no_draft(change: str, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(os.listdir(vault.layout.root))

    def write(_fd: int, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("evidencesync.files.disk.write_all", write)
        with pytest.raises(NoSpaceError):
            if change == "add":
                vault.trust.add(new_signer().public_key, "ben", at_ns=NOW)
            else:
                vault.trust.revoke(new_signer().public_key, at_ns=NOW)
    assert sorted(os.listdir(vault.layout.root)) == before


def test_a_retired_key_keeps_what_it_signed_before(vault: Vault, examiner: VaultSigner) -> None:
    vault.trust.retire(examiner.public_key, at_ns=NOW)
    assert allowed(vault, examiner, "ana", NOW - DAY)
    assert not allowed(vault, examiner, "ana", NOW + DAY)
    with pytest.raises(NotThereError):
        vault.trust.retire(examiner.public_key, at_ns=NOW)


def test_a_retired_key_can_be_trusted_again(vault: Vault, examiner: VaultSigner) -> None:
    vault.trust.retire(examiner.public_key, at_ns=NOW)
    vault.trust.add(examiner.public_key, "ana", at_ns=NOW + 2 * DAY)
    assert not allowed(vault, examiner, "ana", NOW + DAY)
    assert allowed(vault, examiner, "ana", NOW + 3 * DAY)


def test_a_key_that_was_retired_by_a_clock_that_was_ahead_can_be_retired_again(vault: Vault, examiner: VaultSigner) -> None:
    vault.trust.retire(examiner.public_key, at_ns=NOW + 2 * DAY)
    assert allowed(vault, examiner, "ana", NOW + DAY)
    vault.trust.retire(examiner.public_key, at_ns=NOW)
    assert not allowed(vault, examiner, "ana", NOW + DAY)
    assert allowed(vault, examiner, "ana", NOW - DAY)
    with pytest.raises(NotThereError):
        vault.trust.retire(examiner.public_key, at_ns=NOW)


def test_a_key_that_was_added_and_retired_by_a_clock_that_was_ahead_can_be_retired_by_a_right_one(vault: Vault) -> None:
    """Else it would be trusted when that time comes. What is left of it is a second, for what was dated by that clock."""
    ben = new_signer()
    vault.trust.add(ben.public_key, "ben", at_ns=NOW + 30 * DAY)
    vault.trust.retire(ben.public_key, at_ns=NOW + 31 * DAY)
    assert allowed(vault, ben, "ben", NOW + 30 * DAY + DAY // 2)
    vault.trust.retire(ben.public_key, at_ns=NOW)
    assert not allowed(vault, ben, "ben", NOW + 30 * DAY + DAY // 2)
    with pytest.raises(NotThereError):
        vault.trust.retire(ben.public_key, at_ns=NOW)


@pytest.mark.parametrize("days", [-1, 0, 1])
def test_a_retired_key_signs_nothing_new_whatever_the_clock_shows(vault: Vault, examiner: VaultSigner, days: int) -> None:
    """A clock that lost its battery shows a time from before; a clock that was ahead has set an end that lies ahead."""
    now, namespace, key = NOW + days * DAY, "custody@evidencesync", examiner.public_key
    assert vault.load_trust().knows("ana", namespace, now)
    vault.trust.retire(key, at_ns=NOW)
    trust = vault.load_trust()
    assert not trust.knows("ana", namespace, now)
    with pytest.raises(UntrustedSignerError):
        trust.principal_for(key, namespace, now)
    with pytest.raises(UntrustedSignerError):
        trust.check_new("ana", key, namespace, now)
    vault.trust.add(key, "ana", at_ns=now - DAY)
    trust = vault.load_trust()
    assert trust.principal_for(key, namespace, now) == "ana"
    trust.check_new("ana", key, namespace, now)


def test_a_key_can_be_retired_in_the_second_in_which_it_was_added(vault: Vault) -> None:
    ben = new_signer()
    vault.trust.add(ben.public_key, "ben", at_ns=NOW)
    vault.trust.retire(ben.public_key, at_ns=NOW)
    assert not allowed(vault, ben, "ben", NOW + DAY)


def test_a_revoked_key_counts_for_nothing_at_any_time_and_stays_so(vault: Vault, examiner: VaultSigner) -> None:
    vault.trust.revoke(examiner.public_key, "laptop stolen", at_ns=NOW)
    assert not allowed(vault, examiner, "ana", NOW - DAY)
    assert [known.revoked for known in vault.trust.signers()] == [False, True]
    with pytest.raises(UsageError):
        vault.trust.add(examiner.public_key, "ana", at_ns=NOW)
    with pytest.raises(UsageError):
        vault.trust.revoke(examiner.public_key, at_ns=NOW)


def test_the_vaults_own_key_and_name_are_not_for_examiners(vault: Vault) -> None:
    with pytest.raises(UsageError):
        vault.trust.retire(vault.signer.public_key)
    with pytest.raises(UsageError):
        vault.trust.revoke(vault.signer.public_key)
    with pytest.raises(UsageError):
        vault.trust.add(vault.signer.public_key, "ana2")
    with pytest.raises(InvalidNameError):
        vault.trust.add(new_signer().public_key, "vault")


@pytest.mark.parametrize("principal", ["Vault", "v\u0430ult", "vault@lab", "x" * 201])
def test_a_name_that_looks_like_the_vaults_or_is_too_long_is_refused_and_read_where_an_older_vault_has_it(
    principal: str, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (vault.layout.root / "trusted_signers").read_bytes()
    with pytest.raises(InvalidNameError):
        vault.trust.add(new_signer().public_key, principal)
    with pytest.raises(InvalidNameError):
        trust_lists.first_trust_files(vault.settings.id, vault.signer.public_key, [(new_signer().public_key, principal)])
    assert (vault.layout.root / "trusted_signers").read_bytes() == before
    ben = new_signer()
    with monkeypatch.context() as earlier:
        earlier.setattr(trust_lists, "check_principal", lambda _: None)
        vault.trust.add(ben.public_key, principal, at_ns=NOW)
    assert allowed(vault, ben, principal, NOW + DAY)
    assert [one.key for one in vault.trust.find(principal)] == [ben.public_key]
    vault.trust.retire(ben.public_key, at_ns=NOW + DAY)
    assert not allowed(vault, ben, principal, NOW + 2 * DAY)
    vault.trust.revoke(ben.public_key)


@pytest.mark.parametrize("principal", ["", "a,b", "*", "!ana", 'a"b', "a\nb", "#ana"])
def test_a_name_that_the_file_cannot_carry_is_refused_and_nothing_changes(vault: Vault, principal: str) -> None:
    before = sorted(os.listdir(vault.layout.root)), (vault.layout.root / "trusted_signers").read_bytes()
    with pytest.raises((TrustFileError, InvalidNameError)):
        vault.trust.add(new_signer().public_key, principal)
    assert before == (sorted(os.listdir(vault.layout.root)), (vault.layout.root / "trusted_signers").read_bytes())


def test_a_key_is_not_added_twice(vault: Vault, examiner: VaultSigner) -> None:
    with pytest.raises(UsageError):
        vault.trust.add(examiner.public_key, "ana")
    with pytest.raises(UsageError):
        vault.trust.add(examiner.public_key, "somebody else")


def test_signers_are_found_by_name_and_by_fingerprint(vault: Vault, examiner: VaultSigner) -> None:
    assert vault.trust.find("ana")[0].key == examiner.public_key
    assert vault.trust.find(examiner.public_key.fingerprint)[0].key == examiner.public_key
    with pytest.raises(NotThereError):
        vault.trust.find("ben")


@pytest.mark.parametrize("name", ["trusted_signers", "revoked_keys"])
def test_a_file_that_was_edited_by_hand_is_not_believed(vault: Vault, name: str) -> None:
    path = vault.layout.root / name
    path.write_bytes(path.read_bytes() + b"# one more line\n")
    with pytest.raises(TrustChangedError, match="not what the vault's own chain says"):
        vault.load_trust()
    with pytest.raises(TrustChangedError):
        vault.trust.add(new_signer().public_key, "ben")


def test_an_older_state_of_the_files_is_not_believed(vault: Vault) -> None:
    before = (vault.layout.root / "trusted_signers").read_bytes()
    vault.trust.add(new_signer().public_key, "ben")
    (vault.layout.root / "trusted_signers").write_bytes(before)
    with pytest.raises(TrustChangedError):
        vault.load_trust()


@pytest.mark.parametrize("name", ["trusted_signers", "revoked_keys"])
@pytest.mark.parametrize("change", ["edited", "removed"])
def test_who_loads_a_list_that_was_changed_says_the_same_as_verify(vault: Vault, name: str, change: str) -> None:
    path = vault.layout.root / name
    if change == "edited":
        path.write_bytes(path.read_bytes() + b"# one more line\n")
    else:
        path.unlink()
    with pytest.raises(EvidenceSyncError) as refused:
        vault.load_trust()
    assert isinstance(refused.value, TrustChangedError)
    assert audit_vault(vault.layout.root, now_ns=time.time_ns()).exit_code == refused.value.exit_code


def crash(root: Path, before: bytes) -> None:
    """The state after a crash between the record, which is the commit, and the last rename."""
    os.rename(root / "trusted_signers", root / ".new-trusted_signers")
    (root / "trusted_signers").write_bytes(before)


def test_a_change_that_crashed_after_its_record_counts_and_is_completed(vault: Vault) -> None:
    before = (vault.layout.root / "trusted_signers").read_bytes()
    ben, carl = new_signer(), new_signer()
    vault.trust.add(ben.public_key, "ben", at_ns=NOW)
    crash(vault.layout.root, before)
    assert allowed(vault, ben, "ben", NOW + DAY)
    vault.trust.add(carl.public_key, "carl", at_ns=NOW)
    assert allowed(vault, ben, "ben", NOW + DAY)
    assert allowed(vault, carl, "carl", NOW + DAY)
    assert not (vault.layout.root / ".new-trusted_signers").exists()


def test_a_change_that_crashed_before_its_record_never_was(vault: Vault) -> None:
    (vault.layout.root / ".new-trusted_signers").write_bytes(b"# half")
    assert [known.signer.principals for known in vault.trust.signers()] == [("vault",), ("ana",)]
    vault.trust.add(new_signer().public_key, "ben")
    assert len(vault.trust.signers()) == 3


def test_whoever_reads_while_it_is_changed_sees_the_state_before_or_after(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """A push that ends while somebody is added must not be told that the vault was tampered with."""
    other = Vault.open(vault.layout.root)
    stated = vault.trust._details_of_changes
    ben = new_signer()

    def overtaken() -> list[dict[str, str]]:
        before = stated()
        monkeypatch.undo()
        other.trust.add(ben.public_key, "ben@lab", at_ns=NOW)
        return before

    monkeypatch.setattr(vault.trust, "_details_of_changes", overtaken)
    assert allowed(vault, ben, "ben@lab", NOW + DAY)


def test_a_change_whose_record_could_not_be_begun_leaves_no_draft(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the draft took the last inode. A record that was begun states the draft, and keeps it."""
    before = sorted(os.listdir(vault.layout.root))
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for number, left in ((0, 0), (1, 2)):  # drafts of two lists
        with monkeypatch.context() as patch:
            patch.setattr(reservations, "place_file", failing_at(placing.place_file, number, full, done_first=False))
            with pytest.raises(NoSpaceError):
                vault.trust.add(new_signer().public_key, "ben", at_ns=NOW)
        assert len(os.listdir(vault.layout.root)) == len(before) + left
    vault.trust.add(new_signer().public_key, "cleo", at_ns=NOW)
    assert sorted(os.listdir(vault.layout.root)) == before
    assert [one.signer.principals[0] for one in vault.trust.signers()][-2:] == ["ben", "cleo"]


@pytest.mark.parametrize("done_first", [False, True])
@pytest.mark.parametrize("step", ["place_file", "sync_folder", "tidy_away", "names_in"])
def test_a_change_that_the_disk_cut_short_says_whether_it_counts(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, step: str, done_first: bool
) -> None:
    """What is begun is completed by the next writer. Whoever is not told would believe that a key is still trusted."""
    refused = StorageError("refused") if step == "sync_folder" else OSError(errno.EIO, os.strerror(errno.EIO))
    said = set()
    for number in range(12):
        with monkeypatch.context() as patch:
            patch.setattr(reservations, step, failing_at(getattr(reservations, step), number, refused, done_first))
            key, hint = new_signer().public_key, "done"
            try:
                vault.trust.add(key, f"ben{number}", at_ns=NOW)
            except StorageError as error:
                hint = error.hint if error.hint and "ecord" in error.hint else ""
        vault.trust.add(new_signer().public_key, f"next{number}", at_ns=NOW)
        assert (key in [one.signer.key for one in vault.trust.signers()]) == bool(hint), (number, hint)
        said.add(hint.split(" ")[0])
        if hint == "done" and number:
            break
    assert {"Record", "done"} <= said
    assert ("" in said) == (step == "place_file" and not done_first)


def failing_at(call: Callable[..., object], number: int, error: Exception, done_first: bool) -> Callable[..., object]:
    calls = itertools.count()

    def failing(*args: object, **more: object) -> object:
        is_now = next(calls) == number
        if is_now and not done_first:
            raise error
        result = call(*args, **more)
        if is_now:
            raise error
        return result

    return failing


@pytest.mark.parametrize("error", [StorageError("could not write trusted_signers"), OSError(errno.EIO, "in some call")])
def test_a_list_that_could_not_be_put_in_its_place_is_recorded_and_counts(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    key = new_signer().public_key

    def refused(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(trust, "move_drafts", refused)
        with pytest.raises(StorageError) as caught:
            vault.trust.add(key, "ben", at_ns=NOW)
    assert "in the chain, with the number 2" in str(caught.value.hint)
    assert key in [one.signer.key for one in vault.trust.signers()]
