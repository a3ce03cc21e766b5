"""Tells of which file of the evidence a finding is, and shows a path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from evidencesync.evidence.display import safe_text
from evidencesync.evidence.path import from_json_fields
from evidencesync.report.document import PathPair
from evidencesync.verify.findings import Finding

_Value = TypeVar("_Value")


class EvidencePlace(NamedTuple):
    """The folder of an acquisition in the vault, and the path of a file at the source."""

    folder: bytes
    path: bytes


def path_of(finding: Finding) -> bytes:
    """The path in the vault that a finding names; empty where it names none."""
    named = finding.path is not None or finding.path_b64 is not None
    return from_json_fields(finding.path, finding.path_b64) if named else b""


def evidence_place(finding: Finding) -> EvidencePlace | None:
    """Where the evidence is that a finding is about; None where it is about a document, or about more than one file."""
    parts = path_of(finding).split(b"/", 6)  # cases/CASE/ITEM/acquisitions/NUMBER/data/...
    if len(parts) < 7 or (parts[0], parts[3], parts[5]) != (b"cases", b"acquisitions", b"data"):
        return None
    return EvidencePlace(b"/".join(parts[:5]), parts[6])


def acquisition_folder(item_folder: str, number: int) -> bytes:
    """The folder of an acquisition, as an EvidencePlace has it."""
    return f"{item_folder}/acquisitions/{number:04}".encode()


def shown_path(pair: PathPair, limit: int | None = None) -> str:
    """A path for people; the source's root is a full stop."""
    raw = from_json_fields(pair.path, pair.path_b64)
    return safe_text(raw, limit) if raw else "."


def nearest(found: Mapping[bytes, _Value], path: bytes) -> _Value | None:
    """What was found of a path, or else of the nearest folder above it: of what lies in an unread folder nothing is known."""
    while path not in found and path:
        path = path.rpartition(b"/")[0]
    return found.get(path)
