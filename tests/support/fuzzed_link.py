"""A link on which frames are spoiled on their way, and which is ended when nothing moves on it any more."""

from __future__ import annotations

import random
import threading
import time
from typing import Final, Literal

from evidencesync.connection.link import LocalLink
from evidencesync.protocol.framing import FrameDecoder
from evidencesync.protocol.messages import PREAMBLE
from tests.support.link_in_between import LinkInBetween
from tests.support.mutations import MUTATIONS, WEIGHTS, Frame

Direction = Literal["up", "down"]
QUIET_SECONDS: Final = 0.2
BUSY_SECONDS: Final = 0.01


class FuzzedLink(LinkInBetween):
    """The client's end. Some frames of one direction are changed; `recorded` are frames of another session that way.

    `passed` is what has travelled in each direction, as it was before it was changed.
    """

    def __init__(self, link: LocalLink, chance: random.Random, spoilt: Direction, recorded: list[Frame]) -> None:
        super().__init__(link)
        self.passed: dict[Direction, list[Frame]] = {"up": [], "down": []}
        self.done: list[str] = []
        self._chance = chance
        self._spoilt = spoilt
        self._recorded = recorded
        self._places = {chance.randrange(max(len(recorded), 1) + 2) for _ in range(chance.choice((1, 1, 1, 2, 5)))}
        self._decoders: dict[Direction, FrameDecoder] = {"up": FrameDecoder(), "down": FrameDecoder()}
        self._greeted: dict[Direction, bool] = {"up": False, "down": False}

    def write(self, data: bytes) -> None:
        """What the client says."""
        self._link.write(self._through("up", data))

    def read(self) -> bytes:
        """What the other end says."""
        while block := self._link.read():
            if changed := self._through("down", block):
                return changed
        return b""

    def _through(self, direction: Direction, data: bytes) -> bytes:
        """All whole frames that are now there."""
        said = b"" if self._greeted[direction] else PREAMBLE
        self._greeted[direction] = True
        for kind, body in self._decoders[direction].update(data):
            frame = (kind, bytes(body))
            number = len(self.passed[direction])
            self.passed[direction].append(frame)
            said += self._spoil(frame) if direction == self._spoilt and number in self._places else _plain(frame)
        return said

    def _spoil(self, frame: Frame) -> bytes:
        (name,) = self._chance.choices(list(MUTATIONS), WEIGHTS)
        self.done.append(f"{name} at frame {len(self.passed[self._spoilt]) - 1}")
        others = self._recorded + self.passed["up"] + self.passed["down"]
        return MUTATIONS[name](self._chance, frame, others)


def _plain(frame: Frame) -> bytes:
    return len(frame[1]).to_bytes(4, "big") + bytes([frame[0]]) + frame[1]


class Impatience:
    """Ends a link on which nothing moves, and at whose ends nothing is done: both wait for something that will not come."""

    def __init__(self, link: LocalLink) -> None:
        self._link = link
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """The session is over."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        before = (-1, 0.0)
        while not self._over.wait(QUIET_SECONDS):
            now = (self._link.wire_sent + self._link.wire_received, time.process_time())
            if now[0] == before[0] and now[1] - before[1] < BUSY_SECONDS:
                self._link.close()
                return
            before = now
