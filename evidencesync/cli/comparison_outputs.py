"""What `compare` and `diff` print with `--json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from evidencesync.cli.outputs import Output, PushVerdict
from evidencesync.compare.store import Category, Group
from evidencesync.custody.documents import AcquisitionNumber, Fingerprint
from evidencesync.evidence.digest import HexDigest
from evidencesync.evidence.entry import Count, EntryType, Extent
from evidencesync.evidence.path import to_json_fields

if TYPE_CHECKING:
    from evidencesync.compare.store import Compared, FolderDifference

CompareVerdict = Literal["same", "different", "incomplete"]


class ComparedManifest(Output, frozen=True):
    """Which manifest it was. `verified`: its signature was checked, and is by `signer`, who is trusted, with `key`."""

    sha256: HexDigest
    case: str
    item: str
    acquisition: AcquisitionNumber
    examiner: str
    verified: bool
    signer: str | None
    key: Fingerprint | None


class CategoryCounts(Output, frozen=True):
    """How many entries are what. `metadata` are among those that matched."""

    matched: Count
    modified: Count
    moved: Count
    duplicated: Count
    missing: Count
    new: Count
    unreadable: Count
    not_compared: Count
    metadata: Count


class ListedDifference(Output, frozen=True):
    """One difference. Of each path one field is set: `..._b64` where it is not clean UTF-8.

    `listed` is a name under which the manifest has the content that was found; null where there is none.
    """

    category: Category
    group: Group
    path: str | None
    path_b64: str | None
    listed: str | None
    listed_b64: str | None
    detail: str


class CompareOutput(Output, frozen=True):
    """A folder against a manifest. `others` are folders, links and special files; `absent_by_design` those of `data/`.

    In `changed_folders` names came or went while they were compared.

    `metadata` counts entries by what differs, and is null for an acquisition's `data/`; attributes are only looked at with
    --metadata, and not `over_sftp`: such a manifest has none, and times in whole seconds.

    `left_out` differences are not in the list.
    """

    manifest: ComparedManifest
    folder: str
    data: bool
    verdict: CompareVerdict
    exit_code: Count
    digests: list[str]
    listed_files: Count
    found_files: Count
    bytes: Count
    files: CategoryCounts
    others: CategoryCounts
    absent_by_design: Count
    changed_folders: Count
    metadata: dict[str, Count] | None
    metadata_judged: bool
    over_sftp: bool
    differences: list[ListedDifference]
    left_out: Count


def compare_output(compared: Compared, folder: str, digests: list[str]) -> CompareOutput:
    """The outcome as a document. `folder` is safe to show."""
    facts = compared.facts
    return CompareOutput(
        manifest=ComparedManifest(
            facts.sha256,
            facts.case,
            facts.item,
            facts.acquisition,
            facts.examiner,
            facts.signer is not None,
            facts.signer,
            facts.key,
        ),
        folder=folder,
        data=compared.is_data,
        verdict=verdict_of(compared),
        exit_code=int(compared.exit_code),
        digests=digests,
        listed_files=compared.listed,
        found_files=compared.found,
        bytes=compared.bytes,
        files=_counts(compared, "files"),
        others=_counts(compared, "others"),
        absent_by_design=compared.absent_by_design,
        changed_folders=compared.changed_folders,
        metadata=None if compared.metadata is None else dict(compared.metadata),
        metadata_judged=compared.judged,
        over_sftp=compared.facts.over_sftp,
        differences=[_listed(difference) for difference in compared.differences],
        left_out=compared.left_out,
    )


def verdict_of(compared: Compared) -> CompareVerdict:
    """Different where anything is; incomplete where nothing is, but something could not be read or changed meanwhile."""
    code = int(compared.exit_code)
    return "same" if code == 0 else "incomplete" if code in (3, 4) else "different"


def _counts(compared: Compared, group: Group) -> CategoryCounts:
    counts = compared.counts(group)
    return CategoryCounts(*(counts[category] for category in Category))


def _listed(difference: FolderDifference) -> ListedDifference:
    listed = (None, None) if difference.listed is None else to_json_fields(difference.listed)
    path, path_b64 = to_json_fields(difference.path)
    return ListedDifference(difference.category, difference.group, path, path_b64, *listed, difference.detail)


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
    """All differences, whether they are listed or not.

    Nobody knows of two kinds: `filtered`, what a filter left out of one acquisition, and `not_read`, what neither has read whole.
    """

    same: Count
    added: Count
    removed: Count
    moved: Count
    changed: Count
    metadata: Count
    filtered: Count
    not_read: Count


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
