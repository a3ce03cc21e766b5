"""Shares of a server's places, for those who have not shown yet that anybody trusts them: no stranger takes the others' places.

The model is OpenSSH's MaxStartups with PerSourceMaxStartups and PerSourceNetBlockSize. Two things are other here: a share is of
whatever somebody comes with (an address, a login key), and where a place is needed, whoever has waited longest gives up his,
once he has had his time. So nobody is turned away by chance, and many users behind one address come in one after the other.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

_IP6_PREFIX = 64  # what one customer has; he may take any address of it


@dataclass(frozen=True, slots=True)
class Share:
    """How many of one origin (an address, a key) may wait at a time."""

    origin: str
    most: int


class Waiting(Generic[T]):
    """Those who wait, the one that came first first. `patience_seconds` is what each is left in peace for."""

    def __init__(self, patience_seconds: float) -> None:
        self._patience = patience_seconds
        self._members: dict[T, tuple[tuple[str, ...], float]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, member: object) -> bool:
        return member in self._members

    def enter(self, member: T, shares: Sequence[Share], total: int, now: float) -> list[T] | None:
        """Lets one in: who must leave for that, or None where there is no place for him.

        1. A share that is full: the one of the same origin who has waited longest leaves, if he has had his time.
        2. All places are taken: the same for the origin that has the most of them.
        """
        leaving: list[T] = []
        for share in shares:
            same = self._of(share.origin, leaving)
            if len(same) >= share.most and not self._give_up(same, leaving, now):
                return None
        if len(self._members) - len(leaving) >= total and not self._give_up(self._of_the_most(leaving), leaving, now):
            return None
        for one in leaving:
            del self._members[one]
        self._members[member] = tuple(share.origin for share in shares), now
        return leaving

    def leave(self, member: T) -> None:
        """One has gone, or has shown who he is. Safe to call again."""
        self._members.pop(member, None)

    def _of(self, origin: str, leaving: Sequence[T]) -> list[T]:
        return [one for one, (origins, _) in self._members.items() if origin in origins and one not in leaving]

    def _of_the_most(self, leaving: Sequence[T]) -> list[T]:
        """The members of the origin that has the most, by what each of them names first."""
        by_origin: dict[str, list[T]] = {}
        for one, (origins, _) in self._members.items():
            if one not in leaving:
                by_origin.setdefault(origins[0] if origins else "", []).append(one)
        return max(by_origin.values(), key=len, default=[])

    def _give_up(self, same: Sequence[T], leaving: list[T], now: float) -> bool:
        """Whether the one of these who came first has had his time; then he leaves."""
        if not same or now - self._members[same[0]][1] < self._patience:
            return False
        leaving.append(same[0])
        return True


def network_of(address: str) -> str:
    """Whose share an address counts for: the address itself, and of IPv6 its network of 64 bits."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, _IP6_PREFIX), strict=False))
    return str(found)
