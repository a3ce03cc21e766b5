"""Turns the error that ends a command into its exit code. No other module does."""

from __future__ import annotations

import os
from collections.abc import Callable

from evidencesync.cli.console import Console
from evidencesync.cli.interrupts import is_interruption
from evidencesync.errors import EvidenceSyncError, InterruptedRunError, NoWorkingFolderError
from evidencesync.exit_codes import ExitCode
from evidencesync.files.shortages import is_panic, unexpected


def guard(console: Console, work: Callable[[], ExitCode]) -> ExitCode:
    """Runs a command, prints its error, and returns the exit code. A traceback is shown only with `-v`.

    A result that could not be printed is a failure, too (`Console.exit_code_of`).
    """
    return console.exit_code_of(_guarded(console, work))


def _guarded(console: Console, work: Callable[[], ExitCode]) -> ExitCode:
    try:
        return work()
    except EvidenceSyncError as error:
        failure = error
    except KeyboardInterrupt:
        failure = InterruptedRunError("interrupted")
    except Exception as error:  # noqa: BLE001 - a defect is printed in one line, like every other error
        if is_interruption(error):  # Ctrl-C came first, and then a clean-up failed
            failure = InterruptedRunError("interrupted")
        elif _is_without_working_folder(error):
            failure = NoWorkingFolderError(f"the folder that this was started in is gone: {error}")
        else:
            failure = unexpected(error)
    except BaseException as error:
        if not is_panic(error):
            raise
        failure = unexpected(error)
    console.print_error(failure)
    return failure.exit_code


def _is_without_working_folder(error: Exception) -> bool:
    """Whether it is the error of getcwd(3) in a folder that was removed: it names no file, and getcwd still fails."""
    if not isinstance(error, FileNotFoundError) or error.filename is not None:
        return False
    try:
        os.getcwd()
    except OSError:
        return True
    return False
