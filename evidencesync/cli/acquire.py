"""Runs one acquisition for `push`, `pull` and `watch`: its options, its request, its progress, and its kept receipt."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, cast

import typer

from evidencesync.cli.command import Run
from evidencesync.cli.details_choice import DetailsChoice
from evidencesync.cli.number_format import parse_rate
from evidencesync.cli.options import ItemChoice, RemoteChoice, SignChoice
from evidencesync.errors import EvidenceSyncError, InterruptedRunError, LinkLostError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.exit_codes import ExitCode
from evidencesync.limits import MAX_RETRIES_CHANGED

if TYPE_CHECKING:
    from evidencesync.acquire.request import PushOutcome, PushRequest
    from evidencesync.acquire.session_recorder import SessionRecorder
    from evidencesync.cli.own_state import OwnState
    from evidencesync.cli.terminal import AskPassphrase
    from evidencesync.connection.progress import Progress
    from evidencesync.localstate.heads import HeadMemory
    from evidencesync.localstate.receipts import FinishedReceipt
    from evidencesync.source.filters import FilterRules
    from evidencesync.ssh.address import Address

    Work = Callable[[PushRequest, Progress, SessionRecorder], PushOutcome]

CODES: Final = {"complete": ExitCode.COMPLETE, "gaps": ExitCode.GAPS, "source-changed": ExitCode.SOURCE_CHANGED}


@dataclasses.dataclass(frozen=True, slots=True)
class HowChoice(DetailsChoice):
    """How the evidence is transferred, and details of case and item."""

    GROUP: ClassVar = "How it travels, and what is kept"

    note: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="A note for the manifest; may be repeated.")] = None
    no_read_back: Annotated[
        bool, typer.Option("--no-read-back", help="Do not read the data back from the vault's disk. The receipt says so.")
    ] = False
    limit_rate: Annotated[
        str | None,
        typer.Option(
            metavar="RATE", envvar="EVIDENCESYNC_LIMIT_RATE", help="Bytes a second at most: 500K, 1.5M (K is 1024), or a number."
        ),
    ] = None
    compress: Annotated[
        str | None,
        typer.Option(
            metavar="auto|always|never",
            envvar="EVIDENCESYNC_COMPRESS",
            help="Compress with zstd: where it helps, always or never.  [default: auto]",
        ),
    ] = None
    retries: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            max=10_000,
            envvar="EVIDENCESYNC_RETRIES",
            help="How often to try again when the connection fails or is lost.",
        ),
    ] = 12
    on_read_error: Annotated[
        str | None,
        typer.Option(
            metavar="zero|fail",
            envvar="EVIDENCESYNC_ON_READ_ERROR",
            help="What to do with unreadable bytes: fill with zeros and list them, or fail and publish nothing.  [default: zero]",
        ),
    ] = None
    retries_changed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=MAX_RETRIES_CHANGED,
            envvar="EVIDENCESYNC_RETRIES_CHANGED",
            help="How often to read a file again that changed while it was read.  [default: 2, up to 16 MiB]",
        ),
    ] = None
    receipts: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            envvar="EVIDENCESYNC_RECEIPTS",
            help="Folder that keeps the vault's signed documents.  [default: ~/.local/share/evidencesync/receipts]",
        ),
    ] = None


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """The source's path and the vault's path, each as its own machine knows it, and the filters for the source."""

    path: bytes
    vault: bytes
    rules: FilterRules
    allow_empty: bool = False


def acquire(run: Run, own_state: OwnState, request: PushRequest, vault: Address, work: Work, *, pulled: bool = False) -> ExitCode:
    """Acquires, keeps the receipt, remembers the heads of the vault's chains, and prints the summary."""
    from evidencesync.cli.summary import push_lines, push_output, verdict_of

    outcome, kept = acquire_and_keep(run, own_state, request, work)
    run.console.print_result(push_output(outcome, kept), push_lines(outcome, request, vault, kept, pulled=pulled))
    return CODES[verdict_of(outcome)]


def acquire_and_keep(run: Run, own_state: OwnState, request: PushRequest, work: Work) -> tuple[PushOutcome, FinishedReceipt]:
    """Acquires, keeps the receipt, and remembers the heads of the vault's chains."""
    from evidencesync.acquire.session_recorder import SessionRecorder

    recorder = SessionRecorder(own_state.memory, own_state.draft)
    outcome = _show(run, lambda progress: work(request, progress, recorder))
    kept = own_state.draft.finish(outcome.name, outcome.acquisition, outcome.documents.by_name())
    _remember(own_state.memory, outcome, kept)
    return outcome, kept


def _remember(memory: HeadMemory, outcome: PushOutcome, kept: FinishedReceipt) -> None:
    """Remembers the heads of the vault's chains. If this fails, the error also says where the receipt is kept."""
    try:
        memory.remember(outcome.seen)
    except EvidenceSyncError as error:
        error.message = (
            f"acquisition {outcome.acquisition} of {outcome.name} was published, and its receipt is kept in "
            f"{safe_text(str(kept.folder), 300)}, but {error.message}"
        )
        raise


def _show(run: Run, work: Callable[[Progress], PushOutcome]) -> PushOutcome:
    """Runs a push or a pull, and shows its progress. After a lost link, the error's hint is the command that resumes it."""
    from evidencesync.cli.progress_display import PushView, shown
    from evidencesync.connection.progress import Progress
    from evidencesync.delta.chunker import is_compiled

    live = run.console.is_live
    progress = Progress(count_ahead=live, notify=(lambda _: None) if live else run.console.print_message)
    if not is_compiled():
        run.console.warn(
            "pyfastcdc runs without its compiled part: cutting files into chunks takes about two hundred times longer"
        )
    with shown(run.console, PushView(progress)):
        try:
            return work(progress)
        except (LinkLostError, InterruptedRunError) as error:
            if error.hint == error.default_hint:  # another hint says what to do before the command is run again
                error.hint = f"What has arrived is kept. Go on with: {safe_text(shlex.join(['evidencesync', *sys.argv[1:]]))}"
            raise


def make_request(
    run: Run,
    places: Places,
    item: ItemChoice,
    sign: SignChoice,
    how: HowChoice,
    ssh: RemoteChoice,
    asker: AskPassphrase | None,
    details: dict[str, str],
) -> PushRequest:
    """The request that the command line describes. `details` are those of the item, already checked. May ask for a passphrase.

    Raises UsageError, SigningKeyError, PassphraseError.
    """
    import secrets

    from evidencesync.acquire.request import PushRequest
    from evidencesync.custody.typed import check_header_texts, check_text
    from evidencesync.source.salvage import parse_on_read_error
    from evidencesync.ssh.keys import load_signer

    settings = run.settings.values
    limit = how.limit_rate or settings.limit_rate
    name = item.name()
    person = sign.person(settings)
    compress = _parse_compress(how.compress or settings.compress or "auto")
    notes = [check_text(note, "a note", may_be_empty=True) for note in how.note or ()]
    typed = [safe_text(argument) for argument in sys.argv]
    check_header_texts([*typed, *notes, *places.rules.lines()])
    signer = load_signer(sign.key_choice(run.settings), ssh.identity_file(run.settings), asker)
    return PushRequest(
        source=places.path,
        vault=places.vault,
        name=name,
        examiner=person.name,
        signer=signer,
        session=secrets.token_hex(16),
        rules=places.rules,
        command_line=typed,
        organisation=person.organisation,
        notes=notes,
        details=details,
        read_back=not how.no_read_back,
        compress=compress,
        limit_rate=parse_rate(limit) if limit else None,
        timeout_seconds=ssh.timeout_seconds(run.settings),
        retries=how.retries,
        on_read_error=parse_on_read_error(how.on_read_error or "zero"),
        retries_changed=how.retries_changed,
        allow_empty=places.allow_empty,
    )


def require_folder_for_list(places: Places) -> None:
    """Raises UsageError if there is a list of files, and the source on this machine is no folder."""
    if places.rules.listed is not None and not os.path.isdir(places.path):
        raise UsageError("a list of files needs a folder as the source")


def _parse_compress(text: str) -> Literal["auto", "always", "never"]:
    if text not in {"auto", "always", "never"}:
        raise UsageError(f"--compress is auto, always or never, not {safe_text(text, 40)}")
    return cast('Literal["auto", "always", "never"]', text)
