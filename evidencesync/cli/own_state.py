"""What this machine keeps of its own, outside any vault: receipts, and the remembered heads of vaults' chains.

Options, settings and the environment say where. Nothing of it may lie in a vault, and what lies in the source is left out of
the evidence. An item that is to be shown is opened here, and compared with what is remembered: what was removed from it must
not look as if it had never been there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from evidencesync.errors import NoHomeError
from evidencesync.evidence.display import safe_text
from evidencesync.exit_codes import ExitCode
from evidencesync.home import expand

if TYPE_CHECKING:
    from evidencesync.acquire.known_heads import VaultAtHand
    from evidencesync.cli.command import Run
    from evidencesync.evidence.identity import ItemName
    from evidencesync.localstate.heads import HeadMemory
    from evidencesync.localstate.receipts import ReceiptDraft
    from evidencesync.outside import Closed
    from evidencesync.source.filters import FilterRules
    from evidencesync.vault.item import VaultItem
    from evidencesync.vault.vault import Vault

STATE_VARIABLE: Final = "EVIDENCESYNC_STATE"


def chosen_receipts(run: Run, given: str | None) -> Path | None:
    """The folder for receipts that an option or the settings name; None if neither does."""
    return expand(given) if given is not None else run.settings.path(run.settings.values.receipts)


def chosen_state(run: Run) -> Path:
    """The folder for remembered heads: the one that the environment or the settings name, else the user's own."""
    from evidencesync.localstate.heads import state_folder

    named = os.environ.get(STATE_VARIABLE)
    return state_folder(expand(named) if named else run.settings.path(run.settings.values.state))


def is_state_chosen(run: Run) -> bool:
    """Whether the environment or the settings name a folder for remembered heads."""
    return bool(os.environ.get(STATE_VARIABLE)) or run.settings.values.state is not None


def head_memory(run: Run) -> HeadMemory:
    """The heads that this machine remembers. Raises NoHomeError if there is no folder for them."""
    from evidencesync.localstate.heads import HeadMemory

    return HeadMemory(chosen_state(run))


def audit_memory(run: Run) -> HeadMemory:
    """The same for a check of a vault, which is useful without them too: its verdict then states that there are none."""
    from evidencesync.localstate.heads import NoMemory

    try:
        return head_memory(run)
    except NoHomeError as error:
        return NoMemory(error.message)


@contextlib.contextmanager
def usable_memory(run: Run) -> Iterator[HeadMemory]:
    """The remembered heads for a command that adds a record. Tests that the new head can be stored, before anything is signed.

    Raises RememberedHeadsError, UsageError.
    """
    memory = audit_memory(run)
    memory.require_usable()
    try:
        yield memory
    finally:
        memory.close()


def remember_heads(run: Run, vault: VaultAtHand, now_ns: int) -> None:
    """Remembers the heads of a vault's chains after a record was added. Warns if they cannot be stored."""
    from evidencesync.errors import EvidenceSyncError
    from evidencesync.evidence.utc_time import format_utc_time

    try:
        vault.remember(format_utc_time(now_ns))
    except (
        EvidenceSyncError
    ) as error:  # the record is in the chain: after a failure, the command would be run again and add another
        run.console.warn(f"the record is in the chain, but its head was not remembered here: {error.message}")


@dataclasses.dataclass(frozen=True, slots=True)
class RunFolders:
    """The source's folder and the vault's folder, if they are on this machine. None for one that is not, or is no folder."""

    source: Path | None
    vault: Path | None

    def closed(self, *, named: bool) -> list[Closed]:
        """The folders in which own state may not lie. The source is one of them if a person `named` the place of the own state.

        The default places lie in the source if that is the user's home folder, or the whole machine: they are then left out of
        the evidence. A person who names a place can name another one, unless the source is the root, outside of which there is
        nothing.
        """
        from evidencesync.outside import Closed, closed_vault

        is_vault = self.vault is not None and os.path.lexists(self.vault / "vault.toml")  # if not, opening the vault will fail
        found = closed_vault(self.vault if is_vault else None)
        if named and self.source is not None and self.source.parent != self.source:
            found.append(Closed("the source, which is only read", self.source))
        return found


@dataclasses.dataclass(frozen=True, slots=True)
class OwnState:
    """Own state that is open for one run: the remembered heads, and the receipt that is being made."""

    memory: HeadMemory
    draft: ReceiptDraft


@contextlib.contextmanager
def open_own_state(run: Run, receipts: str | None, folders: RunFolders) -> Iterator[OwnState]:
    """Opens own state, and tests that it can be written, before anything is sent. `receipts` is what the option says.

    The tested folders stay open until they are used. Raises NoSpaceError, ConfigurationError, UsageError.
    """
    from evidencesync.localstate.receipts import ReceiptDraft, receipts_folder
    from evidencesync.vault.writer import kind_of_file_system

    chosen = chosen_receipts(run, receipts)
    memory = head_memory(run)
    with receipts_folder(chosen, folders.closed(named=chosen is not None)) as folder:
        draft = ReceiptDraft(folder)
        run.console.print_detail(f"receipts are kept in {safe_text(str(draft.path.parent))}")
        run.console.print_detail(f"heads of vaults are remembered in {safe_text(str(memory.folder))}")
        try:
            memory.require_usable(folders.closed(named=is_state_chosen(run)))
            if kind_of_file_system(folder.fd).has_real_locks:
                for left in draft.remove_left():
                    run.console.print_notice(f"removed what a push that was killed had left: {left}")
            yield OwnState(memory, draft)
        finally:
            memory.close()
            draft.close()


def without_own_state(
    run: Run, receipts: str | None, source: bytes, rules: FilterRules, draft: ReceiptDraft | None
) -> FilterRules:
    """The rules, extended so that own state in a source on this machine is left out.

    Left out are the remembered heads and the receipts folder. If that holds other things, only the receipt draft is left out.
    """
    from evidencesync.localstate.receipts import default_receipts, holds_receipts_alone
    from evidencesync.source.root import own_folders

    folders = []
    with contextlib.suppress(NoHomeError):  # then this user has no own state anywhere
        folders.append(head_memory(run).folder)
    with contextlib.suppress(NoHomeError):
        place = default_receipts(chosen_receipts(run, receipts))
        if holds_receipts_alone(place):
            folders.append(place)
        elif draft is not None:
            folders.append(draft.path)
    return msgspec.structs.replace(rules, own=own_folders(source, map(os.fsencode, folders)))


def open_known_item(run: Run, vault: Vault, memory: HeadMemory, name: ItemName) -> tuple[VaultItem, ExitCode]:
    """Opens an item whose chain is as long as it is known to be, and returns the exit code of what could not be compared.

    Raises what `open_item` raises, and ChainError where the vault's own chain, or what this machine remembers, tells of more.
    What could not be read is a warning: an old record in a bad sector keeps nobody from the item.
    """
    from evidencesync.acquire.known_heads import KnownHeads, code_of, open_item
    from evidencesync.vault.heads import require_stated

    known = KnownHeads(memory, vault)
    item = open_item(memory, vault, name)
    require_stated(item.ledger, f"the custody chain of {name}", known.of(name.place))
    worst = known.worst_problem()
    if worst is not None and code_of(worst) is not ExitCode.GAPS:
        raise worst
    for error in known.problems:
        run.console.warn(f"not compared with all that is known of the item: {error.message}")
    return item, ExitCode.COMPLETE if worst is None else ExitCode.GAPS


@contextlib.contextmanager
def adding_to_own_chain(run: Run, vault: Vault) -> Iterator[None]:
    """For records of the vault's own chain: compares it with the remembered head before, and remembers its new head after."""
    import time

    from evidencesync.acquire.known_heads import VaultAtHand

    with usable_memory(run) as memory:
        seen = VaultAtHand(memory, vault)
        seen.require()
        yield
        remember_heads(run, seen, time.time_ns())
