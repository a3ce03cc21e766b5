"""What `restore --json` prints."""

from __future__ import annotations

from typing import Literal

from evidencesync.cli.outputs import Output, Problem
from evidencesync.custody.documents import AcquisitionNumber
from evidencesync.evidence.digest import HexDigest
from evidencesync.evidence.entry import Count
from evidencesync.restore.refusals import Lack


class LackOutput(Output, frozen=True):
    """One thing that is not in the copy as it was in the source. Of `path` and `path_b64` one is null: see the manifest."""

    lack: Lack
    path: str | None
    path_b64: str | None
    reason: str


class RestoreOutput(Output, frozen=True):
    """A working copy. `entries` counts what was made by type; `lacks` counts by kind, of which `lacking` names the first.

    `scope` is `all`, or the paths that were chosen. `record` is the number of the record in the item's custody chain, where
    one was asked for; `record_problem` why there is none.
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
