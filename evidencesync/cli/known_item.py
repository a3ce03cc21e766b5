"""Opens an item to show something of it: what was removed from it must not look as if it had never been there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evidencesync.cli.options import local_vault
from evidencesync.cli.own_state import audit_memory
from evidencesync.exit_codes import ExitCode

if TYPE_CHECKING:
    from evidencesync.cli.command import Run
    from evidencesync.evidence.identity import ItemName
    from evidencesync.vault.item import VaultItem


def open_known_item(run: Run, vault: str, name: ItemName) -> tuple[VaultItem, ExitCode]:
    """Opens an item whose chain is as long as it is known to be, and returns the exit code of what could not be compared.

    Raises what `Vault.item` raises, and ChainError where the vault's own chain, or what this machine remembers, tells of more.
    What could not be read is a warning: an old record in a bad sector keeps nobody from the item.
    """
    from evidencesync.acquire.known_heads import KnownHeads, code_of
    from evidencesync.vault.stated import require_stated
    from evidencesync.vault.vault import Vault

    opened = Vault.open(local_vault(vault))
    known = KnownHeads(audit_memory(run), opened)
    item = opened.item(name)
    require_stated(item.ledger, f"the custody chain of {name}", known.of(name.place))
    worst = known.worst_problem()
    if worst is not None and code_of(worst) is not ExitCode.GAPS:
        raise worst
    for error in known.problems:
        run.console.warn(f"not compared with all that is known of the item: {error.message}")
    return item, ExitCode.COMPLETE if worst is None else ExitCode.GAPS
