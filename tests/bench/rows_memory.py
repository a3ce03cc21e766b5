"""What the largest process of either end holds, by size and by number. Only run when they are named."""

from __future__ import annotations

from typing import Final

from tests.bench.contenders import EvidenceSync
from tests.bench.row import PEAK_GOAL_MIB, Lane, Row
from tests.bench.work import Work, files_work, image_work

_OURS: Final = (Lane(EvidenceSync(), peak_goal_mib=PEAK_GOAL_MIB),)


def _row(name: str, title: str, work: Work) -> Row:
    return Row(f"M-{name}", title, work, _OURS, by_default=False)


MEMORY: Final = (
    _row("image", "A, nothing there yet", image_work()),
    _row("image-8", "eight times A (16 GiB)", image_work(share=8)),
    _row("files", "B, nothing there yet", files_work()),
    _row("files-10", "ten times B (1,000,000 files)", files_work(share=10)),
    _row("files-10-same", "ten times B, unchanged", files_work(known=1, share=10)),
)
