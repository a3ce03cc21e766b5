"""What `show --files --json` prints."""

from __future__ import annotations

from evidencesync.cli.outputs import Output
from evidencesync.custody.documents import AcquisitionNumber
from evidencesync.evidence.entry import Count, Entry


class FilesOutput(Output, frozen=True):
    """A page of the entries of an acquisition, as its manifest has them (attributes joined). Nothing of it is verified.

    `total` counts all that were asked for. Where this page is not the last, `next` (or `next_b64`) is what to give to `--after`.
    """

    case: str
    item: str
    acquisition: AcquisitionNumber
    total: Count
    entries: list[Entry]
    next: str | None
    next_b64: str | None
