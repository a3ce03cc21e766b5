"""Runs under faketime: a date of another year, and a steady clock, sleeps and patience as ever. See false_clock.c."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_name("false_clock.c")
_VARIABLES: Final = ("LD_PRELOAD", "FALSE_CLOCK_SECONDS")


def take_the_place_of_libfaketime() -> None:
    """For all processes that are started from here on; nothing where no clock is false. Without a C compiler, tests will fail."""
    loaded = os.environ.get("LD_PRELOAD", "").split(":")
    if not any("libfaketime" in name for name in loaded):
        return
    library = Path(tempfile.mkdtemp(prefix="evidencesync-"), "false_clock.so")
    library.parent.chmod(0o755)  # tests start programs as other users
    others = [name for name in loaded if "libfaketime" not in name]
    without = {**os.environ, "LD_PRELOAD": ":".join(others)}
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, _SOURCE, "-ldl"], check=True, env=without)
    true_time = subprocess.run(["date", "+%s"], check=True, env=without, capture_output=True, text=True).stdout
    os.environ["FALSE_CLOCK_SECONDS"] = str(round(time.time()) - int(true_time))
    os.environ["LD_PRELOAD"] = ":".join([str(library), *others])


def same_clock_for_sshd() -> list[str]:
    """What `SetEnv` is to give whatever this server starts, so that it has our clock: sshd keeps no variable of its own."""
    if "FALSE_CLOCK_SECONDS" not in os.environ:
        return []
    return [f"{name}={os.environ[name]}" for name in _VARIABLES]
