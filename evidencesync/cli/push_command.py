"""`push`: acquires a source into a vault."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Annotated

import typer

from evidencesync.cli.acquire import (
    CODES,
    FilterChoice,
    OnceChoice,
    Places,
    acquire,
    check_places,
    make_request,
    require_folder_for_list,
)
from evidencesync.cli.command import Run, command
from evidencesync.cli.options import ItemChoice, RemoteChoice, SignChoice, VaultAddress, vault_address
from evidencesync.cli.own_state import open_own_state, without_own_state
from evidencesync.errors import CommandKind
from evidencesync.exit_codes import ExitCode
from evidencesync.home import at_home

if TYPE_CHECKING:
    from pathlib import Path

    from evidencesync.acquire.request import PushOutcome, PushRequest
    from evidencesync.acquire.session_recorder import SessionRecorder
    from evidencesync.connection.progress import Progress
    from evidencesync.ssh.options import SshOptions


@dataclasses.dataclass(frozen=True, slots=True)
class PushChoice(OnceChoice):
    """How the evidence is transferred, or only what a transfer would read."""

    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be read; nothing is sent.")] = False


def add_commands(app: typer.Typer) -> None:
    """Adds `push`."""
    command(
        app,
        "push",
        "evidencesync push /mnt/evidence ana@vault.lab:/srv/vault --case 2024-017 --item LAPTOP-1",
        "evidencesync push disk.img ssh://vault.lab:2222/srv/vault --case 2024-017 --item DISK-1 -i ~/.ssh/ana --limit-rate 2M",
        "evidencesync push /dev/sdb vault.lab:/srv/vault --case 2024-017 --item DISK-2",
        "evidencesync push triage /media/usb/vault --case 2024-017 --item TRIAGE --note 'seized 09:40' --json",
        "evidencesync push disk.img /srv/vault --case 2024-017 --item DISK-1 --case-file disk1.toml --detail seal_number=4711",
        "evidencesync push / /media/usb/vault --case 2024-017 --item SERVER-2 --one-file-system --max-size 2G --dry-run",
        "find . -newer /tmp/then -print0 | evidencesync push . /srv/vault --case 2024-017 --item RECENT --files-from0 -",
        kind=CommandKind.ACQUIRES,
    )(push_source)


def push_source(
    run: Run,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A folder, a file or a block device. It is only read.")],
    vault: VaultAddress,
    item: ItemChoice,
    sign: SignChoice,
    what: FilterChoice,
    how: PushChoice,
    ssh: RemoteChoice,
) -> ExitCode:
    """Acquires a source into a vault: reads it once, sends only what is not in the vault yet, and gets a signed receipt.

    Ends with 0 when everything was read and is in the vault, 3 when something could not be read, 4 when something changed
    while it was read. Any other code means that nothing was published, unless the message says that it was.

    Filters: what an --include matches is kept despite any --exclude, a folder with its content. For other entries the last
    matching --exclude decides (a pattern that begins with ! keeps). An entry that no pattern matches is treated as its folder
    is. An excluded folder is still searched for entries to keep. What is left out is listed as skipped. It is an error if only
    folders are left, unless --allow-empty is given.
    """
    from evidencesync.acquire.connect import connect_first, connect_to_vault, connecting
    from evidencesync.cli.terminal import make_asker, person_at

    address, source = vault_address(vault), at_home(source)
    folders = check_places(run, source, address, how, what)
    stated = how.details(item.name())
    if how.dry_run:
        rules = without_own_state(run, how.receipts, os.fsencode(source), what.rules(run.console.warn), None)
        return _dry_run(run, Places(os.fsencode(source), os.fsencode(address.path), rules, what.allow_empty), folders.vault, item)
    asker = make_asker(run.console.terminal)

    def options() -> SshOptions:
        return ssh.options(run.settings, person_at(run.console))

    with connecting(address, options()) as link:
        # ssh logs in meanwhile: slow imports and checks come after this line.
        from evidencesync.acquire.push import push

        with open_own_state(run, how.receipts, folders) as own_state:
            rules = without_own_state(run, how.receipts, os.fsencode(source), what.rules(run.console.warn), own_state.draft)
            places = Places(os.fsencode(source), os.fsencode(address.path), rules, what.allow_empty)
            require_folder_for_list(places)
            request = make_request(run, places, item, sign, how, ssh, asker, stated)
            again = None if address.local else lambda: connect_to_vault(address, options())

            def work(asked: PushRequest, progress: Progress, recorder: SessionRecorder) -> PushOutcome:
                first = link() if again is None else connect_first(link, again, asked.retries, progress)
                return push(first, asked, progress, again=again, recorder=recorder)

            return acquire(run, own_state, request, address, work, sure=how.yes)


def _dry_run(run: Run, source: Places, vault: Path | None, item: ItemChoice) -> ExitCode:
    """Walks the source, and prints what a push would read. The code is 3 if something cannot be read.

    `vault`: the folder of a vault on this machine.
    """
    from evidencesync.acquire.dry_run import plan_acquisition
    from evidencesync.acquire.source_access import refuse_empty
    from evidencesync.cli.dry_run_output import dry_run_lines, dry_run_output
    from evidencesync.source.root import resolve_source
    from evidencesync.vault.alike import AlikeNumbers, find_alike
    from evidencesync.vault.layout import VaultLayout

    seen = plan_acquisition(resolve_source(source.path), source.rules)
    if not source.allow_empty:
        refuse_empty(source.rules, seen.tally.manifest, seen.tally.listed_folders)
    alike = find_alike(VaultLayout(vault), item.name()) if vault is not None else AlikeNumbers([], [])
    output = dry_run_output(item.name(), source.rules, seen, alike)
    shown = dry_run_lines(item.name(), source.rules, output, seen, everything=run.console.verbose)
    run.console.print_result(output, shown)
    return CODES[output.verdict]
