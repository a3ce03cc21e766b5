"""A TCP proxy that makes a line slow, far and unreliable: put between an SSH client and its server.

    with Proxy(("127.0.0.1", 22), Line(round_trip=0.1, rate=12_500_000), troubles=[Trouble("reset", 100_000)]) as proxy:
        connect_to("127.0.0.1", proxy.port)

It also runs by itself, and takes commands (`reset`, `stall`, `go`, `refuse`, `accept`) as lines on its standard input:

    python -m tests.support.proxy --listen 127.0.0.1:2222 --to 127.0.0.1:22 --delay-ms 100 --rate 12.5M --json
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal, Self

from tests.support.line import Direction, Flow, NetworkLine

Address = tuple[str, int]
Ending = Literal["open", "end", "reset", "unreachable"]
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER, on, 0 seconds: closing sends RST


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens to one connection once exactly `after_bytes` were delivered in one direction."""

    kind: Literal["reset", "stall"]
    after_bytes: int
    direction: Direction = "up"


@dataclass(slots=True)
class Trip:
    """What one connection carried. `log` has, for each delivery, seconds since the opening, its direction and its bytes."""

    number: int
    up: int = 0
    down: int = 0
    ended: Ending = "open"
    log: list[tuple[float, Direction, int]] = field(default_factory=list)


class Proxy:
    """Listens on a port of its own while the `with` lasts. The n-th connection meets the n-th of `troubles`, later ones none.

    `on_end` is called in the proxy's thread. Everything else may be called from any other.
    """

    def __init__(
        self,
        target: Address,
        line: NetworkLine | None = None,
        *,
        troubles: Iterable[Trouble] = (),
        listen: Address = ("127.0.0.1", 0),
        keep_log: bool = False,
        on_end: Callable[[Trip], None] = lambda trip: None,
    ) -> None:
        self.trips: list[Trip] = []
        self._target = target
        self._line = line or NetworkLine()
        self._troubles = list(troubles)
        self._address = listen
        self._keep_log = keep_log
        self._on_end = on_end
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: socket.socket | None = None
        self._connections: dict[asyncio.Task[None], _Connection] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        self.accept()
        return self

    def __exit__(self, *exc: object) -> None:
        self.refuse()
        self.reset()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def port(self) -> int:
        """Where it listens, or listened before `refuse`."""
        return self._address[1]

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes delivered up and down, over all connections."""
        return sum(trip.up for trip in self.trips), sum(trip.down for trip in self.trips)

    def reset(self) -> None:
        """Resets every open connection, at both ends."""
        self._run(self._reset)

    def stall(self, *directions: Direction) -> None:
        """Every open connection stays, and nothing moves on it any more, or not in these directions."""
        self._run(lambda: self._stall(directions or ("up", "down")))

    def go(self) -> None:
        """Ends every stall."""
        self._run(self._go)

    def refuse(self) -> None:
        """New connections are refused, as by a server that is down; open ones stay."""
        self._run(self._stop_listening)

    def accept(self) -> None:
        """New connections are let in, on the same port as before."""
        self._run(self._start_listening)

    # In the proxy's thread.

    def _run(self, work: Callable[[], object]) -> None:
        async def call() -> None:
            done = work()
            if asyncio.iscoroutine(done):
                await done

        asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def _start_listening(self) -> None:
        if self._server is None:
            self._server = socket.create_server(self._address, backlog=64)
            self._server.setblocking(False)  # noqa: FBT003 - the standard library's signature
            self._address = self._server.getsockname()
            self._loop.add_reader(self._server, self._let_in, self._server)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._loop.remove_reader(self._server)
            self._server.close()
            self._server = None

    def _let_in(self, server: socket.socket) -> None:
        try:
            client, _ = server.accept()
        except OSError:  # it has gone again
            return
        client.setblocking(False)  # noqa: FBT003 - the standard library's signature
        trip = Trip(len(self.trips))
        self.trips.append(trip)
        connection = _Connection(client, self._line, trip, keep_log=self._keep_log)
        if trip.number < len(self._troubles):
            connection.expect(self._troubles[trip.number])
        task = self._loop.create_task(connection.run(self._target))
        self._connections[task] = connection
        task.add_done_callback(self._forget)

    def _stall(self, directions: Iterable[Direction]) -> None:
        for connection in self._connections.values():
            for direction in directions:
                connection.gates[direction].clear()

    def _go(self) -> None:
        for connection in self._connections.values():
            for gate in connection.gates.values():
                gate.set()

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._on_end(self._connections.pop(task).trip)

    async def _reset(self) -> None:
        tasks = list(self._connections)
        for task in tasks:
            self._connections[task].reset()
        await asyncio.gather(*tasks)
        await asyncio.sleep(0)  # their callbacks


class _Connection:
    """One client, the connection to the server that belongs to it, and a flow each way."""

    def __init__(self, client: socket.socket, line: NetworkLine, trip: Trip, *, keep_log: bool) -> None:
        self.trip = trip
        self.gates: dict[Direction, asyncio.Event] = {"up": asyncio.Event(), "down": asyncio.Event()}
        for gate in self.gates.values():
            gate.set()
        self._client = client
        self._line = line
        self._keep_log = keep_log
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.time()
        self._flows = {
            "up": Flow(line, self.gates["up"], self._note_up),
            "down": Flow(line, self.gates["down"], self._note_down),
        }
        self._broken = self._loop.create_future()

    def expect(self, trouble: Trouble) -> None:
        """Arms a trouble."""
        flow = self._flows[trouble.direction]
        flow.stop_after = trouble.after_bytes
        flow.on_stop = self._reset_here if trouble.kind == "reset" else self._stall

    def _stall(self) -> None:
        for gate in self.gates.values():
            gate.clear()

    def reset(self) -> None:
        """Drops both ends with RST."""
        if not self._broken.done():
            self._broken.set_result(None)

    def _reset_here(self) -> None:
        self._stall()  # not a byte more, whoever runs next
        self.reset()

    async def run(self, target: Address) -> None:
        """From the opening to the end of both directions. Opening takes a round trip and a half, as for TCP."""
        with self._client:
            way = self._loop.create_task(self._carry(target))
            await asyncio.wait((way, self._broken), return_when=asyncio.FIRST_COMPLETED)
            if not way.done():
                self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                self.trip.ended = "reset"
                way.cancel()
            with suppress(asyncio.CancelledError):
                await way

    async def _carry(self, target: Address) -> None:
        await asyncio.sleep(self._line.round_trip)
        with socket.socket() as server:  # closed also when a reset comes while the end of it all is awaited
            await self._carry_between(server, target)

    async def _carry_between(self, server: socket.socket, target: Address) -> None:
        up, down = self._flows["up"], self._flows["down"]
        tasks = [self._loop.create_task(up.take(self._client))]
        try:
            server.setblocking(False)  # noqa: FBT003 - the standard library's signature
            await asyncio.sleep(self._line.round_trip / 2)
            await self._loop.sock_connect(server, target)
            for end in (self._client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tasks += [self._loop.create_task(work) for work in (up.give(server), down.take(server), down.give(self._client))]
            await asyncio.gather(*tasks)
            self.trip.ended = "end"
        except OSError:  # one end was reset, or was not there: so is the other
            self.trip.ended = "reset" if len(tasks) > 1 else "unreachable"
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self.trip.ended != "end":
                server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def _note_up(self, count: int) -> None:
        self.trip.up += count
        self._note("up", count)

    def _note_down(self, count: int) -> None:
        self.trip.down += count
        self._note("down", count)

    def _note(self, direction: Direction, count: int) -> None:
        if self._keep_log:
            self.trip.log.append((round(self._loop.time() - self._opened, 6), direction, count))


if __name__ == "__main__":
    from tests.support.proxy_program import main

    sys.exit(main())
