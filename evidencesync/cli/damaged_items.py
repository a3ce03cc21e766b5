"""Shows what is there of an item whose chain is damaged, before the error says so: one lost record hides no other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from evidencesync.errors import ChainError, EvidenceSyncError, MissingOrExtraError, SignatureError

if TYPE_CHECKING:
    from evidencesync.cli.command import Run
    from evidencesync.evidence.identity import ItemName
    from evidencesync.vault.ledger import Ledger
    from evidencesync.vault.vault import Vault


@contextlib.contextmanager
def showing_what_is_there(run: Run, vault: Vault, name: ItemName) -> Iterator[None]:
    """Prints what lies there of an item, where what runs inside fails for its documents; then raises the same error.

    With `--json` the error alone is printed: no document states a chain that is not whole.
    """
    try:
        yield
    except (ChainError, MissingOrExtraError, SignatureError) as error:
        if not run.console.as_json:
            with contextlib.suppress(EvidenceSyncError):
                run.console.print_rows(_lines(vault, name, error))
        raise


def _lines(vault: Vault, name: ItemName, error: EvidenceSyncError) -> Iterator[str]:
    from evidencesync.cli.catalog import what_is_there
    from evidencesync.cli.item_lines import item_lines
    from evidencesync.vault.catalog import require_no_link
    from evidencesync.vault.ledger import Ledger

    yield "NOT WHOLE: what is there is shown, and nothing of it is verified (times are UTC)"
    yield from item_lines(what_is_there(vault.layout, name.place, error, set()))
    custody = vault.layout.item(name).custody
    require_no_link(vault.layout, *name.place.split("/"), custody.name)
    yield "  custody"
    yield from _record_lines(Ledger(custody))


def _record_lines(ledger: Ledger) -> Iterator[str]:
    """Each record that is there, and each gap between two."""
    from evidencesync.cli.item_lines import record_line

    before = 0
    for file in ledger.there():
        if file.sequence > before + 1:
            last = "" if file.sequence == before + 2 else f" to {file.sequence - 1:04}"
            yield f"    {before + 1:04}{last}  NOT THERE"
        before = file.sequence
        try:
            yield record_line(ledger.load(file).record)
        except EvidenceSyncError as error:
            yield f"    {file.sequence:04}  CANNOT BE READ: {error.message}"
