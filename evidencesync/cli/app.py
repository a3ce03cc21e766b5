"""Where a command line begins. Nothing slow is imported before it is known what is wanted: `--help` must answer at once.

What sshd starts for a push or a pull, `serve --vault PATH` or `serve --source PATH`, is on the way of every transfer to another
machine: it is looked at first, and run without a parser of command lines.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Final

from evidencesync.cli.console import Console
from evidencesync.errors import ExitCode, InterruptedRunError
from evidencesync.files.shortages import unexpected

_OUT_OF_MEMORY: Final = b"error: out of memory\nhint: Raise the limit (ulimit -v, ulimit -d), then run the same command again.\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line; its exit code. Never raises, and never shows a traceback unless asked to."""
    try:
        return _main(arguments)
    except MemoryError:  # once more, while it was said
        with contextlib.suppress(OSError):
            os.write(2, _OUT_OF_MEMORY)
        return int(ExitCode.INTERNAL)


def _main(arguments: Sequence[str] | None) -> int:
    if arguments is None:
        _take_closed_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(as_json="--json" in given, verbose="-v" in given)
    try:
        code = _run(given, console)
    except KeyboardInterrupt:
        console.fail(InterruptedRunError("interrupted"))
        code = ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - before a command has begun: a system without room, mostly
        failure = unexpected(error)
        console.fail(failure)
        code = failure.exit_code
    finally:
        if arguments is None:
            _prepare_end()
    return int(code)


def _take_closed_streams() -> None:
    """Opens what the caller has closed of 0, 1 and 2, on nothing.

    Else the next file that is opened, one of a vault perhaps, would get that number, and whatever any library writes to it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)  # which takes the lowest number that is free


def _prepare_end() -> None:
    """The outcome is said. An impatient Ctrl-C while the process ends would only replace its exit code."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # With `python -m` the interpreter kills itself with SIGINT, whatever exit code it is given, where Ctrl-C came while a
        # text was executed (which is how dataclasses are made). The next text that is executed has it forget that.
        with contextlib.suppress(MemoryError):
            exec("")  # noqa: S102 - nothing is executed; see above
    gc.freeze()  # or the interpreter would go through all there is once more, looking for cycles: 50 ms


def _run(given: list[str], console: Console) -> int:
    if _is_plain_serve(given):
        from evidencesync.cli.plain_serve import serve_plainly

        return serve_plainly(given[1], given[2])
    from evidencesync.cli.commands import run

    return run(given, console)


def _is_plain_serve(given: list[str]) -> bool:
    """What means `serve --vault PATH` or `serve --source PATH` to any parser, and leaves no other question."""
    return len(given) == 3 and given[0] == "serve" and given[1] in ("--vault", "--source") and given[2][:1] not in ("", "-")
