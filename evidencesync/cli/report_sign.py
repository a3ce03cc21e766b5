"""`report --sign`: a signature beside the report, and an `exported` record in the chain of every item that it shows.

The type is `exported` and not `noted`: what a note states under a name counts as a detail of the item.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from evidencesync.cli.escaping import shield
from evidencesync.cli.verify_options import SignerChoice
from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.display import safe_text

if TYPE_CHECKING:
    from evidencesync.cli.report_outputs import RecordedReport, ReportOutput
    from evidencesync.cli.verify_record import Verifier
    from evidencesync.outside import NewFile
    from evidencesync.report.document import Item

SIGNATURE: Final = ".sig"
REPORT_NAMESPACE: Final = "report@evidencesync"


@dataclasses.dataclass(frozen=True, slots=True)
class ReportSignChoice(SignerChoice):
    """Whether the report is signed, and by whom."""

    sign: Annotated[
        bool, typer.Option("--sign", help="Sign the report (FILE.sig), and record its digest in the chain of every item shown.")
    ] = False


def signature_file(report: Path) -> Path:
    """Where the signature of a report lies."""
    return report.with_name(report.name + SIGNATURE)


def sign_report(report: NewFile, sha512: bytes, verifier: Verifier) -> None:
    """Writes the signature over a report's exact bytes, durably. Raises StorageError, NoSpaceError, SigningKeyError."""
    from evidencesync.custody.sshsig import sign_document

    armored = sign_document(verifier.signer, REPORT_NAMESPACE, sha512)
    with report.writing(SIGNATURE) as file:
        file.write(armored)


def record_report(items: list[Item], vault: Path, output: ReportOutput, verifier: Verifier) -> list[RecordedReport]:
    """Appends a record to every item that the report shows. What cannot be recorded is said, and hides no other."""
    return [_record_item(item, vault, output, verifier) for item in items]


def _record_item(item: Item, vault: Path, output: ReportOutput, verifier: Verifier) -> RecordedReport:
    from evidencesync.acquire.custody import RecordDraft
    from evidencesync.cli.outputs import Problem
    from evidencesync.cli.report_outputs import RecordedReport
    from evidencesync.evidence.identity import ItemName, Title

    head = "none" if item.head is None else f"{item.head.sequence} {item.head.sha256}"
    details = {
        "report_sha256": output.sha256,
        "report_format": output.format,
        "report_made_at": output.made_at,
        "report_verdict": output.state,
        "report_chain_head": head,
    }
    try:
        name = ItemName(Title(item.case), Title(item.item))
        record = verifier.append(vault, name, RecordDraft("exported", details, output.acquisition)).record
    except EvidenceSyncError as error:
        return RecordedReport(item.case, item.item, None, Problem(error.slug, shield(error.message)), int(error.exit_code))
    return RecordedReport(item.case, item.item, record.sequence, None, None)


def recorded_lines(recorded: list[RecordedReport]) -> list[str]:
    """What was recorded, for people."""
    lines = []
    for one in recorded:
        whose = f"{safe_text(one.case)} / {safe_text(one.item)}"
        if one.problem is None:
            lines.append(f"  recorded in the chain of {whose}: record {one.record}")
        else:
            lines.append(f"  NOT RECORDED in the chain of {whose}: {one.problem.message}")
    return lines
