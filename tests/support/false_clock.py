"""Runs under faketime: a date of another year, and a steady clock, sleeps and patience as ever.

Python's waits with a timeout take their end from the steady clock and ask the kernel, which no library sees, to wait for
it. So that clock must stay true in all processes of a run, and sleeps must be true as well: see steady_sleep.c.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_name("steady_sleep.c")


def keep_the_steady_clock_true() -> None:
    """For all processes that are started from here on; nothing where no clock is false. Without a C compiler, tests will fail."""
    loaded = os.environ.get("LD_PRELOAD", "")
    if "libfaketime" not in loaded or "steady_sleep" in loaded:
        return
    library = Path(tempfile.mkdtemp(prefix="evidencesync-"), "steady_sleep.so")
    library.parent.chmod(0o755)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, _SOURCE], check=True)
    os.environ["LD_PRELOAD"] = f"{library}:{loaded}"
    for name in ("FAKETIME_DONT_FAKE_MONOTONIC", "DONT_FAKE_MONOTONIC"):
        os.environ[name] = "1"
