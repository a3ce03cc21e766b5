"""Prepares the process for a command: which signals stop it, and where log records go."""

from __future__ import annotations

import logging
import sys

from evidencesync.cli.interrupts import catch_stop_signals
from evidencesync.evidence.display import escape_line


def prepare_process(*, verbose: bool) -> None:
    """Makes SIGTERM and SIGHUP interrupt the command as Ctrl-C does, and sends log records to stderr, one escaped line each."""
    catch_stop_signals()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_EscapingFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO if verbose else logging.WARNING, force=True)
    logging.getLogger("asyncssh").setLevel(logging.INFO if verbose else logging.ERROR)


class _EscapingFormatter(logging.Formatter):
    """Escapes log records, which may quote a peer."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        return escape_line(f"{record.levelname.lower()}: {super().format(record)}".replace("\n", " | "))
