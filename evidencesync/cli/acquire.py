"""What `push`, `pull` and `watch` have in common: how evidence travels, where its receipt is kept, and what is said."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, cast

import typer

from evidencesync.cli.command import Run
from evidencesync.cli.details_choice import DetailsChoice
from evidencesync.cli.number_format import parse_rate
from evidencesync.cli.options import ItemChoice, RemoteChoice, SignChoice, option_or_setting
from evidencesync.errors import EvidenceSyncError, ExitCode, InterruptedRunError, LinkLostError, NoHomeError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.limits import MAX_FREE_TEXT, MAX_RETRIES_CHANGED

if TYPE_CHECKING:
    from evidencesync.acquire.request import PushOutcome, PushRequest
    from evidencesync.acquire.session_recorder import SessionRecorder
    from evidencesync.cli.passphrase import AskPassphrase
    from evidencesync.connection.progress import Progress
    from evidencesync.localstate.heads import HeadMemory
    from evidencesync.localstate.receipts import Kept, ReceiptDraft
    from evidencesync.outside import Closed
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


@dataclasses.dataclass(frozen=True, slots=True)
class RunFolders:
    """The folders on this machine that a run is about: the source's, and the vault's. None: elsewhere, or no folder."""

    source: Path | None
    vault: Path | None

    def closed(self, *, named: bool) -> list[Closed]:
        """Where what this machine keeps may not lie. In the source it may where nobody has `named` the folder: see below.

        A user's own folders lie in what he acquires when that is his home, or all of the machine. They are then no part of the
        evidence. Whoever names a folder can name another one, unless there is nothing outside.
        """
        from evidencesync.outside import Closed, closed_vault

        is_vault = self.vault is not None and os.path.lexists(self.vault / "vault.toml")  # else whoever opens it says so
        found = closed_vault(self.vault if is_vault else None)
        if named and self.source is not None and self.source.parent != self.source:
            found.append(Closed("the source, which is only read", self.source))
        return found


@dataclasses.dataclass(frozen=True, slots=True)
class Notebook:
    """What this machine keeps: the receipt in the making, and what is remembered of vaults."""

    memory: HeadMemory
    draft: ReceiptDraft


@contextlib.contextmanager
def notebook(run: Run, how: HowChoice, grounds: RunFolders) -> Iterator[Notebook]:
    """Finds out whether a receipt and what was seen can be kept, before anything travels.

    What was tried stays open until it is used. Raises NoSpaceError, ConfigurationError, UsageError.
    """
    from evidencesync.cli.receipts import chosen_receipts, head_memory, is_state_chosen
    from evidencesync.localstate.receipts import ReceiptDraft, receipts_folder

    chosen = chosen_receipts(run, how.receipts)
    memory = head_memory(run)
    with receipts_folder(chosen, grounds.closed(named=chosen is not None)) as folder:
        draft = ReceiptDraft(folder)
        try:
            memory.require_usable(grounds.closed(named=is_state_chosen(run)))
            yield Notebook(memory, draft)
        finally:
            memory.close()
            draft.close()


def without_own_folders(run: Run, how: HowChoice, source: bytes, rules: FilterRules, draft: ReceiptDraft | None) -> FilterRules:
    """The rules, and that what this run itself writes below a source on this machine is no evidence.

    That is the folder for receipts, where nothing else lies in it (else the receipt in the making alone), and what is remembered.
    """
    from evidencesync.cli.receipts import chosen_receipts, head_memory
    from evidencesync.localstate.receipts import default_receipts, holds_receipts_alone
    from evidencesync.source.root import own_folders

    folders = []
    with contextlib.suppress(NoHomeError):  # then nothing of this user's own lies anywhere
        folders.append(head_memory(run).folder)
    with contextlib.suppress(NoHomeError):
        receipts = default_receipts(chosen_receipts(run, how.receipts))
        if holds_receipts_alone(receipts):
            folders.append(receipts)
        elif draft is not None:
            folders.append(draft.place)
    return dataclasses.replace(rules, own=own_folders(source, map(os.fsencode, folders)))


def acquire(run: Run, kept_in: Notebook, request: PushRequest, vault: Address, work: Work, *, pulled: bool = False) -> ExitCode:
    """Does it, keeps the receipt, remembers the vault's chains, and says what was done."""
    from evidencesync.cli.summary import push_lines, push_output, verdict_of

    outcome, kept = acquire_and_keep(run, kept_in, request, work)
    run.console.give(push_output(outcome, kept), push_lines(outcome, request, vault, kept, pulled=pulled))
    return CODES[verdict_of(outcome)]


def acquire_and_keep(run: Run, kept_in: Notebook, request: PushRequest, work: Work) -> tuple[PushOutcome, Kept]:
    """One acquisition, with its receipt kept, and what was seen of the vault's chains remembered."""
    from evidencesync.acquire.session_recorder import SessionRecorder

    recorder = SessionRecorder(kept_in.memory, kept_in.draft)
    outcome = _show(run, lambda progress: work(request, progress, recorder))
    kept = kept_in.draft.finish(outcome.name, outcome.acquisition, outcome.documents.by_name())
    _remember(kept_in.memory, outcome, kept)
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
