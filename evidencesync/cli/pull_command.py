"""`pull`: acquires a source on another machine into a vault on this one."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evidencesync.cli.command import Run, command
from evidencesync.cli.filter_choice import FilterChoice
from evidencesync.cli.options import ItemChoice, RemoteChoice, SignChoice, local_vault
from evidencesync.cli.push_command import CODES, HowChoice, Places, acquire, make_request
from evidencesync.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from evidencesync.ssh.address import Address
    from evidencesync.ssh.options import SshOptions
    from evidencesync.transfer.progress import Progress
    from evidencesync.transfer.request import PushOutcome, PushRequest

    Work = Callable[[PushRequest, Progress], PushOutcome]


@dataclasses.dataclass(frozen=True, slots=True)
class FarChoice(RemoteChoice):
    """How the other machine is read."""

    agentless: Annotated[
        bool,
        typer.Option(
            "--agentless", help="Read over SFTP: the other machine needs no evidencesync. All of it travels, hashed on arrival."
        ),
    ] = False


def add_commands(app: typer.Typer) -> None:
    """Adds `pull`."""
    command(
        app,
        "pull",
        "evidencesync pull ana@server:/var/log /srv/vault --case 2024-017 --item SERVER-LOGS",
        "evidencesync pull ssh://server:2222/home/suspect /srv/vault --case 2024-017 --item HOME --limit-rate 2M",
        "evidencesync pull admin@nas:/volume1/share /srv/vault --case 2024-017 --item NAS --agentless",
        'In authorized_keys there:  restrict,command="evidencesync serve --source /var/log" ssh-ed25519 AAAA...',
    )(pull_source)


def pull_source(
    run: Run,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="[user@]host:path, or ssh://[user@]host[:port]/path. It is only read.")
    ],
    vault: Annotated[str, typer.Argument(metavar="VAULT", help="The vault's folder on this machine.")],
    item: ItemChoice,
    sign: SignChoice,
    what: FilterChoice,
    how: HowChoice,
    ssh: FarChoice,
) -> ExitCode:
    """Acquires a source on another machine into a vault on this one: reads it there, sends what the vault lacks, and signs here.

    The other machine needs evidencesync and no key of the examiner's; with --agentless it needs nothing but an SSH server
    with SFTP. Nothing is written there. Ends like push: 0 when all was read and stands in the vault, 3 when something could not
    be read, 4 when something changed while it was read; everything else means that nothing was published.
    """
    from evidencesync.cli.passphrase import make_asker

    address = _remote(source)
    folder = local_vault(vault)
    rules = what.rules()
    if rules.listed is not None:
        raise UsageError("a pull takes no list of files", hint="Pull the folders one by one, or use --exclude and --include.")
    if ssh.agentless and rules.one_file_system:
        raise UsageError("SFTP does not tell where another file system begins: --one-file-system needs evidencesync there")
    asker = make_asker()

    def options() -> SshOptions:
        return ssh.options(run.settings, asker.for_login() if asker else None)

    from evidencesync.cli.receipts import receipts_folder, store_receipts
    from evidencesync.cli.summary import push_lines, push_output, verdict_of
    from evidencesync.ssh.address import Address

    pull = _pull_agentless if ssh.agentless else _pull
    with pull(address, options, folder) as work:
        receipts = receipts_folder(
            run.settings.path(run.settings.values.receipts) if how.receipts is None else Path(how.receipts)
        )
        request = make_request(run, Places(os.fsencode(address.path), b"", rules), item, sign, how, ssh, asker)
        outcome = acquire(run, lambda progress: work(request, progress))
    kept = store_receipts(receipts, outcome)
    place = Address.parse(str(folder.absolute()))
    run.console.give(push_output(outcome, kept), push_lines(outcome, request, place, kept, pulled=True))
    return CODES[verdict_of(outcome)]


def _remote(text: str) -> Address:
    from evidencesync.ssh.address import Address

    address = Address.parse(text)
    if address.local:
        raise UsageError(
            f"{address.display()} is a path on this machine", hint="Acquire it with: evidencesync push SOURCE VAULT ..."
        )
    return address


@contextlib.contextmanager
def _pull(address: Address, options: Callable[[], SshOptions], folder: Path) -> Iterator[Work]:
    """Begins to connect to the other machine's evidencesync, and gives what pulls from it."""
    from evidencesync.transfer.pull import pull
    from evidencesync.transfer.reach import reach_for_pull, reach_source, reaching
    from evidencesync.vault.vault import Vault

    with reaching(address, options(), "--source") as link:
        Vault.open(folder)  # a wrong path is said before anything is read

        def work(request: PushRequest, progress: Progress) -> PushOutcome:
            return pull(
                link(), partial(reach_for_pull, str(folder)), request, progress, again=lambda: reach_source(address, options())
            )

        yield work


@contextlib.contextmanager
def _pull_agentless(address: Address, options: Callable[[], SshOptions], folder: Path) -> Iterator[Work]:
    """Gives what reads from the other machine over SFTP."""
    from evidencesync.ssh.sftp import SftpSource
    from evidencesync.transfer.agentless import pull_agentless
    from evidencesync.transfer.memory import keep_large_blocks
    from evidencesync.transfer.reach import reach_for_pull
    from evidencesync.vault.vault import Vault

    Vault.open(folder)
    keep_large_blocks()

    def work(request: PushRequest, progress: Progress) -> PushOutcome:
        return pull_agentless(SftpSource(address, options()), partial(reach_for_pull, str(folder)), request, progress)

    yield work
