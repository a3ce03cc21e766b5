"""`trust rotate-vault-key`: gives the vault a new key of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from evidencesync.cli.command import Run
from evidencesync.cli.options import VaultPath, local_vault, vault_address
from evidencesync.cli.own_state import adding_to_own_chain
from evidencesync.exit_codes import ExitCode

if TYPE_CHECKING:
    from evidencesync.custody.sshsig import SigningKey


VaultKeyChoice = Annotated[
    str | None,
    typer.Option(
        "--vault-key",
        metavar="agent:FINGERPRINT",
        help="The vault's own key is this one, which an ssh-agent holds (in a token, perhaps).  [default: a new one, in a file]",
    ),
]


def chosen_vault_key(choice: str | None) -> SigningKey | None:
    """Returns the key that `--vault-key` names; None without it. Raises UsageError, SigningKeyError where no agent has it."""
    if choice is None:
        return None
    from evidencesync.errors import SigningKeyError, UsageError
    from evidencesync.evidence.display import safe_text
    from evidencesync.ssh_agent import AgentSigner, agent_keys
    from evidencesync.vault.key_files import require_usable

    kind, _, fingerprint = choice.partition(":")
    if kind != "agent" or not fingerprint.startswith("SHA256:"):
        raise UsageError(
            f"not a key for a vault: {safe_text(choice, 80)}",
            hint="Write --vault-key agent:SHA256:..., with the fingerprint that is printed by: ssh-add -l",
        )
    key = next((one for one in agent_keys() if one.fingerprint == fingerprint), None)
    if key is None:
        raise SigningKeyError(
            f"the agent does not hold the key {safe_text(fingerprint, 80)}",
            hint="Load it with: ssh-add FILE. What it holds: ssh-add -l",
        )
    require_usable(key)
    return AgentSigner(key)


def rotate_vault_key(
    run: Run,
    vault: VaultPath,
    vault_key: VaultKeyChoice = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask. (Without a terminal nobody is asked.)")] = False,
) -> ExitCode:
    """Gives the vault a new key of its own. The old key signs the new one, and signs nothing more after that.

    What the vault has signed until then stays good. Who knows the vault by the old key is led over to the new one. It cannot be
    undone, so at a terminal you are asked first. Where it was interrupted, the same command completes it.
    """
    from evidencesync.cli.outputs import TrustChange
    from evidencesync.cli.trust_change import Changed, give_signers
    from evidencesync.evidence.display import safe_text
    from evidencesync.vault.key_change import change_key
    from evidencesync.vault.ledger import recorded
    from evidencesync.vault.vault import Vault

    in_agent = chosen_vault_key(vault_key)
    opened = Vault.open(local_vault(vault))
    old = opened.keys.current
    if not yes:
        run.console.print_message("note: transfers that run now end unpublished; run again, they reuse what has arrived.")
        run.console.confirm(f"Replace the vault's key {old} for good? Its private part is removed.")
    with adding_to_own_chain(run, opened):
        done = change_key(opened, old, in_agent)
        with recorded(done.change.number):
            change = TrustChange("vault-key-changed", done.change.key, done.change.number)
    if done.completed:
        run.console.print_message("note: this change was begun before, by another run, and it is complete now.")
    for item in done.damaged:
        run.console.warn(
            f"item {safe_text(item, 200)} is damaged: an acquisition that was published there may lack its custody records, and "
            "with the new key nobody can add them; push into another item"
        )
    return give_signers(run, Changed(vault_address(vault), opened, [change]))
