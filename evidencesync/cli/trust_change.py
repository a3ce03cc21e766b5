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

from evidencesync.cli.lines import wrapped
from evidencesync.cli.options import RemoteChoice, SignChoice, local_vault, vault_address
from evidencesync.cli.own_state import adding_to_own_chain, remember_heads, usable_memory
from evidencesync.cli.signers import signer_lines, signers_of
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.exit_codes import ExitCode

if TYPE_CHECKING:
    from evidencesync.acquire.trust import Compose
    from evidencesync.cli.command import Run
    from evidencesync.cli.outputs import ProposalOutput, TrustChange
    from evidencesync.connection.link import Link
    from evidencesync.custody.trust_requests import ChangeOfTrust
    from evidencesync.custody.two_people import Proposal
    from evidencesync.ssh.address import Address
    from evidencesync.vault.vault import Vault


@dataclasses.dataclass(frozen=True, slots=True)
class Changed:
    """What was changed, and the vault after it. Of a far vault, only what it states about itself is here."""

    address: Address
    vault: Vault
    changes: list[TrustChange]

    def lines(self) -> list[str]:
        """What was changed, for people; with the command of who consents to a proposal, as it is typed in any folder."""
        place = str(Path(self.address.path).absolute()) if self.address.local else self.address.text
        return [_change_text(change, place) for change in self.changes]


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
        from evidencesync.vault.vault import Vault

        opened = Vault.open(local_vault(vault))
        change = compose(opened)
        if change is None or not _needs_request(opened, change):
            yield Changed(address, opened, []) if change is None else _change_here(run, opened, address, change)
            return
    from evidencesync.files.temporary import temporary_folder

    with contextlib.ExitStack() as stack:
        yield _ask_afar(run, address, sign, ssh, compose, lambda: stack.enter_context(temporary_folder("trust-")))


def give_signers(run: Run, done: Changed, steps: Iterable[str] = ()) -> ExitCode:
    """Prints what was changed, and who is trusted now."""
    from evidencesync.cli.outputs import TrustOutput

    signers, proposals = signers_of(done.vault), done.vault.trust.proposals()
    lines = [*done.lines(), *signer_lines(signers)]
    shown = [proposal_output(one) for one in proposals.is_open(time.time_ns())]
    lines += [f"needs two people: {', '.join(proposals.rule)}"] if proposals.rule else []
    for one in shown:
        lines += wrapped("", proposal_text(one))
    output = TrustOutput(done.vault.settings.id, done.changes, signers, list(proposals.rule), shown)
    run.console.print_result(output, [*lines, *steps])
    return ExitCode.COMPLETE


def _change_text(change: TrustChange, place: str) -> str:
    about = f" {change.key}" if change.key is not None else ""
    if change.action != "proposed":
        return f"{change.action.replace('_', '-')}{about}, custody record {change.record}"
    consent = shell_text("evidencesync", "trust", "consent", place, "--record", str(change.record))
    return f"proposed{about}, custody record {change.record}: no effect before another administrator consents: {consent}"


def proposal_output(one: Proposal) -> ProposalOutput:
    """An open proposal as a document."""
    from evidencesync.cli.outputs import ProposalOutput
    from evidencesync.evidence.utc_time import format_utc_time

    request = one.request
    return ProposalOutput(one.record, request.actor.principal, request.action, request.details, format_utc_time(one.lapses_ns))


def proposal_text(one: ProposalOutput) -> str:
    """An open proposal, for people."""
    details = "; ".join(f"{name}: {safe_text(text, 80)}" for name, text in one.details.items() if name != "public_key")
    who = safe_text(one.principal, 80)
    return f"proposed in record {one.record} by {who}, open until {one.lapses}: {one.action.replace('_', '-')}; {details}"


def _needs_request(vault: Vault, change: ChangeOfTrust) -> bool:
    """Whether a change has to be asked for with a key, also where the vault lies."""
    from evidencesync.custody.rule_of_two import needs_two

    return change.action in ("consented", "withdrawn") or needs_two(vault.trust.rule(), change.action)


def _change_here(run: Run, vault: Vault, address: Address, change: ChangeOfTrust) -> Changed:
    from evidencesync.vault.heads import record_heads
    from evidencesync.vault.ledger import recorded

    vault.trust.check(change)
    with adding_to_own_chain(run, vault):
        if change.action not in ("added", "revoked"):
            record_heads(vault)  # first: what a crash kept from being stated was there before the change
        vault.trust.apply(change)
        made = _recorded(vault, vault.ledger.head().sequence, change)
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
    from evidencesync.cli.reading import reader_key
    from evidencesync.cli.terminal import person_at
    from evidencesync.connection.process import SteadyClock
    from evidencesync.localstate.heads import RecalledHeads

    person = sign.person(run.settings.values)
    wanted: list[ChangeOfTrust] = []

    def connect() -> Link:
        return connect_to_vault(address, ssh.options(run.settings, person_at(run.console)))

    def checked(shown: Vault) -> ChangeOfTrust | None:
        wanted[:] = [one for one in [compose(shown)] if one is not None]
        for change in wanted:
            if change.action not in ("consented", "withdrawn"):
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
                retries=0 if address.local else RETRIES,
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
        return Changed(address, vault, [_recorded(vault, number, wanted[0])])


def _recorded(vault: Vault, number: int, asked: ChangeOfTrust) -> TrustChange:
    """What the record of a change says: a proposal, where two people are needed."""
    from evidencesync.cli.outputs import TrustChange

    details = vault.ledger.load(vault.ledger.files()[number - 1]).record.details
    return TrustChange(details["action"], details.get("key", asked.key), number)  # type: ignore[arg-type]  # it is of this version
