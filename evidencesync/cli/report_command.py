"""`report`: writes the audit report of a case as HTML, PDF or JSON, and signs and records it with `--sign`.

The record of a signed report is of the type `exported` and not `noted`: what a note states counts as a detail of the item.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final

import typer

from evidencesync.cli.command import Run, command
from evidencesync.cli.options import PartChoice, SignerChoice, VaultPath, local_vault
from evidencesync.cli.trust_files import load_trusted
from evidencesync.cli.verify_command import CheckChoice, audit
from evidencesync.errors import EvidenceSyncError, UsageError
from evidencesync.evidence.display import escape_line, safe_text
from evidencesync.evidence.number_format import count_text, size_text
from evidencesync.exit_codes import ExitCode, most_severe
from evidencesync.home import expand, expand_new_file, read_named
from evidencesync.limits import MAX_VERDICT_FILE

if TYPE_CHECKING:
    from evidencesync.cli.file_outputs import Format, RecordedReport, ReportOutput
    from evidencesync.cli.verify_record import Verifier
    from evidencesync.outside import NewFile
    from evidencesync.report.document import Item
    from evidencesync.report.gather import Gathered, VerdictSource
    from evidencesync.report.judging import ReportScope
    from evidencesync.vault.vault import Vault

_FORMATS: Final[dict[str, Format]] = {".html": "html", ".htm": "html", ".pdf": "pdf", ".json": "json"}
_WORDS: Final = {"pass": "PASS", "fail": "FAIL", "incomplete": "INCOMPLETE", "not-verified": "NOT VERIFIED"}


@dataclasses.dataclass(frozen=True, slots=True)
class ReportedChoice:
    """The case, or the part of it, that the report is about."""

    case: Annotated[str, typer.Option(metavar="CASE", help="The case, by its exact number.")]
    item: Annotated[str | None, typer.Option(metavar="ITEM", help="Only this item.")] = None
    acquisition: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=9999, help="Only this acquisition; needs --item.")
    ] = None

    def scope(self) -> ReportScope:
        """The named part. Raises UsageError for an acquisition without its item."""
        from evidencesync.report.judging import ReportScope

        if self.acquisition is not None and self.item is None:
            raise UsageError("--acquisition needs --item")
        return ReportScope(self.case, self.item, self.acquisition)


@dataclasses.dataclass(frozen=True, slots=True)
class FileChoice:
    """The file that is written."""

    output: Annotated[
        str,
        typer.Option(
            "-o", "--output", metavar="FILE", help="The report to write: FILE.html, FILE.pdf or FILE.json. It must not exist yet."
        ),
    ]
    time_of_report: Annotated[
        str | None,
        typer.Option(
            "--time",
            metavar="TIME",
            envvar="EVIDENCESYNC_REPORT_TIME",
            help="The report's time, as 2026-11-23T09:30:00Z. With --verdict, equal input gives equal bytes.",
        ),
    ] = None

    def target(self) -> Path:
        """The path of the report. Raises UsageError for a suffix that is no kind of report."""
        target = expand_new_file(self.output)
        if target.suffix.lower() not in _FORMATS:
            raise UsageError(
                f"not a kind of report: {safe_text(self.output, 200)}", hint="Name FILE.html, FILE.pdf or FILE.json."
            )
        return target

    @contextlib.contextmanager
    def opened(self, vault: Path, *, signed: bool) -> Iterator[NewFile]:
        """Opens the place of the report, before anything is verified, and holds it open. Raises UsageError.

        An earlier report is never replaced: it may have been signed, or filed.
        """
        from evidencesync.outside import NewFile, closed_vault

        with NewFile(
            self.target(), closed_vault(vault), "Reports are never replaced, and never lie in a vault. Choose another place."
        ) as place:
            if signed:
                place.claim(SIGNATURE)
            yield place


def add_commands(app: typer.Typer) -> None:
    """Adds `report`."""
    command(
        app,
        "report",
        "evidencesync report /srv/vault --case 2024-017 -o report.pdf",
        "evidencesync report /srv/vault --case 2024-017 --item LAPTOP-1 --acquisition 2 --all-digests -o report.html",
        "evidencesync verify /srv/vault --json > verdict.json; evidencesync report /srv/vault --case 2024-017 "
        "--verdict verdict.json -o report.json",
        "evidencesync report /srv/vault --case 2024-017 -o report.pdf --sign --examiner 'Ana Example'",
    )(report)


def report(
    run: Run,
    vault: VaultPath,
    checks: CheckChoice,
    part: ReportedChoice,
    signing: ReportSignChoice,
    to: FileChoice,
    trusted: Annotated[
        str | None, typer.Option(metavar="FILE", help="Your own allowed_signers file, to use instead of the vault's.")
    ] = None,
    verdict: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Output of an earlier `verify --json`, to use instead of checking now. The report states its age.",
        ),
    ] = None,
) -> ExitCode:
    """Writes the audit report of a case, or of a part of it, as HTML, PDF or JSON.

    Everything is verified first, and the report states the findings; the exit code is that of the verdict. A verdict from an
    earlier check is accepted only if the custody chains have not changed since. Only --sign writes into the vault.
    """
    import time

    from evidencesync.cli.verify_record import load_verifier
    from evidencesync.report.gather import gather
    from evidencesync.vault.vault import Vault

    shown = part.scope()
    to.target()
    now_ns = time.time_ns()
    made_ns = now_ns if to.time_of_report is None else _parse_time(to.time_of_report)
    opened = Vault.open(local_vault(vault))
    with to.opened(opened.layout.root, signed=signing.sign) as place:
        verifier = load_verifier(run, signing) if signing.sign else None
        if verdict is not None:
            source = _load_verdict(verdict, trusted, checks)
            _require_remembered(run, opened, shown)
        else:
            source = _verify(run, opened, checks, shown, trusted, now_ns)
        gathered = gather(opened, shown, source, now_ns=made_ns)
        result, sha512 = _write(gathered, place)
        if verifier is not None:
            result = _sign(result, sha512, gathered, place, opened.layout.root, verifier)
    run.console.print_result(result, _lines(result))
    return ExitCode(result.exit_code)


def _sign(
    result: ReportOutput, sha512: bytes, gathered: Gathered, place: NewFile, vault: Path, verifier: Verifier
) -> ReportOutput:
    """Signs the report, then appends the records. A record that fails has its own exit code, unless the verdict's is worse."""
    from msgspec.structs import replace

    sign_report(place, sha512, verifier)
    recorded = record_report(gathered.report.items, vault, result, verifier)
    codes = {ExitCode(result.exit_code)} | {ExitCode(one.problem_code) for one in recorded if one.problem_code is not None}
    signature = safe_text(str(signature_file(place.path)))
    return replace(result, signature=signature, recorded=recorded, exit_code=int(most_severe(codes)))


def _parse_time(text: str) -> int:
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not 1970 <= moment.year <= 9998:
        raise UsageError(f"not a time with a zone: {safe_text(text, 60)}", hint="Write it like 2026-11-23T09:30:00Z.")
    return round(moment.timestamp()) * 1_000_000_000


def _load_verdict(verdict: str, trusted: str | None, checks: CheckChoice) -> VerdictSource:
    from evidencesync.report.gather import VerdictSource
    from evidencesync.report.judging import parse_verdict

    if trusted is not None or checks != CheckChoice():
        raise UsageError("with --verdict nothing is checked: give --trusted and the other options of a check to `verify`")
    try:
        data = read_named(expand(verdict), MAX_VERDICT_FILE)
    except OSError as error:
        raise UsageError(f"the verdict {safe_text(verdict, 200)} cannot be read: {error.strerror}") from error
    return VerdictSource(parse_verdict(data), given=True, trusted=None)


def _require_remembered(run: Run, vault: Vault, shown: ReportScope) -> None:
    """Raises RolledBackError or ForkedError for a vault that is older than this machine remembers, or another one.

    An earlier verdict may fit such a vault: it may be about the same old copy.
    """
    from evidencesync.acquire.known_heads import VaultAtHand
    from evidencesync.cli.own_state import audit_memory
    from evidencesync.evidence.identity import Title
    from evidencesync.vault.catalog import stored_names

    memory = audit_memory(run)
    VaultAtHand(memory, vault).require()
    for name in stored_names(vault.layout, Title(shown.case).folder):
        if shown.item in (None, name.item.text):
            VaultAtHand(memory, vault, name).require()


def _verify(run: Run, vault: Vault, checks: CheckChoice, shown: ReportScope, trusted: str | None, now_ns: int) -> VerdictSource:
    from evidencesync.cli.trust_files import load_roots
    from evidencesync.report.gather import VerdictSource

    signers = load_trusted(Path(trusted)) if trusted is not None else None
    roots = load_roots(run.settings, checks.tsa_root)
    part = PartChoice(shown.case, shown.item, shown.acquisition)
    verdict = audit(run, vault.layout.root, part, signers, checks, roots=roots, now_ns=now_ns)
    return VerdictSource(verdict, given=False, trusted=signers)


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


def _write(gathered: Gathered, place: NewFile) -> tuple[ReportOutput, bytes]:
    """Writes the report whole and durably, or not at all. Returns facts about it, and its SHA-512 for a signature."""
    from evidencesync.cli.file_outputs import ReportOutput
    from evidencesync.report.write import write_report

    report = gathered.report
    kind = _FORMATS[place.path.suffix.lower()]
    with place.writing() as file:
        hashing = _Hashing(file)
        write_report(gathered, kind, hashing)
    judgement = report.judgement
    output = ReportOutput(
        file=safe_text(str(place.path)),
        format=kind,
        sha256=hashing.sha256.hexdigest(),
        bytes=hashing.size,
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
    )
    return output, hashing.sha512.digest()


def _lines(output: ReportOutput) -> Iterator[str]:
    yield f"{output.file}  {size_text(output.bytes)}"
    yield f"  sha256   {output.sha256}"
    reason = "" if output.reason is None else f": {output.reason}"
    yield f"  verdict  {_WORDS[output.state]}{reason} ({count_text(output.findings, 'finding')}, checked {output.checked_at})"
    if output.signature is not None:
        yield f"  signed   {output.signature}"
    yield from recorded_lines(output.recorded)


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
    from evidencesync.cli.file_outputs import RecordedReport
    from evidencesync.cli.outputs import Problem
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
        return RecordedReport(item.case, item.item, None, Problem(error.slug, escape_line(error.message)), int(error.exit_code))
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
