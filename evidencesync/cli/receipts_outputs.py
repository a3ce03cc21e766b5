"""What the `receipts` commands print with `--json`."""

from __future__ import annotations

from typing import Literal

from evidencesync.cli.outputs import Output, Problem
from evidencesync.custody.documents import AcquisitionNumber, Fingerprint, VaultId
from evidencesync.evidence.digest import HexDigest
from evidencesync.evidence.entry import Count
from evidencesync.evidence.utc_time import UtcTime


class KeptReceipt(Output, frozen=True):
    """One receipt; null where its documents cannot be read, which is then among the problems.

    `records` counts the custody records beside it that were found good. `examiner` is the key that signed manifest and
    `acquired` record, `principal` the name under which the vault trusted it. `times_contradict`: dates that cannot be true, each
    in a sentence; a warning, which is looked for by `receipts check` only.
    """

    folder: str
    vault_id: VaultId | None
    vault_key: Fingerprint | None
    case: str | None
    item: str | None
    acquisition: AcquisitionNumber | None
    received: UtcTime | None
    examiner: Fingerprint | None
    principal: str | None
    read_back: bool | None
    manifest_kept: bool
    records: Count
    manifest_sha256: HexDigest | None
    chain_head_sequence: Count | None
    chain_head_sha256: HexDigest | None
    problems: list[Problem]
    times_contradict: list[str]


class SeenHeadOutput(Output, frozen=True):
    """How far this machine has seen a chain; without case and item it is the vault's own."""

    vault_id: VaultId
    vault_key: Fingerprint
    case: str | None
    item: str | None
    sequence: Count
    sha256: HexDigest
    seen: UtcTime


class ReceiptsListOutput(Output, frozen=True):
    """What this machine keeps. Nothing of it is verified. `problems`: memories that cannot be read."""

    receipts: list[KeptReceipt]
    heads: list[SeenHeadOutput]
    problems: list[Problem]


class ReceiptsCheckOutput(Output, frozen=True):
    """The outcome of a check. `vault` is the vault that receipts were compared with, `trust` says whether signers were judged."""

    verdict: Literal["pass", "fail", "incomplete"]
    trust: Literal["not judged", "outside"]
    vault: str | None
    receipts: list[KeptReceipt]


class ForgetHeadOutput(Output, frozen=True):
    """How many chains were forgotten."""

    vault_id: VaultId
    case: str | None
    item: str | None
    forgotten: Count
