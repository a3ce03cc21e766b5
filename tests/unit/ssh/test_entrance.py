"""How many may be at the door of our server, and who gives his place up for the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from evidencesync.ssh.entrance import Entrance, Entry, Limits
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


def at_the_door(work: Callable[[Entrance], Awaitable[None]]) -> None:
    async def run() -> None:
        await work(Entrance(LIMITS))

    asyncio.run(run())


def log_in(entrance: Entrance, key: str = "eve") -> tuple[Caller, Entry]:
    caller = Caller()
    assert entrance.knock(caller, "192.0.2.7")
    return caller, entrance.come_in(caller, key)


def test_who_does_not_hang_up_when_his_session_is_over_keeps_nobody_out() -> None:
    """Sessions that fail at once, one after the other, and connections that stay: each costs a place only until it is needed."""

    async def work(entrance: Entrance) -> None:
        stayed = []
        for _ in range(50):
            caller, entry = log_in(entrance)
            assert entry is Entry.COME_IN
            entrance.finished(caller)
            stayed.append(caller)
        assert [caller.dropped for caller in stayed] == [True] * 44 + [False] * 6
        _, entry = log_in(entrance, "ana")
        assert entry is Entry.COME_IN

    at_the_door(work)


def test_who_was_told_that_there_is_no_place_does_not_take_one_by_staying() -> None:
    async def work(entrance: Entrance) -> None:
        strangers = [log_in(entrance) for _ in range(4)]
        assert {entry for _, entry in strangers} == {Entry.COME_IN}
        turned_away = [log_in(entrance) for _ in range(30)]
        assert {entry for _, entry in turned_away} == {Entry.BUSY}
        entrance.gone(strangers[0][0])
        caller, entry = log_in(entrance, "ana")
        assert entry is Entry.COME_IN
        assert entrance.vouch(caller)
        assert not any(one.dropped for one, _ in strangers)

    at_the_door(work)


def test_nobody_whose_session_goes_on_is_dropped_for_another() -> None:
    async def work(entrance: Entrance) -> None:
        inside = [log_in(entrance)[0] for _ in range(2)]
        assert all(map(entrance.vouch, inside))
        strangers = [log_in(entrance)[0] for _ in range(4)]
        late, entry = log_in(entrance)
        assert entry is Entry.NO
        entrance.gone(late)
        assert not any(one.dropped for one in (*inside, *strangers))

    at_the_door(work)
