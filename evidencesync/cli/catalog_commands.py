"""`list` and `show`: what a vault says it holds. Nothing is verified here, and both say so."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from evidencesync.cli.command import Run, command
from evidencesync.cli.number_format import kinds_text, stored_text
from evidencesync.cli.options import ItemChoice, ItemsChoice, RemoteChoice, VaultAddress
from evidencesync.cli.reading import ReaderChoice, readable_vault, unread_is_incomplete
from evidencesync.errors import CommandKind, UsageError
from evidencesync.evidence.display import person_text, safe_text, shell_text
from evidencesync.evidence.number_format import size_text
from evidencesync.exit_codes import ExitCode, most_severe

if TYPE_CHECKING:
    from evidencesync.cli.outputs import ListOutput, ShowOutput
    from evidencesync.vault.item import VaultItem


def add_commands(app: typer.Typer) -> None:
    """Adds `list` and `show`."""
    command(
        app,
        "list",
        "evidencesync list /srv/vault",
        "evidencesync list /srv/vault --case 2024-017 --item LAPTOP-1",
        "evidencesync list ana@vault.lab:/srv/vault --json",
        kind=CommandKind.SHOWS,
    )(list_vault)
    command(
        app,
        "show",
        "evidencesync show /srv/vault --case 2024-017 --item LAPTOP-1",
        "evidencesync show /srv/vault --case 2024-017 --item LAPTOP-1 --acquisition 2 --json",
        "evidencesync show ana@vault.lab:/srv/vault --case 2024-017 --item LAPTOP-1 --files --below home/ana",
        kind=CommandKind.SHOWS,
    )(show_acquisition)


def list_vault(run: Run, vault: VaultAddress, part: ItemsChoice, reader: ReaderChoice, ssh: RemoteChoice) -> ExitCode:
    """Lists cases, items and acquisitions from their documents. Nothing is verified: see `evidencesync verify`.

    What the vault's own chain, an item's chain or this machine's memory knows of, and is not there, is listed as gone.
    """
    from evidencesync.cli.catalog import list_output

    part.check()
    with unread_is_incomplete(), readable_vault(run, vault, reader, ssh, (part.case, part.item)) as opened:
        output, problems = list_output(opened.vault, opened.memory, part.case, part.item, opened.may_show)
    run.console.print_result(output, _list_lines(output))
    if opened.grant is not None and opened.grant.cases is not None:
        run.console.print_message(f"note: this key may read in {opened.grant.shown_cases()}; nothing else of the vault is listed")
    return most_severe(problems)


@dataclasses.dataclass(frozen=True, slots=True)
class FilesChoice:
    """Which entries are shown, and from where on."""

    files: Annotated[bool, typer.Option("--files", help="List the acquired files and folders.")] = False
    below: Annotated[
        str | None, typer.Option(metavar="PATH", help="With --files: only this file or folder and what is in it.")
    ] = None
    after: Annotated[str | None, typer.Option(metavar="PATH", help="With --files: start after this path.")] = None
    limit: Annotated[int, typer.Option(metavar="COUNT", min=1, max=1_000_000, help="With --files: how many to show.")] = 1000


def show_acquisition(
    run: Run,
    vault: VaultAddress,
    item: ItemChoice,
    files: FilesChoice,
    reader: ReaderChoice,
    ssh: RemoteChoice,
    acquisition: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=9999, help="Number of the acquisition.  [default: the last]")
    ] = None,
) -> ExitCode:
    """Shows one acquisition, and the custody chain of its item; or its files. Nothing is verified: see `evidencesync verify`."""
    from evidencesync.cli.catalog import show_output
    from evidencesync.cli.damaged_items import showing_what_is_there
    from evidencesync.cli.own_state import open_known_item

    if not files.files and (files.below is not None or files.after is not None):
        raise UsageError("--below and --after need --files", hint="Add --files: it lists the files of the acquisition.")
    name, whole = item.name(), [acquisition or 0] if files.files else []
    with (
        unread_is_incomplete(),
        readable_vault(run, vault, reader, ssh, (item.case, item.item), whole) as readable,
        showing_what_is_there(run, readable.vault, name),
    ):
        opened, code = open_known_item(run, readable.vault, readable.memory, name)
        if files.files:
            _show_files(run, opened, files, acquisition)
            return code
        output = show_output(opened, acquisition, readable.shown_path)
    run.console.print_result(output, _show_lines(output))
    return code


def _show_files(run: Run, opened: VaultItem, files: FilesChoice, acquisition: int | None) -> None:
    from evidencesync.cli.catalog import files_lines, files_output

    below, after = (None if path is None else os.fsencode(path) for path in (files.below, files.after))
    output = files_output(opened, opened.choose_acquisition(acquisition), below, after, files.limit)
    run.console.print_result(output, files_lines(output))


def _list_lines(output: ListOutput) -> Iterator[str]:
    from evidencesync.cli.item_lines import item_lines, problem_words
    from evidencesync.cli.outputs import transfer_lines

    yield f"{safe_text(output.name)}   (times are UTC, when received)"
    yield f"  vault id   {output.vault_id}"
    yield f"  vault key  {output.key}"
    if output.vault_head_sha256 is not None:
        yield f"  vault head {output.vault_head_sequence} {output.vault_head_sha256}"
    if output.problem is not None:
        yield "  " + problem_words(output.problem, "" if output.problem.slug == "remembered-heads" else "THE VAULT'S OWN CHAIN")
    if not output.items:
        yield "  nothing yet"
    for item in output.items:
        yield from item_lines(item)
    yield from transfer_lines(output.transfers, "evidencesync clean VAULT")


def _show_lines(output: ShowOutput) -> Iterator[str]:
    from evidencesync.cli.item_lines import record_line
    from evidencesync.custody.labels import FLAGS, agent_text, contents_text, device_facts_text, earlier_text, source_text
    from evidencesync.custody.wholeness import SourceState

    header, footer, receipt = output.header, output.footer, output.receipt
    yield f"{safe_text(output.case)} / {safe_text(output.item)}, acquisition {output.acquisition}"
    yield f"  fingerprint   {output.fingerprint}"
    yield f"  manifest      {output.manifest_sha256}"
    organisation = f", {safe_text(header.examiner.organisation)}" if header.examiner.organisation else ""
    yield f"  examiner      {person_text(header.examiner.name, header.examiner.principal)}{organisation}"
    yield f"  signed with   {header.examiner.key}"
    origin = header.source
    yield f"  source        {source_text(header)}"
    yield f"  system        {safe_text(origin.operating_system)}" + (
        f", {safe_text(origin.file_system)}" if origin.file_system else ""
    )
    for label, value in device_facts_text(origin.device or {}):
        yield f"  device        {label[:1].lower()}{label[1:]}: {value}"
    if header.ssh is not None:
        server = f"{safe_text(header.ssh.user)}@{safe_text(header.ssh.host)}:{header.ssh.port}"
        yield f"  over SSH to   {server}, host key {header.ssh.host_key}"
    yield f"  with          {safe_text(header.method.tool)} {safe_text(header.method.version)}"
    yield f"  command       {shell_text(*header.method.command_line)}"
    if header.agent is not None:
        yield f"  brought       {agent_text(header.agent)}"
    for rule in header.method.filters:
        yield f"  filter        {safe_text(rule, 200)}"
    for note in header.notes:
        yield f"  note          {safe_text(note, 400)}"
    yield f"  started       {header.started}"
    yield f"  finished      {footer.finished}"
    kinds = [kinds_text(footer.counts, footer.flags), contents_text(footer.counts, receipt.points.arrival.files)]
    yield f"  entries       {output.entries:,} ({'; '.join(filter(None, kinds))}), {size_text(footer.bytes)}"
    flags = ", ".join(f"{count:,} {FLAGS.get(flag, safe_text(flag))}" for flag, count in footer.flags.items())
    yield f"  flags         {flags or 'none'}"
    state = SourceState.of_manifest(header, footer)
    files = receipt.points.arrival.files
    earlier = [] if footer.earlier is None else [earlier_text(footer.earlier, files, output.acquisition)]
    yield f"  read          {'; '.join([*state.parts, *earlier]) or 'everything'}"
    for name in ("source", "arrival", "disk"):
        point = getattr(receipt.points, name)
        digests = f", {' and '.join(map(safe_text, point.digests))}" if point.digests else ""
        yield f"  digests       {name}: {safe_text(point.method)}{digests}"
    yield f"  stored        {stored_text(receipt.stored)}"
    yield f"  sent by       {safe_text(receipt.received_from)}"
    yield f"  lies in       {output.folder}"
    yield "  custody"
    yield from (record_line(shown.record) for shown in output.custody)
    yield f"  chain head    {output.chain_head_sha256}"
