"""Ends a process by Ctrl-C before a command has begun: nothing has to be cleaned up. Loads nothing slow."""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import Final

from evidencesync.exit_codes import ExitCode

_LINE: Final = b"error: interrupted\n"
_DOCUMENT: Final = b'{"error":{"code":130,"slug":"interrupted","message":"interrupted","hint":"Run the same command again."}}\n'


def end_at_once(_number: int, _frame: FrameType | None) -> None:
    """Handles SIGINT: one line, or with --json one document, and the end."""
    as_json = "--json" in sys.argv
    try:
        os.write(1 if as_json else 2, _DOCUMENT if as_json else _LINE)
    except OSError:
        pass  # nobody listens: the exit code says it
    finally:
        os._exit(ExitCode.INTERRUPTED)  # noqa: TID251 - nothing was begun, so that nothing is left to be written
