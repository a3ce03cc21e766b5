"""The entry point of the command line. It imports nothing slow before it knows what is asked for: `--help` must answer at once.

`serve --vault PATH` and `serve --source PATH`, which sshd starts for a push or a pull, are recognised first and run without
typer: their start delays every transfer to another machine.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Sequence
from typing import Final

from evidencesync.cli.console import Console
from evidencesync.cli.interrupts import ignore_interrupts, repeat_lost_interrupts
from evidencesync.errors import EvidenceSyncError, InterruptedRunError
from evidencesync.exit_codes import ExitCode
from evidencesync.files.shortages import unexpected

_OUT_OF_MEMORY: Final = b"error: out of memory\nhint: Raise the limit (ulimit -v, ulimit -d), then run the same command again.\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line, and returns its exit code. Never raises. Shows a traceback only with `-v`."""
    try:
        return _main(arguments)
    except MemoryError:  # raised again while the first one was printed
        with contextlib.suppress(OSError):
            os.write(2, _OUT_OF_MEMORY)
        return int(ExitCode.INTERNAL)


def _main(arguments: Sequence[str] | None) -> int:
    if arguments is None:
        _open_closed_streams()
        repeat_lost_interrupts()
    given = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(as_json="--json" in given, verbose="-v" in given or "-vv" in given)
    try:
        code = _run(given, console)
    except KeyboardInterrupt:
        console.print_error(InterruptedRunError("interrupted"))
        code = ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - before a command has begun: bad words, or a system without memory
        failure = error if isinstance(error, EvidenceSyncError) else unexpected(error)
        console.print_error(failure)
        code = failure.exit_code
    finally:
        if arguments is None:
            _prepare_end()
    return int(code)


def _open_closed_streams() -> None:
    """Opens /dev/null in place of each standard stream (0, 1, 2) that the caller has closed.

    Otherwise the next opened file, perhaps one of a vault, would get that number, and with it what any library prints.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)  # open(2) gives the lowest free number


def _prepare_end() -> None:
    """Ignores Ctrl-C from now on, and speeds up the end."""
    ignore_interrupts()
    # With `python -m`, the interpreter kills itself with SIGINT at its end if Ctrl-C came during an exec() (dataclasses are made
    # with exec), whatever the exit code is. Another exec() resets that state.
    with contextlib.suppress(MemoryError):
        exec("")  # noqa: S102 - nothing is executed; see above
    gc.freeze()  # else the interpreter looks through all objects for cycles once more: 50 ms


def _run(given: list[str], console: Console) -> int:
    if _is_plain_serve(given):
        from evidencesync.cli.guard import serve_plainly

        return serve_plainly(given[1], given[2])
    from evidencesync.cli.commands import run

    return run(given, console)


def _is_plain_serve(given: list[str]) -> bool:
    """Whether the arguments are exactly `serve --vault PATH` or `serve --source PATH`, without any other option."""
    return len(given) == 3 and given[0] == "serve" and given[1] in ("--vault", "--source") and given[2][:1] not in ("", "-")
