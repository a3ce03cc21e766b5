"""Says what a person types next who has read the findings of `verify`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from evidencesync.verify.next_steps import NEXT, NO_MORE_RECORDS, next_steps

if TYPE_CHECKING:
    from evidencesync.verify.findings import Verdict

_HINTED: Final = ("vault-not-found", "not-there")
"""What was named is wrong: the finding itself says what is there."""


def next_lines(verdict: Verdict, fill: Callable[[str], str], *, recorded: bool) -> Iterator[str]:
    """What to do now, worst first, where the verdict is no pass. `fill` puts into a command what was typed."""
    if verdict.verdict == "pass" or any(finding.slug in _HINTED for finding in verdict.findings):
        return
    for text in next_steps(verdict.findings):
        yield f"next: {fill(text)}"
    errors = [finding.slug for finding in verdict.findings if finding.slug in NEXT and finding.severity == "error"]
    if errors and not recorded and verdict.heads and not any(NEXT[slug] in NO_MORE_RECORDS for slug in errors):
        yield "next: State this verdict in the item's chain of custody: the same command with --record."
