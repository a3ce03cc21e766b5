"""The log for machines of one run: where it is written, and that it is told when the run begins and how it ends."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from evidencesync.cli.guard import failure_from
from evidencesync.errors import UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.exit_codes import ExitCode
from evidencesync.home import expand_new_file

if TYPE_CHECKING:
    from evidencesync.cli.command import Run
    from evidencesync.cli.console import Console
    from evidencesync.cli.options import ItemChoice
    from evidencesync.cli.own_state import RunFolders
    from evidencesync.connection.event_log import Role
    from evidencesync.connection.event_sinks import EventLog
    from evidencesync.outside import Closed
    from evidencesync.ssh.address import Address

LOG_VARIABLE: Final = "EVIDENCESYNC_LOG"
_SYSTEM: Final = ("syslog", "journald")  # both listen at the same socket
_HELP: Final = "Append each event to FILE, one line of JSON; or send it to 'syslog' ('journald' is the same)."
_HINT: Final = "Name a file outside vault and source: --log FILE; or take the system's log: --log syslog"
LogOption = Annotated[str | None, typer.Option("--log", metavar="FILE", envvar=LOG_VARIABLE, help=_HELP)]
ServedLogOption = Annotated[str | None, typer.Option("--log", metavar="FILE", help=_HELP)]
"""Of `serve`, whose environment may be a client's word: no variable and no setting names the file."""


@contextlib.contextmanager
def opened_log(console: Console, place: str | Path | None, places: LogPlaces) -> Iterator[EventLog | None]:
    """Opens a log before anything begins; None without one. Says at the end whether it has gaps. Raises UsageError."""
    if place is None:
        yield None
        return
    from evidencesync.connection.event_sinks import EventLog, FileSink, SystemSink
    from evidencesync.outside import open_to_append

    try:
        if place in _SYSTEM:
            sink: FileSink | SystemSink = SystemSink()
        else:
            sink = FileSink(open_to_append(expand_new_file(str(place)), places.closed, _HINT, places.evidence))
    except OSError as error:
        raise UsageError(f"the system's log takes nothing: {error.strerror}", hint="Name a file: --log FILE") from error
    log = EventLog(sink, lambda why: None if console.is_live else console.warn(f"the log has a gap from here on: {why}"))
    try:
        yield log
    finally:
        log.close()
        if log.lost:
            console.warn(f"the log has a gap: {log.lost} of its events could not be written")


@dataclass(frozen=True, slots=True)
class LogPlaces:
    """Where a log may not lie, and which file it may not be: a single file that is the source."""

    closed: list[Closed]
    evidence: Path | None = None


def log_places(source: str | None, folders: RunFolders) -> LogPlaces:
    """Of a run that acquires: neither the vault nor the source, even if that is the whole machine."""
    from evidencesync.outside import Closed, closed_vault

    closed = closed_vault(folders.vault)
    if folders.source is not None:
        closed.append(Closed("the source, which is only read", folders.source))
    return LogPlaces(closed, None if source is None else Path(source))


def about(item: ItemChoice, source: str, vault: Address) -> dict[str, str | None]:
    """What is said of an acquisition when it begins."""
    name = item.name()
    return {"case": name.case.text, "item": name.item.text, "what": safe_text(source, 300), "vault": vault.display()}


def logged(
    run: Run,
    given: str | None,
    role: Role,
    work: Callable[[Run], ExitCode],
    places: LogPlaces,
    *,
    of: Mapping[str, str | None],
    reads: bool = True,
) -> ExitCode:
    """Runs a command with its log, which an option or the settings name, and tells there that it begins and how it ends.

    `of`: what the run is about. `reads`: see Events. Raises what the work raises, and UsageError for an impossible log.
    """
    import evidencesync
    from evidencesync.connection.event_log import Events

    chosen = given or run.settings.values.log
    place = chosen if given is not None or chosen in _SYSTEM else run.settings.path(chosen)
    with opened_log(run.console, place, places) as log:
        if log is None:
            return work(run)
        events = Events(log, role, reads=reads, case=of.get("case"), item=of.get("item"))
        events.record("begun", tool=evidencesync.__version__, **of)
        try:
            code = work(dataclasses.replace(run, told=events))
        except BaseException as error:
            failure = failure_from(error)
            if failure is not None:
                events.refuse(failure)
            raise
        events.record("ended", code=int(code))
        return code
