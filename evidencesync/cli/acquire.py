"""Runs one acquisition for `push`, `pull` and `watch`: its options and filters, its request, its progress, its kept receipt."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, cast

import typer

from evidencesync.cli.command import Run
from evidencesync.cli.details_choice import DetailsChoice
from evidencesync.cli.log_choice import LogOption
from evidencesync.cli.meant_places import in_other_order
from evidencesync.cli.number_format import parse_rate, parse_size
from evidencesync.cli.options import ItemChoice, RemoteChoice, SignChoice, vault_address
from evidencesync.cli.own_state import RunFolders
from evidencesync.cli.pasted_hints import pasted
from evidencesync.errors import (
    DroppedError,
    EvidenceSyncError,
    InterruptedRunError,
    LinkLostError,
    SourceNotFoundError,
    UsageError,
)
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.exit_codes import ExitCode
from evidencesync.home import account_name, expand, read_named, rooted
from evidencesync.limits import MAX_FILES_FROM, MAX_RETRIES_CHANGED

if TYPE_CHECKING:
    from evidencesync.acquire.request import PushOutcome, PushRequest
    from evidencesync.acquire.session_recorder import SessionRecorder
    from evidencesync.cli.console import Console
    from evidencesync.cli.own_state import OwnState
    from evidencesync.cli.settings import Settings
    from evidencesync.cli.summary import Detail
    from evidencesync.cli.terminal import AskPassphrase
    from evidencesync.connection.progress import Progress
    from evidencesync.localstate.heads import HeadMemory
    from evidencesync.localstate.receipts import FinishedReceipt
    from evidencesync.protocol.messages import Alike
    from evidencesync.source.filters import FilterRules
    from evidencesync.ssh.address import Address

    Work = Callable[[PushRequest, Progress, SessionRecorder], PushOutcome]

_Patterns = list[str] | None
CODES: Final = {"complete": ExitCode.COMPLETE, "gaps": ExitCode.GAPS, "source-changed": ExitCode.SOURCE_CHANGED}


@dataclasses.dataclass(frozen=True, slots=True)
class FilterChoice:
    """What of the source is read. Every rule stands in the manifest, and so does what it left out."""

    GROUP: ClassVar = "What is read"

    exclude: Annotated[
        _Patterns,
        typer.Option(metavar="PATTERN", help="Leave out what matches (.gitignore syntax); recorded; may be repeated."),
    ] = None
    include: Annotated[
        _Patterns,
        typer.Option(metavar="PATTERN", help="Keep what matches despite --exclude, a folder with its content; may be repeated."),
    ] = None
    max_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Leave out larger files: 500MB, 2GiB (2G is the same), or a number of bytes."),
    ] = None
    one_file_system: Annotated[
        bool,
        typer.Option("--one-file-system", "-x", help="Leave out folders of other file systems: mounts, Btrfs subvolumes."),
    ] = False
    files_from: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Take only what FILE ('-': stdin) lists, one path a line, relative to SOURCE."),
    ] = None
    files_from0: Annotated[
        str | None, typer.Option("--files-from0", "-0", metavar="FILE", help="As --files-from, with a NUL after each path.")
    ] = None

    allow_empty: Annotated[
        bool,
        typer.Option(
            "--allow-empty", help="Acquire even if no file is there, the filters leave only folders, or no listed name exists."
        ),
    ] = False

    def rules(self, warn: Callable[[str], None]) -> FilterRules:
        """The rules. Calls `warn` for an option without an effect.

        Raises UsageError for options that are malformed or contradictory, and for a list that cannot be read.
        """
        from evidencesync.source.filters import FilterRules
        from evidencesync.source.listed import ListedNames

        if self.files_from is not None and self.files_from0 is not None:
            raise UsageError("--files-from and --files-from0 exclude one another", hint="Give the one that fits the list.")
        if self.include and not self.exclude:
            warn("without --exclude an --include does nothing: it keeps what an --exclude leaves out (--exclude '*': everything)")
        listed = None
        if self.files_from is not None:
            listed = ListedNames.parse(_read_list(self.files_from), b"\n")
        elif self.files_from0 is not None:
            listed = ListedNames.parse(_read_list(self.files_from0), b"\0")
        return FilterRules.from_patterns(
            self.exclude or (),
            self.include or (),
            max_size=parse_size(self.max_size) if self.max_size is not None else None,
            one_file_system=self.one_file_system,
            listed=listed,
        )


def _read_list(name: str) -> bytes:
    """The bytes of a list of files; `-` is stdin. Raises UsageError if it cannot be read, or is too long."""
    try:
        if name == "-":
            content = sys.stdin.buffer.read(MAX_FILES_FROM + 1) if sys.stdin is not None else b""
        else:
            content = read_named(expand(name), MAX_FILES_FROM)
    except OSError as error:
        hint = "It is a file with a path on each line, from SOURCE on; - reads it from standard input."
        raise UsageError(f"cannot read the list of files {safe_text(name, 200)}: {error.strerror}", hint=hint) from error
    if len(content) > MAX_FILES_FROM:
        what = f"a list of files may have at most {MAX_FILES_FROM:,} bytes: {safe_text(name, 200)}"
        raise UsageError(what, hint="Choose by folders and patterns: --include and --exclude.")
    return content


@dataclasses.dataclass(frozen=True, slots=True)
class HowChoice(DetailsChoice):
    """How the evidence is transferred, and details of case and item."""

    note: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="A note for the manifest; may be repeated.")] = None
    no_read_back: Annotated[
        bool, typer.Option("--no-read-back", help="Do not read the data back from the vault's disk. The receipt says so.")
    ] = False
    limit_rate: Annotated[
        str | None,
        typer.Option(
            metavar="RATE",
            envvar="EVIDENCESYNC_LIMIT_RATE",
            help="Bytes a second at most: 5MB, 2MiB (2M is the same), or a number.",
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
    log: LogOption = None
    receipts: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            envvar="EVIDENCESYNC_RECEIPTS",
            help="Folder that keeps the vault's signed documents.  [default: ~/.local/share/evidencesync/receipts]",
        ),
    ] = None

    def over_link(self, settings: Settings) -> tuple[Literal["auto", "always", "never"], int | None]:
        """How to compress, and the rate in bytes a second (None: no limit). Raises UsageError."""
        limit = self.limit_rate or settings.limit_rate
        return parse_compress(self.compress or settings.compress or "auto"), parse_rate(limit) if limit else None


@dataclasses.dataclass(frozen=True, slots=True)
class OnceChoice(HowChoice):
    """How the evidence is transferred in a run that makes one acquisition, or none."""

    skip_unchanged: Annotated[
        bool,
        typer.Option(
            "--skip-unchanged",
            help="Publish nothing if the source is, to the byte and to every attribute, what the last acquisition has of it.",
        ),
    ] = False
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            help="Do not ask whether a new item or case is meant, if its number is nearly another's. (Asked on a terminal.)",
        ),
    ] = False


@dataclasses.dataclass(frozen=True, slots=True)
class PlannedChoice(OnceChoice):
    """How the evidence is transferred, or only what a transfer would read, find and meet."""

    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only look, at the source and in the vault, and show what would be read and sent."),
    ] = False
    itemize: Annotated[
        bool, typer.Option("--itemize", help="With --dry-run: a line for each entry that is added, removed or changed.")
    ] = False
    offline: Annotated[bool, typer.Option("--offline", help="With --dry-run: look at the source alone.")] = False

    def check(self) -> None:
        """Raises UsageError for options of a dry run without one."""
        for option, is_given in (("--itemize", self.itemize), ("--offline", self.offline)):
            if is_given and not self.dry_run:
                raise UsageError(f"{option} is for --dry-run", hint="Add --dry-run, or leave it out.")


QuickOption = Annotated[
    bool,
    typer.Option(
        "--quick",
        help="Do not read files again that look as they did (size, modification and change time, inode): their digests are taken "
        "from the last acquisition, and the manifest says so.",
    ),
]


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """The source's path and the vault's path, each as its own machine knows it, and the filters for the source."""

    path: bytes
    vault: bytes
    rules: FilterRules
    allow_empty: bool = False


def acquire(
    run: Run, own_state: OwnState, request: PushRequest, vault: Address, work: Work, *, sure: bool, pulled: bool = False
) -> ExitCode:
    """Acquires, keeps the receipt, remembers the heads of the vault's chains, and prints the summary.

    A person who is not `sure` is asked about a new item whose number is nearly that of another.
    """
    from evidencesync.acquire.unchanged import UnchangedSource
    from evidencesync.cli.summary import push_lines, push_output, unchanged_lines, unchanged_output, verdict_of

    try:
        outcome, kept = acquire_and_keep(run, own_state, request, work, asks=not sure)
    except UnchangedSource as found:
        own_state.memory.remember(found.seen)
        run.events.record("unchanged")
        run.console.print_result(unchanged_output(found), unchanged_lines(found, _detail(run.console)))
        return ExitCode.COMPLETE
    following = pasted(run.console.fill_hint, "evidencesync verify VAULT --case CASE --item ITEM")
    lines = push_lines(outcome, request, vault, kept, following=following, pulled=pulled, detail=_detail(run.console))
    run.console.print_result(push_output(outcome, kept), lines)
    return CODES[verdict_of(outcome)]


def _detail(console: Console) -> Detail:
    return "one line" if console.quiet else "everything" if console.verbose else "summary"


def acquire_and_keep(
    run: Run, own_state: OwnState, request: PushRequest, work: Work, *, asks: bool = False
) -> tuple[PushOutcome, FinishedReceipt]:
    """Acquires, keeps the receipt, and remembers the heads of the vault's chains. `asks`: a person, about a new item."""
    from evidencesync.acquire.session_recorder import SessionRecorder
    from evidencesync.cli.summary import AboutNewItem

    recorder = SessionRecorder(own_state.memory, own_state.draft)
    run = dataclasses.replace(run, told=run.events.about(session=request.session))
    run.events.record("session", key=request.signer.public_key.fingerprint)
    ask = AboutNewItem(run.console, request.name, asks).ask
    outcome = _show(run, lambda progress: work(request, progress, recorder), ask, reads_back=request.read_back)
    _record_published(run, outcome)
    kept = own_state.draft.finish(outcome.name, outcome.acquisition, outcome.documents.by_name())
    _remember(own_state.memory, outcome, kept)
    return outcome, kept


def _record_published(run: Run, outcome: PushOutcome) -> None:
    """Writes to the log what was published: an acquisition that an interrupted run has made is told here, too."""
    from evidencesync.cli.summary import verdict_of

    tally, changes = outcome.tally.manifest, outcome.changes
    run.events.record(
        "published",
        session=outcome.session,
        acquisition=outcome.acquisition,
        verdict=verdict_of(outcome),
        files=tally.contents,
        bytes=tally.bytes,
        sent=outcome.wire_sent,
        added=None if changes is None else changes.added,
        removed=None if changes is None else changes.removed,
        changed=None if changes is None else changes.changed,
        manifest_sha256=outcome.manifest_sha256,
    )


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


def _show(
    run: Run, work: Callable[[Progress], PushOutcome], about_new_item: Callable[[Alike], None], *, reads_back: bool
) -> PushOutcome:
    """Runs a push or a pull, and shows its progress. After a lost link, the error's hint is the command that resumes it."""
    from evidencesync.cli.progress_display import PushView, shown
    from evidencesync.connection.progress import Progress
    from evidencesync.delta.chunker import is_compiled

    live = run.console.is_live
    notify = (lambda _: None) if live else run.console.print_message
    progress = Progress(count_ahead=live, events=run.events, notify=notify)
    progress.about_new_item = about_new_item
    if not is_compiled():
        run.console.warn(
            "pyfastcdc runs without its compiled part: cutting files into chunks takes about two hundred times longer"
        )
    with shown(run.console, PushView(progress, reads_back)):
        try:
            return work(progress)
        except (LinkLostError, InterruptedRunError) as error:
            # Another hint says what to do before the command is run again. A server that lets nobody in has received nothing.
            is_never_in = isinstance(error, DroppedError) and not progress.interruptions
            if error.hint == error.default_hint and not is_never_in:
                error.hint = f"What has arrived is kept. Go on with: {shell_text('evidencesync', *sys.argv[1:])}"
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
    compress, limit_rate = how.over_link(settings)  # what was typed is checked before anybody is asked for a passphrase
    name = item.name()
    person = sign.person(settings)
    notes = [check_text(note, "a note", may_be_empty=True) for note in how.note or ()]
    typed = [safe_text(argument) for argument in sys.argv]
    check_header_texts([*typed, *notes, *places.rules.lines()])
    signer = load_signer(sign.key_choice(run.settings), ssh.identity_file(run.settings), asker)
    run.console.print_detail(f"signing as {safe_text(person.name)} with the key {signer.public_key.fingerprint}")
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
        limit_rate=limit_rate,
        timeout_seconds=ssh.timeout_seconds(run.settings),
        retries=how.retries,
        on_read_error=parse_on_read_error(how.on_read_error or "zero"),
        retries_changed=how.retries_changed,
        allow_empty=places.allow_empty,
        skip_unchanged=isinstance(how, OnceChoice) and how.skip_unchanged,
    )


def require_folder_for_list(places: Places) -> None:
    """Raises UsageError if there is a list of files, and the source on this machine is no folder."""
    if places.rules.listed is not None and not os.path.isdir(places.path):
        raise UsageError("a list of files needs a folder as the source", hint="Name the folder from which its paths begin.")


def parse_compress(text: str) -> Literal["auto", "always", "never"]:
    """The value of --compress. Raises UsageError."""
    if text not in {"auto", "always", "never"}:
        hint = "Leave it out for auto, which compresses what gets smaller."
        raise UsageError(f"--compress is auto, always or never, not {safe_text(text, 40)}", hint=hint)
    return cast('Literal["auto", "always", "never"]', text)


def check_places(run: Run, source: str, typed_vault: str, how: HowChoice, what: FilterChoice) -> RunFolders:
    """Checks source and vault before a person is asked for a passphrase, and returns their folders on this machine.

    Raises SourceNotFoundError, UsageError, ConfigurationError.
    """
    from evidencesync.source.root import resolve_source
    from evidencesync.source.salvage import parse_on_read_error

    address = vault_address(typed_vault)
    parse_on_read_error(how.on_read_error or "zero")
    try:
        resolved = resolve_source(os.fsencode(source))
    except SourceNotFoundError as error:
        _hint_at_order(error, source, typed_vault)
        raise
    if resolved.is_device:
        from evidencesync.source.origin import device_warnings

        for warning in device_warnings(resolved):
            run.console.warn(warning)
    root = Path(os.fsdecode(resolved.path))
    run.settings.refuse_within(root)
    vault = rooted(Path(address.path)) if address.local else None
    if vault is not None:
        if (owned := owner_warning(vault, os.geteuid())) is not None:
            run.console.warn(owned)
        from evidencesync.outside import require_apart
        from evidencesync.vault.layout import SETTINGS

        require_apart(root, vault, crosses=not what.one_file_system)
        if os.path.lexists(root / SETTINGS) and not os.path.lexists(vault / SETTINGS):
            right = in_other_order(source, typed_vault) or "change the order."
            hint = f"SOURCE comes first, then VAULT: {right}"
            raise UsageError(f"{safe_text(source, 200)} is a vault, and {safe_text(str(vault), 200)} is none", hint=hint)
    return RunFolders(root if resolved.is_folder else None, vault)


def owner_warning(vault: Path, account: int) -> str | None:
    """What root is told that writes into a vault of another account; None for everybody else, who could not write there.

    New folders of cases and items would be root's: the vault's own account could not push into them any more.
    """
    try:
        owner = vault.stat().st_uid
    except OSError:  # said when the vault is opened
        return None
    if account != 0 or owner == 0:
        return None
    name = safe_text(account_name(owner) or f"the account {owner}")
    return f"this vault belongs to {name}, and what root writes belongs to root: {name} may not be able to push then"


def _hint_at_order(error: SourceNotFoundError, source: str, vault: str) -> None:
    """Gives the error of a source that is written like an address on another machine the hint that this is so."""
    from evidencesync.ssh.address import Address

    with contextlib.suppress(UsageError):
        address = Address.parse(source)
        if not address.local and not os.path.lexists(source):
            pull = in_other_order(source, source, "pull") or f"evidencesync pull {shell_text(source)} VAULT"
            error.hint = (
                "SOURCE comes first, then VAULT, and this SOURCE lies on another machine. "
                f"If it is the vault: {in_other_order(source, vault) or 'change the order'}. If it is the evidence: {pull}"
            )
