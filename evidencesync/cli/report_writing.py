"""Writes the files of a report, signs and records them, and says so.

The record of a signed report is of the type `exported` and not `noted`: what a note states counts as a detail of the item.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator
from typing import BinaryIO, Final

from msgspec.structs import replace

from evidencesync.acquire.custody import RecordDraft
from evidencesync.cli.file_outputs import Format, RecordedReport, ReportFile, ReportOutput
from evidencesync.cli.verify_record import Append, Verifier
from evidencesync.custody.sshsig import sign_document
from evidencesync.errors import EvidenceSyncError, InternalError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.evidence.number_format import size_text, time_text
from evidencesync.exit_codes import ExitCode, most_severe
from evidencesync.home import user_name
from evidencesync.outside import NewFile
from evidencesync.report.document import Item, Trust
from evidencesync.report.gather import Gathered
from evidencesync.report.volumes import REPORT_NAMESPACE, SIGNATURE, Choices, volumes, with_digests
from evidencesync.report.write import write_report

_WORDS: Final = {"pass": "PASS", "fail": "FAIL", "incomplete": "INCOMPLETE", "not-verified": "NOT VERIFIED"}


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """Files that are written, in order, and their SHA-512 for signatures."""

    output: ReportOutput
    sha512: list[bytes]


class _Hashing:
    """Writes to a file, and hashes what is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.sha512 = hashlib.sha512()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.sha512.update(data)
        self.size += len(data)
        return self._file.write(data)


def signed_by(verifier: Verifier | None, trust: Trust) -> str | None:
    """Who signs a report, for its first page; None for nobody.

    A login's name is called so, and the list of signers says whose key it is: an account may have the name of the vault.
    """
    if verifier is None:
        return None
    key = verifier.signer.public_key.fingerprint
    name = f"{'the account ' if verifier.examiner == user_name() else ''}{safe_text(verifier.examiner, 200)}"
    organisation = "" if verifier.organisation is None else f", {safe_text(verifier.organisation, 200)}"
    listed = dict.fromkeys(name for one in trust.signers if one.key == key and not one.revoked for name in one.principals)
    of = f" of {', '.join(listed)}" if listed else ", which is on no list of this report"
    return f"{name}{organisation}, with the key {key}{of}"


def write_files(gathered: Gathered, places: list[NewFile], kind: Format, choices: Choices) -> Written:
    """Writes the report whole and durably, or not at all: the first file, which names the digests of the others, last.

    Raises what `write_report` does.
    """
    parts = volumes(gathered, [place.path.name for place in places])
    if len(parts) != len(places):
        raise InternalError("a report has other volumes than were announced")
    digests: dict[int, str] = {}
    with contextlib.ExitStack() as undo:
        for place in places:
            undo.callback(place.take_back)
        with contextlib.ExitStack() as stack:  # each file gets its name at the end of this
            hashed = [_Hashing(stack.enter_context(place.writing())) for place in places]
            for part, hashing in reversed(list(zip(parts, hashed, strict=True))):
                write_report(gathered, kind, with_digests(part, digests), choices, hashing)
                digests = {**digests, part.number: hashing.sha256.hexdigest()}
        undo.pop_all()
    files = [
        ReportFile(safe_text(str(place.path)), one.sha256.hexdigest(), one.size, None)
        for place, one in zip(places, hashed, strict=True)
    ]
    return Written(_output(gathered, kind, files), [one.sha512.digest() for one in hashed])


def _output(gathered: Gathered, kind: Format, files: list[ReportFile]) -> ReportOutput:
    report, first = gathered.report, files[0]
    judgement = report.judgement
    return ReportOutput(
        file=first.file,
        format=kind,
        sha256=first.sha256,
        bytes=first.bytes,
        made_at=report.made_at,
        case=report.case,
        item=report.item,
        acquisition=report.acquisition,
        state=judgement.state,
        reason=judgement.reason,
        checked_at=judgement.checked_at,
        findings=len(judgement.findings),
        fingerprints=[one.fingerprint for item in report.items for one in item.acquisitions],
        signature=None,
        recorded=[],
        exit_code=int(judgement.exit_code),
        volumes=files if len(files) > 1 else [],
    )


def sign_files(made: Written, places: list[NewFile], gathered: Gathered, append: Append, verifier: Verifier) -> ReportOutput:
    """Signs the report, then appends the records. A record that fails has its own exit code, unless the verdict's is worse.

    Raises StorageError, NoSpaceError, SigningKeyError.
    """
    for place, sha512 in zip(places, made.sha512, strict=True):
        armored = sign_document(verifier.signer, REPORT_NAMESPACE, sha512)
        with place.writing(SIGNATURE) as file:
            file.write(armored)
    output = made.output
    recorded = [_record_item(item, append, output, verifier) for item in gathered.report.items]
    codes = {ExitCode(output.exit_code)} | {ExitCode(one.problem_code) for one in recorded if one.problem_code is not None}
    return replace(
        output,
        signature=f"{output.file}{SIGNATURE}",
        recorded=recorded,
        exit_code=int(most_severe(codes)),
        volumes=[replace(one, signature=f"{one.file}{SIGNATURE}") for one in output.volumes],
    )


def _record_item(item: Item, append: Append, output: ReportOutput, verifier: Verifier) -> RecordedReport:
    """Appends the record. What cannot be recorded is said, and hides no other."""
    details = {
        "report_sha256": output.sha256,
        "report_format": output.format,
        "report_made_at": output.made_at,
        "report_verdict": output.state,
        "report_chain_head": "none" if item.head is None else f"{item.head.sequence} {item.head.sha256}",
        **({"report_volumes": str(len(output.volumes))} if output.volumes else {}),
    }
    try:
        name = ItemName(Title(item.case), Title(item.item))
        record = append(name, RecordDraft("exported", details, output.acquisition)).record
    except EvidenceSyncError as error:
        return RecordedReport(item.case, item.item, None, verifier.problem(error), int(error.exit_code))
    return RecordedReport(item.case, item.item, record.sequence, None, None)


def report_lines(output: ReportOutput, found: str) -> Iterator[str]:
    """What was written and recorded, for people. `found` is how many findings the report's first page states."""
    for one in output.volumes or [ReportFile(output.file, output.sha256, output.bytes, output.signature)]:
        yield f"{one.file}  {size_text(one.bytes)}"
        yield f"  sha256   {one.sha256}"
        if one.signature is not None:
            yield f"  signed   {one.signature}"
    reason = "" if output.reason is None else f": {output.reason}"
    how = f"findings: {found}; checked {time_text(output.checked_at)}"
    yield f"  verdict  {_WORDS[output.state]}{reason} ({how})"
    for entry in output.recorded:
        whose = f"{safe_text(entry.case)} / {safe_text(entry.item)}"
        if entry.problem is None:
            yield f"  recorded in the chain of {whose}: record {entry.record}"
        else:
            yield f"  NOT RECORDED in the chain of {whose}: {entry.problem.message}"
