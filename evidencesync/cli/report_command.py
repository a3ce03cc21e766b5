"""`report`: writes the audit report of a case as HTML, PDF or JSON, and signs and records it with `--sign`.

The record of a signed report is of the type `exported` and not `noted`: what a note states counts as a detail of the item.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from evidencesync.cli.command import Run, command
from evidencesync.cli.options import (
    WHOLE_NAME,
    Case,
    OwnSigners,
    PartChoice,
    RemoteChoice,
    SignChoice,
    VaultAddress,
    local_vault,
    vault_address,
)
from evidencesync.cli.reading import ReadableVault, readable_vault
from evidencesync.cli.trust_files import load_trusted
from evidencesync.cli.verify_command import CheckChoice, checked
from evidencesync.errors import UsageError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.exit_codes import ExitCode
from evidencesync.home import expand, expand_new_file, read_named
from evidencesync.limits import MAX_VERDICT_FILE

if TYPE_CHECKING:
    from evidencesync.cli.file_outputs import Format, ReportOutput
    from evidencesync.cli.verify_record import Verifier
    from evidencesync.outside import NewFile
    from evidencesync.report.document import Report
    from evidencesync.report.gather import VerdictSource
    from evidencesync.report.judging import ReportScope

_DRAFTS: Final[dict[str, Format]] = {"certificate": "certificate", "statement": "statement"}
_FORMATS: Final[dict[str, Format]] = {".html": "html", ".htm": "html", ".pdf": "pdf", ".json": "json"}


@dataclasses.dataclass(frozen=True, slots=True)
class ReportedChoice:
    """The case, or the part of it, that the report is about."""

    case: Case
    item: Annotated[str | None, typer.Option(metavar="ITEM", help="Only this item.")] = None
    acquisition: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=9999, help="Only this acquisition; needs --item.")
    ] = None

    def scope(self) -> ReportScope:
        """The named part. Raises UsageError for an acquisition without its item."""
        from evidencesync.report.judging import ReportScope

        if self.acquisition is not None and self.item is None:
            raise UsageError("--acquisition needs --item", hint=WHOLE_NAME)
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
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="report, by the suffix of FILE; certificate, a draft for a court of the United States; statement, for other "
            "courts. Drafts are FILE.rtf.",
        ),
    ] = "report"
    files: Annotated[
        bool, typer.Option("--files", help="List the files of each acquisition in a PDF. HTML and JSON always list them.")
    ] = False
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
        if self.form in _DRAFTS:
            if target.suffix.lower() != ".rtf":
                raise UsageError(
                    f"not a draft's name: {safe_text(self.output, 200)}",
                    hint=f"Name it {shell_text(str(target.with_suffix('.rtf')))}",
                )
        elif self.form != "report":
            raise UsageError(f"no format of a report: {safe_text(self.form, 60)}", hint="Say report, certificate or statement.")
        elif target.suffix.lower() not in _FORMATS:
            named = " or ".join(shell_text(str(target.with_suffix(f".{one}"))) for one in dict.fromkeys(_FORMATS.values()))
            draft = "; a draft for a court, with --format certificate or statement" if target.suffix.lower() == ".rtf" else ""
            raise UsageError(
                f"not a kind of report: {safe_text(self.output, 200)}", hint=f"The ending says which is made: {named}{draft}"
            )
        return target

    @property
    def kind(self) -> Format:
        """The kind of the report: that of a draft, or by its suffix."""
        suffix = self.target().suffix.lower()
        return _DRAFTS.get(self.form) or _FORMATS[suffix]

    @contextlib.contextmanager
    def opened(self, vault: Path, acquisitions: int, *, signed: bool) -> Iterator[list[NewFile]]:
        """Opens the places of the report, before anything is verified, and holds them open. Raises UsageError.

        There are several where a PDF has too many acquisitions for one file. An earlier report is never replaced: it may have
        been signed, or filed.
        """
        from evidencesync.outside import NewFile, closed_vault
        from evidencesync.report.volumes import SIGNATURE, volume_count, volume_names

        hint = "Choose another place, which may not lie in a vault: -o FILE"
        count = volume_count(acquisitions) if self.kind == "pdf" else 1
        with contextlib.ExitStack() as stack:
            places = [
                stack.enter_context(NewFile(name, closed_vault(vault), hint)) for name in volume_names(self.target(), count)
            ]
            for place in places if signed else ():
                place.claim(SIGNATURE)
            yield places


@dataclasses.dataclass(frozen=True, slots=True)
class GroundsChoice:
    """What the verdict rests on: a check for this report, or an earlier one."""

    trusted: OwnSigners = None
    verdict: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Output of an earlier `verify --json`, to use instead of checking now. The report states its age.",
        ),
    ] = None

    def source(self, run: Run, vault: ReadableVault, checks: CheckChoice, shown: ReportScope, now_ns: int) -> VerdictSource:
        """Checks the vault, or takes the earlier verdict. Raises UsageError for a verdict together with options of a check."""
        if self.verdict is None:
            return _verify(run, vault, checks, shown, self.trusted, now_ns)
        source = _load_verdict(self.verdict, self.trusted, checks)
        _require_remembered(vault, shown)
        return source


def add_commands(app: typer.Typer) -> None:
    """Adds `report`."""
    command(
        app,
        "report",
        "evidencesync report /srv/vault --case 2024-017 -o report.pdf",
        "evidencesync report /srv/vault --case 2024-017 --item LAPTOP-1 --acquisition 2 --all-digests -o report.html",
        "# With the verdict of a check that is done already:",
        "evidencesync verify /srv/vault --json > verdict.json",
        "evidencesync report /srv/vault --case 2024-017 --verdict verdict.json -o report.json",
        "# Of a vault on another machine: its documents are checked here, its evidence is read there.",
        "evidencesync report ana@vault.lab:/srv/vault --case 2024-017 -o report.pdf",
        "evidencesync report /srv/vault --case 2024-017 -o report.pdf --sign --examiner 'Ana Example'",
        "evidencesync report /srv/vault --case 2024-017 --item LAPTOP-1 --format certificate -o certificate.rtf",
    )(report)


def report(
    run: Run,
    vault: VaultAddress,
    checks: CheckChoice,
    part: ReportedChoice,
    signing: ReportSignChoice,
    ssh: RemoteChoice,
    to: FileChoice,
    grounds: GroundsChoice,
) -> ExitCode:
    """Writes the audit report of a case, or of a part of it, as HTML, PDF or JSON.

    Everything is verified first, and the report states the findings; the exit code is that of the verdict. A verdict from an
    earlier check is accepted only if the custody chains have not changed since. Only --sign writes into the vault.

    A PDF holds 40 acquisitions. A report of more is written as volumes, FILE-1.pdf, FILE-2.pdf and so on, all of them or none:
    volume 1 names the SHA-256 of the others, and each is signed with --sign. HTML and JSON are always one file.

    Of a vault on another machine, its documents are fetched and checked here, and its evidence is read there: the report says so.

    --format certificate writes the draft of a certification under Federal Rules of Evidence 902(13) and 902(14), and --format
    statement one for other countries. What is verified for it is filled in, all else is blank; nothing is signed, and no
    --verdict is taken.
    """
    import time

    from evidencesync.report.pdf_report import require_typst

    shown, now_ns = part.scope(), time.time_ns()
    made_ns = now_ns if to.time_of_report is None else _parse_time(to.time_of_report)
    if to.kind == "pdf":
        require_typst()
    if to.kind in _DRAFTS:
        _check_draft(signing, grounds.verdict, vault)
    number = shown.acquisition
    whole = None if number is None else [number, number - 1] if number > 1 else [number]  # it is compared with the one before
    reader = _Signing(run, signing, ssh)
    is_far_and_signed = signing.sign and not vault_address(vault).local
    key = reader.verifier().signer if is_far_and_signed else signing  # it is asked for once
    with readable_vault(run, vault, key, ssh, (shown.case, shown.item), whole, rows=False, asks_more=True) as opened:
        result, made = _write(opened, shown, reader, to, lambda: grounds.source(run, opened, checks, shown, now_ns), made_ns)
    _print_result(run, to, result, made)
    return ExitCode(result.exit_code)


@dataclasses.dataclass(slots=True)
class _Signing:
    """Who signs the report, if anybody does. The key is loaded once: it may ask for a passphrase."""

    run: Run
    choice: ReportSignChoice
    ssh: RemoteChoice
    _loaded: Verifier | None = None

    def verifier(self) -> Verifier:
        """Raises SigningKeyError, UsageError."""
        from evidencesync.cli.verify_record import verifier_with

        if self._loaded is None:
            self._loaded = verifier_with(self.run, self.choice, self.ssh.identity_file(self.run.settings))
        return self._loaded


def _write(
    readable: ReadableVault,
    shown: ReportScope,
    signing: _Signing,
    to: FileChoice,
    judge: Callable[[], VerdictSource],
    made_ns: int,
) -> tuple[ReportOutput, Report]:
    """Opens the places of the files and loads the signer, only then lets the vault be judged, and writes, signs and records."""
    from evidencesync.cli.report_writing import sign_files, signed_by, write_files
    from evidencesync.cli.verify_afar import append_to
    from evidencesync.cli.verify_record import require_recorder
    from evidencesync.report.gather import count_acquisitions, gather
    from evidencesync.report.volumes import Choices

    vault, is_signed = readable.vault, signing.choice.sign
    root = vault.layout.root
    with contextlib.ExitStack() as stack:
        counted = count_acquisitions(vault, shown)
        places = stack.enter_context(to.opened(root, counted, signed=is_signed))
        verifier = signing.verifier() if is_signed else None
        if verifier is not None:
            require_recorder(vault.load_trust, verifier, shown.case, "Without --sign nobody signs it.")
        gathered = gather(vault, shown, judge(), now_ns=made_ns)
        found = sum(len(item.acquisitions) for item in gathered.report.items)
        if found != counted:  # others were received meanwhile, or some could not be listed before
            places = stack.enter_context(to.opened(root, found, signed=is_signed))
        key = None if verifier is None else verifier.signer.public_key
        choices = Choices(to.files or to.kind != "pdf", signed_by(verifier, gathered.report.trust), key)
        made = write_files(gathered, places, to.kind, choices)
        output = made.output
        if verifier is not None:
            append = append_to(signing.run, readable, signing.ssh, verifier)
            output = sign_files(made, places, gathered, append, verifier)
    return output, gathered.report


def _print_result(run: Run, to: FileChoice, result: ReportOutput, made: Report) -> None:
    """Says what was written, and of a draft which digests it does not speak of."""
    from evidencesync.cli.report_writing import report_lines
    from evidencesync.custody.labels import digests_text
    from evidencesync.report.verdicts import digests_left, severities_text

    left = digests_left(made) if to.kind in _DRAFTS and result.state == "pass" else []
    if left:
        run.console.print_message(f"note: the draft states that {digests_text(left)} was not computed again")
        run.console.print_message("hint: For a draft about all digests, make it with --all-digests.")
    run.console.print_result(result, report_lines(result, severities_text(made.judgement.findings) or "none"))


def _check_draft(signing: ReportSignChoice, verdict: str | None, vault: str) -> None:
    """Raises UsageError for what a draft does not take."""
    local_vault(vault)  # who signs it speaks of evidence that was read for it
    if signing.sign:
        raise UsageError("a draft is not signed: a person completes it, and signs what it has become", hint="Leave out --sign.")
    if verdict is not None:
        raise UsageError("a draft states only what is verified now, and no earlier verdict", hint="Leave out --verdict.")


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
        hint = "Make it anew with them: evidencesync verify VAULT --json ... > verdict.json"
        raise UsageError(
            "with --verdict nothing is checked: --trusted and the other options of a check are for verify", hint=hint
        )
    try:
        data = read_named(expand(verdict), MAX_VERDICT_FILE)
    except OSError as error:
        hint = "It is written by: evidencesync verify VAULT --json > verdict.json"
        raise UsageError(f"the verdict {safe_text(verdict, 200)} cannot be read: {error.strerror}", hint=hint) from error
    return VerdictSource(parse_verdict(data), given=True, trusted=None)


def _require_remembered(readable: ReadableVault, shown: ReportScope) -> None:
    """Raises RolledBackError or ForkedError for a vault that is older than this machine remembers, or another one.

    An earlier verdict may fit such a vault: it may be about the same old copy.
    """
    from evidencesync.acquire.known_heads import VaultAtHand
    from evidencesync.evidence.identity import Title
    from evidencesync.vault.catalog import stored_names

    vault, memory = readable.vault, readable.memory
    VaultAtHand(memory, vault).require()
    for name in stored_names(vault.layout, Title(shown.case).folder):
        if shown.item in (None, name.item.text):
            VaultAtHand(memory, vault, name).require()


def _verify(
    run: Run, vault: ReadableVault, checks: CheckChoice, shown: ReportScope, trusted: str | None, now_ns: int
) -> VerdictSource:
    from evidencesync.cli.trust_files import load_roots
    from evidencesync.report.gather import VerdictSource

    signers = load_trusted(Path(trusted)) if trusted is not None else None
    roots = load_roots(run.settings, checks.tsa_root)
    part = PartChoice(shown.case, shown.item, shown.acquisition)
    verdict = checked(run, vault, part, signers, checks, roots=roots, now_ns=now_ns)
    return VerdictSource(verdict, given=False, trusted=signers)


@dataclasses.dataclass(frozen=True, slots=True)
class ReportSignChoice(SignChoice):
    """Whether the report is signed, and by whom."""

    sign: Annotated[
        bool, typer.Option("--sign", help="Sign the report (FILE.sig), and record its digest in the chain of every item shown.")
    ] = False
