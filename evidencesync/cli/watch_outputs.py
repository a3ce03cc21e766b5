"""What `watch --json` prints."""

from __future__ import annotations

from typing import Annotated

import msgspec

from evidencesync.cli.outputs import ErrorDetail, NotebookFingerprint, Output, PushVerdict
from evidencesync.custody.documents import AcquisitionNumber, VaultId
from evidencesync.evidence.digest import HexDigest
from evidencesync.evidence.entry import Count
from evidencesync.evidence.utc_time import Moment

MOST_LISTED = 1000
"""Acquisitions that a watch remembers; with 96 a day that is ten days."""


class WatchedAcquisition(Output, frozen=True):
    """One acquisition that a watch has made. `seconds` is what the push took; `receipts` where its documents are kept."""

    acquisition: AcquisitionNumber
    published: Moment
    verdict: PushVerdict
    files: Count
    bytes: Count
    wire_sent: Count
    seconds: float
    flags: dict[str, Count]
    manifest_sha256: HexDigest
    receipt_sha256: HexDigest
    chain_head_sha256: HexDigest
    fingerprint: NotebookFingerprint
    receipts: str


class WatchOutput(Output, frozen=True):
    """What a watch has done, printed when it ends. `made` counts its acquisitions, `acquisitions` lists the last 1000 of them.

    `failures` counts pushes that failed. `all_in_vault`: the last look at the source has seen what was pushed before. `error` is
    null where the watch was ended while nothing was left to do.
    """

    case: str
    item: str
    vault_id: VaultId | None
    started: Moment
    ended: Moment
    made: Count
    failures: Count
    all_in_vault: bool
    acquisitions: Annotated[list[WatchedAcquisition], msgspec.Meta(max_length=MOST_LISTED)]
    error: ErrorDetail | None
