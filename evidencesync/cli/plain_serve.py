"""Runs `serve --vault PATH` and `serve --source PATH`, which sshd starts, without typer: importing it would cost time."""

from __future__ import annotations

import os

from evidencesync.cli.console import Console
from evidencesync.cli.guard import guard
from evidencesync.cli.process import prepare_process
from evidencesync.cli.settings import CONFIG_VARIABLE, load_settings
from evidencesync.errors import CommandKind
from evidencesync.exit_codes import ExitCode


def serve_plainly(what: str, path: str) -> ExitCode:
    """Serves one session on standard input and output, and returns the exit code."""
    prepare_process(verbose=False)

    def work() -> ExitCode:
        # It uses no setting, but a broken file is reported by every command.
        load_settings(os.environ.get(CONFIG_VARIABLE) or None)
        from evidencesync.serve.serving import serve_source_stdio, serve_stdio

        (serve_stdio if what == "--vault" else serve_source_stdio)(path)
        return ExitCode.COMPLETE

    return guard(Console(kind=CommandKind.SERVES), work)
