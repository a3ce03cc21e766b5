"""Shares of a server's places for connections that nobody has vouched for yet: no stranger can take the places of others.

The model is OpenSSH's MaxStartups with PerSourceMaxStartups and PerSourceNetBlockSize, with two differences. A share belongs to
an origin (an address, a login key). And if a place is needed, the connection that has waited longest gives up its place, once
it has had a guaranteed time. So no connection is refused by chance, and many users behind one address get in one after the
other.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

_IP6_PREFIX = 64  # what one customer usually has: any address of it may be the same customer


class Share(msgspec.Struct, frozen=True):
    """How many of one origin (an address, a key) may wait at a time."""

    origin: str
    most: int


class Waiting(Generic[T]):
    """Members that wait, in the order of their arrival. Each keeps its place for `patience_seconds` in any case."""

    def __init__(self, patience_seconds: float) -> None:
        self._patience = patience_seconds
        self._members: dict[T, tuple[tuple[str, ...], float]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, member: object) -> bool:
        return member in self._members

    def enter(self, member: T, shares: Sequence[Share], total: int, now: float) -> list[T] | None:
        """Admits a member. Returns the members that must leave for it, or None if there is no place.

        1. If a share is full, the member of that origin that has waited longest leaves, if its time is over.
        2. If all places are taken, the same holds for the origin that has the most of them.
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
        """Removes a member: it has gone, or somebody has vouched for it. Repeatable."""
        self._members.pop(member, None)

    def _of(self, origin: str, leaving: Sequence[T]) -> list[T]:
        return [one for one, (origins, _) in self._members.items() if origin in origins and one not in leaving]

    def _of_the_most(self, leaving: Sequence[T]) -> list[T]:
        """The members of the origin that has the most. Each counts for its first origin."""
        by_origin: dict[str, list[T]] = {}
        for one, (origins, _) in self._members.items():
            if one not in leaving:
                by_origin.setdefault(origins[0] if origins else "", []).append(one)
        return max(by_origin.values(), key=len, default=[])

    def _give_up(self, same: Sequence[T], leaving: list[T], now: float) -> bool:
        """Makes the first of these members leave, if its time is over. Returns whether it does."""
        if not same or now - self._members[same[0]][1] < self._patience:
            return False
        leaving.append(same[0])
        return True


def network_of(address: str) -> str:
    """The origin of an address: the address itself, or for IPv6 its network of 64 bits."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, _IP6_PREFIX), strict=False))
    return str(found)
