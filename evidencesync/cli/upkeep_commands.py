"""`reindex` and `clean`: rebuild a vault's index, and remove what unfinished transfers left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from evidencesync.cli.command import Run, command
from evidencesync.cli.options import VaultPath, local_vault
from evidencesync.cli.own_state import adding_to_own_chain
from evidencesync.errors import CommandKind, NoSpaceError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import count_text, size_text
from evidencesync.exit_codes import ExitCode

if TYPE_CHECKING:
    from evidencesync.cli.outputs import StagedOutput
    from evidencesync.ingest.transfers import Transfer
    from evidencesync.vault.layout import VaultLayout
    from evidencesync.vault.resume.left_sessions import Abandoned
    from evidencesync.vault.vault import Vault


def add_commands(app: typer.Typer) -> None:
    """Adds `reindex` and `clean`."""
    command(app, "reindex", "evidencesync reindex /srv/vault", kind=CommandKind.CHANGES)(reindex)
    command(app, "clean", "evidencesync clean /srv/vault", "evidencesync clean /srv/vault --yes", kind=CommandKind.CHANGES)(clean)


def reindex(run: Run, vault: VaultPath) -> ExitCode:
    """Builds the vault's index again from what is published. The index only saves time; no verdict depends on it.

    A record in the vault's own chain states the current head of every item's chain.
    """
    from evidencesync.cli.outputs import ReindexOutput
    from evidencesync.vault.heads import record_heads
    from evidencesync.vault.index.index import rebuild
    from evidencesync.vault.vault import Vault
    from evidencesync.vault.writer import require_writer

    opened = Vault.open(local_vault(vault))
    require_writer(opened.layout)
    with adding_to_own_chain(run, opened):  # checked first: else an hour of work might end with a refused record
        index = opened.index()
        try:
            done = rebuild(opened.layout, index)
        finally:
            index.close()
        record_heads(opened)
    if index.is_full:  # no document is to blame
        raise NoSpaceError("the index has no room on the vault's disk")
    for notice in index.notices:
        run.console.print_message(f"note: {notice}")
    lines = [f"indexed {count_text(done.acquisitions, 'acquisition')} of {count_text(done.cases, 'case')}"]
    lines += [f"left out, because it could not be read: {safe_text(name)}" for name in done.left_out]
    if done.left_out:
        lines.append("next: evidencesync verify VAULT")
    run.console.print_result(ReindexOutput(done.cases, done.acquisitions, list(done.left_out)), lines)
    return ExitCode.GAPS if done.left_out else ExitCode.COMPLETE


def clean(
    run: Run,
    vault: VaultPath,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask before waiting transfers are ended and files are removed.")
    ] = False,
) -> ExitCode:
    """Removes what unfinished transfers left behind, after asking: also items, and cases, in which nothing was ever published.

    Also what a killed command left beside records and lists of trust. Published data, records and running transfers are not
    touched.

    A transfer that has lost its connection waits some time for its sender. It is shown, and ended if you agree. A sender that
    comes back after that sends again what was removed.
    """
    from evidencesync.cli.outputs import CleanOutput, transfer_outputs
    from evidencesync.vault.vault import Vault

    opened = Vault.open(local_vault(vault))
    _require_folders(opened.layout)

    def agrees(question: str) -> bool:
        return yes or run.console.ask(question)

    waiting, ended = _end_waiting(run, opened.layout, agrees)
    found, removed = _remove_abandoned(run, opened.layout, agrees)
    left, tidied = _remove_left_files(run, opened, agrees)
    empty, emptied = _remove_empty(run, opened, agrees)
    output = CleanOutput(_staged(found), _staged(removed), transfer_outputs(waiting), transfer_outputs(ended), emptied, tidied)
    freed = size_text(sum(one.bytes for one in removed))
    lines = [f"ended {len(ended)} of {count_text(len(waiting), 'waiting transfer')}"] if waiting else []
    if found:
        lines.append(f"removed {len(removed)} of {count_text(len(found), 'abandoned transfer')}, {freed}")
    if left:
        lines.append(f"removed {len(tidied)} of {count_text(len(left), 'file')} of writers that were killed")
    if empty:
        lines.append(f"removed {len(emptied)} of {count_text(len(empty), 'empty folder')}")
    run.console.print_result(output, lines or ["nothing to remove"])
    return ExitCode.COMPLETE


def _require_folders(layout: VaultLayout) -> None:
    """Raises MissingOrExtraError where a folder that every vault has is gone: from a vault that lost it nothing is removed."""
    from evidencesync.errors import MissingOrExtraError
    from evidencesync.vault.catalog import is_folder

    for folder in (layout.custody, layout.cases):
        if not is_folder(folder):
            hint = "Nothing was removed. See what else is wrong: evidencesync verify VAULT"
            raise MissingOrExtraError(f"the folder {folder.name} is missing from the vault", hint=hint)


def _end_waiting(run: Run, layout: VaultLayout, agrees: Callable[[str], bool]) -> tuple[list[Transfer], list[Transfer]]:
    """Shows the transfers that wait for their senders, and ends them if the user agrees. Returns both."""
    from evidencesync.cli.outputs import transfer_lines, transfer_outputs
    from evidencesync.ingest.transfers import end_waiting, find_transfers

    waiting = [one for one in find_transfers(layout) if one.waits]
    for line in transfer_lines(transfer_outputs(waiting)):
        run.console.print_notice(line)
    is_wanted = bool(waiting) and agrees(f"End {count_text(len(waiting), 'waiting transfer')}?")
    return waiting, end_waiting(layout, waiting) if is_wanted else []


def _remove_abandoned(run: Run, layout: VaultLayout, agrees: Callable[[str], bool]) -> tuple[list[Abandoned], list[Abandoned]]:
    """The same of what transfers that have ended left behind. Raises OtherWriterError where another machine writes the vault."""
    from evidencesync.vault.resume.left_sessions import find_abandoned, is_of_capture, remove_abandoned
    from evidencesync.vault.writer import require_writer

    found = find_abandoned(layout)
    if not found:
        return [], []
    require_writer(layout)
    for line in _staged_lines(_staged(found)):
        run.console.print_notice(line)
    for one in found:
        if is_of_capture(layout, one):
            what = "of a capture, which cannot be made again: push - with --recover publishes it"
            run.console.print_notice(f"{one.case}/{one.item}  {one.session}  {what}")
    is_wanted = agrees(f"Remove {count_text(len(found), 'abandoned transfer')}?")
    return found, remove_abandoned(layout, found) if is_wanted else []


def _remove_left_files(run: Run, vault: Vault, agrees: Callable[[str], bool]) -> tuple[list[str], list[str]]:
    """The same of what killed writers left beside records and lists of trust."""
    from evidencesync.vault.resume.left_files import find_left_files, remove_left_files

    left = find_left_files(vault)
    question = f"Remove {count_text(len(left), 'file')} of writers that were killed?"
    is_wanted = _is_wanted(run, vault, left, "of a writer that was killed; nothing states it", partial(agrees, question))
    return left, remove_left_files(vault, left) if is_wanted else []


def _is_wanted(run: Run, vault: Vault, places: Sequence[str], what: str, agrees: Callable[[], bool]) -> bool:
    """Names what would be removed, if there is anything, and asks. Raises OtherWriterError."""
    from evidencesync.vault.writer import require_writer

    if not places:
        return False
    require_writer(vault.layout)
    for place in places:
        run.console.print_notice(f"{safe_text(place)}  {what}")
    return agrees()


def _remove_empty(run: Run, vault: Vault, agrees: Callable[[str], bool]) -> tuple[list[str], list[str]]:
    """The same of items and cases in which nothing was ever published."""
    from evidencesync.vault.resume.empty_items import find_empty_items, remove_empty_items

    empty = find_empty_items(vault)
    question = f"Remove {count_text(len(empty), 'empty folder')}?"
    is_wanted = _is_wanted(run, vault, empty, "nothing was ever published here", partial(agrees, question))
    return empty, remove_empty_items(vault, empty) if is_wanted else []


def _staged(abandoned: Sequence[Abandoned]) -> list[StagedOutput]:
    from evidencesync.cli.outputs import StagedOutput
    from evidencesync.evidence.utc_time import format_utc_time

    return [
        StagedOutput(one.case, one.item, one.session, one.files, one.bytes, format_utc_time(one.changed_ns)) for one in abandoned
    ]


def _staged_lines(staged: Sequence[StagedOutput]) -> Iterator[str]:
    for one in staged:
        extent = f"{count_text(one.files, 'file')}, {size_text(one.bytes)}"
        yield f"{one.case}/{one.item}  {one.session}  {extent}, last written {one.changed}"
