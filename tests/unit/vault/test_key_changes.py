"""Changing the vault's own key, interrupted anywhere, twice at once, and beside publishes that a crash cut short."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from evidencesync.errors import NoSpaceError, SigningKeyError, UntrustedSignerError, UsageError
from evidencesync.vault import key_files
from evidencesync.vault.key_change import ChangedKey, change_key
from evidencesync.vault.key_files import VaultSigner
from evidencesync.vault.vault import Vault
from evidencesync.verify.audit import audit_vault
from tests.support.patience import PATIENCE_SECONDS
from tests.unit.vault.acquiring import Acquirer, new_signer

CHANGES = ("open", "rename", "link", "unlink", "write", "fchmod", "mkdir", "rmdir")
"""Functions of `os` that may change what is on the disk."""


class Crash(BaseException):
    pass


def codes(vault: Path) -> tuple[int, set[str]]:
    verdict = audit_vault(vault, now_ns=time.time_ns())
    return verdict.exit_code, {one.slug for one in verdict.findings}


def change_as_command(path: Path) -> ChangedKey:
    vault = Vault.open(path)
    return change_key(vault, vault.keys.current)


def killed_before(step: int, path: Path, change: Callable[[Path], object] = change_as_command) -> bool:
    """Changes the key in a process that is killed before it changes the disk for this time; False where it came to its end."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        left, itself = step, os.getpid()

        def counted(call: Callable[..., Any], name: str) -> Callable[..., Any]:
            def changes(*arguments: Any, **named: Any) -> Any:
                nonlocal left
                if name != "open" or arguments[1] & os.O_CREAT:
                    left -= 1
                    if left < 0:
                        os.kill(itself, signal.SIGKILL)
                return call(*arguments, **named)

            return changes

        write = os.write
        try:
            for name in CHANGES:
                setattr(os, name, counted(getattr(os, name), name))
            change(path)
            write(writer, b"done")
        except BaseException:  # noqa: BLE001 - the parent is told
            write(writer, traceback.format_exc().encode())
        finally:
            os.kill(itself, signal.SIGKILL)
    os.close(writer)
    with open(reader, "rb") as said:
        text = said.read()
    os.waitpid(child, 0)
    assert text in (b"", b"done"), text.decode()
    return not text


@pytest.mark.slow
def test_a_change_that_is_killed_anywhere_is_never_called_tampered_and_the_same_command_completes_it(
    acquirer: Acquirer, tmp_path: Path
) -> None:
    acquirer.acquire({b"a": b"evidence"})
    vault, copy = acquirer.vault.layout.root, tmp_path / "copy"
    old, step, found = acquirer.vault.keys.current, 0, set[tuple[int, bool]]()
    while True:
        shutil.copytree(vault, copy, symlinks=True)
        was_killed = killed_before(step, copy)
        code, slugs = codes(copy)
        opened = Vault.open(copy)
        keys = opened.keys.all
        assert code == 0, (step, slugs)
        assert opened.signer.public_key.fingerprint == opened.keys.current
        is_in_place = not any(name.startswith(".new-") for name in os.listdir(copy))
        found.add((len(keys), is_in_place))
        if not was_killed:
            break
        if (len(keys), is_in_place) != (2, True):
            done = change_as_command(copy)
            assert Vault.open(copy).keys.all == (old, done.change.key), step
            assert codes(copy)[0] == 0
        shutil.rmtree(copy)
        step += 1
    assert found == {(1, True), (1, False), (2, False), (2, True)}


def test_of_two_at_once_both_end_well_and_the_key_is_changed_once(acquirer: Acquirer) -> None:
    acquirer.acquire({b"a": b"evidence"})
    vault = acquirer.vault
    old, both = vault.keys.current, threading.Barrier(2)
    done: list[ChangedKey] = []

    def run() -> None:
        opened = Vault.open(vault.layout.root)
        both.wait(PATIENCE_SECONDS)
        done.append(change_key(opened, old))

    threads = [threading.Thread(target=run, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert [one.change for one in done] == [*vault.keys.changes] * 2
    assert sorted(one.completed for one in done) == [False, True]
    assert codes(vault.layout.root)[0] == 0


@pytest.mark.parametrize("step", ["renamed", "acquired-linked", "received-linked"])
def test_a_publish_that_a_crash_cut_short_is_completed_before_the_key_changes(acquirer: Acquirer, step: str) -> None:
    def crash(reached: str) -> None:
        if reached == step:
            raise Crash

    acquirer.acquire({b"a": b"first"})
    with pytest.raises(Crash):
        acquirer.acquire({b"a": b"second"}, fault=crash)
    change_as_command(acquirer.vault.layout.root)
    assert codes(acquirer.vault.layout.root)[0] == 0
    acquirer.acquire({b"a": b"third"})
    assert codes(acquirer.vault.layout.root)[0] == 0


def cut_short(acquirer: Acquirer, step: str) -> Path:
    """Publishes twice; a crash cuts the second publish short. Returns the item's folder."""

    def crash(reached: str) -> None:
        if reached == step:
            raise Crash

    acquirer.acquire({b"a": b"first"})
    with pytest.raises(Crash):
        acquirer.acquire({b"a": b"second"}, fault=crash)
    return acquirer.item().layout.root


def test_a_publish_that_cannot_be_completed_now_keeps_the_key_and_is_named(
    acquirer: Acquirer, monkeypatch: pytest.MonkeyPatch
) -> None:
    item, root = cut_short(acquirer, "renamed"), acquirer.vault.layout.root
    before = sorted(os.listdir(root))

    def full(*_: object, **_named: object) -> NoReturn:
        raise NoSpaceError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("evidencesync.vault.publish.put_record", full)
        with pytest.raises(NoSpaceError, match="full") as caught:
            change_as_command(root)
    assert f"{item.parent.name}/{item.name}" in caught.value.message
    assert "The key is as it was" in (caught.value.hint or "")
    assert (len(Vault.open(root).keys.all), sorted(os.listdir(root))) == (1, before)
    change_as_command(root)
    assert codes(root)[0] == 0


def test_damage_keeps_no_key_from_changing_and_is_said_where_it_ends_a_publish_for_good(acquirer: Acquirer) -> None:
    item, root = cut_short(acquirer, "renamed"), acquirer.vault.layout.root
    received = item / "acquisitions" / "0002" / "received.json"
    received.chmod(0o644)
    received.write_bytes(received.read_bytes()[:100])
    assert change_as_command(root).damaged == (f"{item.parent.name}/{item.name}",)
    assert len(Vault.open(root).keys.all) == 2


def test_damage_of_an_item_in_which_nothing_was_begun_is_no_matter_of_the_key(acquirer: Acquirer) -> None:
    acquirer.acquire({b"a": b"first"})
    record = acquirer.item().layout.custody / "0001-acquired.json"
    record.chmod(0o644)
    record.write_bytes(b"{}")
    assert change_as_command(acquirer.vault.layout.root).damaged == ()


def test_a_change_that_cannot_be_recorded_leaves_the_old_key_and_no_new_one(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(os.listdir(vault.layout.root))

    def refuse(*_: object) -> NoReturn:
        raise SigningKeyError("no")

    with monkeypatch.context() as patch:
        patch.setattr(VaultSigner, "sign", refuse)
        with pytest.raises(SigningKeyError):
            change_as_command(vault.layout.root)
    assert sorted(os.listdir(vault.layout.root)) == before
    assert len(vault.keys.all) == 1


@pytest.mark.slow
def test_the_files_of_a_change_that_never_was_are_left_over_and_those_of_a_recorded_one_are_not(acquirer: Acquirer) -> None:
    acquirer.acquire({b"a": b"evidence"})
    vault, step = acquirer.vault, 0
    while killed_before(step, vault.layout.root) and not vault.trust.left_drafts():
        step += 1
    assert {name[: -len("-0123456789abcdef")] for name in vault.trust.left_drafts()} <= {".new-vault_key", ".new-trusted_signers"}
    assert codes(vault.layout.root)[0] == 0
    change_as_command(vault.layout.root)
    assert len(vault.keys.all) == 2


def test_the_new_private_key_is_its_owners_alone_from_its_first_byte(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    asked = key_files.require_unexposed

    def noted(vault_fd: int, name: str) -> None:
        modes.append(os.stat(name, dir_fd=vault_fd).st_mode & 0o777)
        asked(vault_fd, name)

    monkeypatch.setattr("evidencesync.vault.trust_drafts.require_unexposed", noted)
    change_as_command(vault.layout.root)
    assert modes == [0o600]
    assert (vault.layout.root / "vault_key").stat().st_mode & 0o777 == 0o600


def test_a_key_that_is_or_was_the_vaults_is_neither_retired_nor_revoked_nor_anybody_elses(vault: Vault) -> None:
    old = vault.signer.public_key
    change_as_command(vault.layout.root)
    for key in (old, vault.signer.public_key):
        for change in (vault.trust.retire, vault.trust.revoke, lambda key: vault.trust.add(key, "mallory")):
            with pytest.raises(UsageError):
                change(key)


def test_a_key_that_was_revoked_does_not_become_the_vaults(vault: Vault) -> None:
    """Everything that it signed would be refused for ever."""
    revoked = new_signer()
    vault.trust.revoke(revoked.public_key)
    with pytest.raises(UsageError, match="was revoked already"):
        change_key(vault, vault.settings.key, revoked)
    assert vault.keys.current == vault.settings.key


def test_a_change_that_another_key_has_signed_is_not_followed(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = new_signer()
    with monkeypatch.context() as patch:
        patch.setattr(Vault, "signer", property(lambda _vault: stranger))
        with pytest.raises(UntrustedSignerError):
            change_key(vault, vault.settings.key)
            _ = Vault.open(vault.layout.root).keys
    assert codes(vault.layout.root)[0] != 0
