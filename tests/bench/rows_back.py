"""What comes back from a vault that is far away: a restore beside rsync and scp, fresh and with an older state here; and lists.

The lines are those of the rows of pushes. rsync and scp compare nothing with what was acquired.
"""

from __future__ import annotations

from typing import Final

from tests.bench.readers import LIST, SHOW, Find, RsyncBack, Scp, restore
from tests.bench.row import PEAK_GOAL_MIB, Lane, Ratio, Row
from tests.bench.rows_far import LINES
from tests.bench.work import History, Step, Work, Workshop, files_work, image_work

_SCP: Final = Scp()
_FRESH: Final = RsyncBack()
_OLDER: Final = RsyncBack("rsync -a, older state there", basis=True)


def _again(work: Work) -> Work:
    """What was sent last is what is fetched: it is known, too."""

    def make(shop: Workshop) -> History:
        history = work.make(shop)
        states = tuple(dict.fromkeys((*history.known, *history.sent)))
        return History(states, (Step(states[-1].source),))

    return Work(make, lambda sizes: 2 * work.space(sizes))


def _restores(name: str, title: str, work: Work, *others: RsyncBack | Scp, basis: bool = False) -> tuple[Row, ...]:
    ratios = tuple(Ratio(other.name) for other in others)
    plain = restore("evidencesync restore, no read-back", basis=basis, options=("--no-read-back",))
    ours = [Lane(one, ratios, peak_goal_mib=PEAK_GOAL_MIB) for one in (plain, restore("evidencesync restore", basis=basis))]
    lanes = (*(Lane(other) for other in others), *ours)
    return tuple(Row(f"R-{name}-{key}", f"{title}; {words}", _again(work), lanes, line=line) for key, words, line in LINES)


def _lists(name: str, title: str) -> Row:
    find, key = Find(), "wide"
    lanes = (Lane(find), Lane(LIST, (Ratio(find.name),)), Lane(SHOW, (Ratio(find.name),), peak_goal_mib=PEAK_GOAL_MIB))
    words, line = next((words, line) for one, words, line in LINES if one == key)
    return Row(f"R-{name}-{key}", f"{title}; {words}", _again(files_work()), lanes, line=line)


BACK: Final = (
    *_restores("image", "a thirty-second of A back, nothing here yet", image_work(share=1 / 32), _FRESH, _SCP),
    # Without scp: it waits for each file in turn, an hour for these.
    *_restores("files", "a tenth of B back, nothing here yet", files_work(share=0.1), _FRESH),
    *_restores(
        "older",
        "an eighth of A back, here as it was before the edits",
        image_work("edited", known=True, share=1 / 8),
        _OLDER,
        basis=True,
    ),
    _lists("lists", "names, sizes and times of B"),
)
