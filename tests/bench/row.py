"""What a row of the comparison is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.bench.contenders import Contender, EvidenceSync
from tests.bench.work import Work
from tests.support.line import NetworkLine

PEAK_GOAL_MIB: Final = 200.0


@dataclass(frozen=True)
class Ratio:
    """A lane's cost by that of the lane named `against`. Goals are upper bounds; None where there is none."""

    against: str
    wall_goal: float | None = None
    wire_goal: float | None = None


@dataclass(frozen=True)
class Lane:
    """One contender of a row."""

    contender: Contender
    ratios: tuple[Ratio, ...] = ()
    real_disk_only: bool = False  # on a tmpfs it would measure nothing
    peak_goal_mib: float | None = None


@dataclass(frozen=True)
class Row:
    """One piece of work. With `line`, all contenders go through a proxy that is such a line and counts their bytes."""

    name: str
    title: str
    work: Work
    lanes: tuple[Lane, ...]
    by_default: bool = True
    line: NetworkLine | None = None


def ours(*ratios: Ratio, read_back: tuple[Ratio, ...] | None = None) -> tuple[Lane, Lane]:
    """Both of our lanes: without read-back, which is what most goals are about, and with it, as it is by default."""
    plain = tuple(Ratio(ratio.against, None, ratio.wire_goal) for ratio in ratios)
    return (
        Lane(EvidenceSync("evidencesync, no read-back", ("--no-read-back",)), ratios, peak_goal_mib=PEAK_GOAL_MIB),
        Lane(EvidenceSync("evidencesync"), plain if read_back is None else read_back, peak_goal_mib=PEAK_GOAL_MIB),
    )
