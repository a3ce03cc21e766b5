"""Processes that die in the middle of their work: forks of one that has imported what they need, and that spares no disk."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.support.patience import PATIENCE_SECONDS

_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.faults.power_victim", "tests.faults.publish_victim"])


def run_victim(
    main: Callable[..., None], *arguments: str, folder: Path, environment: Mapping[str, str] = os.environ
) -> tuple[int | None, str, str]:
    """Calls `main` in a process of its own, in `folder`. How it ended, as `subprocess` says it, and what it wrote there."""
    said = folder / "said", folder / "said as errors"
    process = _FORKS.Process(target=_be_the_victim, args=(main, arguments, said, folder, dict(environment)))
    process.start()
    process.join(PATIENCE_SECONDS)
    return process.exitcode, said[0].read_text(), said[1].read_text()


def _be_the_victim(
    main: Callable[..., None], arguments: tuple[str, ...], said: tuple[Path, Path], folder: Path, environment: dict[str, str]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)  # noqa: TID251 - a process of its own
    for number, path in enumerate(said, start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    main(*arguments)
