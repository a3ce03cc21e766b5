"""The one place where errors become exit codes."""

from __future__ import annotations

import os
from collections.abc import Callable

from evidencesync.cli.console import Console
from evidencesync.errors import EvidenceSyncError, ExitCode, InterruptedRunError, NoWorkingFolderError
from evidencesync.files.shortages import is_panic, unexpected


def guard(console: Console, work: Callable[[], ExitCode]) -> ExitCode:
    """Runs a command and says what went wrong; the exit code. Nothing but `-v` ever shows a traceback.

    A result that could not be printed is a failure, too (`Console.settle`).
    """
    return console.settle(_guarded(console, work))


def _guarded(console: Console, work: Callable[[], ExitCode]) -> ExitCode:
    try:
        return work()
    except EvidenceSyncError as error:
        failure = error
    except KeyboardInterrupt:
        failure = InterruptedRunError("interrupted")
    except Exception as error:  # noqa: BLE001 - a defect: it is said in one line, like everything else
        if isinstance(error.__context__, KeyboardInterrupt):  # it came in the middle of a clean-up
            failure = InterruptedRunError("interrupted")
        elif _is_nowhere(error):
            failure = NoWorkingFolderError(f"the folder that this was started in is gone: {error}")
        else:
            failure = unexpected(error)
    except BaseException as error:
        if not is_panic(error):
            raise
        failure = unexpected(error)
    console.fail(failure)
    return failure.exit_code


def _is_nowhere(error: Exception) -> bool:
    """Whether it is what getcwd says of a folder that was removed: it names no file."""
    if not isinstance(error, FileNotFoundError) or error.filename is not None:
        return False
    try:
        os.getcwd()
    except OSError:
        return True
    return False
