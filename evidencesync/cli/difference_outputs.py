"""What `diff --json` prints."""

from __future__ import annotations

from evidencesync.cli.outputs import Output, PushVerdict
from evidencesync.custody.documents import AcquisitionNumber
from evidencesync.evidence.entry import Count, EntryType, Extent


class LoneOutput(Output, frozen=True):
    """An entry that only one of the two has. Of `path` and `path_b64` one is null, here and below: see the manifest."""

    path: str | None
    path_b64: str | None
    type: EntryType
    size: Count | None


class MovedOutput(Output, frozen=True):
    """The same content under another path."""

    before: str | None
    before_b64: str | None
    after: str | None
    after_b64: str | None
    size: Count


class FieldOutput(Output, frozen=True):
    """A field that differs; null is what a manifest does not state. Values are text, escaped for display."""

    field: str
    before: str | None
    after: str | None


class MetadataOutput(Output, frozen=True):
    """An entry with the same content and other metadata."""

    path: str | None
    path_b64: str | None
    fields: list[FieldOutput]


class ChangedOutput(Output, frozen=True):
    """An entry with other content.

    `ranges` are offsets and lengths in the later content that differ from what the earlier one has there, as fine as chunks
    are; null where no recipe tells. `more_ranges` are not named; `changed_bytes` is the sum of all.
    """

    path: str | None
    path_b64: str | None
    fields: list[FieldOutput]
    ranges: list[Extent] | None
    more_ranges: Count | None
    changed_bytes: Count | None


class DifferenceCounts(Output, frozen=True):
    """All differences, whether they are listed or not."""

    same: Count
    added: Count
    removed: Count
    moved: Count
    changed: Count
    metadata: Count


class SourceOutput(Output, frozen=True):
    """How much of its source an acquisition has: the verdict of its push, and whether filters left something out."""

    verdict: PushVerdict
    filtered: bool


class DiffOutput(Output, frozen=True):
    """Two acquisitions of an item, by their manifests. Nothing of it is verified: that is what `verify` does.

    `before_source` and `after_source` say what each has of its source. What one of them could not read, or left out by a
    filter, is no difference of the source, and is listed as one.
    """

    case: str
    item: str
    before: AcquisitionNumber
    after: AcquisitionNumber
    before_source: SourceOutput
    after_source: SourceOutput
    counts: DifferenceCounts
    added: list[LoneOutput]
    removed: list[LoneOutput]
    moved: list[MovedOutput]
    changed: list[ChangedOutput]
    metadata: list[MetadataOutput]
