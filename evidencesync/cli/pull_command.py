"""`pull`: acquires a source on another machine into a vault on this one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from evidencesync.cli.acquire import FilterChoice, HowChoice, Places, PlannedChoice, acquire, make_request
from evidencesync.cli.bring_agent import SourceMachineChoice, bringing
from evidencesync.cli.capture import CaptureRun, SourceChoice, cut_words, pull_capture
from evidencesync.cli.command import Run, command
from evidencesync.cli.defaults import is_vault_here
from evidencesync.cli.log_choice import about, log_places, logged
from evidencesync.cli.meant_places import in_other_order
from evidencesync.cli.options import ItemChoice, SignChoice, VaultPath, local_vault, parse_address
from evidencesync.cli.own_state import RunFolders, open_own_state
from evidencesync.errors import CommandKind, UsageError
from evidencesync.evidence.display import shell_text
from evidencesync.exit_codes import ExitCode

if TYPE_CHECKING:
    from evidencesync.acquire.dry_run import DryRun
    from evidencesync.acquire.pull import RootCheck
    from evidencesync.acquire.request import PushOutcome, PushRequest
    from evidencesync.acquire.session_recorder import SessionRecorder
    from evidencesync.cli.dry_run import Look
    from evidencesync.connection.event_log import Events
    from evidencesync.connection.link import Link
    from evidencesync.connection.progress import Progress
    from evidencesync.custody.manifest import WholeEntry
    from evidencesync.evidence.entry import Entry
    from evidencesync.source.filters import FilterRules
    from evidencesync.ssh.address import Address
    from evidencesync.ssh.options import SshOptions

    Work = Callable[[PushRequest, Progress, SessionRecorder], PushOutcome]


def add_commands(app: typer.Typer) -> None:
    """Adds `pull`."""
    command(
        app,
        "pull",
        "evidencesync pull ana@server:/var/log /srv/vault --case 2024-017 --item SERVER-LOGS",
        "evidencesync pull ssh://server:2222/home/suspect /srv/vault --case 2024-017 --item HOME --limit-rate 2M",
        "evidencesync pull root@server:/dev/sdb /srv/vault --case 2024-017 --item DISK-2",
        "evidencesync pull admin@nas:/volume1/share /srv/vault --case 2024-017 --item NAS --agentless",
        "evidencesync pull root@web:/var/log /srv/vault --case 2024-017 --item WEB --bring-agent /dev/shm/agent",
        "evidencesync pull ana@server:/var/log /srv/vault --case 2024-017 --item SERVER-LOGS --dry-run --itemize",
        "# In authorized_keys there:",
        'restrict,command="evidencesync serve --source /var/log" ssh-ed25519 AAA...',
        kind=CommandKind.ACQUIRES,
        prepare=partial(cut_words, is_push=False),
    )(pull_source)


def pull_source(
    run: Run,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="[user@]host:path, or ssh://[user@]host[:port]/path. It is only read.")
    ],
    vault: VaultPath,
    item: ItemChoice,
    sign: SignChoice,
    what: SourceChoice,
    how: PlannedChoice,
    ssh: SourceMachineChoice,
) -> ExitCode:
    """Acquires a source on another machine into a vault on this one: it is read there, and signed for here.

    Only what is not in the vault yet is sent. The other machine needs evidencesync and no key of the examiner's; with
    --agentless it needs nothing but an SSH server with SFTP, and a file that cannot be read whole is recorded without content.
    Nothing is written there. With --bring-agent a bundle of evidencesync is copied there, into a new folder that you name,
    reads the source, and is removed again; manifest and receipt say so.

    Ends like push: 0 when everything was read and is in the vault, 3 when something could not be read, 4 when something changed
    while it was read. Any other code means that nothing was published, unless the message says that it was. Filters work as for
    push.

    --dry-run works as for push, too: it compares with the last acquisition, and asks the vault. The other machine's evidencesync
    names what is there, and reads no content; over SFTP nobody knows beforehand which files can be read.
    """
    from evidencesync.cli.terminal import make_asker, person_at

    how.check()
    ssh.check_agent(is_command=what.is_command, dry_run=how.dry_run)
    if what.is_command:
        return pull_capture(CaptureRun(run, item, sign, what, how, ssh), source, vault)
    what.refuse_alone()
    address = _remote(source, vault)
    details = how.details(item.name())
    push = shell_text("evidencesync", "push", address.path, vault, "--case", item.case, "--item", item.item)
    folder = local_vault(vault, f"On the machine of the source, push from there: {push}. ")
    rules = what.rules(run.console.warn)
    if rules.listed is not None:
        raise UsageError("a pull takes no list of files", hint="Pull the folders one by one, or use --exclude and --include.")
    if ssh.agentless:
        _check_agentless(rules, how)

    def options() -> SshOptions:
        return ssh.options(run.settings, person_at(run.console))

    from evidencesync.ssh.address import Address

    if how.dry_run:
        from evidencesync.cli.dry_run import DryRunRequest, dry_run

        places = Places(os.fsencode(address.path), b"", rules, what.allow_empty)
        look_there = _look_over_sftp if ssh.agentless else _look
        check_root = partial(_refuse_own_vault, folder, crosses=not what.one_file_system)
        with look_there(address, options, places, ssh.timeout_seconds(run.settings), how.retries, check_root) as look:
            return dry_run(run, DryRunRequest(places, vault, folder, item, sign, ssh, how.offline, how.itemize), look)
    asker = make_asker(run.console.terminal)
    pull = _pull_agentless if ssh.agentless else _pull
    place = Address.parse(str(folder.absolute()))
    folders = RunFolders(None, folder)

    def work(logging: Run) -> ExitCode:
        with contextlib.ExitStack() as stack:
            opened = None if ssh.bring_agent else stack.enter_context(pull(address, options, folder, what, logging.events))
            own_state = stack.enter_context(open_own_state(run, how.receipts, folders))
            places = Places(os.fsencode(address.path), b"", rules, what.allow_empty)
            request = make_request(run, places, item, sign, how, ssh, asker, details)
            if opened is None:  # nothing is brought before all that is typed was checked
                there = stack.enter_context(bringing(run, ssh, address, options))
                request = msgspec.structs.replace(request, agent=there.agent)
                opened = stack.enter_context(pull(address, there.options, folder, what, logging.events))
            return acquire(logging, own_state, request, place, opened, sure=how.yes, pulled=True)

    return logged(run, how.log, "pull", work, log_places(None, folders), of=about(item, source, place), reads=False)


def _check_agentless(rules: FilterRules, how: HowChoice) -> None:
    """Raises UsageError for options that SFTP cannot fulfil: they are never ignored."""
    if rules.one_file_system:
        raise UsageError(
            "SFTP does not tell where another file system begins: --one-file-system needs evidencesync on that machine",
            hint="Leave it out, and --exclude what is mounted there; or install evidencesync there, and leave out --agentless.",
        )
    if how.on_read_error not in (None, "fail"):
        raise UsageError(
            "SFTP does not tell which bytes of a file cannot be read: --on-read-error zero needs evidencesync on that machine",
            hint="Leave it out: a file that cannot be read whole is then recorded without content. Or use fail.",
        )
    if how.retries_changed:
        what = "over SFTP a file that changed is not read again: --retries-changed needs evidencesync on that machine"
        raise UsageError(what, hint="Leave it out.")


def _remote(text: str, vault: str) -> Address:
    """The address of the source. Raises UsageError for one on this machine."""
    address = parse_address(text, "source")
    if address.local:
        push = f"Acquire it with: {shell_text('evidencesync', 'push', *(word for word in sys.argv[2:] if word != '--agentless'))}"
        if not parse_address(vault, "vault").local:
            pull = f"If {address.display()} is the vault: {in_other_order(text, vault) or 'change the order'}"
            hint = f"SOURCE comes first, then VAULT. {pull}" if is_vault_here(text) else f"{push}. {pull}"
            raise UsageError(f"{address.display()} is a path on this machine", hint=hint)
        if "/" not in text and not os.path.lexists(text):
            right = shell_text(f"{text}:/path")
            raise UsageError(f"there is no {address.display()} on this machine", hint=f"If it is a server, add a path: {right}")
        raise UsageError(f"{address.display()} is a path on this machine", hint=push)
    return address


@contextlib.contextmanager
def _pull(
    address: Address, options: Callable[[], SshOptions], folder: Path, what: FilterChoice, events: Events
) -> Iterator[Work]:
    """Starts to connect to evidencesync on the source machine, and yields the function that pulls from it."""
    from evidencesync.acquire.connect import connect_first, connect_for_pull, connect_to_source, connecting
    from evidencesync.acquire.pull import pull
    from evidencesync.vault.vault import Vault

    def again() -> Link:
        return connect_to_source(address, options())

    with connecting(address, options(), "--source") as link:
        Vault.open(folder)  # a wrong path is reported before anything is read

        def work(request: PushRequest, progress: Progress, recorder: SessionRecorder) -> PushOutcome:
            vault = partial(connect_for_pull, str(folder), events=events)
            first = connect_first(link, again, request.retries, progress)
            check_root = partial(_refuse_own_vault, folder, crosses=not what.one_file_system)
            return pull(first, vault, request, progress, again=again, recorder=recorder, check_root=check_root)

        yield work


def _refuse_own_vault(vault: Path, path: bytes, root: Entry, *, crosses: bool) -> None:
    """Raises UsageError if the source machine is this machine, and one of source and vault lies in the other.

    It is this machine if the source's path leads here to the same inode, with the same change time in nanoseconds.
    """
    from evidencesync.evidence.utc_time import format_file_time
    from evidencesync.outside import require_apart

    try:
        here = os.lstat(path)
    except OSError:
        return
    if (root.device, root.inode, root.ctime) == (str(here.st_dev), str(here.st_ino), format_file_time(here.st_ctime_ns)):
        require_apart(Path(os.fsdecode(path)), vault, crosses=crosses)


@contextlib.contextmanager
def _pull_agentless(
    address: Address, options: Callable[[], SshOptions], folder: Path, _what: FilterChoice, events: Events
) -> Iterator[Work]:
    """Yields the function that reads from the source machine over SFTP."""
    from evidencesync.acquire.agentless import pull_agentless
    from evidencesync.acquire.connect import connect_first, connect_for_pull
    from evidencesync.connection.process import keep_large_blocks
    from evidencesync.ssh.sftp import SftpSource
    from evidencesync.vault.vault import Vault

    Vault.open(folder)
    keep_large_blocks()

    def work(request: PushRequest, progress: Progress, recorder: SessionRecorder) -> PushOutcome:
        def start() -> SftpSource:
            return SftpSource(address, options())

        def connect() -> SftpSource:
            return start().finish_open()

        source = connect_first(connect, connect, request.retries, progress)
        return pull_agentless(source, partial(connect_for_pull, str(folder), events=events), request, progress, recorder, start)

    yield work


@contextlib.contextmanager
def _look(
    address: Address,
    options: Callable[[], SshOptions],
    source: Places,
    timeout_seconds: float,
    _retries: int,
    check_root: RootCheck,
) -> Iterator[Look]:
    """Starts to connect to evidencesync on the source machine, and yields how it looks at the source."""
    from evidencesync.acquire.connect import connecting
    from evidencesync.acquire.far_survey import FarSurvey
    from evidencesync.cli.dry_run import Look

    with contextlib.ExitStack() as stack:
        link = stack.enter_context(connecting(address, options(), "--source"))

        def survey(seen: DryRun) -> Iterator[WholeEntry]:
            far = stack.enter_context(
                contextlib.closing(FarSurvey(link(), source.path, source.rules, timeout_seconds, check_root))
            )
            return far.entries(seen)

        yield Look(survey)


@contextlib.contextmanager
def _look_over_sftp(
    address: Address,
    options: Callable[[], SshOptions],
    source: Places,
    _timeout_seconds: float,
    retries: int,
    _check_root: RootCheck,
) -> Iterator[Look]:
    """Yields how the source is looked at over SFTP."""
    from evidencesync.acquire.agentless import survey_agentless
    from evidencesync.cli.dry_run import Look
    from evidencesync.ssh.sftp import SftpSource

    def again() -> SftpSource:
        return SftpSource(address, options())

    def survey(seen: DryRun) -> Iterator[WholeEntry]:
        seen.over_sftp = True
        return survey_agentless(again().finish_open(), again, retries, source.path, source.rules, seen)

    yield Look(survey)
