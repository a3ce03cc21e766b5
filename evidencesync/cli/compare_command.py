"""`compare`: a folder against a manifest, without a vault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from evidencesync.cli.command import Run, command
from evidencesync.cli.lines import wrapped
from evidencesync.cli.trust_files import load_trusted
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import count_text, size_text
from evidencesync.exit_codes import ExitCode
from evidencesync.home import expand

if TYPE_CHECKING:
    from evidencesync.cli.comparison_outputs import CategoryCounts, CompareOutput
    from evidencesync.compare.store import FolderDifference

_WORDS: Final = {"same": "SAME", "different": "DIFFERENT", "incomplete": "INCOMPLETE"}


def add_commands(app: typer.Typer) -> None:
    """Adds `compare`."""
    command(
        app,
        "compare",
        "evidencesync compare manifest.jsonl /mnt/evidence",
        "evidencesync compare manifest.jsonl /home/ana/working-copy --trusted my_signers --metadata",
        "evidencesync compare manifest.jsonl /media/copy/data --data --all-digests --json",
    )(compare)


def compare(
    run: Run,
    manifest: Annotated[str, typer.Argument(metavar="MANIFEST", help="The manifest.jsonl of an acquisition, or a copy of it.")],
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="The source, a copy of it, or an acquisition's data; or a single file.")
    ],
    trusted: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Your allowed_signers file: MANIFEST.sig must be valid and by one of these signers."),
    ] = None,
    all_digests: Annotated[bool, typer.Option("--all-digests", help="Compare SHA-256 too, not only BLAKE3.")] = False,
    metadata: Annotated[
        bool,
        typer.Option("--metadata", help="Compare mode, owner, times, links and attributes, too; a difference ends with 30."),
    ] = False,
    data: Annotated[
        bool,
        typer.Option("--data", help="FOLDER is a copy of an acquisition's data, which has no links or special files."),
    ] = False,
) -> ExitCode:
    """Compares a folder with a manifest, without a vault: what matches, was modified, moved, copied, is missing or new.

    Reads every regular file, except those larger than any file in the manifest. Nothing else is opened, no link is followed,
    and nothing is written. Ends with 0 only if everything in the manifest is there, and nothing else; 30 if something was
    modified, 31 if something is moved, duplicated, missing or new, 3 if something could not be read or judged, 4 if names came
    or went meanwhile. The data folder beside the manifest is recognised without --data.
    """
    import time

    from evidencesync.cli.comparison_outputs import compare_output
    from evidencesync.cli.progress_display import VerifyView, shown
    from evidencesync.compare.folder import CompareRequest, compare_folder
    from evidencesync.verify.context import VerifyProgress

    signers = load_trusted(Path(trusted)) if trusted is not None else None
    request = CompareRequest(expand(manifest), expand(folder), signers, all_digests, metadata, data)
    progress = VerifyProgress()
    with shown(run.console, VerifyView(progress)):
        compared = compare_folder(request, progress, time.time_ns())
    output = compare_output(compared, safe_text(folder), ["blake3", "sha256"] if all_digests else ["blake3"])
    run.console.print_result(output, _lines(output, compared.differences))
    if output.others.missing and not output.data and not (output.files.missing or output.files.modified):
        run.console.print_message("hint: A copy of a vault's data folder has no links or special files: add --data")
    return compared.exit_code


def _lines(output: CompareOutput, differences: list[FolderDifference]) -> Iterator[str]:
    """One line a difference, the counts, and the one word last."""
    for difference in differences:
        yield _difference_line(difference)
    if output.left_out:
        yield f"and {output.left_out:,} more differences, which are not listed"
    manifest = output.manifest
    about = f"{safe_text(manifest.case)} / {safe_text(manifest.item)}, acquisition {manifest.acquisition}"
    yield from wrapped("manifest   ", f"{about}, SHA-256 {manifest.sha256}")
    if manifest.verified:
        yield from wrapped("signature  ", f"good: by {safe_text(manifest.signer or '')}, {manifest.key}")
    else:
        yield "signature  NOT VERIFIED: nobody vouches for this manifest (see --trusted)"
    files = f"{count_text(output.listed_files, 'file')} listed, {output.found_files:,} found"
    yield f"compared   {files}; {size_text(output.bytes)} hashed; {' and '.join(output.digests)}"
    yield f"files      {_counts_text(output.files)}"
    yield from wrapped("others     ", f"{_counts_text(output.others)} (folders, links, special files)")
    if output.data:
        absent = f"; {output.absent_by_design:,} links and special files absent by design" if output.absent_by_design else ""
        yield f"metadata   not compared: this is an acquisition's data folder{absent}"
    else:
        yield f"metadata   {_metadata_text(output)}"
    if output.changed_folders:
        yield f"changed    {count_text(output.changed_folders, 'folder')} in which names came or went after they were listed"
    if output.files.not_compared or output.others.not_compared:
        several = count_text(output.files.not_compared + output.others.not_compared, "entry", "entries")
        yield f"gaps       {several} NOT compared: left out, or not there, when the manifest was made"
    yield f"verdict: {_WORDS[output.verdict]}"


def _difference_line(difference: FolderDifference) -> str:
    shown = safe_text(difference.path, 1000) or "."
    listed = "" if difference.listed is None else safe_text(difference.listed, 1000)
    detail = f" ({difference.detail})" if difference.detail else ""
    if difference.category == "moved":
        detail = f" (from {listed})"
    elif difference.category == "duplicated":
        detail = f" (copy of {listed})"
    elif listed:
        detail = f" ({difference.detail}; listed as {listed})"
    return f"{difference.category}: {shown}{detail}"


def _counts_text(counts: CategoryCounts) -> str:
    parts = [
        f"{counts.matched:,} matched",
        f"{counts.modified:,} modified",
        f"{counts.moved:,} moved",
        f"{counts.duplicated:,} duplicated",
        f"{counts.missing:,} missing",
        f"{counts.new:,} new",
        f"{counts.unreadable:,} unreadable",
    ]
    return ", ".join(parts)


def _metadata_text(output: CompareOutput) -> str:
    differing = [f"{kind} {count:,}" for kind, count in (output.metadata or {}).items() if count]
    judged = "" if output.metadata_judged else " (not judged; attributes not looked at: see --metadata)"
    if output.over_sftp:
        judged = (
            f" ({'' if output.metadata_judged else 'not judged; '}taken over SFTP: no attributes, and times in whole seconds)"
        )
    return f"{'differences: ' + ', '.join(differing) if differing else 'no differences'}{judged}"
