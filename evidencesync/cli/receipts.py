"""Where this machine keeps receipts and remembers heads: what the settings and the environment say about it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from evidencesync.errors import NoHomeError
from evidencesync.home import expand

if TYPE_CHECKING:
    from evidencesync.acquire.known_heads import VaultAtHand
    from evidencesync.cli.command import Run
    from evidencesync.localstate.heads import HeadMemory

STATE_VARIABLE: Final = "EVIDENCESYNC_STATE"


def chosen_receipts(run: Run, given: str | None) -> Path | None:
    """The folder for receipts that an option or the settings name."""
    return expand(given) if given is not None else run.settings.path(run.settings.values.receipts)


def chosen_state(run: Run) -> Path:
    """Where this machine remembers: in the folder that the environment or the settings name, else the user's own."""
    from evidencesync.localstate.heads import state_folder

    named = os.environ.get(STATE_VARIABLE)
    return state_folder(expand(named) if named else run.settings.path(run.settings.values.state))


def is_state_chosen(run: Run) -> bool:
    """Whether somebody has said where this machine remembers."""
    return bool(os.environ.get(STATE_VARIABLE)) or run.settings.values.state is not None


def head_memory(run: Run) -> HeadMemory:
    """What this machine remembers of vaults. Raises NoHomeError where it has no place for that."""
    from evidencesync.localstate.heads import HeadMemory

    return HeadMemory(chosen_state(run))


def audit_memory(run: Run) -> HeadMemory:
    """The same for a check of a vault, which is worth making also where there is no such place: its verdict then says so."""
    from evidencesync.localstate.heads import NoMemory

    try:
        return head_memory(run)
    except NoHomeError as error:
        return NoMemory(error.message)


@contextlib.contextmanager
def usable_memory(run: Run) -> Iterator[HeadMemory]:
    """The same for what adds a record, where the head can be kept afterwards: that is tried before anything is signed.

    Raises RememberedHeadsError, UsageError.
    """
    memory = audit_memory(run)
    memory.require_usable()
    try:
        yield memory
    finally:
        memory.close()


def keep_seen(run: Run, seen: VaultAtHand, now_ns: int) -> None:
    """Remembers how far the chains of a vault at hand go, after a record was added. What cannot be remembered is a warning."""
    from evidencesync.errors import EvidenceSyncError
    from evidencesync.evidence.utc_time import format_moment

    try:
        seen.remember(format_moment(now_ns))
    except EvidenceSyncError as error:  # the record is in the chain: a failure would have it added again
        run.console.warn(f"the record is in the chain, but its head was not remembered here: {error.message}")
