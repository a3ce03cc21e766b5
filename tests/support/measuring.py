"""Which other processes are measured for coverage. Each that is takes twice as long to start, so most of them are not."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

_NAME: Final = "COVERAGE_PROCESS_CONFIG"
_kept: dict[str, str] = {}


def keep_for_the_chosen() -> None:
    """Takes the order to measure out of the environment; no process is measured from now on unless it is chosen."""
    if _NAME in os.environ:
        _kept[_NAME] = os.environ.pop(_NAME)


def measured(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment with the order in it, where this run has one."""
    return {**environment, **_kept}


def import_all_modules() -> None:
    """Every module of the package; what starts the program is not one that is imported."""
    import evidencesync

    for module in pkgutil.walk_packages(evidencesync.__path__, "evidencesync."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


@contextmanager
def unmeasured() -> Iterator[None]:
    """Measures nothing meanwhile but what each module of ours runs when it is imported: all of them are, before."""
    coverage = sys.modules.get("coverage")
    running = coverage.Coverage.current() if coverage else None
    if running is None:
        yield
        return
    import_all_modules()
    running.stop()
    try:
        yield
    finally:
        running.start()
