"""What `export` prints with `--json`."""

from __future__ import annotations

from typing import Literal

from evidencesync.cli.outputs import Output
from evidencesync.custody.documents import AcquisitionNumber
from evidencesync.evidence.digest import HexDigest
from evidencesync.evidence.entry import Count


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
