"""What `report --json` prints: about the file that was written, not the report itself."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from evidencesync.cli.outputs import NotebookFingerprint, Output, Problem
from evidencesync.custody.documents import AcquisitionNumber
from evidencesync.evidence.digest import HexDigest
from evidencesync.evidence.entry import Count
from evidencesync.evidence.utc_time import Moment
from evidencesync.report.document import State

Format = Literal["html", "pdf", "json"]


class RecordedReport(Output, frozen=True):
    """Whether a signed report stands in the chain of an item: the record's number, or why not."""

    case: str
    item: str
    record: Count | None
    problem: Problem | None
    problem_code: Count | None


class ReportOutput(Output, frozen=True):
    """Which report was written, and what it says on its first page. `file` and `signature` are safe to show.

    `fingerprints` are those of the acquisitions that the report shows, in its order; null where a manifest cannot be read.
    """

    file: str
    format: Format
    sha256: HexDigest
    bytes: Count
    made_at: Moment
    case: str
    item: str | None
    acquisition: AcquisitionNumber | None
    state: State
    reason: str | None
    checked_at: Moment
    findings: Count
    fingerprints: list[NotebookFingerprint | None]
    signature: str | None
    recorded: list[RecordedReport]
    exit_code: Annotated[int, msgspec.Meta(ge=0, le=255)]
