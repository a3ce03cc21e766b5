"""Captures for `push` and `pull`: standard input, or what a command prints. It is read once, and cannot be read again."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

import msgspec
import typer

from evidencesync.cli.acquire import FilterChoice, Places, PlannedChoice, acquire, make_request, owner_warning
from evidencesync.cli.command import Run
from evidencesync.cli.help_text import CAPTURED
from evidencesync.cli.interrupts import first_interrupt
from evidencesync.cli.log_choice import about, log_places, logged
from evidencesync.cli.number_format import parse_size
from evidencesync.cli.options import ItemChoice, RemoteChoice, SignChoice, local_vault, vault_address
from evidencesync.cli.own_state import RunFolders, open_own_state
from evidencesync.errors import LinkLostError, NoSpaceError, NotThereError, UsageError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.evidence.number_format import count_text, size_text
from evidencesync.exit_codes import ExitCode
from evidencesync.home import rooted
from evidencesync.limits import MAX_COMMAND, MAX_COMMAND_WORDS, MAX_NAME

if TYPE_CHECKING:
    from evidencesync.acquire.capture import CaptureRequest
    from evidencesync.acquire.remote_command import FarShell
    from evidencesync.acquire.request import PushOutcome, PushRequest
    from evidencesync.acquire.session_recorder import SessionRecorder
    from evidencesync.connection.progress import Progress
    from evidencesync.source.command import CommandLine
    from evidencesync.ssh.address import Address
    from evidencesync.ssh.options import SshOptions

INPUT: Final = "-"
EXEC: Final = "--exec"
_END_OF_WORDS: Final = "--"
_DEFAULT_NAMES: Final = {True: "input", False: "output"}
_LONGEST_NAME: Final = MAX_NAME - len(".stderr")
_SHOWN: Final = 200
_SHORTER: Final = "Put what is longer into a script, and name that."
_GONE: Final = "What the vault has received stays there: on its machine, push - with --recover publishes it as far as it came."
_KEPT_AS_IT_COMES: Final = "Leave it out: what comes is read once, and kept as it comes."


@dataclasses.dataclass(frozen=True, slots=True)
class SourceChoice(FilterChoice):
    """What of a source is read; or what is read once, out of a pipe."""

    GROUP: ClassVar = CAPTURED

    shell_command: Annotated[
        str | None,
        typer.Option("--command", metavar="TEXT", help="Acquire what this command prints; a shell reads it as one string."),
    ] = None
    words: Annotated[
        str | None,
        typer.Option(EXEC, metavar="WORD ... --", help="The same, as words that no shell reads, up to a -- of its own."),
    ] = None
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="The file's name in the acquisition.")] = None
    expect_bytes: Annotated[
        str | None, typer.Option(metavar="SIZE", help="How much must come; anything else ends with 3, and the manifest says it.")
    ] = None
    recover: Annotated[
        bool,
        typer.Option("--recover", help="Acquire what an earlier capture has left in the vault, which is on this machine."),
    ] = False
    spool: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Keep in this new file what the link cannot take, so that the source need not wait."),
    ] = None
    idle_timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=1, help="End it when nothing has come for so long.  [default: never]"),
    ] = None

    @property
    def is_command(self) -> bool:
        """Whether a command is to be run."""
        return self.shell_command is not None or self.words is not None

    def refuse_alone(self) -> None:
        """Raises UsageError for options of a capture where there is none."""
        given = {
            "--recover": self.recover or None,
            "--spool": self.spool,
            "--name": self.name,
            "--expect-bytes": self.expect_bytes,
            "--idle-timeout": self.idle_timeout,
        }
        for option, value in given.items():
            if value is not None:
                hint = "Name - as SOURCE for standard input, or give a --command."
                raise UsageError(f"{option} is for standard input and for commands", hint=hint)

    def refuse_filters(self) -> None:
        """Raises UsageError for filters of a capture: none is ignored."""
        filters = [field for field in dataclasses.fields(FilterChoice) if field.name != "allow_empty" or self.is_command]
        if any(getattr(self, field.name) != field.default for field in filters):
            raise UsageError("filters are not for standard input and commands", hint=_KEPT_AS_IT_COMES)

    def line(self) -> CommandLine | None:
        """The command; None for standard input. Raises UsageError."""
        from evidencesync.custody.typed import check_text
        from evidencesync.source.command import CommandLine

        if self.shell_command is not None and self.words is not None:
            raise UsageError(f"--command and {EXEC} exclude one another", hint="Give one of them.")
        if self.shell_command is not None:
            return CommandLine(shell=check_text(self.shell_command, "a command", MAX_COMMAND))
        if self.words is None:
            return None
        words = _given_words(self.words)
        if not words or len(words) > MAX_COMMAND_WORDS or sum(map(len, words)) > MAX_COMMAND:
            raise UsageError(f"{EXEC} takes 1 to {MAX_COMMAND_WORDS} words, {MAX_COMMAND} characters in all", hint=_SHORTER)
        return CommandLine(words=tuple(check_text(word, "a word of a command", MAX_COMMAND, may_be_empty=True) for word in words))

    def request(self) -> CaptureRequest:
        """What is captured. Raises UsageError."""
        from evidencesync.acquire.capture import CaptureRequest

        line = self.line()
        name = os.fsencode(self.name or _DEFAULT_NAMES[line is None])
        if b"/" in name or name in {b".", b".."} or len(name) > _LONGEST_NAME:
            hint = f"A name has up to {_LONGEST_NAME} bytes and no slash: --name memory.lime"
            raise UsageError(f"a file in the acquisition cannot be called {safe_text(name, 80)}", hint=hint)
        expected = None if self.expect_bytes is None else parse_size(self.expect_bytes)
        return CaptureRequest(name, line, self.idle_timeout, expected, self.allow_empty or expected == 0)


def cut_words(args: Sequence[str], *, is_push: bool) -> list[str]:
    """Returns a command line with what is between --exec and -- as one value, and `-` as the SOURCE of a push of a command.

    Raises UsageError for --exec without an end.
    """
    words = list(args)
    if EXEC in words:
        start = words.index(EXEC)
        if _END_OF_WORDS not in words[start:]:
            hint = f"As in: evidencesync push {EXEC} avml /dev/stdout {_END_OF_WORDS} VAULT --case CASE --item ITEM"
            raise UsageError(f"{EXEC} has no {_END_OF_WORDS} behind the command's words", hint=hint)
        end = words.index(_END_OF_WORDS, start)
        words[start + 1 : end + 1] = [json.dumps(words[start + 1 : end])]
    runs = EXEC in words or any(word == "--command" or word.startswith("--command=") for word in words)
    has_source = any(word == INPUT and before != "--name" for before, word in pairwise(["", *words]))
    return [INPUT, *words] if is_push and runs and not has_source else words


def _given_words(value: str) -> list[str]:
    """The words that `cut_words` has put into one value. Raises UsageError for a value that a person has typed."""
    with contextlib.suppress(ValueError):
        words = json.loads(value)
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return words
    raise UsageError(f"{EXEC} is followed by a command's words, and by -- of its own", hint="Give one string with --command.")


@dataclasses.dataclass(frozen=True, slots=True)
class CaptureRun:
    """What a command line says of one capture."""

    run: Run
    item: ItemChoice
    sign: SignChoice
    what: SourceChoice
    how: PlannedChoice
    ssh: RemoteChoice

    def options(self) -> SshOptions:
        """How a server is reached."""
        from evidencesync.cli.terminal import person_at

        return self.ssh.options(self.run.settings, person_at(self.run.console))

    def checked(self) -> CaptureRequest:
        """What is captured. Raises UsageError, also for options that mean nothing for a capture."""
        request = self.what.request()
        self.what.refuse_filters()
        _refuse(self.how)
        return request

    def request(self, address: Address, capture: CaptureRequest) -> PushRequest:
        """The request of the acquisition. May ask for a passphrase, where the terminal is not the input's."""
        from evidencesync.cli.terminal import make_asker
        from evidencesync.source.filters import FilterRules

        run = self.run
        places = Places(b"", os.fsencode(address.path), FilterRules.none(), self.what.allow_empty)
        asker = None if capture.line is None else make_asker(run.console.terminal)
        stated = self.how.details(self.item.name())
        request = make_request(run, places, self.item, self.sign, self.how, self.ssh, asker, stated)
        return msgspec.structs.replace(request, described="standard input" if capture.line is None else capture.line.text)


def push_capture(asked: CaptureRun, vault: str) -> ExitCode:
    """Acquires standard input, or what a command on this machine prints, into a vault."""
    from evidencesync.acquire.capture import CaptureAccess, from_here
    from evidencesync.acquire.connect import connect_first, connect_to_vault, connecting
    from evidencesync.cli.spool_file import opened_spool
    from evidencesync.source.command import LocalCommand

    capture, run, how = asked.checked(), asked.run, asked.how
    line, address = capture.line, vault_address(vault)
    folders = _folders(run, address)
    if asked.what.recover:
        return _recover(asked, capture, address, folders)
    if line is None:
        _require_input()
    if asked.what.spool is not None and address.local:
        raise UsageError("--spool is for a vault on another machine", hint="Leave it out: no link is lost here.")
    start = sys.stdin.fileno if line is None else partial(LocalCommand, line)

    def work(logging: Run) -> ExitCode:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(opened_spool(run, asked.what.spool))
            link = stack.enter_context(connecting(address, asked.options(), events=logging.events))
            access = CaptureAccess(capture, start, from_here, may_go_on=not address.local, spool=file.spool)
            file.keep_rest = stack.enter_context(contextlib.closing(access)).keep_rest
            from evidencesync.acquire.push import push

            with open_own_state(run, how.receipts, folders) as own_state:
                request = asked.request(address, capture)
                again = None if address.local else lambda: connect_to_vault(address, asked.options())

                def transfer(request: PushRequest, progress: Progress, recorder: SessionRecorder) -> PushOutcome:
                    first = link() if again is None else connect_first(link, again, request.retries, progress)
                    with first_interrupt(access.end_here), _once():
                        return push(first, request, progress, again=again, source_access=access, recorder=recorder)

                return acquire(logging, own_state, request, address, transfer, sure=how.yes)

    of = about(asked.item, "standard input" if line is None else line.text, address)
    return logged(run, how.log, "push", work, log_places(None, folders), of=of, reads=not address.local)


def _folders(run: Run, address: Address) -> RunFolders:
    folders = RunFolders(None, rooted(Path(address.path)) if address.local else None)
    if folders.vault is not None and (owned := owner_warning(folders.vault, os.geteuid())) is not None:
        run.console.warn(owned)
    return folders


def _recover(asked: CaptureRun, capture: CaptureRequest, address: Address, folders: RunFolders) -> ExitCode:
    """Acquires what an earlier capture has left in a vault on this machine."""
    from evidencesync.acquire.connect import connect_to_vault
    from evidencesync.acquire.left_capture import LeftAccess, find_left_capture
    from evidencesync.acquire.push import push
    from evidencesync.vault.vault import Vault

    if capture.line is not None or {capture.expected_bytes, capture.idle_seconds, asked.what.spool} != {None}:
        raise UsageError(
            "--recover reads what has come already", hint="Leave out --command, --exec, --expect-bytes and --idle-timeout."
        )
    if folders.vault is None:
        raise UsageError("--recover is for a vault on this machine", hint="Run it on the vault's machine.")
    left = find_left_capture(Vault.open(folders.vault).item(asked.item.name()))
    run, name = asked.run, os.fsencode(asked.what.name or _DEFAULT_NAMES[not left.is_of_command])
    sound, named = left.sizes()
    began = left.header.started if sound == named else None  # an attempt at the same capture is removed in the end
    if not sound:
        raise NotThereError(f"nothing of what a capture has left of {asked.item.name()} is sound", hint="Nothing was changed.")
    if sound < named:
        kept = f"{size_text(sound)} are sound; {size_text(named - sound)} from the first damaged byte on stay in the staging area"
        run.console.warn(kept)
    if left.others:
        run.console.print_notice(f"left by {count_text(left.others + 1, 'capture')}: the same command again acquires the next")

    def transfer(request: PushRequest, progress: Progress, recorder: SessionRecorder) -> PushOutcome:
        request = msgspec.structs.replace(request, described=left.captured, began=began, retries=0)
        return push(
            connect_to_vault(address, asked.options()), request, progress, source_access=LeftAccess(left, name), recorder=recorder
        )

    def work(logging: Run) -> ExitCode:
        with open_own_state(run, asked.how.receipts, folders) as own_state:
            return acquire(logging, own_state, asked.request(address, capture), address, transfer, sure=asked.how.yes)

    of = about(asked.item, left.captured, address)
    return logged(run, asked.how.log, "push", work, log_places(None, folders), of=of, reads=False)


def pull_capture(asked: CaptureRun, source: str, vault: str) -> ExitCode:
    """Acquires what a command on another machine prints into a vault on this one; nothing but a shell is needed there."""
    from evidencesync.acquire.capture import CaptureAccess, from_far
    from evidencesync.acquire.connect import connect_first, connect_for_pull
    from evidencesync.acquire.push import push
    from evidencesync.acquire.remote_command import RemoteCommand, look_at_shell
    from evidencesync.connection.sender_connection import Pulled
    from evidencesync.ssh.address import Address

    capture, run, how = asked.checked(), asked.run, asked.how
    line = capture.line
    if line is None or asked.what.recover or asked.what.spool is not None:
        what = "--recover and --spool are for a push: a pull" if line is not None else "a pull"
        hint = "Push it: evidencesync push - VAULT --case CASE --item ITEM"
        raise UsageError(f"{what} reads no standard input", hint=hint)
    far = _machine(source)
    folder = local_vault(vault)
    folders = RunFolders(None, folder)
    place = Address.parse(str(folder.absolute()))

    def transfer(request: PushRequest, progress: Progress, recorder: SessionRecorder) -> PushOutcome:
        def look() -> FarShell:
            return look_at_shell(far, asked.options())

        shell = connect_first(look, look, request.retries, progress)
        if (note := _note_on_startup_output(shell)) is not None:
            run.console.warn(note)
            request = msgspec.structs.replace(request, notes=[*request.notes, note])
        access = CaptureAccess(capture, lambda: RemoteCommand(far, asked.options(), line, shell), from_far(shell))
        with contextlib.closing(access):
            link = connect_for_pull(str(folder), Pulled(shell.peer.host_key, None), shell.peer, progress.events)
            request = msgspec.structs.replace(request, limit_rate=None, retries=0)
            with first_interrupt(access.end_here), _once():
                return push(link, request, progress, source_access=access, recorder=recorder)

    def work(logging: Run) -> ExitCode:
        with open_own_state(run, how.receipts, folders) as own_state:
            return acquire(logging, own_state, asked.request(place, capture), place, transfer, sure=how.yes, pulled=True)

    of = about(asked.item, f"{far.display()} {line.text}", place)
    return logged(run, how.log, "pull", work, log_places(None, folders), of=of, reads=False)


@contextlib.contextmanager
def _once() -> Iterator[None]:
    """Says of what ends a capture what becomes of what has come: the usual hints say that the same command goes on with it."""
    try:
        yield
    except LinkLostError as error:
        if error.hint == error.default_hint:
            error.hint = _GONE
        raise
    except NoSpaceError as error:
        if type(error) is NoSpaceError and error.hint == error.default_hint:
            error.hint = f"Free space on the vault's disk (df -h, df -i). {_GONE}"
        raise


def _refuse(how: PlannedChoice) -> None:
    """Raises UsageError for options that mean nothing for a capture: none is ignored."""
    given = {
        "--dry-run": how.dry_run,
        "--skip-unchanged": how.skip_unchanged,
        "--quick": getattr(how, "quick", False),
        "--retries-changed": how.retries_changed is not None,
        "--on-read-error": how.on_read_error is not None,
    }
    for option, is_given in given.items():
        if is_given:
            raise UsageError(f"{option} is not for standard input and commands", hint=_KEPT_AS_IT_COMES)


def _require_input() -> None:
    """Raises UsageError where nothing is given on standard input."""
    hint = f"As in: avml /dev/stdout | evidencesync push {INPUT} VAULT --case CASE --item ITEM --name memory.lime"
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("standard input is closed", hint=hint)
    if sys.stdin.isatty():
        raise UsageError("standard input is a terminal", hint=hint)


def _machine(text: str) -> Address:
    """The machine on which a command is run. Raises UsageError for a path."""
    from evidencesync.ssh.address import Address, parse_server

    if ":" in text or "/" in text:
        address = Address.parse(text)
    else:
        user, host, port = parse_server(text)
        address = Address(user, host, port, "", local=False)
    if address.local or address.path:
        right = shell_text(address.host_text) if not address.local else "HOST"
        raise UsageError(f"{safe_text(text, _SHOWN)} is a path, and a command needs a machine", hint=f"Name it as: {right}")
    return address


def _note_on_startup_output(shell: FarShell) -> str | None:
    if not shell.startup_output:
        return None
    beginning = safe_text(shell.startup_output[:80])
    count = f"the shell there prints {len(shell.startup_output)} bytes before each command, which begin: {beginning}"
    return f"{count}; they are expected at the beginning of the output"
