"""A process that may start no thread: hashing goes on in the one that it has."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from blake3 import blake3

from evidencesync.files import large_hash
from tests.support.ordinary_user import as_ordinary_user

_REPOSITORY: Final = Path(__file__).parents[2]
_NOBODY_ELSE: Final = 61_873  # a user of whom nothing runs
_DATA: Final = bytes(range(256)) * 20_000
_HASHES: Final = """
import sys
from evidencesync.files.large_hash import new_parallel_blake3
for _ in range(2):
    hasher = new_parallel_blake3()
    hasher.update(bytes(range(256)) * 20_000)
    print(hasher.hexdigest())
"""


@pytest.fixture
def no_memory_of_threads() -> Iterator[None]:
    large_hash._most_threads.cache_clear()
    yield
    large_hash._most_threads.cache_clear()


@pytest.mark.skipif(os.geteuid() != 0, reason="only where the system has root to become another user")
def test_where_no_thread_can_be_started_contents_are_hashed_in_one(require_program: Callable[[str], str]) -> None:
    limited = [require_program("prlimit"), "--nproc=1", sys.executable, "-c", _HASHES]
    environment = {**os.environ, "PYTHONPATH": str(_REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        as_ordinary_user(limited, _NOBODY_ELSE), env=environment, check=False, capture_output=True, text=True, cwd=_REPOSITORY
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [blake3(_DATA).hexdigest()] * 2, "")


@pytest.mark.usefixtures("no_memory_of_threads")
def test_only_refused_threads_are_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    panic = type("PanicException", (BaseException,), {})
    for raised, expected in ((panic, None), (KeyboardInterrupt, KeyboardInterrupt)):

        def refused(data: bytes = b"", max_threads: int = 1, error: type[BaseException] = raised) -> blake3:
            if max_threads != 1:
                raise error
            return blake3(data)

        refused.AUTO = blake3.AUTO  # type: ignore[attr-defined]
        monkeypatch.setattr(large_hash, "blake3", refused)
        if expected is None:
            assert large_hash.new_parallel_blake3().digest() == blake3().digest()
            large_hash._most_threads.cache_clear()
        else:
            with pytest.raises(expected):
                large_hash.new_parallel_blake3()
