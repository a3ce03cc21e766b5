"""The one place where errors become exit codes."""

from __future__ import annotations

from collections.abc import Callable

from evidencesync.cli.console import Console
from evidencesync.errors import EvidenceSyncError, ExitCode, InternalError, InterruptedRunError


def guard(console: Console, work: Callable[[], ExitCode]) -> ExitCode:
    """Runs a command and says what went wrong; the exit code. Nothing but `-v` ever shows a traceback."""
    try:
        try:
            return work()
        except EvidenceSyncError as error:
            console.fail(error)
            return error.exit_code
        except KeyboardInterrupt:
            return _interrupted(console)
        except Exception as error:  # noqa: BLE001 - a defect: it is said in one line, like everything else
            if isinstance(error.__context__, KeyboardInterrupt):  # it came in the middle of a clean-up
                return _interrupted(console)
            failure = InternalError(f"{type(error).__name__}: {error}")
            failure.__cause__ = error
            console.fail(failure)
            return failure.exit_code
    except EvidenceSyncError as error:  # stdout takes no more, so stderr must say it
        Console().fail(error)
        return error.exit_code


def _interrupted(console: Console) -> ExitCode:
    interrupted = InterruptedRunError("interrupted")
    console.fail(interrupted)
    return interrupted.exit_code
