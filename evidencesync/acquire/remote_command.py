"""Runs a command on another machine over the user's ssh, without evidencesync there; its standard output is evidence.

The account's shell there is given the command as one string. Nothing goes into its standard input, and it gets no terminal.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from evidencesync.custody.documents import SshPeer
from evidencesync.errors import ConnectError, HostKeyChangedError, LinkLostError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import seconds_text
from evidencesync.limits import KIB, MAX_CAPTURED_ERRORS
from evidencesync.protocol.messages import PREAMBLE
from evidencesync.source.command import CommandEnd, CommandLine
from evidencesync.source.pipe import LEFT_OPEN_SECONDS, KeptErrors
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions
from evidencesync.ssh.route import find_route
from evidencesync.ssh.ssh_process import SshProcess

_NOTHING: Final = "exit 0"  # a command of every shell
_MAX_STARTUP_OUTPUT: Final = 16 * KIB
_END_SECONDS: Final = 5.0
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class FarShell:
    """A machine that runs commands for us. `startup_output` is what its shell prints before each of them."""

    peer: SshPeer
    startup_output: bytes


@dataclass(frozen=True, slots=True)
class FarRun:
    """What a command on another machine printed, how it ended, and its last words on standard error, safe to show."""

    peer: SshPeer
    printed: bytes
    status: int
    said: str


def run_there(address: Address, options: SshOptions, command: str, feed: Iterable[bytes] = (), seconds: float = 0) -> FarRun:
    """Logs in, lets the account's shell run a command, and waits for its end. `feed` goes into its standard input.

    What it prints is short. It has `seconds` for it, and ssh's timeout besides. Raises the errors of connecting (20 to 23), and
    ConnectError where it does not end, prints more, or where evidencesync runs for this key in its place.
    """
    child = SshProcess(find_route(address, options), options, command)
    try:
        peer = child.wait_ready()
        _write_input(child.sink, feed, options.timeout_seconds)
        child.end_input()
        printed = _read_all(child.source, time.monotonic() + seconds + options.timeout_seconds)
        child.begin_receiving()
        child.wait(_END_SECONDS)
        status, said = child.logs[-1].exit_status, child.stderr_text
        lost = child.end() if status is None and printed is not None else None
    finally:
        child.kill()
        child.release()
    where = safe_text(address.display(), _SHOWN)
    if printed is not None and PREAMBLE in printed:
        hint = "A command in authorized_keys stands in its way there. Use a key without one, or pull a path."
        raise ConnectError(f"{where} runs evidencesync for this key, and no other command", hint=hint)
    if printed is None:
        raise ConnectError(f"{where} prints before a command, and does not end", hint="Look at what its shell does at login.")
    if status is None:
        raise lost or LinkLostError(f"{where} does not say how a command has ended")
    return FarRun(peer, printed, status, said)


def look_at_shell(address: Address, options: SshOptions) -> FarShell:
    """Logs in, and lets the account's shell run nothing: a wrong key, and what the shell prints first, are known then.

    Raises the errors of connecting (20 to 23), and ConnectError where no command can be run.
    """
    ran = run_there(address, options, _NOTHING)
    if ran.status != 0:
        reason = f" (stderr: {ran.said})" if ran.said else ""
        where = safe_text(address.display(), _SHOWN)
        raise ConnectError(f"{where} does not run commands for this account{reason}", hint="Has the account a shell there?")
    return FarShell(ran.peer, ran.printed)


class RemoteCommand:
    """A command on another machine. See `source.command.RunningCommand`."""

    def __init__(self, address: Address, options: SshOptions, line: CommandLine, shell: FarShell) -> None:
        """Starts ssh, and with the login the command. Raises the errors of connecting, and HostKeyChangedError."""
        self.errors = KeptErrors(MAX_CAPTURED_ERRORS)
        wanted = line.shell if line.shell is not None else shlex.join(line.words)
        self._child = SshProcess(find_route(address, options), options, wanted, on_stderr=self.errors.add)
        self._is_stopped = False
        try:
            if self._child.wait_ready().host_key != shell.peer.host_key:
                raise HostKeyChangedError("the machine has shown another host key than a moment ago")
        except BaseException:
            self.stop()
            raise
        self._child.end_input()
        self.output = self._child.source

    def is_over(self) -> bool:
        """See `RunningCommand`."""
        return self._child.logs[-1].exit_status is not None or self._child.wait(0)

    def begin_receiving(self) -> None:
        """See `RunningCommand`. Raises ProtocolError for a server that forges ssh's log."""
        self._child.begin_receiving()

    def end(self, seconds: float | None) -> CommandEnd:
        """See `RunningCommand`."""
        until = None if seconds is None else time.monotonic() + seconds
        while not self._child.wait(1.0) and not self._is_stopped:
            if self._child.logs[-1].exit_status is not None:
                break
            if until is not None and time.monotonic() > until:
                self.stop()
        status = self._child.logs[-1].exit_status
        if status is not None:
            return CommandEnd(exit_status=status, left_open=not self._child.wait(LEFT_OPEN_SECONDS))
        if self._child.logs[-1].was_signalled:  # by which one, ssh does not say
            return CommandEnd()
        return CommandEnd(lost=self._is_stopped or self._child.end() is not None)

    def stop(self) -> None:
        """See `RunningCommand`. The command itself gets the end of its connection, and nothing else."""
        if not self._is_stopped:
            self._is_stopped = True
            self._child.kill()
            self._child.release()


def _write_input(sink: int, feed: Iterable[bytes], seconds: float) -> None:
    """Writes what a command is given, until it takes no more: why, its end says. Raises LinkLostError where it takes nothing."""
    poll = select.poll()
    poll.register(sink, select.POLLOUT)
    with contextlib.suppress(BrokenPipeError):
        for block in feed:
            view = memoryview(block)
            while view:
                if not poll.poll(seconds * 1000):
                    raise LinkLostError(f"the command there has taken nothing for {seconds_text(round(seconds))}")
                with contextlib.suppress(BlockingIOError):
                    view = view[os.write(sink, view) :]


def _read_all(source: int, until: float) -> bytes | None:
    """Returns what comes to the end; None where that is more than any shell prints at its start, or has not ended by then."""
    poll = select.poll()
    poll.register(source, select.POLLIN)
    came = bytearray()
    while len(came) <= _MAX_STARTUP_OUTPUT and (left := until - time.monotonic()) > 0:
        if poll.poll(left * 1000):
            if not (part := os.read(source, _MAX_STARTUP_OUTPUT)):
                return bytes(came)
            came += part
    return None
