"""Prints everything that a command prints: results on stdout, messages and errors on stderr. Every line is escaped."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, TextIO

from evidencesync.cli.lines import fitted, width_of
from evidencesync.cli.terminal import Terminal
from evidencesync.errors import CommandKind, EvidenceSyncError, InterruptedRunError, StorageError, UsageError
from evidencesync.evidence.display import escape_line
from evidencesync.exit_codes import ExitCode

if TYPE_CHECKING:
    import msgspec


class Console:
    """Prints for one command.

    With `as_json`, stdout carries exactly one JSON document. `quiet` drops messages and progress, never results or errors.
    `kind` says what the command does, and so which hints fit it. If stdout refuses the result, the failure is kept until
    `exit_code_of` is called.
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
        self.fill_hint: Callable[[EvidenceSyncError], None] = lambda _: None
        """Puts what was typed into the hint of an error that is not raised."""
        self._unprinted: StorageError | None = None
        self._hinted: set[str] = set()

    @property
    def is_live(self) -> bool:
        """Whether progress may be drawn: stderr is a terminal that can move its cursor, and no option or variable declines."""
        return not self.as_json and not self.quiet and _is_terminal(sys.stderr)

    def print_result(self, output: msgspec.Struct, lines: Iterable[str]) -> None:
        """Prints the result on stdout: as a JSON document, or as lines for people. If stdout refuses it: see `exit_code_of`."""
        if self.as_json:
            import msgspec

            self._print_data(msgspec.json.encode(output) + b"\n")
        else:
            self.print_rows(one for line in lines for one in self._fitted(line))

    def _fitted(self, line: str) -> Iterable[str]:
        """A line of a result as it fits the terminal. A list keeps its rows, and what is pasted into a file stays whole."""
        if not _is_terminal(sys.stdout) or not _FITTED.match(line):
            return (line,)
        return fitted(line, width_of(sys.stdout))

    def print_rows(self, lines: Iterable[str]) -> None:
        """Prints lines for people on stdout: a part of a result that is longer than memory should hold."""
        in_colour = _has_colours(sys.stdout)
        shown = (_coloured(escape_line(line)) if in_colour else escape_line(line) for line in lines)
        self._print_data("".join(f"{line}\n" for line in shown).encode("utf-8", "backslashreplace"))

    def _print_data(self, data: bytes) -> None:
        refused = _write(sys.stdout, data)
        if refused is not None and not (self.kind is CommandKind.SHOWS and isinstance(refused, BrokenPipeError)):
            self.record_unprinted(refused)

    def record_unprinted(self, refused: OSError) -> None:
        """Keeps the error with which stdout refused a result. `print_result` does not for a list whose reader left (`| head`)."""
        self._unprinted = StorageError(f"the result could not be written to stdout: {refused.strerror}", hint="")

    def exit_code_of(self, code: ExitCode) -> ExitCode:
        """The exit code of a command that ends with `code`. A result that could not be printed is never a success."""
        if self._unprinted is None:
            return code
        self._print_error(self._unprinted)
        return code or self._unprinted.exit_code

    def print_message(self, line: str) -> None:
        """Prints a message on stderr, unless the console is quiet."""
        if not self.quiet:
            self._print_line(line)

    def print_detail(self, line: str) -> None:
        """Prints on stderr what is done, with `-v` only, as the log records of lower rooms are."""
        if self.verbose:
            self._print_line(f"info: {line}")

    def print_notice(self, line: str) -> None:
        """Prints a line on stderr that a person waits for: `quiet` does not drop it."""
        self._print_line(line)

    def warn(self, line: str) -> None:
        """Prints a warning on stderr: `quiet` does not drop it."""
        self._print_line(f"warning: {line}")

    def ask(self, question: str, beforehand: str = "Say yes beforehand with --yes.") -> bool:
        """Asks on stderr, and reads the answer from stdin. Returns whether it was y or yes; any other answer is no.

        Raises UsageError if stdin ends without an answer; `beforehand` is its hint, and says how to avoid the question.
        """
        _write(sys.stderr, f"{escape_line(question)} [y/yes or n/no] ".encode("utf-8", "backslashreplace"))
        answer = _read_line()
        if not answer:
            self._print_line("")
            raise UsageError("nobody answered the question", hint=beforehand)
        return answer.strip().lower() in {"y", "yes"}

    def confirm(self, question: str, refused: str = "Nothing was done.") -> None:
        """Asks before something that cannot be undone, if stdin is a terminal. A script is not asked. No progress is drawn then.

        Raises InterruptedRunError for any other answer than yes; `refused` is its hint.
        """
        if not self.can_ask:
            return
        self.terminal.wait_until_free()
        self.terminal.lend()
        try:
            answered = self.ask(question)
        finally:
            self.terminal.take_back()
        if not answered:
            raise InterruptedRunError("the answer was not yes", hint=refused)

    @property
    def can_ask(self) -> bool:
        """Whether stdin is a terminal."""
        return sys.stdin is not None and sys.stdin.isatty()

    def print_error(self, error: EvidenceSyncError) -> None:
        """Prints an error: as JSON on stdout, else as one line and a hint on stderr. With `-v`, a traceback on stderr, too."""
        if self.verbose:
            for line in "".join(traceback.format_exception(error)).splitlines():
                self._print_line(line)
        if self.as_json and self._unprinted is None:
            from evidencesync.cli.outputs import error_output

            self.print_result(error_output(error, self.kind), ())
            if self._unprinted is None:
                return
        self._print_error(error)

    def print_hint(self, error: EvidenceSyncError) -> None:
        """Prints the hint of an error that the result states, once for all that have the same one. With `--json`, nothing."""
        self.fill_hint(error)
        hint = error.hint_for(self.kind)
        if hint and not self.as_json and hint not in self._hinted:
            self._hinted.add(hint)
            self._print_line(f"hint: {hint}")

    def _print_error(self, error: EvidenceSyncError) -> None:
        self._print_line(f"error: {error.message}")
        hint = error.hint_for(self.kind)
        if hint:
            self._print_line(f"hint: {hint}")

    def _print_line(self, line: str) -> None:
        shown = escape_line(line)
        lines = list(fitted(shown, width_of(sys.stderr))) if _is_terminal(sys.stderr) and _FITTED.match(shown) else [shown]
        if not self.as_json and _has_colours(sys.stderr):
            lines[0] = _coloured(lines[0])
        _write(sys.stderr, "".join(f"{one}\n" for one in lines).encode("utf-8", "backslashreplace"))


_FITTED: Final = re.compile(
    r"(?:error|hint|warning|note|next|checked|evidencesync)\b|  \w.{11} (?=\S)|[a-z].{9} (?=\S)"
    r"|[0-9:]{8}  (?=\S)| {11}\("
)
"""What a line begins with that may be broken: a word of ours, or a name before a column of texts."""
_COLOURS: Final = {"error:": "\x1b[31m", "warning:": "\x1b[33m", "  WARNING ": "\x1b[33m"}
"""The colour of what a line of ours begins with."""
_VERDICTS: Final = {"verdict: PASS": "\x1b[32m", "verdict: FAIL": "\x1b[1;31m", "verdict: INCOMPLETE": "\x1b[1;33m"}
"""The colour of a whole line: a vault's or an item's name, with which a line of a list begins, has none."""


def _coloured(line: str) -> str:
    """Colours a line that was escaped, or its beginning."""
    if line in _VERDICTS:
        return f"{_VERDICTS[line]}{line}\x1b[0m"
    for beginning, colour in _COLOURS.items():
        if line.startswith(beginning):
            return f"{colour}{beginning}\x1b[0m{line[len(beginning) :]}"
    return line


def _has_colours(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal with colours that no variable declines (no-color.org)."""
    return not os.environ.get("NO_COLOR") and _is_terminal(stream)


def _is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal that can do more than print lines."""
    return os.environ.get("TERM", "dumb") != "dumb" and stream is not None and stream.isatty()


def _write(stream: TextIO | None, data: bytes) -> OSError | None:
    """Writes and flushes. Returns the error of a stream that refuses, and mutes that stream; None if all was written."""
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
    """A line of stdin; empty if stdin is closed, cannot be read, or holds no text."""
    try:
        return sys.stdin.readline() if sys.stdin is not None else ""
    except (OSError, UnicodeDecodeError):
        return ""


def mute(stream: TextIO) -> None:
    """Sends everything that is written to a stream from now on to /dev/null, also what the interpreter flushes at its end."""
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.dup2(null, stream.fileno())
    finally:
        os.close(null)
