"""`watch`: pushes a source each time that it has changed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from evidencesync.cli.acquire import (
    CODES,
    FilterChoice,
    HowChoice,
    Places,
    QuickOption,
    acquire_and_keep,
    check_places,
    make_request,
    require_folder_for_list,
)
from evidencesync.cli.command import Run, command
from evidencesync.cli.interrupts import is_interruption
from evidencesync.cli.log_choice import about, log_places, logged
from evidencesync.cli.number_format import parse_duration
from evidencesync.cli.options import ItemChoice, RemoteChoice, SignChoice, VaultAddress, vault_address
from evidencesync.cli.own_state import OwnState
from evidencesync.errors import CommandKind, EvidenceSyncError, InterruptedRunError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.exit_codes import ExitCode
from evidencesync.home import at_home

if TYPE_CHECKING:
    from collections.abc import Callable

    from evidencesync.acquire.request import PushOutcome, PushRequest
    from evidencesync.acquire.session_recorder import SessionRecorder
    from evidencesync.cli.watch_events import WatchEvents
    from evidencesync.connection.link import Link
    from evidencesync.connection.progress import Progress
    from evidencesync.localstate.files import KeptFolder
    from evidencesync.localstate.heads import HeadMemory
    from evidencesync.localstate.watched import WatchedKey, WatchMemory
    from evidencesync.outside import Closed
    from evidencesync.source.changes import SourceSnapshot
    from evidencesync.ssh.address import Address
    from evidencesync.ssh.options import SshOptions
    from evidencesync.watch.watch import Decision, WatchIntervals


@dataclasses.dataclass(frozen=True, slots=True)
class WatchChoice(HowChoice):
    """How the evidence is transferred, and when."""

    settle: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            envvar="EVIDENCESYNC_SETTLE",
            help="Push when the source has changed, and has then been unchanged for this time: 30s, 5m.",
        ),
    ] = "10s"
    every: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            envvar="EVIDENCESYNC_EVERY",
            help="Push at the latest this long after a change, even if the source keeps changing.",
        ),
    ] = "15m"
    quick: QuickOption = False

    def intervals(self) -> WatchIntervals:
        """Both times in seconds. Raises UsageError."""
        from evidencesync.watch.watch import WatchIntervals

        settle, every = parse_duration(self.settle), parse_duration(self.every)
        if every < settle:
            what = "--every is shorter than --settle: the source would be pushed before it can settle"
            raise UsageError(what, hint="Give a longer --every, or a shorter --settle.")
        return WatchIntervals(settle, every)


def add_commands(app: typer.Typer) -> None:
    """Adds `watch`."""
    command(
        app,
        "watch",
        "evidencesync watch /var/log/gateway ana@vault.lab:/srv/vault --case 2024-017 --item GATEWAY-LOGS",
        "evidencesync watch /mnt/triage vault.lab:/srv/vault --case 2024-017 --item TRIAGE --settle 1m --every 1h -x",
        "evidencesync watch capture.pcap /media/usb/vault --case 2024-017 --item CAPTURE --every 5m --json",
        kind=CommandKind.ACQUIRES,
    )(watch_source)


def watch_source(
    run: Run,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A folder or a file that grows. It is only read.")],
    vault: VaultAddress,
    item: ItemChoice,
    sign: SignChoice,
    what: FilterChoice,
    how: WatchChoice,
    ssh: RemoteChoice,
) -> ExitCode:
    """Follows a source that changes: pushes it at once, and again each time that it has changed and settled.

    Each push is a normal acquisition with its own connection. An unchanged source is not pushed, also after a restart. A change
    during a push is noticed after it. A failed push is reported and tried again later, after 5 seconds at first and up to 5
    minutes. The watch ends only with an error that a person must fix, and with its code (2, 12, 21, 22, 32, 34, 40, a sealed
    item, another writing machine, another version, receipts that cannot be kept). No vault (10), or no evidencesync (20,
    `no-remote`), ends it at the first push; later they are tried 100 times in a row, which is about 8 hours. It waits for a
    source that is not there.

    SIGTERM, SIGHUP and Ctrl-C end it. If all that the last check of the source found is in the vault, the code is that of the
    last acquisition (0, 3 or 4; 0 if there was none). Otherwise, and during a push, it is 130. With --json, the one document is
    printed at the end.

    Filters work as for push. If they leave only folders, a message says so, and the watch waits for more.
    """
    from evidencesync.cli.own_state import chosen_state, head_memory
    from evidencesync.cli.terminal import make_asker
    from evidencesync.cli.watch_events import WatchEvents
    from evidencesync.localstate.watched import WatchMemory
    from evidencesync.source.changes import require_watchable
    from evidencesync.source.root import resolve_source
    from evidencesync.watch.watch import Decision

    address, source, intervals = vault_address(vault), at_home(source), how.intervals()
    folders = check_places(run, source, vault, how, what)
    closed = folders.closed(named=True)
    require_watchable(resolve_source(os.fsencode(source)))
    details = how.details(item.name())
    open_receipts = _receipts_opener(run, how, source, closed)
    asker = make_asker(run.console.terminal)
    places = Places(os.fsencode(source), os.fsencode(address.path), what.rules(run.console.warn), what.allow_empty)
    require_folder_for_list(places)
    request = msgspec.structs.replace(make_request(run, places, item, sign, how, ssh, asker, details), quick=how.quick)
    heads, memory = head_memory(run), WatchMemory(chosen_state(run), _key(source, address, item))

    def follow(logging: Run) -> ExitCode:
        with contextlib.closing(heads), contextlib.closing(memory):
            heads.require_usable(closed)
            memory.require_usable(closed)
            pushed = memory.recall()
            decision = Decision(intervals, bytes.fromhex(pushed.state) if pushed is not None else None)
            events = WatchEvents(run.console, item.name(), logging.events)
            return _Watch(logging, address, ssh, request, open_receipts, heads, memory, events).follow(decision)

    of, reads = about(item, source, address), not address.local
    return logged(run, how.log, "watch", follow, log_places(source, folders), of=of, reads=reads)


def _receipts_opener(run: Run, how: HowChoice, source: str, closed: list[Closed]) -> Callable[[], KeptFolder]:
    """Checks where this run keeps its own state, and returns a function that opens the receipts folder.

    Each push opens it again: a watch may last longer than a disk stays mounted. Raises UsageError, NoSpaceError.
    """
    from evidencesync.cli.own_state import chosen_receipts, chosen_state
    from evidencesync.localstate.receipts import default_receipts, receipts_folder

    chosen = chosen_receipts(run, how.receipts)
    _refuse_feedback(source, chosen_state(run), default_receipts(chosen))
    receipts_folder(chosen, closed).close()
    return partial(receipts_folder, chosen, closed)


@dataclasses.dataclass(slots=True)
class _Watch:
    """A watch, with everything that stays the same from push to push."""

    run: Run
    address: Address
    ssh: RemoteChoice
    request: PushRequest
    open_receipts: Callable[[], KeptFolder]
    heads: HeadMemory
    memory: WatchMemory
    events: WatchEvents

    def follow(self, decision: Decision) -> ExitCode:
        """Watches and pushes until an error or a signal ends it. Then prints the result, and returns the exit code."""
        from evidencesync.watch.watch import open_observer, watch

        error: EvidenceSyncError
        try:
            with open_observer(self.request.source, self.request.rules) as observer:
                watch(decision, observer, self.push, self.events, time.monotonic)
        except EvidenceSyncError as failure:
            error = failure
        except KeyboardInterrupt:
            if decision.is_all_in_vault:
                self.events.finish(None, all_in_vault=True)
                last = self.events.last
                return CODES[last.verdict] if last is not None else ExitCode.COMPLETE
            error = InterruptedRunError(
                "interrupted before what was seen was pushed", hint="Run the same command again: what is new is in no vault yet."
            )
        self.events.finish(error, all_in_vault=decision.is_all_in_vault)
        return error.exit_code

    def push(self, snapshot: SourceSnapshot) -> None:
        """Makes one acquisition, and then remembers how the source looked before it. An interruption is raised as an error."""
        try:
            self._push(snapshot)
        except (KeyboardInterrupt, EvidenceSyncError) as error:
            if is_interruption(error):
                raise InterruptedRunError("interrupted in the middle of a push") from error
            raise

    def _options(self) -> SshOptions:
        from evidencesync.cli.terminal import person_at

        return self.ssh.options(self.run.settings, person_at(self.run.console))

    def _push(self, snapshot: SourceSnapshot) -> None:
        from evidencesync.acquire.connect import connect_first, connect_to_vault, connecting
        from evidencesync.acquire.push import push
        from evidencesync.evidence.utc_time import format_utc_time
        from evidencesync.localstate.receipts import ReceiptDraft

        def afresh() -> Link:
            return connect_to_vault(self.address, self._options())

        again = None if self.address.local else afresh
        request = msgspec.structs.replace(self.request, session=secrets.token_hex(16), file_system=snapshot.file_system)
        with contextlib.ExitStack() as stack:
            draft = ReceiptDraft(stack.enter_context(self.open_receipts()))
            stack.callback(draft.close)
            link = stack.enter_context(connecting(self.address, self._options(), events=self.run.events))

            def work(asked: PushRequest, progress: Progress, recorder: SessionRecorder) -> PushOutcome:
                first = link() if again is None else connect_first(link, again, asked.retries, progress)
                return push(first, asked, progress, again=again, afresh=afresh, recorder=recorder)

            outcome, kept = acquire_and_keep(self.run, OwnState(self.heads, draft), request, work)
        self.events.record(outcome, kept)
        try:
            now = format_utc_time(time.time_ns())
            self.memory.remember(snapshot.digest, outcome.acquisition, outcome.manifest_sha256, now)
        except OSError as error:
            self.events.print_warning(
                f"not remembered, so that a watch that is started again will push once more: {error.strerror}"
            )


def _key(source: str, address: Address, item: ItemChoice) -> WatchedKey:
    from evidencesync.localstate.watched import WatchedKey

    vault = os.path.realpath(address.path) if address.local else address.display()
    return WatchedKey(os.path.realpath(os.fsencode(source)), vault, item.name())


def _refuse_feedback(source: str, *folders: Path) -> None:
    """Raises UsageError if a folder that every push writes to lies in the watched source: each push would be a new change."""
    root = Path(os.path.realpath(source))
    for folder in folders:
        if Path(os.path.realpath(folder)).is_relative_to(root):
            raise UsageError(
                f"this lies in the source, and every push writes there: {safe_text(str(folder), 200)}",
                hint="Name other folders: --receipts DIR, and EVIDENCESYNC_STATE for what is remembered.",
            )
