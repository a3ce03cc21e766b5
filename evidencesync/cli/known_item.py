"""Opens an item to show something of it: what was removed from it must not look as if it had never been there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evidencesync.cli.options import local_vault
from evidencesync.cli.own_state import audit_memory
from evidencesync.errors import RememberedHeadsError, StorageError
from evidencesync.exit_codes import SEVERITY_ORDER, ExitCode, most_severe

if TYPE_CHECKING:
    from evidencesync.cli.command import Run
    from evidencesync.errors import EvidenceSyncError
    from evidencesync.evidence.identity import ItemName
    from evidencesync.vault.item import VaultItem


def code_of(error: EvidenceSyncError) -> ExitCode:
    """The exit code of a problem beside what is shown: what the disk, or this machine's memory, did not give is a gap."""
    return ExitCode.GAPS if isinstance(error, StorageError | RememberedHeadsError) else error.exit_code


def severity(error: EvidenceSyncError) -> int:
    """Orders problems: the one that decides the exit code is the highest."""
    return -SEVERITY_ORDER.index(code) if (code := code_of(error)) in SEVERITY_ORDER else 0


def open_known_item(run: Run, vault: str, name: ItemName) -> tuple[VaultItem, ExitCode]:
    """Opens an item whose chain is as long as it is known to be, and returns the exit code of what could not be compared.

    Raises what `Vault.item` raises, and ChainError where the vault's own chain, or what this machine remembers, tells of more.
    What could not be read is a warning: an old record in a bad sector keeps nobody from the item.
    """
    from evidencesync.acquire.known_heads import KnownHeads
    from evidencesync.vault.stated import require_stated
    from evidencesync.vault.vault import Vault

    opened = Vault.open(local_vault(vault))
    known = KnownHeads(audit_memory(run), opened)
    item = opened.item(name)
    require_stated(item.ledger, f"the custody chain of {name}", known.of(f"{name.case.folder}/{name.item.folder}"))
    for error in sorted(known.problems, key=severity, reverse=True):
        if code_of(error) is not ExitCode.GAPS:
            raise error
        run.console.warn(f"not compared with all that is known of the item: {error.message}")
    return item, most_severe({code_of(error) for error in known.problems})
