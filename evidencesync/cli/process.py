"""The process around a command: how it is stopped, and where log records go."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from types import FrameType
from typing import Final

from evidencesync.evidence.display import escape_line

_POLITE_STOPS: Final = ("SIGTERM", "SIGHUP")


def prepare_process(*, verbose: bool) -> None:
    """Makes a polite end of the process an interruption like Ctrl-C, and sends log records to stderr, one safe line each."""
    if threading.current_thread() is threading.main_thread():
        for name in _POLITE_STOPS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # what nohup has chosen stays
                signal.signal(number, _interrupt)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_ShieldingFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO if verbose else logging.WARNING, force=True)
    logging.getLogger("asyncssh").setLevel(logging.INFO if verbose else logging.ERROR)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """An event loop ends itself well at SIGINT, and would not at an exception out of nowhere.

    A shell that starts something in the background has it ignore SIGINT; a polite end must reach that, too.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


class _ShieldingFormatter(logging.Formatter):
    """A peer's words may be in a log record."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        return escape_line(f"{record.levelname.lower()}: {super().format(record)}".replace("\n", " | "))
