"""Counts and limits the connections of our SSH server, by how far each has come.

A connection first logs in, is then a stranger (its key may log in), and is vouched for once the session's own end reports that
the vault trusts the person at the other end. Only connections that are vouched for may stay without a time limit. All others have
shares, and little time: see `evidencesync.ssh.shares`. One person cannot take all places of trusted people either: nobody has
more of them than are left free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from evidencesync.limits import KIB, MIB
from evidencesync.ssh.shares import Share, Waiting, network_of
from evidencesync.ssh.wire import Wire

# What a connection may send in each phase: asyncssh holds unprocessed bytes without a bound.
_HELLO_BYTES: Final = 128 * KIB  # names of algorithms and a key, of which the largest has a few thousand bytes
_LOGIN_BYTES: Final = 1 * MIB  # twenty keys with their certificates are far less
_PROOF_BYTES: Final = 4 * MIB  # a first word, and a claim with its signature
# What may be queued for a client that reads nothing: our own writers wait long before that.
_QUEUED_BYTES: Final = 32 * MIB
_LINGER_SECONDS: Final = 10.0  # for a client that was told how its session ended, and does not close the connection


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections there may be in each state, and for how many seconds.

    `logins` have not logged in yet. `connections` have logged in: `strangers` of them are not vouched for yet, `sessions` are,
    and a `queue` of people who are vouched for waits for one of the sessions. After the seconds of patience, a connection must
    give up its place to the next one. One person gets another place of `sessions` or of the `queue` only while that person has
    fewer than are free: alone, a person gets half of them, and the next person half of the rest.
    """

    logins: int
    logins_of_address: int
    connections: int
    strangers: int
    strangers_of_address: int
    strangers_of_key: int
    sessions: int
    queue: int
    hello_seconds: float
    login_seconds: float
    proof_seconds: float
    login_patience_seconds: float
    proof_patience_seconds: float


class LoginDecision(Enum):
    """What happens to a connection that has logged in."""

    ADMITTED = "it gets a session"
    BUSY = "it is told that there is no place"
    DROPPED = "it is dropped"


class ConnectionLimiter:
    """Counts the connections of one server. Used in its event loop alone."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._networks: dict[Wire, str] = {}
        self._logging_in: Waiting[Wire] = Waiting(limits.login_patience_seconds)
        self._strangers: Waiting[Wire] = Waiting(limits.proof_patience_seconds)
        self._inside: set[Wire] = set()
        self._leaving: dict[Wire, None] = {}
        self._admitted: dict[Wire, str] = {}
        self._queue: dict[Wire, str] = {}
        self._timers: dict[Wire, asyncio.TimerHandle] = {}

    def admit(self, wire: Wire, address: str) -> bool:
        """Counts a new connection from an address. Returns whether it may try to log in."""
        network = network_of(address)
        share = Share(network, self._limits.logins_of_address)
        if not self._enter(self._logging_in, wire, [share], self._limits.logins):
            return False
        self._networks[wire] = network
        wire.most_received, wire.most_queued = _HELLO_BYTES, _QUEUED_BYTES
        self._allow(wire, self._limits.hello_seconds)
        return True

    def agreed_keys(self, wire: Wire) -> None:
        """Notes that a connection has agreed on keys: it is an SSH client, and gets the time that a person needs to log in."""
        if wire in self._logging_in:
            wire.most_received = _LOGIN_BYTES
            self._allow(wire, self._limits.login_seconds)

    def logged_in(self, wire: Wire, key: str) -> LoginDecision:
        """Notes that a connection has logged in with a key. If all is full, one whose session is over is dropped."""
        self._logging_in.leave(wire)
        if len(self._inside) >= self._limits.connections and not self._drop_one_leaving():
            return LoginDecision.DROPPED
        self._inside.add(wire)
        wire.most_received = wire.received + _PROOF_BYTES
        shares = [
            Share(self._networks.get(wire, ""), self._limits.strangers_of_address),
            Share(key, self._limits.strangers_of_key),
        ]
        if not self._enter(self._strangers, wire, shares, self._limits.strangers):
            self._start_linger(wire)
            return LoginDecision.BUSY
        self._allow(wire, self._limits.proof_seconds)
        return LoginDecision.ADMITTED

    def admit_principal(self, wire: Wire, who: str) -> bool:
        """Notes that the vault trusts the person of a connection, the principal `who`. Returns whether there is a place.

        Without a place, the connection waits in the queue if that has room, is no stranger any more, and may ask again.
        """
        if wire in self._admitted:
            return True
        if self._is_next(wire, who):
            self._strangers.leave(wire)
            self._queue.pop(wire, None)
            self._stop_timer(wire)
            wire.most_received = None
            self._admitted[wire] = who
            return True
        if wire in self._strangers and _may_have_another(self._queue, who, self._limits.queue):
            self._strangers.leave(wire)
            self._queue[wire] = who
        return False

    def _is_next(self, wire: Wire, who: str) -> bool:
        """Whether a connection is next: no earlier one waits, except those whose person has too many sessions already."""
        if not _may_have_another(self._admitted, who, self._limits.sessions):
            return False
        for first, other in self._queue.items():
            if first is wire:
                return True
            if _may_have_another(self._admitted, other, self._limits.sessions):
                return False
        return True

    def finished(self, wire: Wire) -> None:
        """Notes that a session is over. A client that does not close the connection is dropped soon."""
        self._strangers.leave(wire)
        self._queue.pop(wire, None)
        self._admitted.pop(wire, None)
        if wire in self._networks:
            self._start_linger(wire)

    def gone(self, wire: Wire) -> None:
        """Notes that a connection is lost or closed."""
        self._stop_timer(wire)
        self._logging_in.leave(wire)
        self._strangers.leave(wire)
        self._inside.discard(wire)
        self._leaving.pop(wire, None)
        self._queue.pop(wire, None)
        self._admitted.pop(wire, None)
        self._networks.pop(wire, None)

    def close(self) -> None:
        """Drops every connection."""
        for wire in list(self._networks):
            wire.abort()

    def _enter(self, waiting: Waiting[Wire], wire: Wire, shares: list[Share], total: int) -> bool:
        leaving = waiting.enter(wire, shares, total, self._loop.time())
        for one in leaving or ():
            one.abort()
        return leaving is not None

    def _start_linger(self, wire: Wire) -> None:
        """Gives a client some seconds to close the connection."""
        self._leaving[wire] = None
        self._allow(wire, _LINGER_SECONDS)

    def _drop_one_leaving(self) -> bool:
        """Drops the connection that should have closed longest ago. False if there is none."""
        if (first := next(iter(self._leaving), None)) is None:
            return False
        del self._leaving[first]
        self._inside.discard(first)  # now, since a busy event loop reports the end of connections late
        first.abort()
        return True

    def _allow(self, wire: Wire, seconds: float) -> None:
        """Sets the time limit of a connection, counted from now."""
        self._stop_timer(wire)
        self._timers[wire] = self._loop.call_later(seconds, wire.abort)

    def _stop_timer(self, wire: Wire) -> None:
        if (timer := self._timers.pop(wire, None)) is not None:
            timer.cancel()


def _may_have_another(places: Mapping[Wire, str], who: str, most: int) -> bool:
    """Whether a person may have one more of `most` places: fewer than are free, or none at all while one is free."""
    return sum(1 for one in places.values() if one == who) < most - len(places)
