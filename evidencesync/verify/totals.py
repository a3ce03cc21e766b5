"""Counts how much there is to be checked, in a thread of its own beside the check, for a display."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.identity import Title
from evidencesync.vault.catalog import stated_totals
from evidencesync.vault.layout import VaultLayout
from evidencesync.verify.audit import AuditScope
from evidencesync.verify.context import VerifyProgress


def begin_counting(vault: Path, scope: AuditScope, progress: VerifyProgress) -> None:
    """Begins to count. Where something cannot be read there is no total; the check itself says what is wrong."""
    with contextlib.suppress(RuntimeError):  # no more threads may be started: then there is no total
        threading.Thread(target=_count, args=(vault, scope, progress), name="count", daemon=True).start()


def _count(vault: Path, scope: AuditScope, progress: VerifyProgress) -> None:
    with contextlib.suppress(EvidenceSyncError, OSError):
        case, item = (None if name is None else Title(name).folder for name in (scope.case, scope.item))
        stated = stated_totals(VaultLayout(vault), case, item, scope.acquisition)
        progress.total_files, progress.total_bytes, progress.total_hole_bytes = stated
