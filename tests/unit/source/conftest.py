from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_SECONDS

AsNobody = Callable[[str, Path], object]

_AS_NOBODY = """
import json, os, sys
from evidencesync.errors import *
from evidencesync.source.filters import FilterRules
from evidencesync.source.metadata import EntryMaker
from evidencesync.source.reader import open_file, read_small
from evidencesync.source.walker import walk
root = os.fsencode(sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder that any account can reach, and whose removal does not mind what is in it (pytest's own minds depth)."""
    folder = Path(tempfile.mkdtemp(prefix="evidence-source-"))
    folder.chmod(0o755)
    yield folder
    subprocess.run(["chmod", "-R", "u+rwX", folder], check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["rm", "-rf", folder], check=True)


@pytest.fixture
def as_nobody() -> AsNobody:
    """Runs a script that sets `answer`, with `root` given, as an account without privileges; returns what it answers."""

    def run(script: str, root: Path) -> object:
        code = f"{_AS_NOBODY}\n{script}\nprint(json.dumps(answer))"
        done = subprocess.run(
            [sys.executable, "-c", code, root], capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def open_descriptors() -> Callable[[], int]:
    """Counts this process's descriptors; walks that earlier tests have dropped are closed first."""

    def count() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    return count
