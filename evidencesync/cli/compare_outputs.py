"""What `compare --json` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from evidencesync.cli.outputs import Output
from evidencesync.compare.store import Category, Group
from evidencesync.custody.documents import AcquisitionNumber, Fingerprint
from evidencesync.evidence.digest import HexDigest
from evidencesync.evidence.entry import Count
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
