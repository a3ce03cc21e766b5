"""What `push`, `pull` and `watch` have in common: how evidence travels, where its receipt is kept, and what is said."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, cast

import typer

from evidencesync.cli.command import Run
from evidencesync.cli.details_choice import DetailsChoice
from evidencesync.cli.number_format import parse_rate
from evidencesync.cli.options import ItemChoice, RemoteChoice, SignChoice, option_or_setting
from evidencesync.errors import EvidenceSyncError, ExitCode, InterruptedRunError, LinkLostError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.limits import MAX_FREE_TEXT, MAX_RETRIES_CHANGED

if TYPE_CHECKING:
    from evidencesync.acquire.request import PushOutcome, PushRequest
    from evidencesync.acquire.session_recorder import SessionRecorder
    from evidencesync.cli.own_state import OwnState
    from evidencesync.cli.terminal import AskPassphrase
    from evidencesync.connection.progress import Progress
    from evidencesync.localstate.heads import HeadMemory
    from evidencesync.localstate.receipts import Kept
    from evidencesync.source.filters import FilterRules
    from evidencesync.ssh.address import Address

    Work = Callable[[PushRequest, Progress, SessionRecorder], PushOutcome]

CODES: Final = {"complete": ExitCode.COMPLETE, "gaps": ExitCode.GAPS, "source-changed": ExitCode.SOURCE_CHANGED}


@dataclasses.dataclass(frozen=True, slots=True)
class HowChoice(DetailsChoice):
    """How it travels, and what is known of it besides."""

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
    """What is read and where it goes, each path as its own end knows it, and what of the source."""

    path: bytes
    vault: bytes
    rules: FilterRules
    allow_empty: bool = False


def acquire(run: Run, own_state: OwnState, request: PushRequest, vault: Address, work: Work, *, pulled: bool = False) -> ExitCode:
    """Does it, keeps the receipt, remembers the vault's chains, and says what was done."""
    from evidencesync.cli.summary import push_lines, push_output, verdict_of

    outcome, kept = acquire_and_keep(run, own_state, request, work)
    run.console.give(push_output(outcome, kept), push_lines(outcome, request, vault, kept, pulled=pulled))
    return CODES[verdict_of(outcome)]


def acquire_and_keep(run: Run, own_state: OwnState, request: PushRequest, work: Work) -> tuple[PushOutcome, Kept]:
    """One acquisition, with its receipt kept, and what was seen of the vault's chains remembered."""
    from evidencesync.acquire.session_recorder import SessionRecorder

    recorder = SessionRecorder(own_state.memory, own_state.draft)
    outcome = _show(run, lambda progress: work(request, progress, recorder))
    kept = own_state.draft.finish(outcome.name, outcome.acquisition, outcome.documents.by_name())
    _remember(own_state.memory, outcome, kept)
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


def _show(run: Run, work: Callable[[Progress], PushOutcome]) -> PushOutcome:
    """A push or a pull, shown while it goes on. Raises what it fails with, and says how to go on after a lost link."""
    from evidencesync.cli.progress_display import PushView, shown
    from evidencesync.connection.progress import Progress
    from evidencesync.delta.chunker import is_compiled

    live = run.console.is_live
    progress = Progress(count_ahead=live, tell=(lambda _: None) if live else run.console.say)
    if not is_compiled():
        run.console.warn("pyfastcdc runs without its compiled part: cutting contents will take some two hundred times longer")
    with shown(run.console, PushView(progress)):
        try:
            return work(progress)
        except (LinkLostError, InterruptedRunError) as error:
            if error.hint == error.default_hint:  # else it says what to do before that
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
    """What the command line asks for. `details` are those of the item, which were looked at before."""
    import secrets

    from evidencesync.acquire.request import PushRequest
    from evidencesync.cli.options import check_person, login_name
    from evidencesync.source.salvage import parse_on_read_error
    from evidencesync.ssh.keys import load_signer

    settled = run.settings.values
    limit = how.limit_rate or settled.limit_rate
    organisation = option_or_setting("--organisation", sign.organisation, settled.organisation)
    name = item.name()
    examiner = check_person(
        option_or_setting("--examiner", sign.examiner, settled.examiner) or login_name(), "the examiner's name"
    )
    compress = _parse_compress(how.compress or settled.compress or "auto")
    notes = [_check_note(note) for note in how.note or ()]
    signer = load_signer(sign.key_choice(run.settings), ssh.identity_file(run.settings), asker)
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


def _parse_compress(text: str) -> Literal["auto", "always", "never"]:
    if text not in {"auto", "always", "never"}:
        raise UsageError(f"--compress is auto, always or never, not {safe_text(text, 40)}")
    return cast('Literal["auto", "always", "never"]', text)


def _check_note(note: str) -> str:
    from evidencesync.evidence.display import is_unsafe

    if len(note) > MAX_FREE_TEXT or any(map(is_unsafe, note)):
        raise UsageError(f"a note may have {MAX_FREE_TEXT} characters, on one line, none of which are control characters")
    return note
