"""`push`: acquires a source into a vault."""

from __future__ import annotations

import dataclasses
import os
from functools import partial
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from evidencesync.cli.acquire import (
    Places,
    PlannedChoice,
    QuickOption,
    acquire,
    check_places,
    make_request,
    require_folder_for_list,
)
from evidencesync.cli.capture import INPUT, CaptureRun, SourceChoice, cut_words, push_capture
from evidencesync.cli.command import Run, command
from evidencesync.cli.log_choice import about, log_places, logged
from evidencesync.cli.options import ItemChoice, RemoteChoice, SignChoice, VaultAddress, vault_address
from evidencesync.cli.own_state import open_own_state, without_own_state
from evidencesync.errors import CommandKind
from evidencesync.exit_codes import ExitCode
from evidencesync.home import at_home

if TYPE_CHECKING:
    from evidencesync.acquire.request import PushOutcome, PushRequest
    from evidencesync.acquire.session_recorder import SessionRecorder
    from evidencesync.connection.link import Link
    from evidencesync.connection.progress import Progress
    from evidencesync.ssh.options import SshOptions


@dataclasses.dataclass(frozen=True, slots=True)
class PushChoice(PlannedChoice):
    """How the evidence is transferred from this machine."""

    quick: QuickOption = False


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
        "evidencesync push /mnt/evidence vault.lab:/srv/vault --case 2024-017 --item LAPTOP-1 --dry-run --itemize",
        "find . -newer /tmp/then -print0 | evidencesync push . /srv/vault --case 2024-017 --item RECENT --files-from0 -",
        kind=CommandKind.ACQUIRES,
        prepare=partial(cut_words, is_push=True),
    )(push_source)


def push_source(
    run: Run,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A folder, a file or a block device, which is only read; or -, for standard input."
        ),
    ],
    vault: VaultAddress,
    item: ItemChoice,
    sign: SignChoice,
    what: SourceChoice,
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

    --dry-run compares the source with the last acquisition by names, types, sizes and times, and asks the vault for the room and
    for what it would refuse. It reads no content and writes nothing. It ends with the code of what the push would certainly be
    refused with, else with 3 when something cannot be read. --itemize prints before the totals a line for each entry: added,
    removed, changed or unread; its type; its size; what differs (type, size, time, or content that was not read the last time),
    or -; its path. Then, as moved?, what has name, size and time of something that was removed.
    """
    from evidencesync.acquire.connect import connect_first, connect_to_vault, connecting
    from evidencesync.cli.terminal import make_asker, person_at

    how.check()
    if source == INPUT or what.is_command:
        return push_capture(CaptureRun(run, item, sign, what, how, ssh), vault)
    what.refuse_alone()
    address, source = vault_address(vault), at_home(source)
    folders = check_places(run, source, vault, how, what)
    stated = how.details(item.name())
    if how.dry_run:
        from evidencesync.cli.dry_run import DryRunRequest, dry_run, look_here

        rules = without_own_state(run, how.receipts, os.fsencode(source), what.rules(run.console.warn), None)
        places = Places(os.fsencode(source), os.fsencode(address.path), rules, what.allow_empty)
        asked = DryRunRequest(places, vault, folders.vault, item, sign, ssh, how.offline, how.itemize)
        return dry_run(run, asked, look_here(places))
    asker = make_asker(run.console.terminal)

    def options() -> SshOptions:
        return ssh.options(run.settings, person_at(run.console))

    def work(logging: Run) -> ExitCode:
        with connecting(address, options(), events=logging.events) as link:
            # ssh logs in meanwhile: slow imports and checks come after this line.
            from evidencesync.acquire.push import push

            with open_own_state(run, how.receipts, folders) as own_state:
                rules = without_own_state(run, how.receipts, os.fsencode(source), what.rules(run.console.warn), own_state.draft)
                places = Places(os.fsencode(source), os.fsencode(address.path), rules, what.allow_empty)
                require_folder_for_list(places)
                request = msgspec.structs.replace(make_request(run, places, item, sign, how, ssh, asker, stated), quick=how.quick)

                def afresh() -> Link:
                    return connect_to_vault(address, options())

                again = None if address.local else afresh

                def transfer(asked: PushRequest, progress: Progress, recorder: SessionRecorder) -> PushOutcome:
                    first = link() if again is None else connect_first(link, again, asked.retries, progress)
                    return push(first, asked, progress, again=again, afresh=afresh, recorder=recorder)

                return acquire(logging, own_state, request, address, transfer, sure=how.yes)

    return logged(
        run, how.log, "push", work, log_places(source, folders), of=about(item, source, address), reads=not address.local
    )
