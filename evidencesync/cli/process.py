"""Prepares the process for a command: which signals stop it, and where log records go."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from types import FrameType
from typing import Final

from evidencesync.evidence.display import escape_line

_STOP_SIGNALS: Final = ("SIGTERM", "SIGHUP")


def prepare_process(*, verbose: bool) -> None:
    """Makes SIGTERM and SIGHUP interrupt the command as Ctrl-C does, and sends log records to stderr, one escaped line each."""
    if threading.current_thread() is threading.main_thread():
        for name in _STOP_SIGNALS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # else nohup has set it, and it stays
                signal.signal(number, _interrupt)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_EscapingFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO if verbose else logging.WARNING, force=True)
    logging.getLogger("asyncssh").setLevel(logging.INFO if verbose else logging.ERROR)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Passes the signal on as SIGINT: asyncio ends an event loop cleanly at SIGINT, and not at an exception at any place.

    A shell starts background processes with SIGINT ignored. There the exception is raised directly.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


class _EscapingFormatter(logging.Formatter):
    """Escapes log records, which may quote a peer."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        return escape_line(f"{record.levelname.lower()}: {super().format(record)}".replace("\n", " | "))
