"""Runs a program as somebody without privileges, whatever the modes of the folders in which this Python lies."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

NOBODY: Final = 65_534

# In a mount namespace of its own: Python's own folder is kept, and what is closed around it is replaced by something open.
_OPEN_UP: Final = """
set -e
hold=$(mktemp -d)
mount --bind "$1" "$hold"
mount -t tmpfs -o mode=0755 none "$2"
mkdir -p "$1"
mount --bind "$hold" "$1"
shift 2
exec "$@"
"""


def as_ordinary_user(command: Sequence[str | Path], user: int = NOBODY) -> list[str]:
    """The command line that runs a command as `nobody`, or as somebody whom the password database does not know.

    To be run by root; the test is skipped where nothing can be mounted.
    """
    lowered = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", *map(str, command)]
    python = Path(sys.base_prefix).resolve()
    closed = next((folder for folder in reversed(python.parents) if not folder.stat().st_mode & 0o001), None)
    if closed is None:
        return lowered
    inside = ["unshare", "--mount", "sh", "-c", _OPEN_UP, "sh", str(python), str(closed)]
    if subprocess.run([*inside, "true"], check=False, capture_output=True).returncode:
        pytest.skip("the kernel refuses to mount here")
    return [*inside, *lowered]
