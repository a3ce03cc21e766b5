"""What `report`, `export` and `restore` print with `--json`: facts about the files that they have written."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from evidencesync.cli.outputs import NotebookFingerprint, Output, Problem
from evidencesync.custody.documents import AcquisitionNumber
from evidencesync.evidence.digest import HexDigest
from evidencesync.evidence.entry import Count
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.report.document import State
from evidencesync.restore.refusals import Lack

Format = Literal["html", "pdf", "json", "certificate", "statement"]


class RecordedReport(Output, frozen=True):
    """Whether a signed report stands in the chain of an item: the record's number, or why not."""

    case: str
    item: str
    record: Count | None
    problem: Problem | None
    problem_code: Count | None


class ReportFile(Output, frozen=True):
    """One file of a report, and its signature, if it has one. Both names are safe to show."""

    file: str
    sha256: HexDigest
    bytes: Count
    signature: str | None


class ReportOutput(Output, frozen=True):
    """Which report was written, and what it says on its first page. `file` and `signature` are safe to show.

    `volumes` are all files of a PDF that is too large for one, of which `file` is the first; else it is empty.
    `fingerprints` are those of the acquisitions that the report shows, in its order; null where a manifest cannot be read.
    """

    file: str
    format: Format
    sha256: HexDigest
    bytes: Count
    made_at: UtcTime
    case: str
    item: str | None
    acquisition: AcquisitionNumber | None
    state: State
    reason: str | None
    checked_at: UtcTime
    findings: Count
    fingerprints: list[NotebookFingerprint | None]
    signature: str | None
    recorded: list[RecordedReport]
    exit_code: Annotated[int, msgspec.Meta(ge=0, le=255)]
    volumes: list[ReportFile]


class ExportRecord(Output, frozen=True):
    """The custody record about an export, and the digest by which the next one names it."""

    record: Count
    sha256: HexDigest


class ExportOutput(Output, frozen=True):
    """An export that is written. Where the verification before it failed, the output is that of `verify` instead.

    `sha256` is the digest of the file `digest_of`: a bag's tag manifest, or the one file that was written. `recipients` are
    those who can open it (fingerprints of SSH keys, or age1...); empty where it is not encrypted. `not_listed` counts what the
    format has no place for: links, devices, empty folders, what has no content. `left_out` counts files whose names it cannot
    carry, and `left_out_names` are the first of them. `misread_names` counts names that widespread readers get wrong.
    `source` are the kinds of findings (`source-gaps`, `source-changed`, `source-filtered`) about what the acquisition lacks.
    """

    case: str
    item: str
    acquisition: AcquisitionNumber
    format: Literal["bagit", "hashdeep", "case-uco"]
    destination: str
    digest_of: str
    sha256: HexDigest
    manifest_sha256: HexDigest
    files: Count
    bytes: Count
    not_listed: Count
    left_out: Count
    left_out_names: list[str]
    misread_names: Count
    recipients: list[str]
    source: list[str]
    record: ExportRecord | None
    verdict: Literal["complete", "gaps"]


class LackOutput(Output, frozen=True):
    """One thing that is not in the copy as it was in the source. Of `path` and `path_b64` one is null: see the manifest."""

    lack: Lack
    path: str | None
    path_b64: str | None
    reason: str


class RestoreOutput(Output, frozen=True):
    """A working copy. `entries` counts what was made by type; `lacks` counts by kind, of which `lacking` names the first.

    `scope` is `all`, or the paths that were chosen. `record` is the number of the record in the item's custody chain, where
    one was asked for; `record_problem` why there is none. From a vault on another machine, `received_bytes` of the files came
    from there, and `basis_bytes` from the basis on this machine; the rest is zeros and repeated content. `wire_received` bytes
    travelled from there, with the documents; they are compressed.
    """

    case: str
    item: str
    acquisition: AcquisitionNumber
    destination: str
    scope: str
    manifest_sha256: HexDigest
    trust: Literal["vault", "outside"]
    verdict: Literal["complete", "gaps", "damaged"]
    entries: dict[str, Count]
    files: Count
    bytes: Count
    shared_bytes: Count
    read_back: bool
    record: Count | None
    record_problem: Problem | None
    lacks: dict[Lack, Count]
    lacking: list[LackOutput]
    received_bytes: Count | None
    basis_bytes: Count | None
    wire_received: Count | None
