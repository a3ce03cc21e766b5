"""Runs a command in this process: which signals stop it, where log records go, and which exit code its error becomes.

No other module makes an exit code of an error. `serve --vault PATH` and `serve --source PATH`, which sshd starts, are run here
without typer: importing it would cost time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from evidencesync.cli.console import Console
from evidencesync.cli.interrupts import catch_stop_signals, is_interruption
from evidencesync.cli.settings import CONFIG_VARIABLE, load_settings
from evidencesync.errors import CommandKind, EvidenceSyncError, InterruptedRunError, NoWorkingFolderError
from evidencesync.evidence.display import escape_line
from evidencesync.exit_codes import ExitCode
from evidencesync.files.shortages import clock_error, is_panic, unexpected


def prepare_process(*, verbose: int) -> None:
    """Makes SIGTERM and SIGHUP interrupt the command as Ctrl-C does, and sends log records to stderr, one escaped line each.

    `verbose` is how often -v was given: once for what we do, twice for ssh's own log, too.
    """
    import logging  # not for `--help`

    class EscapingFormatter(logging.Formatter):
        """Escapes log records, which may quote a peer."""

        def format(self, record: logging.LogRecord) -> str:
            """One line."""
            return escape_line(f"{record.levelname.lower()}: {super().format(record)}".replace("\n", " | "))

    catch_stop_signals()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EscapingFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO if verbose else logging.WARNING, force=True)
    logging.getLogger("evidencesync").setLevel(logging.DEBUG if verbose > 1 else logging.NOTSET)
    logging.getLogger("asyncssh").setLevel(logging.INFO if verbose else logging.ERROR)


def guard(console: Console, work: Callable[[], ExitCode]) -> ExitCode:
    """Runs a command, prints its error, and returns the exit code. A traceback is shown only with `-v`.

    A result that could not be printed is a failure, too (`Console.exit_code_of`).
    """
    return console.exit_code_of(_guarded(console, work))


def _guarded(console: Console, work: Callable[[], ExitCode]) -> ExitCode:
    try:
        if (wrong_clock := clock_error()) is not None:
            raise wrong_clock
        return work()
    except BaseException as error:
        failure = failure_from(error)
        if failure is None:
            raise
    console.print_error(failure)
    return failure.exit_code


def failure_from(error: BaseException) -> EvidenceSyncError | None:
    """Returns the error with which a command ends that raises this; None for what is no end of a command."""
    if isinstance(error, EvidenceSyncError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return InterruptedRunError("interrupted")
    if not isinstance(error, Exception):
        return unexpected(error) if is_panic(error) else None
    if is_interruption(error):  # Ctrl-C came first, and then a clean-up failed
        return InterruptedRunError("interrupted")
    if _is_without_working_folder(error):
        return NoWorkingFolderError(f"the folder that this was started in is gone: {error}")
    return unexpected(error)  # a defect is printed in one line, like every other error


def _is_without_working_folder(error: Exception) -> bool:
    """Whether it is the error of getcwd(3) in a folder that was removed: it names no file, and getcwd still fails."""
    if not isinstance(error, FileNotFoundError) or error.filename is not None:
        return False
    try:
        os.getcwd()
    except OSError:
        return True
    return False


def serve_plainly(what: str, path: str) -> ExitCode:
    """Serves one session on standard input and output, and returns the exit code."""
    prepare_process(verbose=0)

    def work() -> ExitCode:
        # It uses no setting, but a broken file is reported by every command.
        load_settings(os.environ.get(CONFIG_VARIABLE) or None)
        from evidencesync.serve.serving import serve_source_stdio, serve_stdio

        (serve_stdio if what == "--vault" else serve_source_stdio)(path)
        return ExitCode.COMPLETE

    return guard(Console(kind=CommandKind.SERVES), work)
