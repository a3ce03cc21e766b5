"""Across the vault: evidence that is, in whole or in part, there already under another name, item or case.

rsync has the best it can honestly do. `--fuzzy` looks for a similar name in the same folder only, and needs
`--delete-after` to have it there; `--link-dest` names the folders of the other items. It needs to be told where to look, and
evidencesync is not. The rows run through a proxy that delays nothing, so that all bytes are counted alike.
"""

from __future__ import annotations

from typing import Final

from tests.bench.contenders import Contender, EvidenceSync, Rsync
from tests.bench.histories import WORKS
from tests.bench.peers import Borg, Casync, Restic
from tests.bench.row import PEAK_GOAL_MIB, Lane, Ratio, Row
from tests.bench.work import Work, image_work
from tests.support.line import NetworkLine

_PLAIN: Final = Rsync()
_FUZZY: Final = Rsync("rsync -a --fuzzy", ("-a", "--fuzzy", "--delete-after"))
_RELATED: Final = Rsync("rsync -a --link-dest", related=True)


def _row(name: str, title: str, best: Contender, *, work: Work | None = None, wire: float | None = None) -> Row:
    ours = EvidenceSync("evidencesync, no read-back", ("--no-read-back",))
    against = (Ratio(best.name, wire_goal=wire), *(Ratio(peer.name) for peer in (Borg(), Restic(), Casync())))
    lanes = (Lane(best), Lane(Borg()), Lane(Restic()), Lane(Casync()), Lane(ours, against, peak_goal_mib=PEAK_GOAL_MIB))
    return Row(f"V-{name}", title, work or WORKS[name], lanes, line=NetworkLine())


VAULT: Final = (
    _row("moved", "a tenth of B, half of it renamed, half moved", _FUZZY),
    _row("rotated", "four logs rotated, and a new one", _FUZZY),
    _row("other-item", "a tenth of B from another machine, same case", _RELATED),
    _row("other-case", "a tenth of B in another case", _RELATED),
    _row("images", "19 images, each unlike a known one in 2 %", _RELATED),
    _row("growing", "a log on five days, 2 % more each", _PLAIN),
    _row("database", "a SQLite database, 1 % of its rows changed", _PLAIN),
    _row("builds", "a second build of an image, in another order, 10 % new", _PLAIN),
    _row("shifted", "64 KiB moved inside an image", _PLAIN),
    _row("edits", "A, ten thousand edits of 4 KiB", _PLAIN, work=image_work("edited", known=True, edits=10_000), wire=0.2),
)
