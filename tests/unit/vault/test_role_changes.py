"""Roles in a vault: told and altered, kept through crashes, never altered in secret, and absent in older vaults."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from evidencesync.custody.roles import EVERYTHING, USUAL, make_grant
from evidencesync.custody.sshsig import SigningKey
from evidencesync.errors import (
    NotAllowedError,
    NotThereError,
    TrustChangedError,
    UsageError,
)
from evidencesync.vault import create, trust, trust_lists
from evidencesync.vault.key_files import VaultSigner
from evidencesync.vault.vault import Vault
from evidencesync.verify.audit import audit_vault
from tests.support.moments import LONG_AFTER_NS
from tests.support.unreadable import Unreadable
from tests.unit.vault.acquiring import new_signer, new_vault

NOW = LONG_AFTER_NS
READ = make_grant(["read"], ["2024-*"], None)


@pytest.fixture
def older(tmp_path: Path, examiner: VaultSigner) -> Vault:
    return older_vault(tmp_path / "older", examiner)


def older_vault(path: Path, examiner: SigningKey) -> Vault:
    """A vault as versions made it that knew of no roles."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(create, "first_trust_files", lambda *given: replace(trust_lists.first_trust_files(*given), roles=None))
        patch.setattr(create, "USUAL", SimpleNamespace(details=dict))
        return new_vault(path, examiner)


def may(vault: Vault, signer: VaultSigner) -> object:
    return vault.load_trust().grant_of(signer.public_key)


def found(vault: Vault) -> tuple[str, set[str]]:
    verdict = audit_vault(vault.layout.root, now_ns=NOW)
    return verdict.verdict, {one.slug for one in verdict.findings} - {"nothing-to-verify"}


def test_the_keys_of_a_new_vault_and_new_keys_may_do_the_usual_and_never_administer(vault: Vault, examiner: VaultSigner) -> None:
    ben = new_signer()
    vault.trust.add(ben.public_key, "ben", at_ns=NOW)
    assert (may(vault, examiner), may(vault, ben)) == (USUAL, USUAL)
    assert [one.told for one in vault.trust.signers()] == [False, True, True]
    assert found(vault) == ("incomplete", set())  # incomplete for want of evidence


def test_what_a_key_may_do_is_altered_by_a_record_that_says_it(vault: Vault, examiner: VaultSigner) -> None:
    vault.trust.change(examiner.public_key, READ, at_ns=NOW)
    assert may(vault, examiner) == READ
    stored = vault.ledger.last("trust-changed")
    assert stored is not None
    assert {"action": "changed", "may": "read", "cases": "2024-*"}.items() <= stored.record.details.items()
    assert found(vault) == ("incomplete", set())
    with pytest.raises(NotAllowedError) as refused:
        vault.load_trust().check_role(examiner.public_key, ("acquire",), "2024-1", NOW)
    assert "who keeps the vault" in (refused.value.hint or "")


def test_a_refusal_names_those_who_administer(vault: Vault, examiner: VaultSigner) -> None:
    ben = new_signer()
    vault.trust.add(ben.public_key, "ben@lab", make_grant(["admin"], None, None), at_ns=NOW)
    with pytest.raises(NotAllowedError) as refused:
        vault.load_trust().check_role(examiner.public_key, ("admin",), None, NOW)
    assert "Ask ben@lab" in (refused.value.hint or "")


def test_only_a_key_that_is_trusted_now_can_be_told_what_it_may_do(vault: Vault, examiner: VaultSigner) -> None:
    with pytest.raises(NotThereError):
        vault.trust.change(new_signer().public_key, READ)
    with pytest.raises(UsageError):
        vault.trust.change(vault.signer.public_key, READ)
    vault.trust.retire(examiner.public_key, at_ns=NOW)
    with pytest.raises(NotThereError):
        vault.trust.change(examiner.public_key, READ, at_ns=NOW)


def test_an_older_vault_stays_as_it_is_and_says_that_everybody_may_do_everything(older: Vault, examiner: VaultSigner) -> None:
    before = sorted(os.listdir(older.layout.root))
    assert "roles.json" not in before
    assert may(older, examiner) == EVERYTHING
    assert [one.told for one in older.trust.signers()] == [False, False]
    assert found(older) == ("incomplete", {"roles-not-stated"})
    ben = new_signer()
    with pytest.MonkeyPatch.context() as patch:  # as an earlier version adds somebody
        patch.setattr(trust.TrustStore, "_with_grant", lambda _self, files, _change: files)
        older.trust.add(ben.public_key, "ben", SimpleNamespace(details=dict), at_ns=NOW)  # type: ignore[arg-type]
    older.trust.retire(ben.public_key, at_ns=NOW + 1)
    assert sorted(os.listdir(older.layout.root)) == before
    assert found(older) == ("incomplete", {"roles-not-stated"})


def test_in_an_older_vault_only_who_was_told_may_do_less(older: Vault, examiner: VaultSigner) -> None:
    ben = new_signer()
    older.trust.add(ben.public_key, "ben", READ, at_ns=NOW)
    assert (may(older, ben), may(older, examiner)) == (READ, EVERYTHING)
    assert found(older) == ("incomplete", {"roles-not-stated"})
    older.trust.change(examiner.public_key, USUAL, at_ns=NOW)
    assert found(older) == ("incomplete", set())


def test_a_change_by_an_earlier_version_takes_no_role_away_and_gives_none(vault: Vault, examiner: VaultSigner) -> None:
    vault.trust.change(examiner.public_key, READ, at_ns=NOW)
    ben, digests = new_added(vault), trust_lists.TrustFiles.digests
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            trust_lists.TrustFiles, "digests", lambda self: {n: d for n, d in digests(self).items() if n != "roles_sha256"}
        )
        vault.trust.retire(ben.public_key, at_ns=NOW + 10**10)
    assert may(vault, examiner) == READ
    assert found(vault) == ("incomplete", set())


def new_added(vault: Vault, principal: str = "ben") -> VaultSigner:
    ben = new_signer()
    vault.trust.add(ben.public_key, principal, at_ns=NOW)
    return ben


def by_hand(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"2024-*", b"202?-*"))


def older_one(file: Path) -> None:
    file.write_bytes((file.parent / "earlier").read_bytes())


def planted(file: Path) -> None:
    file.write_bytes(b"{}")


@pytest.mark.parametrize("edit", [by_hand, older_one, planted])
def test_roles_that_were_altered_in_secret_let_nobody_in_and_fail(
    vault: Vault, examiner: VaultSigner, edit: Callable[[Path], None]
) -> None:
    file = vault.layout.root / "roles.json"
    before = file.read_bytes()
    vault.trust.change(examiner.public_key, READ, at_ns=NOW)
    (vault.layout.root / "earlier").write_bytes(before)
    edit(file)
    (vault.layout.root / "earlier").unlink()
    with pytest.raises(TrustChangedError):
        vault.load_trust()
    assert found(vault) == ("fail", {"trust-changed"})


def test_roles_that_no_record_states_let_nobody_in_and_fail(older: Vault) -> None:
    planted(older.layout.root / "roles.json")
    with pytest.raises(TrustChangedError):
        older.load_trust()
    verdict, slugs = found(older)
    assert (verdict, "trust-changed" in slugs) == ("fail", True)


@pytest.mark.parametrize("changed", [False, True])
def test_missing_roles_are_no_permission(vault: Vault, older: Vault, examiner: VaultSigner, changed: bool) -> None:
    for one in (vault, older) if changed else (vault,):
        if changed:
            one.trust.change(examiner.public_key, READ, at_ns=NOW)
        (one.layout.root / "roles.json").unlink()
        with pytest.raises(TrustChangedError):
            one.load_trust()
        verdict, slugs = found(one)
        assert (verdict, slugs - {"roles-not-stated"}) == ("fail", {"missing-document", "trust-changed"})


def test_roles_that_cannot_be_read_are_neither_a_pass_nor_an_accusation(vault: Vault, examiner: VaultSigner) -> None:
    vault.trust.change(examiner.public_key, READ, at_ns=NOW)
    with pytest.MonkeyPatch.context() as patch:
        Unreadable(patch, vault.layout.root / "roles.json", "open")
        verdict = audit_vault(vault.layout.root, now_ns=NOW)
    errors = {one.slug for one in verdict.findings if one.severity == "error"}
    assert (verdict.verdict, errors) == ("incomplete", {"unreadable"})


class _Killed(BaseException):
    """Ends a change as a power cut does: nothing is tidied up."""


def killed_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    """Ends the change before the step with this number: each is a name that comes, moves or goes, or a file that is synced."""
    left = iter(range(steps))

    def step(do: Callable[..., Any]) -> Callable[..., Any]:
        def done(*given: Any, **named: Any) -> Any:
            if next(left, None) is None:
                raise _Killed
            return do(*given, **named)

        return done

    for name in ("rename", "link", "unlink", "fsync"):
        patch.setattr(os, name, step(getattr(os, name)))


@pytest.mark.parametrize("makes_first", [False, True])
def test_a_change_that_is_killed_at_any_step_leaves_the_roles_before_or_after(
    tmp_path: Path, vault: Vault, older: Vault, examiner: VaultSigner, makes_first: bool
) -> None:
    one = older if makes_first else vault
    before, kept = may(one, examiner), tmp_path / "kept"
    shutil.copytree(one.layout.root, kept)
    seen, ended, steps = set(), False, 0
    while not ended:
        again = Vault.open(shutil.copytree(kept, tmp_path / str(steps)))
        with pytest.MonkeyPatch.context() as patch:
            killed_after(patch, steps)
            try:
                again.trust.change(examiner.public_key, READ, at_ns=NOW)
                ended = True
            except _Killed:
                steps += 1
        again = Vault.open(again.layout.root)
        seen.add(may(again, examiner) == READ)
        assert may(again, examiner) in (before, READ)
        verdict, slugs = found(again)
        assert (verdict, slugs - {"roles-not-stated", "unfinished-change"}) == ("incomplete", set())
        again.trust.change(examiner.public_key, READ, at_ns=NOW)
        assert found(again)[1] <= {"unfinished-change"}
    assert seen == {False, True}
    assert steps > 10


def test_of_administrators_at_once_all_are_heard(vault: Vault) -> None:
    keys = [new_added(vault, f"examiner{number}").public_key for number in range(4)]
    with ThreadPoolExecutor(len(keys)) as pool:
        others = [Vault.open(vault.layout.root) for _ in keys]
        list(pool.map(lambda one, key: one.trust.change(key, READ, at_ns=NOW), others, keys))
    assert [vault.load_trust().grant_of(key) for key in keys] == [READ] * len(keys)
    assert found(vault) == ("incomplete", set())
