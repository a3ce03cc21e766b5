"""Carries out a change of whom a vault trusts, for a command: on this machine, or by asking a far vault for it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from evidencesync.cli.options import RemoteChoice, SignChoice, local_vault, vault_address
from evidencesync.cli.own_state import adding_to_own_chain, remember_heads, usable_memory
from evidencesync.cli.signers import signer_lines, signers_of
from evidencesync.exit_codes import ExitCode

if TYPE_CHECKING:
    from evidencesync.acquire.trust import Compose
    from evidencesync.cli.command import Run
    from evidencesync.cli.outputs import TrustChange
    from evidencesync.connection.link import Link
    from evidencesync.ssh.address import Address
    from evidencesync.vault.vault import Vault


@dataclasses.dataclass(frozen=True, slots=True)
class Changed:
    """What was changed, and the vault after it. Of a far vault, only what it states about itself is here."""

    address: Address
    vault: Vault
    changes: list[TrustChange]


def require_vault(vault: str) -> None:
    """Opens a vault on this machine, before what else was typed is looked at: who has typed two places in another order is told.

    Raises as `Vault.open` does.
    """
    if vault_address(vault).local:
        from evidencesync.vault.vault import Vault

        Vault.open(local_vault(vault))


@contextlib.contextmanager
def change_trust(run: Run, vault: str, sign: SignChoice, ssh: RemoteChoice, compose: Compose) -> Iterator[Changed]:
    """Makes the change that `compose` decides upon, by what the vault states about itself, and shows the vault after it.

    Raises what `compose` and `TrustStore.apply` raise, and for a far vault what `ask_for_change` raises.
    """
    address = vault_address(vault)
    if address.local:
        yield _change_here(run, vault, address, compose)
        return
    from evidencesync.files.temporary import temporary_folder

    with contextlib.ExitStack() as stack:
        yield _ask_afar(run, address, sign, ssh, compose, lambda: stack.enter_context(temporary_folder("trust-")))


def give_signers(run: Run, vault: Vault, changes: list[TrustChange], steps: Iterable[str] = ()) -> ExitCode:
    """Prints what was changed, and who is trusted now."""
    from evidencesync.cli.outputs import TrustOutput

    signers = signers_of(vault)
    lines = [f"{change.action} {change.key}, custody record {change.record}" for change in changes]
    lines += signer_lines(signers)
    run.console.print_result(TrustOutput(vault.settings.id, changes, signers), [*lines, *steps])
    return ExitCode.COMPLETE


def _change_here(run: Run, text: str, address: Address, compose: Compose) -> Changed:
    from evidencesync.cli.outputs import TrustChange
    from evidencesync.vault.heads import record_heads
    from evidencesync.vault.ledger import recorded
    from evidencesync.vault.vault import Vault

    vault = Vault.open(local_vault(text))
    if (change := compose(vault)) is None:
        return Changed(address, vault, [])
    vault.trust.check(change)
    with adding_to_own_chain(run, vault):
        if change.action in ("changed", "retired"):
            record_heads(vault)  # first: what a crash kept from being stated was there before the change
        vault.trust.apply(change)
        made = TrustChange(change.action, change.key, vault.ledger.head().sequence)
        if change.action in ("added", "revoked"):
            with recorded(made.record):
                record_heads(vault)
    return Changed(address, vault, [made])


def _ask_afar(
    run: Run, address: Address, sign: SignChoice, ssh: RemoteChoice, compose: Compose, make_folder: Callable[[], Path]
) -> Changed:
    from evidencesync.acquire.connect import connect_to_vault
    from evidencesync.acquire.custody import RETRIES
    from evidencesync.acquire.documents import DocumentsRequest
    from evidencesync.acquire.known_heads import VaultAtHand
    from evidencesync.acquire.trust import Administrator, ask_for_change
    from evidencesync.cli.outputs import TrustChange
    from evidencesync.cli.reading import reader_key
    from evidencesync.cli.terminal import person_at
    from evidencesync.connection.process import SteadyClock
    from evidencesync.custody.trust_requests import ChangeOfTrust as Wanted
    from evidencesync.localstate.heads import RecalledHeads

    person = sign.person(run.settings.values)
    wanted: list[Wanted] = []

    def connect() -> Link:
        return connect_to_vault(address, ssh.options(run.settings, person_at(run.console)))

    def checked(shown: Vault) -> Wanted | None:
        wanted[:] = [one for one in [compose(shown)] if one is not None]
        for change in wanted:
            shown.trust.check(change)
        return wanted[0] if wanted else None

    with usable_memory(run) as memory:
        recalled = RecalledHeads(memory)
        asking = Administrator(
            connect=connect,
            request=DocumentsRequest(
                vault=os.fsencode(address.path),
                signer=reader_key(run, sign, ssh),
                session=secrets.token_hex(16),
                timeout_seconds=ssh.timeout_seconds(run.settings),
                retries=RETRIES,
                own=True,
                purpose="trust",
            ),
            name=person.name,
            organisation=person.organisation,
            recall=recalled.recall_before,
            make_folder=make_folder,
            require=lambda shown: VaultAtHand(recalled, shown).require(),
            tell=lambda text: run.console.print_message(f"note: {text}"),
            now=SteadyClock(),
        )
        vault, number = ask_for_change(asking, checked)
        if number is None:
            return Changed(address, vault, [])
        remember_heads(run, VaultAtHand(recalled, vault), time.time_ns())
        return Changed(address, vault, [TrustChange(wanted[0].action, wanted[0].key, number)])
