"""Starts the process of a carrier (`evidencesync.transfer.carrier`), and nothing else.

Whoever will need one can start it before anything else is imported (`launch_ahead`): it takes a fifth of a second until it can
be told where to connect to. Hence this module imports little.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PIPE_BYTES: Final = 1024 * 1024
_PLACE: Final = str(Path(__file__).parents[2])
# The package that this process runs, wherever it lies; another version may stand on the path.
_PROGRAM: Final = (
    "import sys, importlib.machinery as m, importlib.util as u; s = m.PathFinder.find_spec('evidencesync', [sys.argv[3]]); "
    "p = sys.modules['evidencesync'] = u.module_from_spec(s); s.loader.exec_module(p); "
    "from evidencesync.transfer.carrying import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)
_HELD_BACK: Final = (signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Launched:
    """A carrier that waits to be told what to connect to, and this end of what joins us with it."""

    control: socket.socket
    sink: int
    process: subprocess.Popen[bytes]

    def discard(self) -> None:
        """Ends it: it was not needed."""
        self.process.kill()
        self.process.wait()
        self.control.close()
        os.close(self.sink)


_AHEAD: Final[list[Launched]] = []


def launch_ahead() -> None:
    """Starts a carrier for whoever is the first to need one. That there is no room for it is said then."""
    with contextlib.suppress(OSError):
        _AHEAD.append(_launch())


def discard_ahead() -> None:
    """Ends what was started ahead and not taken."""
    while _AHEAD:
        _AHEAD.pop().discard()


def launch() -> Launched:
    """A carrier: one that was started ahead, else a new one. Raises OSError where the system has no room for a process."""
    return _AHEAD.pop() if _AHEAD else _launch()


def _launch() -> Launched:
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
        control, far_control = socket.socketpair()
        ours.callback(control.close)
        theirs.callback(far_control.close)
        source, sink = os.pipe()
        ours.callback(os.close, sink)
        theirs.callback(os.close, source)
        _enlarge(sink)
        # -P: the current folder holds no modules for us. It may hold evidence.
        command = [sys.executable, "-P", "-c", _PROGRAM, str(far_control.fileno()), str(source), _PLACE]
        with _signals_held_back():
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=(far_control.fileno(), source)
            )
        ours.pop_all()
    return Launched(control, sink, process)


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """A process that is started here begins with Ctrl-C held back, until it can say itself what is to become of it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _enlarge(descriptor: int) -> None:
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # a user at his limit: slower, not wrong
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
