"""What `push --dry-run --json` prints."""

from __future__ import annotations

from typing import Literal

from evidencesync.cli.outputs import FlaggedPath, Output
from evidencesync.evidence.entry import Count, Remark


class DryRunOutput(Output, frozen=True):
    """What a push would take of a source. `files` and `bytes` are what would be read, by the sizes that the files state.

    `entries` counts all by type, `flags` by flag; `listed_not_there` are names of a list that are not there,
    folders on the way to them included. `flagged` is cut after 1000 paths. `filters` are the rules as a manifest
    would state them. `checked` and `not_checked` say how far this can be relied on.
    """

    case: str
    item: str
    dry_run: Literal[True]
    verdict: Literal["complete", "gaps"]
    files: Count
    bytes: Count
    entries: dict[str, Count]
    flags: dict[str, Count]
    listed_not_there: Count
    remarks: dict[Remark, Count]
    flagged: list[FlaggedPath]
    filters: list[str]
    checked: list[str]
    not_checked: list[str]
