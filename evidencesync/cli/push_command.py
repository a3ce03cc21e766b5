"""`push`: acquires a source into a vault."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, cast

import typer

from evidencesync.cli.command import Run, command
from evidencesync.cli.details_choice import DetailsChoice
from evidencesync.cli.figures import parse_rate
from evidencesync.cli.filter_choice import FilterChoice
from evidencesync.cli.options import ItemChoice, RemoteChoice, SignChoice
from evidencesync.errors import EvidenceSyncError, ExitCode, InterruptedRunError, LinkLostError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.limits import MAX_FREE_TEXT

if TYPE_CHECKING:
    from evidencesync.cli.passphrase import PassphraseAsker
    from evidencesync.kept.heads import HeadMemory
    from evidencesync.kept.receipts import Kept, ReceiptDraft
    from evidencesync.source.filters import FilterRules
    from evidencesync.source.gaps import OnReadError
    from evidencesync.ssh.address import Address
    from evidencesync.ssh.options import SshOptions
    from evidencesync.transfer.keeping import Keeping
    from evidencesync.transfer.link import Link
    from evidencesync.transfer.request import PushOutcome, PushRequest

CODES: Final = {"complete": ExitCode.COMPLETE, "gaps": ExitCode.GAPS, "source-changed": ExitCode.SOURCE_CHANGED}


@dataclasses.dataclass(frozen=True, slots=True)
class HowChoice(DetailsChoice):
    """How it travels, and what is known of it besides."""

    note: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="A note for the manifest; may be repeated.")] = None
    no_read_back: Annotated[
        bool, typer.Option("--no-read-back", help="Do not read the vault's disk to prove what was written. The receipt says so.")
    ] = False
    limit_rate: Annotated[
        str | None,
        typer.Option(
            metavar="RATE", envvar="EVIDENCESYNC_LIMIT_RATE", help="Bytes a second at most: 500K, 1.5M (of 1024), or a number."
        ),
    ] = None
    compress: Annotated[
        str | None,
        typer.Option(
            metavar="auto|always|never", envvar="EVIDENCESYNC_COMPRESS", help="zstd: where it pays, or not.  [default: auto]"
        ),
    ] = None
    retries: Annotated[
        int,
        typer.Option(min=0, max=10_000, envvar="EVIDENCESYNC_RETRIES", help="Attempts, in a row, to get a lost link back."),
    ] = 12
    on_read_error: Annotated[
        str | None,
        typer.Option(
            metavar="zero|skip|fail",
            envvar="EVIDENCESYNC_ON_READ_ERROR",
            help="In place of bytes that cannot be read: zeros, nothing, or publish nothing at all.  [default: zero]",
        ),
    ] = None
    retries_changed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=100,
            envvar="EVIDENCESYNC_RETRIES_CHANGED",
            help="How often a file that changed while it was read is read and sent again.  [default: 2, up to 16 MiB]",
        ),
    ] = None
    receipts: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            envvar="EVIDENCESYNC_RECEIPTS",
            help="Where the signed documents that come back are kept.  [default: ~/.local/share/evidencesync/receipts]",
        ),
    ] = None


@dataclasses.dataclass(frozen=True, slots=True)
class PushChoice(HowChoice):
    """How it travels, and whether it does at all."""

    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only look: say what would be read. Nothing is sent, and nothing written anywhere.")
    ] = False


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """What is read and where it goes, each path as its own end knows it, and what of the source."""

    path: bytes
    vault: bytes
    rules: FilterRules


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
    )(push_source)


def push_source(
    run: Run,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A folder, a file or a block device. It is only read.")],
    vault: Annotated[
        str, typer.Argument(metavar="VAULT", help="A local path, [user@]host:path, or ssh://[user@]host[:port]/path.")
    ],
    item: ItemChoice,
    sign: SignChoice,
    what: FilterChoice,
    how: PushChoice,
    ssh: RemoteChoice,
) -> ExitCode:
    """Acquires a source into a vault: reads it once, sends what the vault lacks, and gets a signed receipt.

    Ends with 0 when all was read and stands in the vault, 3 when something could not be read, 4 when something changed
    while it was read; everything else means that nothing was published.
    """
    from evidencesync.cli.passphrase import make_asker
    from evidencesync.ssh.address import Address
    from evidencesync.transfer.reach import reach_vault, reaching

    address = Address.parse(vault)
    check_places(run, source, address)
    stated = how.details(item.name())
    if how.dry_run:
        return _look(run, Places(os.fsencode(source), os.fsencode(address.path), what.rules()), item)
    asker = make_asker()

    def options() -> SshOptions:
        return ssh.options(run.settings, asker.for_login() if asker else None)

    with reaching(address, options()) as link:
        # Meanwhile the connection is being made: what needs time comes from here on.
        from evidencesync.cli.receipts import chosen_receipts, head_memory
        from evidencesync.cli.summary import push_lines, push_output, verdict_of
        from evidencesync.kept.receipts import ReceiptDraft, receipts_folder

        draft = ReceiptDraft(receipts_folder(chosen_receipts(run, how.receipts)))
        memory = head_memory(run)
        memory.require_usable()
        places = Places(os.fsencode(source), os.fsencode(address.path), what.rules())
        request = make_request(run, places, item, sign, how, ssh, asker)
        request = dataclasses.replace(request, details=stated)
        again = None if address.local else lambda: reach_vault(address, options())
        outcome, kept = push_and_keep(run, link, request, again, memory, draft)
    run.console.give(push_output(outcome, kept), push_lines(outcome, request, address, kept))
    return CODES[verdict_of(outcome)]


def push_and_keep(
    run: Run,
    link: Callable[[], Link],
    request: PushRequest,
    again: Callable[[], Link] | None,
    memory: HeadMemory,
    draft: ReceiptDraft,
) -> tuple[PushOutcome, Kept]:
    """One acquisition, with its receipt and what was seen of the vault kept. Closes link and draft."""
    from evidencesync.transfer.keeping import Keeping

    try:
        outcome = _push(run, link, request, again, Keeping(memory, draft))
        kept = draft.finish(outcome.name, outcome.acquisition, outcome.documents.by_name())
    finally:
        draft.close()
    _remember(memory, outcome, kept)
    return outcome, kept


def _remember(memory: HeadMemory, outcome: PushOutcome, kept: Kept) -> None:
    """What was seen of the vault's chains. The receipt is kept already, and said where, if this fails."""
    try:
        memory.remember(outcome.seen)
    except EvidenceSyncError as error:
        error.message = (
            f"acquisition {outcome.acquisition} of {outcome.name} was published, and its receipt is kept in "
            f"{safe_text(str(kept.folder), 300)}, but {error.message}"
        )
        raise


def _look(run: Run, source: Places, item: ItemChoice) -> ExitCode:
    """The dry run: 3 where something could not be read, else 0."""
    from evidencesync.cli.dry_run import dry_run_lines, dry_run_output
    from evidencesync.source.root import resolve_source
    from evidencesync.transfer.survey import survey

    seen = survey(resolve_source(source.path), source.rules)
    output = dry_run_output(item.name(), source.rules, seen)
    run.console.give(output, dry_run_lines(item.name(), output, seen))
    return CODES[output.verdict]


def _push(
    run: Run, link: Callable[[], Link], request: PushRequest, again: Callable[[], Link] | None, keeping: Keeping
) -> PushOutcome:
    """The push itself, shown while it goes on. Raises what it fails with, and says how to go on after a lost link."""
    from evidencesync.cli.progress_display import PushView, shown
    from evidencesync.delta.chunker import is_compiled
    from evidencesync.transfer.progress import Progress
    from evidencesync.transfer.push import push

    progress = Progress(count_ahead=run.console.is_live)
    if not is_compiled():
        run.console.warn("pyfastcdc runs without its compiled part: cutting contents will take some two hundred times longer")
    with shown(run.console, PushView(progress)):
        try:
            return push(link(), request, progress, again=again, keeping=keeping)
        except (LinkLostError, InterruptedRunError) as error:
            error.hint = f"What has arrived is kept. Go on with: {safe_text(shlex.join(['evidencesync', *sys.argv[1:]]))}"
            raise


def check_places(run: Run, source: str, address: Address) -> None:
    """What can be said before anybody is asked for a passphrase. Raises SourceNotFoundError, UsageError, ConfigurationError."""
    from evidencesync.source.root import resolve_source

    resolved = resolve_source(os.fsencode(source))
    if resolved.is_device:
        from evidencesync.source.origin import device_warnings

        for warning in device_warnings(resolved):
            run.console.warn(warning)
    root = Path(os.fsdecode(resolved.path))
    run.settings.refuse_within(root)
    if not address.local:
        return
    vault, real = Path(os.path.realpath(address.path)), Path(os.path.realpath(root))
    if vault.is_relative_to(real) or real.is_relative_to(vault):
        raise UsageError(
            f"the source and the vault lie one inside the other: {safe_text(str(real), 200)}, {safe_text(str(vault), 200)}",
            hint="A vault needs a folder of its own.",
        )


def make_request(
    run: Run,
    places: Places,
    item: ItemChoice,
    sign: SignChoice,
    how: HowChoice,
    ssh: RemoteChoice,
    asker: PassphraseAsker | None,
) -> PushRequest:
    """What the command line asks for."""
    import secrets

    from evidencesync.cli.examiner import check_person, login_name
    from evidencesync.ssh.keys import load_signer
    from evidencesync.transfer.request import PushRequest

    if places.rules.listed is not None and not os.path.isdir(places.path):
        raise UsageError("a list of files needs a folder as the source")
    settled = run.settings.values
    limit = how.limit_rate or settled.limit_rate
    organisation = sign.organisation or settled.organisation
    name = item.name()
    examiner = check_person(sign.examiner or settled.examiner or login_name(), "the examiner's name")
    compress = _parse_compress(how.compress or settled.compress or "auto")
    notes = [_check_note(note) for note in how.note or ()]
    signer = load_signer(sign.key_choice(run.settings), ssh.identity_file(run.settings), asker.for_signing if asker else None)
    return PushRequest(
        source=places.path,
        vault=places.vault,
        name=name,
        examiner=examiner,
        signer=signer,
        session=secrets.token_hex(16),
        rules=places.rules,
        command_line=[safe_text(argument) for argument in sys.argv],
        organisation=check_person(organisation, "the organisation's name") if organisation else None,
        notes=notes,
        read_back=not how.no_read_back,
        compress=compress,
        limit_rate=parse_rate(limit) if limit else None,
        timeout_seconds=ssh.timeout_seconds(run.settings),
        retries=how.retries,
        on_read_error=_parse_on_read_error(places.path, how.on_read_error or "zero"),
        retries_changed=how.retries_changed,
    )


def _parse_on_read_error(source: bytes, text: str) -> OnReadError:
    """Raises UsageError, also for what makes no sense with a device."""
    from evidencesync.source.gaps import ON_READ_ERROR
    from evidencesync.source.root import resolve_source

    if text not in ON_READ_ERROR:
        raise UsageError(f"--on-read-error is zero, skip or fail, not {safe_text(text, 40)}")
    if text == "skip" and resolve_source(source).is_device:
        raise UsageError(
            "--on-read-error skip would move everything behind a bad sector of a device to another offset",
            hint="Use zero (the default): bad sectors become zeros, and the manifest says where.",
        )
    return text


def _parse_compress(text: str) -> Literal["auto", "always", "never"]:
    if text not in {"auto", "always", "never"}:
        raise UsageError(f"--compress is auto, always or never, not {safe_text(text, 40)}")
    return cast('Literal["auto", "always", "never"]', text)


def _check_note(note: str) -> str:
    from evidencesync.evidence.display import is_unsafe

    if len(note) > MAX_FREE_TEXT or any(map(is_unsafe, note)):
        raise UsageError(f"a note may have {MAX_FREE_TEXT} characters, on one line, none of which are control characters")
    return note
