"""`trust rotate-vault-key`: gives the vault a new key of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from evidencesync.cli.command import Run
from evidencesync.cli.options import VaultPath, local_vault
from evidencesync.cli.own_state import adding_to_own_chain
from evidencesync.exit_codes import ExitCode


def rotate_vault_key(
    run: Run,
    vault: VaultPath,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask. (Without a terminal nobody is asked.)")] = False,
) -> ExitCode:
    """Gives the vault a new key of its own. The old key signs the new one, and signs nothing more after that.

    What the vault has signed until then stays good. Who knows the vault by the old key is led over to the new one. It cannot be
    undone, so at a terminal you are asked first. Where it was interrupted, the same command completes it.
    """
    from evidencesync.cli.outputs import TrustChange
    from evidencesync.cli.trust_change import give_signers
    from evidencesync.vault.key_change import change_key
    from evidencesync.vault.ledger import recorded
    from evidencesync.vault.vault import Vault

    opened = Vault.open(local_vault(vault))
    old = opened.keys.current
    if not yes:
        run.console.print_message("note: transfers that run now end unpublished; run again, they reuse what has arrived.")
        run.console.confirm(f"Replace the vault's key {old} for good? Its private part is removed.")
    with adding_to_own_chain(run, opened):
        done = change_key(opened, old)
        with recorded(done.change.number):
            change = TrustChange("vault-key-changed", done.change.key, done.change.number)
    if done.completed:
        run.console.print_message("note: this change was begun before, by another run, and it is complete now.")
    return give_signers(run, opened, [change])
