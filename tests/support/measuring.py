"""Which other processes are measured for coverage. Each that is takes twice as long to start, so most of them are not."""

from __future__ import annotations

import os
from collections.abc import Mapping
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
