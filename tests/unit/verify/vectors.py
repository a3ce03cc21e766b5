"""What a row of the tables of bad vaults is: what is done, and the finding that must name it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from tests.unit.verify.sample import ITEM, Made

SECOND: Final = f"{ITEM}/acquisitions/0002"
FIRST: Final = f"{ITEM}/acquisitions/0001"
CUSTODY: Final = f"{ITEM}/custody"
HEX: Final = "0123456789abcdef" * 4


class Bad(NamedTuple):
    """One row: slug, exit code and place of what must be found."""

    do: Callable[[Made], object]
    slug: str
    code: int
    place: str
    says: str = ""  # part of the message, where the same slug could come from something else

    def check(self, made: Made) -> None:
        """Spoils the vault, and looks for the finding."""
        self.do(made)
        verdict = made.audit()
        found = {(one.slug, one.path): one.message for one in verdict.findings if one.severity == "error"}
        assert self.says in found.get((self.slug, self.place), "nothing of the kind was found there"), sorted(found, key=str)
        assert (verdict.verdict, verdict.exit_code) == ("fail", self.code), sorted(found, key=str)
