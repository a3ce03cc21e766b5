"""Runs a command on this machine whose output is evidence: its two streams, how it has ended, and how it is ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import IO, Final, Protocol

from evidencesync.errors import InternalError, ResourcesError, UsageError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.limits import KIB, MAX_CAPTURED_ERRORS
from evidencesync.source.pipe import LEFT_OPEN_SECONDS, KeptErrors

_READ: Final = 64 * KIB
_END_SECONDS: Final = 2.0  # for a command that was told to end
_LOOK_SECONDS: Final = 0.02  # so often it is looked whether it has
_SHELL: Final = "/bin/sh"


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command: one string for a shell, or a list of words that no shell sees."""

    shell: str | None = None
    words: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The command for people, safe to show."""
        return safe_text(self.shell) if self.shell is not None else shell_text(*self.words)


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """How a command has ended: one of both is set, or neither where that is not known. `lost`: the link to it was lost first.

    `left_open`: it is over, and something that it had started still has its standard error, or that could not be read to its
    end: more could come there.
    """

    exit_status: int | None = None
    signal: int | None = None
    lost: bool = False
    left_open: bool = False


class RunningCommand(Protocol):
    """A command that runs, here or on another machine. `output` is a descriptor of its standard output."""

    output: int
    errors: KeptErrors

    def is_over(self) -> bool:
        """Returns whether it has ended."""

    def begin_receiving(self) -> None:
        """Is called when the first bytes of its output have come, or it has ended. Raises what forbids to use them."""

    def end(self, seconds: float | None) -> CommandEnd:
        """Waits for its end, after the end of its output, and returns it. After so many seconds (None: never) it is stopped."""

    def stop(self) -> None:
        """Ends it, and all that it has started and that has not left it. Repeatable; must be called in any case."""


class LocalCommand:
    """A command on this machine, in a process group of its own. See `RunningCommand`."""

    def __init__(self, line: CommandLine) -> None:
        """Starts the command. Raises UsageError where it cannot be run, ResourcesError where no process can be started."""
        self.errors = KeptErrors(MAX_CAPTURED_ERRORS)
        command = [_SHELL, "-c", line.shell] if line.shell is not None else list(line.words)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                restore_signals=True,
            )
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            hint = "Name the program with its path. What needs a shell (a pipe, a variable) is given as one string: --command"
            raise UsageError(f"cannot run {safe_text(command[0], 200)}: {error.strerror}", hint=hint) from error
        except OSError as error:
            raise ResourcesError(f"a process for the command cannot be started: {error.strerror}") from error
        if self._process.stdout is None or self._process.stderr is None:
            raise InternalError("a process without the pipes that were asked for")
        self.output = self._process.stdout.fileno()
        self._errors_are_cut = False
        self._reader = threading.Thread(target=self._read_errors, args=(self._process.stderr,), name="stderr", daemon=True)
        self._reader.start()

    def is_over(self) -> bool:
        """See `RunningCommand`."""
        return self._process.poll() is not None

    def begin_receiving(self) -> None:
        """See `RunningCommand`."""

    def end(self, seconds: float | None) -> CommandEnd:
        """See `RunningCommand`."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            status = self._process.wait()
        self._reader.join(LEFT_OPEN_SECONDS)
        is_open = self._reader.is_alive() or self._errors_are_cut
        return CommandEnd(signal=-status, left_open=is_open) if status < 0 else CommandEnd(exit_status=status, left_open=is_open)

    def stop(self) -> None:
        """See `RunningCommand`. One that has ended by itself may leave others behind: they are not touched."""
        if self._process.poll() is None:
            self._signal_group(signal.SIGTERM)
            until = time.monotonic() + _END_SECONDS
            while time.monotonic() < until and self._signal_group(0):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_LOOK_SECONDS)
                    time.sleep(_LOOK_SECONDS)
            self._signal_group(signal.SIGKILL)  # it may have heard the first one, and a child of it not
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._reader.join(_END_SECONDS)

    def _signal_group(self, number: int) -> bool:
        """Returns whether there is somebody left in the group. Its number is nobody else's for as long."""
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _read_errors(self, stream: IO[bytes]) -> None:
        with stream:
            try:
                while data := os.read(stream.fileno(), _READ):
                    self.errors.add(data)
            except OSError:
                self._errors_are_cut = True
