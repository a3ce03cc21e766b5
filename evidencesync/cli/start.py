"""The first module of a process. It loads nothing before Ctrl-C has a meaning: until a command begins, it ends all at once.

While modules are loaded, an interrupt would be raised in the middle of one: a traceback, or whatever a library makes of it.
What comes earlier, while Python itself starts, is Python's.
"""

from __future__ import annotations

import gc
import signal
from typing import Final

from evidencesync.cli.at_once import end_at_once

_OBJECTS: Final = 20_000
"""So many more objects make the interpreter look for cycles; Python's own number is 700. What is loaded at a start stays, and so
does most of a page of small files until the page is sent or stored: to look through them more often finds nothing."""


def main() -> int:
    """Runs the command line of this process, and returns its exit code."""
    gc.set_threshold(_OBJECTS)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else a shell has had it ignored, for the background
        signal.signal(signal.SIGINT, end_at_once)
    from evidencesync.cli.app import main as run

    return run()
