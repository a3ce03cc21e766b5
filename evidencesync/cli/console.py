"""The one door to the terminal: results to stdout, progress and messages to stderr, nothing raw through either."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

from evidencesync.cli.terminal import Terminal
from evidencesync.errors import CommandKind, EvidenceSyncError, ExitCode, InterruptedRunError, StorageError, UsageError
from evidencesync.evidence.display import escape_line

if TYPE_CHECKING:
    import msgspec


class Console:
    """What one command may print.

    With `as_json`, stdout carries exactly one JSON document. `quiet` drops messages and progress, never results or errors.
    `kind` is what the command does: hints fit it. What stdout did not take is remembered until `settle`.
    """

    def __init__(
        self,
        *,
        as_json: bool = False,
        quiet: bool = False,
        verbose: bool = False,
        kind: CommandKind = CommandKind.CHECKS,
    ) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        self.kind = kind
        self.terminal = Terminal()
        self._unsaid: StorageError | None = None

    @property
    def is_live(self) -> bool:
        """Whether bars may be drawn: on a terminal that can move its cursor, for somebody who did not decline."""
        declined = self.as_json or self.quiet or os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
        return not declined and sys.stderr is not None and sys.stderr.isatty()

    def give(self, output: msgspec.Struct, lines: Iterable[str]) -> None:
        """The result: the JSON document, or its lines for people. What stdout does not take, `settle` makes a failure."""
        if self.as_json:
            import msgspec

            data = msgspec.json.encode(output) + b"\n"
        else:
            data = "".join(f"{escape_line(line)}\n" for line in lines).encode("utf-8", "backslashreplace")
        refused = _write(sys.stdout, data)
        if refused is not None and not (self.kind is CommandKind.SHOWS and isinstance(refused, BrokenPipeError)):
            self.not_printed(refused)

    def not_printed(self, refused: OSError) -> None:
        """Stdout did not take a result. A reader of a list that has seen enough (`| head`) is no such case: see `give`."""
        self._unsaid = StorageError(f"the result could not be written to stdout: {refused.strerror}", hint="")

    def settle(self, code: ExitCode) -> ExitCode:
        """The exit code of a command that ends with `code`: a result that nobody could read is never a success."""
        if self._unsaid is None:
            return code
        self._print_failure(self._unsaid)
        return code or self._unsaid.exit_code

    def say(self, line: str) -> None:
        """A message on stderr."""
        if not self.quiet:
            self._print_error(line)

    def note(self, line: str) -> None:
        """A line on stderr that somebody waits for: even `quiet` does not drop it."""
        self._print_error(line)

    def warn(self, line: str) -> None:
        """A warning on stderr; not dropped either."""
        self._print_error(f"warning: {line}")

    def ask(self, question: str, beforehand: str = "Say yes beforehand with --yes.") -> bool:
        """Asks on stderr and reads stdin: whether the answer was yes.

        Raises UsageError where nobody answers; `beforehand` says how to do without the question.
        """
        _write(sys.stderr, f"{escape_line(question)} [yes/no] ".encode("utf-8", "backslashreplace"))
        answer = _read_line()
        if not answer:
            self._print_error("")
            raise UsageError("nobody answered the question", hint=beforehand)
        return answer.strip().lower() in {"y", "yes"}

    def confirm(self, question: str) -> None:
        """Asks before what is for ever, where a person sits at a terminal. A script is not asked: it meant what it says.

        Raises InterruptedRunError for any other answer than yes.
        """
        if sys.stdin is not None and sys.stdin.isatty() and not self.ask(question):
            raise InterruptedRunError("the answer was not yes", hint="Nothing was done.")

    def fail(self, error: EvidenceSyncError) -> None:
        """The error: as JSON on stdout, else one line and a hint on stderr. A traceback only with `-v`."""
        if self.verbose:
            for line in "".join(traceback.format_exception(error)).splitlines():
                self._print_error(line)
        if self.as_json and self._unsaid is None:
            from evidencesync.cli.outputs import error_output

            self.give(error_output(error, self.kind), ())
            if self._unsaid is None:
                return
        self._print_failure(error)

    def _print_failure(self, error: EvidenceSyncError) -> None:
        self._print_error(f"error: {error.message}")
        hint = error.hint_for(self.kind)
        if hint:
            self._print_error(f"hint: {hint}")

    def _print_error(self, line: str) -> None:
        _write(sys.stderr, f"{escape_line(line)}\n".encode("utf-8", "backslashreplace"))


def _write(stream: TextIO | None, data: bytes) -> OSError | None:
    """Writes and flushes; what the stream says where it does not take it. It is then sent to nowhere: see `mute`."""
    if stream is None:
        return OSError(errno.EBADF, "it is closed")
    try:
        stream.flush()
        stream.buffer.write(data)
        stream.buffer.flush()
    except OSError as error:
        mute(stream)
        return error
    return None


def _read_line() -> str:
    """A line of stdin; nothing where it is closed, cannot be read, or is no text."""
    try:
        return sys.stdin.readline() if sys.stdin is not None else ""
    except (OSError, UnicodeDecodeError):
        return ""


def mute(stream: TextIO) -> None:
    """Sends what else is written to a stream, also by the interpreter at its end, to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)
