"""Runs `push --dry-run` and `pull --dry-run`: looks at the source and at the vault, and writes to neither."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from evidencesync.cli.acquire import CODES, Places
from evidencesync.cli.dry_run_output import Itemized, Outlook, dry_run_lines, dry_run_output
from evidencesync.cli.own_state import open_known_item
from evidencesync.cli.reading import readable_vault
from evidencesync.errors import (
    AuthenticationError,
    CommandKind,
    ConnectError,
    EvidenceSyncError,
    HostKeyError,
    LinkLostError,
    NotThereError,
    SigningKeyError,
    VaultNotFoundError,
)
from evidencesync.exit_codes import ExitCode, most_severe

if TYPE_CHECKING:
    from evidencesync.acquire.dry_run import DryRun
    from evidencesync.cli.command import Run
    from evidencesync.cli.options import ItemChoice, RemoteChoice, SignChoice
    from evidencesync.cli.reading import ReadableVault
    from evidencesync.compare.planned import PlannedChanges
    from evidencesync.custody.manifest import WholeEntry
    from evidencesync.evidence.identity import ItemName
    from evidencesync.protocol.document_messages import RoomShown

_NO_ANSWER: Final = (AuthenticationError, ConnectError, HostKeyError, LinkLostError, SigningKeyError, VaultNotFoundError)
_OFFLINE: Final = "--offline looks at the source alone."


@dataclass(frozen=True, slots=True)
class DryRunRequest:
    """What is to be looked at. `vault` is the address as it was typed; `local_vault` its folder, if it is on this machine."""

    source: Places
    vault: str
    local_vault: os.PathLike[str] | None
    item: ItemChoice
    sign: SignChoice
    ssh: RemoteChoice
    offline: bool
    itemize: bool


@dataclass(frozen=True, slots=True)
class Look:
    """How a source is looked at, wherever it lies: what yields its entries, and how much room it needs at the least."""

    survey: Callable[[DryRun], Iterator[WholeEntry]]
    least_bytes: int = 0


def look_here(source: Places) -> Look:
    """Looks at a source on this machine. Raises SourceNotFoundError, UsageError."""
    from evidencesync.acquire.dry_run import survey
    from evidencesync.source.minimum_size import minimum_bytes
    from evidencesync.source.root import resolve_source

    root = resolve_source(source.path)
    return Look(partial(survey, root, source.rules), minimum_bytes(root))


@dataclass(frozen=True, slots=True)
class _Known:
    """What the vault is known to have of the item: nothing, or its last acquisition. `code`: of what could not be compared."""

    since: int | None
    entries: Iterator[WholeEntry]
    in_seconds: bool
    code: ExitCode


def dry_run(run: Run, request: DryRunRequest, look: Look) -> ExitCode:
    """Looks at the source and the vault, and prints what an acquisition would read, find, send and meet.

    The code is that of what it would certainly be refused with, else 3 if something cannot be read.
    """
    from evidencesync.acquire.dry_run import DryRun
    from evidencesync.acquire.source_access import refuse_empty
    from evidencesync.compare.planned import compare_planned

    name, rules = request.item.name(), request.source.rules
    seen, itemized = DryRun(), Itemized(run.console, wanted=request.itemize)
    codes: set[ExitCode] = set()
    with contextlib.ExitStack() as stack:
        outlook = None
        found = look.survey(seen)
        if request.offline:
            for _ in found:
                pass
        else:
            with _naming_offline(run):
                vault = stack.enter_context(_readable(run, request, look.least_bytes))
                room = _ask_for_room(run, request, vault, name, look.least_bytes)
            run.console.kind = CommandKind.SHOWS  # from here on nothing is refused any more, and a reader may leave (| head)
            known = _look(run, stack, vault, name)
            changes = compare_planned(
                known.entries,
                found,
                itemized.add,
                is_wanted=rules.listed.wants if rules.listed is not None else lambda _path: True,
                in_seconds=known.in_seconds or seen.over_sftp,
            )
            itemized.finish(changes)
            outlook = _outlook(vault, known, changes, room, seen)
            codes |= {known.code} | ({outlook.refused.exit_code} if outlook.refused is not None else set())
    if not request.source.allow_empty:
        refuse_empty(rules, seen.tally.manifest, seen.tally.listed_folders)
    output = dry_run_output(name, rules, seen, outlook, itemized, _alike(request, outlook, name))
    run.console.print_result(output, dry_run_lines(name, rules, output, seen, everything=run.console.verbose))
    if outlook is not None and outlook.refused is not None and (hint := outlook.refused.hint_for(CommandKind.ACQUIRES)):
        run.console.print_message(f"hint: {hint}")
    return most_severe(codes | {CODES[output.verdict]})


@contextlib.contextmanager
def _naming_offline(run: Run) -> Iterator[None]:
    """Adds to the hint of a vault that cannot be reached what can be done without one."""
    try:
        yield
    except _NO_ANSWER as error:
        kind = CommandKind.SHOWS if isinstance(error, LinkLostError) else run.console.kind  # nothing has been sent
        error.hint = " ".join(filter(None, (error.hint_for(kind), _OFFLINE)))
        raise


def _readable(run: Run, request: DryRunRequest, least_bytes: int) -> contextlib.AbstractContextManager[ReadableVault]:
    numbers = (request.item.case, request.item.item)
    return readable_vault(run, request.vault, request.sign, request.ssh, numbers, (0,), planned=least_bytes, asks_more=True)


def _ask_for_room(run: Run, request: DryRunRequest, vault: ReadableVault, name: ItemName, least_bytes: int) -> RoomShown | None:
    """What an acquisition would meet. Raises UntrustedSignerError and others, as it would itself at its beginning."""
    from evidencesync.acquire.room import ask_for_room

    if vault.far is not None:
        try:
            return ask_for_room(vault.far.session, name)
        finally:
            vault.far.session.close()  # the walk may take long
    from evidencesync.cli.terminal import make_asker
    from evidencesync.custody.documents import SESSION_NAMESPACE
    from evidencesync.ingest.room import PlannedPush, show_room
    from evidencesync.ssh.keys import load_signer

    asker = make_asker(run.console.terminal)
    signer = load_signer(request.sign.key_choice(run.settings), request.ssh.identity_file(run.settings), asker)
    trusted, now = vault.vault.load_trust(), time.time_ns()
    principal = trusted.principal_for(signer.public_key, SESSION_NAMESPACE, now)
    trusted.check_role(signer.public_key, ("acquire",), name.case.text, now)
    return show_room(vault.vault, name, PlannedPush(principal, least_bytes))


def _look(run: Run, stack: contextlib.ExitStack, vault: ReadableVault, name: ItemName) -> _Known:
    """Opens the last manifest, with the checks of `diff`. An item that is not there, and was never seen, has none."""
    from evidencesync.acquire.known_heads import KnownHeads, code_of
    from evidencesync.custody.manifest import whole_entries
    from evidencesync.vault.catalog import read_published

    try:
        item, code = open_known_item(run, vault.vault, vault.memory, name)
        number = item.choose_acquisition(None)
    except NotThereError:
        worst = KnownHeads(vault.memory, vault.vault).worst_problem()
        if worst is not None and code_of(worst) is not ExitCode.GAPS:
            raise worst from None
        return _Known(None, iter(()), in_seconds=False, code=ExitCode.COMPLETE if worst is None else ExitCode.GAPS)
    lines = stack.enter_context(contextlib.closing(read_published(item.layout, number)))
    return _Known(number, whole_entries(lines), item.header(number).digests_taken_at == "arrival", code)


def _outlook(vault: ReadableVault, known: _Known, changes: PlannedChanges, room: RoomShown | None, seen: DryRun) -> Outlook:
    kept = vault.vault.settings.file_system
    stored_once = kept.hard_links or kept.reflinks
    needed = changes.most_bytes + (0 if stored_once else changes.same_bytes)
    travels = seen.size if seen.over_sftp else changes.most_bytes
    return Outlook(
        vault.vault.settings.id, known.since, changes, travels, needed, room, None if room is None else refusal_of(room)
    )


def refusal_of(room: RoomShown) -> EvidenceSyncError | None:
    """The error that it would end with, as a vault's end says. What it cannot know, or is no refusal, becomes a PeerError."""
    from evidencesync.protocol.failures import error_of_far_end

    return None if room.refusal is None else error_of_far_end(room.refusal)


def _alike(request: DryRunRequest, outlook: Outlook | None, name: ItemName) -> tuple[list[str], list[str]]:
    """Numbers of the vault that a new item may be mistaken for, where they are known."""
    if outlook is not None:
        return ([*outlook.room.alike.items], [*outlook.room.alike.cases]) if outlook.room is not None else ([], [])
    if request.local_vault is None:
        return [], []
    from pathlib import Path

    from evidencesync.vault.alike import find_alike
    from evidencesync.vault.layout import VaultLayout

    found = find_alike(VaultLayout(Path(request.local_vault)), name)
    return found.items, found.cases
