"""How many may be at the door of our server, and who gives his place up for the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from evidencesync.ssh.connection_limits import ConnectionLimiter, Limits, LoginDecision
from evidencesync.ssh.wire import Wire

LIMITS = Limits(
    logins=20,
    logins_of_address=20,
    connections=6,
    strangers=4,
    strangers_of_address=4,
    strangers_of_key=4,
    sessions=2,
    queue=0,
    hello_seconds=60.0,
    login_seconds=60.0,
    proof_seconds=60.0,
    login_patience_seconds=60.0,
    proof_patience_seconds=60.0,
)


class Caller(Wire):
    """A connection of which it is seen whether it was dropped."""

    dropped = False

    def abort(self) -> None:
        self.dropped = True


def at_the_door(work: Callable[[ConnectionLimiter], Awaitable[None]], limits: Limits = LIMITS) -> None:
    async def run() -> None:
        await work(ConnectionLimiter(limits))

    asyncio.run(run())


def log_in(limiter: ConnectionLimiter, key: str = "eve") -> tuple[Caller, LoginDecision]:
    caller = Caller()
    assert limiter.admit(caller, "192.0.2.7")
    return caller, limiter.logged_in(caller, key)


def test_who_does_not_hang_up_when_his_session_is_over_keeps_nobody_out() -> None:
    """Sessions that fail at once, one after the other, and connections that stay: each costs a place only until it is needed."""

    async def work(limiter: ConnectionLimiter) -> None:
        stayed = []
        for _ in range(50):
            caller, entry = log_in(limiter)
            assert entry is LoginDecision.ADMITTED
            limiter.finished(caller)
            stayed.append(caller)
        assert [caller.dropped for caller in stayed] == [True] * 44 + [False] * 6
        _, entry = log_in(limiter, "ana")
        assert entry is LoginDecision.ADMITTED

    at_the_door(work)


def test_who_was_told_that_there_is_no_place_does_not_take_one_by_staying() -> None:
    async def work(limiter: ConnectionLimiter) -> None:
        strangers = [log_in(limiter) for _ in range(4)]
        assert {entry for _, entry in strangers} == {LoginDecision.ADMITTED}
        turned_away = [log_in(limiter) for _ in range(30)]
        assert {entry for _, entry in turned_away} == {LoginDecision.BUSY}
        limiter.gone(strangers[0][0])
        caller, entry = log_in(limiter, "ana")
        assert entry is LoginDecision.ADMITTED
        assert limiter.admit_principal(caller, "ana")
        assert not any(one.dropped for one, _ in strangers)

    at_the_door(work)


def test_nobody_whose_session_goes_on_is_dropped_for_another() -> None:
    async def work(limiter: ConnectionLimiter) -> None:
        inside = [log_in(limiter)[0] for _ in range(2)]
        assert all(limiter.admit_principal(one, name) for one, name in zip(inside, ("ana", "bo"), strict=True))
        strangers = [log_in(limiter)[0] for _ in range(4)]
        late, entry = log_in(limiter)
        assert entry is LoginDecision.DROPPED
        limiter.gone(late)
        assert not any(one.dropped for one in (*inside, *strangers))

    at_the_door(work)


ROOMY = replace(
    LIMITS,
    logins=200,
    logins_of_address=200,
    connections=200,
    strangers=200,
    strangers_of_address=200,
    strangers_of_key=200,
    sessions=8,
    queue=8,
)


def test_one_person_has_no_more_places_than_he_leaves_free_and_so_has_the_next() -> None:
    async def work(limiter: ConnectionLimiter) -> None:
        def ask(who: str, times: int) -> int:
            return sum(limiter.admit_principal(log_in(limiter, who)[0], who) for _ in range(times))

        assert ask("eve", 7) == 4  # three more wait
        assert ask("ana", 1) == 1
        assert ask("bo", 1) == 1
        assert ask("ana", 1) == 1  # two are free, and she has one
        assert ask("ana", 1) == 0
        assert ask("cy", 1) == 1
        assert ask("dan", 1) == 0  # now all eight are taken

    at_the_door(work, ROOMY)


def test_who_waits_for_sessions_of_his_own_to_end_holds_up_nobody_behind_him() -> None:
    async def work(limiter: ConnectionLimiter) -> None:
        eve = [log_in(limiter, "eve")[0] for _ in range(20)]
        assert [limiter.admit_principal(one, "eve") for one in eve] == [True] * 4 + [False] * 16
        others = [log_in(limiter, who)[0] for who in ("ana", "bo", "cy", "dan")]
        assert all(limiter.admit_principal(one, who) for one, who in zip(others, ("ana", "bo", "cy", "dan"), strict=True))
        late, later = log_in(limiter, "fay")[0], log_in(limiter, "gus")[0]
        assert not limiter.admit_principal(late, "fay")
        limiter.finished(others[0])
        assert not limiter.admit_principal(later, "gus")  # fay came before him
        assert not limiter.admit_principal(eve[4], "eve")
        assert limiter.admit_principal(late, "fay")
        for one in (others[1], others[2]):
            limiter.finished(one)
        assert limiter.admit_principal(later, "gus")

    at_the_door(work, ROOMY)
