"""Structures that `--json` prints (`docs/generate/schemas.py` lists all), and the transfers of a vault as JSON and as text.

The JSON Schemas in `schemas/` are generated from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from evidencesync.custody.documents import (
    AcquisitionNumber,
    CustodyRecord,
    Earlier,
    Fingerprint,
    ManifestFooter,
    ManifestHeader,
    Receipt,
    SessionId,
    Stored,
    VaultId,
)
from evidencesync.evidence.digest import HexDigest
from evidencesync.evidence.display import escape_line, safe_text
from evidencesync.evidence.entry import Count, Flag, Remark
from evidencesync.evidence.number_format import time_text
from evidencesync.evidence.utc_time import UtcTime, format_utc_time

if TYPE_CHECKING:
    from evidencesync.errors import CommandKind, EvidenceSyncError
    from evidencesync.ingest.transfers import Transfer

NotebookFingerprint = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{4} ){4}[0-9a-f]{4}$")]
"""The first 20 hexadecimal digits of the manifest's SHA-256 in groups of four."""


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every output: each field is always there, and null where there is nothing to say."""


class ErrorDetail(Output, frozen=True):
    """Why a command failed. `code` is the exit code, `slug` the name of the error that scripts may rely on."""

    code: Annotated[int, msgspec.Meta(ge=1, le=255)]
    slug: str
    message: str
    hint: str | None


class ErrorOutput(Output, frozen=True):
    """What any command prints when it fails before it has a result."""

    error: ErrorDetail


def error_output(error: EvidenceSyncError, kind: CommandKind) -> ErrorOutput:
    """An error as a document; the hint fits a command of that kind."""
    hint = error.hint_for(kind)
    return ErrorOutput(
        ErrorDetail(int(error.exit_code), error.slug, escape_line(error.message), escape_line(hint) if hint else None)
    )


# --- Vault and trust ---------------------------------------------------------------------------------------------------


class SignerOutput(Output, frozen=True):
    """One trusted signer. Times are seconds since the epoch; null means: since ever, for ever, for everything.

    `may`, `cases` and `until` are what the key may do, in which cases (patterns) and until which day (UTC, included). `may` is
    null for the vault's own key, and where nobody has said it: then it may do everything, because the vault is older than roles.
    `given_up` is the custody record by which the vault gave up an earlier key of its own, which signs nothing more; else null.
    """

    principals: list[str]
    key: Fingerprint
    algorithm: str
    namespaces: list[str] | None
    valid_after: int | None
    valid_before: int | None
    revoked: bool
    may: list[str] | None
    cases: list[str] | None
    until: str | None
    given_up: int | None = None


class InitOutput(Output, frozen=True):
    """A new vault. `key` is the fingerprint of its own key.

    `authorized_keys` are lines with which each trusted key may reach this vault and nothing else, `commands` what an examiner
    types on another machine. Both are empty where nobody is trusted, or where a name cannot be typed.
    """

    vault: str
    vault_id: VaultId
    name: str
    key: Fingerprint
    created: UtcTime
    signers: list[SignerOutput]
    authorized_keys: list[str]
    commands: list[str]


class TrustChange(Output, frozen=True):
    """What was changed, or proposed, and of which key. `record` is the number of the vault's custody record that says so."""

    action: Literal["added", "changed", "retired", "revoked", "two_person", "proposed", "withdrawn", "vault-key-changed"]
    key: Fingerprint | None
    record: Count


class ProposalOutput(Output, frozen=True):
    """A change of trust that somebody has proposed, and nobody has consented to. `record` is the number of the vault's record.

    `details` is what the record of the change would state. It lapses at a time, and when the lists of trust are changed.
    """

    record: Count
    principal: str
    action: str
    details: dict[str, str]
    lapses: UtcTime


class VaultWriterOutput(Output, frozen=True):
    """Which machine writes to a vault. `taken`: this one does since now."""

    vault_id: VaultId
    file_system: str
    locks_between_machines: bool
    writer: str | None
    writer_machine: str | None
    since: UtcTime | None
    here: str
    here_machine: str
    may_write: bool
    taken: bool


class TrustOutput(Output, frozen=True):
    """Who is trusted now, what needs two people, what is proposed, and what this command has changed."""

    vault_id: VaultId
    changes: list[TrustChange]
    signers: list[SignerOutput]
    two_person: list[str]
    proposals: list[ProposalOutput]


class HostTrustOutput(Output, frozen=True):
    """A server's key, and whether it was recorded just now (else it was known already)."""

    host: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    algorithm: str
    fingerprint: Fingerprint
    known_hosts: str
    added: bool


class ServeOutput(Output, frozen=True):
    """Where the server listens, `HOST:PORT`. The one line is printed when it begins to."""

    listening: str


# --- Push --------------------------------------------------------------------------------------------------------------


class FlaggedPath(Output, frozen=True):
    """An entry that was not read as it should be. `path_b64` stands in place of `path` where that is not clean UTF-8."""

    flag: Flag
    path: str | None
    path_b64: str | None


PushVerdict = Literal["complete", "gaps", "source-changed"]


class ChangesOutput(Output, frozen=True):
    """How many entries differ from those of acquisition `since`, as the vault says: what `diff` counts.

    What was moved counts neither as added nor as removed. `moved` is null where too much differs to look for it. `metadata`:
    everything that is content is the same. `filtered`: a filter left it out of one of both.
    """

    since: AcquisitionNumber
    added: Count
    removed: Count
    moved: Count | None
    changed: Count
    metadata: Count
    filtered: Count


class PushOutput(Output, frozen=True):
    """A published acquisition. Sizes are bytes; `wire_*` are bytes on ssh's pipes; `flagged` is cut after 1000 paths a flag.

    `bad_bytes` could not be read, in `bad_ranges` ranges of `partial` files that are there otherwise; `flags` counts these files
    as unreadable, too. `read_again` is how often a file was read once more because it had changed.
    `listed_not_there` counts names of a list that are not there, and folders on the way to them; `flags` has them as vanished.
    `stored` is how contents came to lie in the vault, as its receipt says. `receipts` is the folder in which the signed
    documents are kept; `manifest_kept` is false where there was no room beside them for the manifest and the vault's records.
    `vault_head_*` is where the vault's own chain ends.
    `vault_clock_ahead_seconds` is below 0 where the vault's clock is behind this machine's; `source_clock_ahead_seconds` is
    the same of the machine that was pulled from, null where it does not tell (SFTP), or is this one. `times_contradict`: times
    that the vault has signed and that cannot be true, each in a sentence; empty in most cases. `changes` is null for a first
    acquisition, and where the vault did not say. `other_source`: where the acquisition before came from, `HOST:PATH`, if that
    was another machine or path. `alike_*`: numbers that the vault has, and that are nearly those of this new item.
    """

    case: str
    item: str
    acquisition: AcquisitionNumber
    vault_id: VaultId
    session: SessionId
    verdict: PushVerdict
    files: Count
    bytes: Count
    wire_sent: Count
    wire_received: Count
    literal_bytes: Count
    reused_bytes: Count
    zero_bytes: Count
    stored: Stored
    seconds: float
    interruptions: int
    continued: int
    read_back: bool
    damaged_in_vault: int
    changed_folders: int
    bad_bytes: Count
    bad_ranges: Count
    partial: Count
    read_again: Count
    listed_not_there: Count
    vault_clock_ahead_seconds: float
    source_clock_ahead_seconds: float | None
    times_contradict: list[str]
    manifest_sha256: HexDigest
    receipt_sha256: HexDigest
    chain_head_sha256: HexDigest
    vault_head_sequence: Count | None
    vault_head_sha256: HexDigest | None
    fingerprint: NotebookFingerprint
    flags: dict[str, Count]
    remarks: dict[Remark, Count]
    flagged: list[FlaggedPath]
    receipts: str
    manifest_kept: bool
    changes: ChangesOutput | None
    other_source: str | None
    alike_items: list[str]
    alike_cases: list[str]
    earlier: Earlier | None = None
    why_all_read: str | None = None


class UnchangedOutput(Output, frozen=True):
    """A source that is what acquisition `since` has of it, so that nothing was published (`--skip-unchanged`).

    `manifest_sha256` is that acquisition's; `files` and `bytes` are what was found now, `earlier` those that were not read again.
    """

    case: str
    item: str
    vault_id: VaultId
    unchanged: Literal[True]
    since: AcquisitionNumber
    manifest_sha256: HexDigest
    files: Count
    bytes: Count
    seconds: float
    earlier: Earlier | None = None


# --- What is there -----------------------------------------------------------------------------------------------------


class Problem(Output, frozen=True):
    """Something that could not be read where it lies."""

    slug: str
    message: str


class ListedAcquisition(Output, frozen=True):
    """One acquisition, as its receipt and records say; null where they cannot be read, which is then the problem.

    `verdict` and `flags` are those of the push: what of the source is not there, or changed while it was read. What filters left
    out (`filtered`) is no gap. `bytes_not_readable` are those of files that were read in part. `earlier` counts what was not read
    again: null where all was.
    """

    acquisition: AcquisitionNumber
    received: UtcTime | None
    files: Count | None
    bytes: Count | None
    manifest_sha256: HexDigest | None
    fingerprint: NotebookFingerprint | None
    verdict: PushVerdict | None
    flags: dict[str, Count] | None
    remarks: dict[Remark, Count] | None
    filtered: bool | None
    bytes_not_readable: Count | None
    problem: Problem | None
    earlier: Earlier | None = None


class ListedItem(Output, frozen=True):
    """One item. `folder` is its place below `cases/`; `records` and the head are of its custody chain."""

    case: str | None
    item: str | None
    folder: str
    records: Count | None
    chain_head_sha256: HexDigest | None
    acquisitions: list[ListedAcquisition]
    problem: Problem | None


class TransferOutput(Output, frozen=True):
    """A transfer that is under way, or waits for a sender whose link was lost. `case` and `item` are folder names.

    `since`: since when it is in that state. `ends`: when it ends by itself, if the sender does not come back.
    """

    case: str
    item: str
    session: str
    state: Literal["receiving", "waiting", "finishing"]
    since: UtcTime
    ends: UtcTime | None
    principal: str
    key: str
    received_from: str
    process: int


class ListOutput(Output, frozen=True):
    """What a vault says it holds. Nothing of it is verified: that is what `verify` does.

    `vault_head_*` is where the vault's own chain ends; null where it cannot be read, which is then the problem. `transfers` are
    under way, or wait for their sender.
    """

    vault_id: VaultId
    name: str
    key: Fingerprint
    vault_head_sequence: Count | None
    vault_head_sha256: HexDigest | None
    items: list[ListedItem]
    problem: Problem | None
    transfers: list[TransferOutput]


class ShownRecord(Output, frozen=True):
    """A custody record, and the digest by which the next one names it."""

    record: CustodyRecord
    sha256: HexDigest


class ShowOutput(Output, frozen=True):
    """One acquisition in full, and the chain of its item. Nothing of it is verified.

    `verdict` is that of the push, by the footer: what of the source is not there. What filters left out (`filtered`) is no gap.
    """

    case: str
    item: str
    acquisition: AcquisitionNumber
    folder: str
    fingerprint: NotebookFingerprint
    manifest_sha256: HexDigest
    verdict: PushVerdict
    filtered: bool
    entries: Count
    header: ManifestHeader
    footer: ManifestFooter
    receipt: Receipt
    custody: list[ShownRecord]
    chain_head_sha256: HexDigest


# --- Upkeep ------------------------------------------------------------------------------------------------------------


class ReindexOutput(Output, frozen=True):
    """A rebuilt index. `left_out` names the acquisitions (CASE/ITEM/NUMBER) that could not be read."""

    cases: Count
    acquisitions: Count
    left_out: list[str]


class StagedOutput(Output, frozen=True):
    """One abandoned staging area: what a transfer left behind that never ended. Names are those of folders."""

    case: str
    item: str
    session: str
    files: Count
    bytes: Count
    changed: UtcTime


class CleanOutput(Output, frozen=True):
    """What was found, and what of it was removed. `waiting` transfers wait for their sender; some of them were `ended`.

    `emptied`: removed folders of items (`CASE/ITEM`) and cases (`CASE`) in which nothing was ever published. `tidied`: removed
    files that a killed writer had left beside records and lists of trust, by their paths in the vault.
    """

    found: list[StagedOutput]
    removed: list[StagedOutput]
    waiting: list[TransferOutput]
    ended: list[TransferOutput]
    emptied: list[str]
    tidied: list[str]


def transfer_outputs(transfers: Sequence[Transfer]) -> list[TransferOutput]:
    """What is known of each. It comes from processes of the vault's own user, which had it from their senders."""
    return [_output(one) for one in transfers]


def transfer_lines(transfers: Sequence[TransferOutput], how_to_end: str = "") -> Iterator[str]:
    """Which item, since when, by whom; and how a transfer that waits is ended."""
    for one in transfers:
        who = f"by {one.principal} with {one.key}, from {one.received_from}, process {one.process}"
        yield f"{one.case}/{one.item}  {one.session}  {_STATES[one.state]} since {time_text(one.since)}, {who}"
        if one.ends is not None:
            yield f"  it ends by itself at {time_text(one.ends)}" + (f"; to end it now: {how_to_end}" if how_to_end else "")


_STATES = {
    "receiving": "is being received",
    "waiting": "waits for its sender, whose link was lost,",
    "finishing": "has everything, and is read back and published",
}


def _output(one: Transfer) -> TransferOutput:
    said = one.session_state
    return TransferOutput(
        case=one.case,
        item=one.item,
        session=one.session,
        state=said.state,
        since=format_utc_time(said.since_ns),
        ends=None if said.ends_ns is None else format_utc_time(said.ends_ns),
        principal=safe_text(said.principal, 200),
        key=safe_text(said.key, 100),
        received_from=safe_text(said.received_from, 200),
        process=said.process,
    )
