"""A vault that is far away: a round trip of 100 ms, once with 100 Mbit/s each way and once with all that the machine gives.

The proxy of the tests makes the line. All use the same cipher. The goal is not to be slower than rsync.
"""

from __future__ import annotations

from typing import Final

from tests.bench.contenders import Rsync
from tests.bench.row import Lane, Ratio, Row, ours
from tests.bench.work import Work, files_work, image_work
from tests.support.line import NetworkLine

_CIPHER: Final = ("-c", "aes128-gcm@openssh.com")
_RSYNC: Final = Rsync("rsync -a", ssh_options=_CIPHER)
_COMPRESSING: Final = Rsync("rsync -az", ("-az",), ssh_options=_CIPHER)
_CHECKSUMS: Final = Rsync("rsync -ac", ("-ac",), ssh_options=_CIPHER)
LINES: Final = (
    ("wide", "100 ms", NetworkLine(round_trip=0.1)),
    ("100M", "100 ms, 100 Mbit/s", NetworkLine(round_trip=0.1, rate=12_500_000)),
)


def _row(name: str, title: str, work: Work, *others: Rsync) -> tuple[Row, ...]:
    best = others[0].name
    lanes = (*(Lane(other) for other in others), *ours(Ratio(best, wall_goal=1.0), read_back=(Ratio(best),)))
    return tuple(Row(f"F-{name}-{key}", f"{title}; {words}", work, lanes, line=line) for key, words, line in LINES)


FAR: Final = (
    *_row("small", "a thirty-second of A, nothing there yet", image_work(share=1 / 32), _RSYNC, _COMPRESSING),
    *_row("edits", "an eighth of A, as many 4 KiB edits as in all of it", image_work("edited", known=True, share=1 / 8), _RSYNC),
    *_row("files", "a tenth of B, nothing there yet", files_work(share=0.1), _RSYNC, _COMPRESSING),
    *_row("same", "a tenth of B, unchanged, every byte compared", files_work(known=1, share=0.1), _CHECKSUMS, _RSYNC),
)
