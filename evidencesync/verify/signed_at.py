"""Says by what time a signature is judged, and who states that time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

TimeSource = Literal[
    "a trusted timestamp was made over it",
    "the vault signed for it",
    "the vault, which had signed for it before, recorded that the key was retired",
    "it is checked",
]
TRUSTED_TIME: Final[TimeSource] = "a trusted timestamp was made over it"
BY_THE_VAULT: Final[TimeSource] = "the vault signed for it"
RETIREMENT: Final[TimeSource] = "the vault, which had signed for it before, recorded that the key was retired"
ON_ITS_WAY_NS: Final = 2 * 86_400 * 1_000_000_000
"""How much earlier than a change of trust a later record may be dated: longer than a session that adds to a chain."""


@dataclass(frozen=True, slots=True)
class SignedAt:
    """The time by which a signature is judged (nanoseconds since the epoch), and its source: never the signer's clock.

    A trusted timestamp's authority comes first, then the vault, then the clock of the checker.
    """

    ns: int
    source: TimeSource
    stated_by: int | None = None
    """The number of the first record of the vault's own chain that states it, or a later record of its chain."""
    earliest_ns: int | None = None
    """Of a timestamp: the time that it states. `ns` is later by as much as its authority's clock may be slow."""
    without: SignedAt | None = None
    """Of a timestamp: the time by which the signature would be judged without it. It may have been made long before."""
