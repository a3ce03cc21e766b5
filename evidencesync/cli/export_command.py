"""`export`: writes an acquisition in a format of other tools, encrypted if recipients are given."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from evidencesync.cli.command import Run, command
from evidencesync.cli.options import ItemChoice, OwnSigners, PartChoice, RemoteChoice, SignChoice, VaultAddress, vault_address
from evidencesync.cli.reading import ReadableVault, readable_vault
from evidencesync.cli.trust_files import load_trusted
from evidencesync.cli.verify_command import CheckChoice, checked, verdict_lines
from evidencesync.errors import UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import count_text, size_text
from evidencesync.exit_codes import ExitCode
from evidencesync.home import expand, expand_new_file

if TYPE_CHECKING:
    from evidencesync.cli.file_outputs import ExportOutput, ExportRecord
    from evidencesync.cli.verify_record import Append, Verifier
    from evidencesync.export.acquisition import AcquisitionReader
    from evidencesync.export.contents import OpenContents
    from evidencesync.export.destination import Destination
    from evidencesync.export.run import Exported, ExportRequest, Format
    from evidencesync.verify.findings import Finding, Verdict


@dataclasses.dataclass(frozen=True, slots=True)
class ExportRecordChoice(SignChoice):
    """Whether the export is recorded, and who signs that."""

    record: Annotated[
        bool,
        typer.Option(
            "--record", help="Append a signed record of the export to the item's custody chain; if that fails, export nothing."
        ),
    ] = False


@dataclasses.dataclass(frozen=True, slots=True)
class FormatChoice:
    """Which acquisition is exported, in which format, and for which recipients."""

    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="bagit (a folder), hashdeep or case-uco (a file).")]
    acquisition: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=9999, help="Number of the acquisition.  [default: the last]")
    ] = None
    encrypt_to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RECIPIENT",
            help="Encrypt with age for this SSH public key or age1... key, or for those in a file; may be repeated."
            " Writes DEST.tar.age (bagit) or DEST.age.",
        ),
    ] = None


def add_commands(app: typer.Typer) -> None:
    """Adds `export`."""
    command(
        app,
        "export",
        "evidencesync export /srv/vault /media/out/LAPTOP-1 --case 2024-017 --item LAPTOP-1 --format bagit",
        "evidencesync export /srv/vault known.txt --case 2024-017 --item LAPTOP-1 --format hashdeep",
        "evidencesync export /srv/vault case.jsonld --case 2024-017 --item LAPTOP-1 --acquisition 2 --format case-uco",
        "# Of a vault on another machine:",
        "evidencesync export ana@vault.lab:/srv/vault ~/out/LAPTOP-1 --case 2024-017 --item LAPTOP-1 --format bagit",
        "evidencesync export /srv/vault /media/out/LAPTOP-1 --case 2024-017 --item LAPTOP-1 --format bagit"
        " --encrypt-to expert.pub --record -i ~/.ssh/ana",
    )(export)


def export(
    run: Run,
    vault: VaultAddress,
    destination: Annotated[str, typer.Argument(metavar="DEST", help="The file or folder to write. It must not exist yet.")],
    item: ItemChoice,
    what: FormatChoice,
    recording: ExportRecordChoice,
    ssh: RemoteChoice,
    trusted: OwnSigners = None,
) -> ExitCode:
    """Writes an acquisition in a format that other tools read: BagIt, hashdeep's list of known files, or CASE/UCO.

    The acquisition is verified first, with both digests; damaged evidence is not exported (exit 30 and others, as `verify`). DEST
    appears complete or not at all, and never in the vault. Ends with 3 if a name had to be left out of a list; a bag is refused
    (exit 2) if it cannot hold every name. Of a vault on another machine the documents are checked here and the evidence is read
    there; a bag's files are sent, and each is compared here by both digests. A lost link is made again.
    """
    import time

    from evidencesync.acquire.known_heads import open_item
    from evidencesync.cli.verify_afar import append_to
    from evidencesync.cli.verify_record import verifier_with
    from evidencesync.export.encrypt import load_recipients
    from evidencesync.export.run import ExportRequest, Format

    format_wanted = _parse_format(what.form)
    is_here, name = vault_address(vault).local, item.name()

    def load() -> Verifier:
        return verifier_with(run, recording, ssh.identity_file(run.settings))

    verifier = load() if recording.record and not is_here else None  # its key reads, too, and is asked for once
    reader = recording if verifier is None else verifier.signer
    whole, rows = [what.acquisition or 0], format_wanted is Format.BAGIT
    with readable_vault(run, vault, reader, ssh, (item.case, item.item), whole, rows=rows, asks_more=True) as opened:
        found = open_item(opened.memory, opened.vault, name)
        number = found.choose_acquisition(what.acquisition)
        recipients = load_recipients(what.encrypt_to) if what.encrypt_to else []
        is_folder = format_wanted is Format.BAGIT and not recipients
        place = expand(destination) if is_folder else expand_new_file(destination)
        wanted = ExportRequest(
            opened.vault, found, number, format_wanted, place, recipients, time.time_ns(), is_fetched=not is_here
        )
        with wanted.open_destination() as opened_place:
            for left in opened_place.removed:
                run.console.print_message(f"removed what an export that was killed had left: {left}")
            verifier = load() if recording.record and is_here else verifier
            append = None if verifier is None else append_to(run, opened, ssh, verifier)
            return _export(run, opened, wanted, opened_place, append, trusted)


def _export(
    run: Run, readable: ReadableVault, wanted: ExportRequest, place: Destination, append: Append | None, trusted: str | None
) -> ExitCode:
    """Verifies the acquisition, and writes it to a destination that was checked before and is held open."""
    from evidencesync.cli.progress_display import VerifyView, shown
    from evidencesync.export.run import export_acquisition
    from evidencesync.verify.context import VerifyProgress

    name = wanted.item.name
    part = PartChoice(name.case.text, name.item.text, wanted.acquisition)
    signers = load_trusted(Path(trusted)) if trusted is not None else None
    verdict = checked(run, readable, part, signers, CheckChoice(all_digests=True))
    if verdict.exit_code:
        from evidencesync.cli.pasted_hints import pasted
        from evidencesync.cli.verify_next import next_lines

        following = next_lines(verdict, partial(pasted, run.console.fill_hint), recorded=True)
        lines = verdict_lines(verdict, everything=run.console.verbose, following=following)
        run.console.print_result(verdict, [*lines, "NOTHING WAS EXPORTED"])
        hint = pasted(run.console.fill_hint, "See which acquisitions there are: evidencesync list VAULT")
        run.console.print_message(f"hint: Another one may be whole. {hint}")
        return ExitCode(verdict.exit_code)
    records: list[ExportRecord] = []

    def when_in_place(exported: Exported) -> None:
        if append is not None:
            records.append(_record(wanted, exported, append))

    writing = VerifyProgress(total_files=verdict.checked.files, total_bytes=verdict.checked.bytes)
    with shown(run.console, VerifyView(writing, "exporting")):
        exported = export_acquisition(wanted, place, when_in_place, writing, _contents(run, readable))
    output = _output(wanted, exported, records[0] if records else None, [one.slug for one in _source(verdict)])
    _warn(run, output)
    run.console.print_result(output, _lines(output, verdict))
    return ExitCode.GAPS if output.left_out else ExitCode.COMPLETE


def _contents(run: Run, readable: ReadableVault) -> OpenContents:
    """Where the bytes of files come from."""
    from evidencesync.export.contents import FetchedContents, StoredContents

    far = readable.far
    if far is None:
        return StoredContents

    def open_fetched(acquisition: AcquisitionReader, data_fd: int | None) -> FetchedContents:
        from evidencesync.acquire.custody import RETRIES
        from evidencesync.acquire.evidence import EvidenceStream

        name = acquisition.item.name
        stream = EvidenceStream(far.with_new_session(), name.case.text, name.item.text, acquisition.number, RETRIES)
        stream.events = run.events
        return FetchedContents(acquisition, data_fd, stream)

    return open_fetched


def _parse_format(text: str) -> Format:
    from evidencesync.export.run import Format

    try:
        return Format(text)
    except ValueError as error:
        hint = "bagit holds the files, hashdeep lists digests, case-uco describes. For a plain folder: evidencesync restore"
        raise UsageError(f"--format is bagit, hashdeep or case-uco, not {safe_text(text, 40)}", hint=hint) from error


def _record(wanted: ExportRequest, exported: Exported, append: Append) -> ExportRecord:
    """Appends the `exported` record. Raises the error with which the vault refuses it."""
    from evidencesync.acquire.custody import RecordDraft
    from evidencesync.cli.file_outputs import ExportRecord

    draft = RecordDraft("exported", _details(wanted, exported), wanted.acquisition)
    appended = append(wanted.item.name, draft)
    return ExportRecord(appended.record.sequence, appended.sha256)


def _details(wanted: ExportRequest, exported: Exported) -> dict[str, str]:
    import evidencesync

    details = {
        "format": wanted.format.value,
        "destination": safe_text(os.fsencode(exported.name), 300),
        "digest_of": safe_text(os.fsencode(exported.digest_of), 300),
        "sha256": exported.digest,
        "manifest_sha256": exported.manifest_sha256,
        "files": str(exported.files),
        "bytes": str(exported.bytes),
        "tool": f"evidencesync {evidencesync.__version__}",
    }
    if wanted.recipients:
        details["recipients"] = " ".join(one.fingerprint for one in wanted.recipients)
    if exported.left_out.count:
        details["left_out"] = str(exported.left_out.count)
    return details


def _output(wanted: ExportRequest, exported: Exported, record: ExportRecord | None, source: list[str]) -> ExportOutput:
    from evidencesync.cli.file_outputs import ExportOutput

    name = wanted.item.name
    return ExportOutput(
        case=name.case.text,
        item=name.item.text,
        acquisition=wanted.acquisition,
        format=wanted.format.value,
        destination=safe_text(os.fsencode(exported.path)),
        digest_of=safe_text(os.fsencode(exported.digest_of)),
        sha256=exported.digest,
        manifest_sha256=exported.manifest_sha256,
        files=exported.files,
        bytes=exported.bytes,
        not_listed=exported.not_listed,
        left_out=exported.left_out.count,
        left_out_names=exported.left_out.names,
        misread_names=exported.misread,
        recipients=[one.fingerprint for one in wanted.recipients],
        record=record,
        source=source,
        verdict="gaps" if exported.left_out.count else "complete",
    )


def _warn(run: Run, output: ExportOutput) -> None:
    for name in output.left_out_names:
        run.console.warn(f"the format cannot carry this name: {name}")
    if output.left_out > len(output.left_out_names):
        run.console.warn(f"and {output.left_out - len(output.left_out_names):,} more names")
    if output.misread_names:
        run.console.warn(
            f"{count_text(output.misread_names, 'name')} with '%' or unusual white space: written as RFC 8493 requires, but the"
            " bagit program for Python misreads them"
        )


_SOURCE: Final = {"source-gaps": "WITH GAPS", "source-changed": "CHANGED", "source-filtered": "filtered"}


def _source(verdict: Verdict) -> Iterator[Finding]:
    """The findings about what the acquisition lacks of its source. An export lacks that, too."""
    return (one for one in verdict.findings if one.slug in _SOURCE)


def _lines(output: ExportOutput, verdict: Verdict) -> Iterator[str]:
    about = f"{safe_text(output.case)} / {safe_text(output.item)}, acquisition {output.acquisition}"
    yield f"{about}: exported as {output.format}"
    yield f"  to           {output.destination}"
    from evidencesync.verify.findings import FarVerdict

    by = verdict.by_vault if isinstance(verdict, FarVerdict) else None
    whose = "" if by is None else f"; read by the vault at {by.address}, its documents were checked here"
    extent = f"{count_text(verdict.checked.files, 'file')}, {size_text(verdict.checked.bytes)}"
    yield f"  verified     {extent}; BLAKE3 and SHA-256{whose}"
    yield f"  sha256       {output.sha256}  ({output.digest_of})"
    for recipient in output.recipients:
        yield f"  encrypted    for {recipient}"
    if output.not_listed:
        what = ("entry that is no file with content", "entries that are no files with content")
        yield f"  not listed   {count_text(output.not_listed, *what)}"
    if output.left_out:
        yield f"  LEFT OUT     {count_text(output.left_out, 'name')} that the format cannot carry"
    for finding in _source(verdict):
        yield f"  source       {_SOURCE[finding.slug]}: {finding.message}"
    if output.record is not None:
        yield f"  record       {output.record.record}"
        yield f"  chain head   {output.record.sha256}"
