"""The one place where errors become exit codes."""

from __future__ import annotations

from collections.abc import Callable

from evidencesync.cli.console import Console
from evidencesync.errors import EvidenceSyncError, ExitCode, InterruptedRunError
from evidencesync.shortages import unexpected


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
        in_a_clean_up = isinstance(error.__context__, KeyboardInterrupt)
        failure = InterruptedRunError("interrupted") if in_a_clean_up else unexpected(error)
    console.fail(failure)
    return failure.exit_code
