"""Segments and frames of a quarter of their size, for tests of what becomes of many of them: a quarter of the bytes is enough."""

from __future__ import annotations

from typing import Final

import pytest

from evidencesync.delta import chunker
from evidencesync.limits import MAX_SEGMENT
from evidencesync.protocol import data_frames, receiver

UNIT: Final = 1 << 18
"""To such a segment what a MiB is to a real one."""


def cut_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts segments when one more chunk could exceed a MiB, and frames of data after 508 KiB."""
    monkeypatch.setattr(chunker, "MAX_SEGMENT", MAX_SEGMENT // 4)
    for module in (data_frames, receiver):
        monkeypatch.setattr(module, "MAX_DATA", 508 << 10)
