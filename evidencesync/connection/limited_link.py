"""A link from which no more is read a second than a limit: what is read no faster, the other end cannot send faster for long."""

from __future__ import annotations

from typing import Final

from evidencesync.connection.link import Link
from evidencesync.connection.not_begun import ending_of
from evidencesync.connection.writer import RateLimit
from evidencesync.custody.documents import SshPeer
from evidencesync.limits import KIB

_LEAST_PIECE: Final = 1 * KIB
_PIECES: Final = 4  # a second: whoever waits for the next one must not take a pause for silence


class LimitedLink:
    """See `connection.link.Link`. Buffers on the way fill at the line's own rate: whoever asks must not ask for much at once."""

    def __init__(self, link: Link, limit_rate: int) -> None:
        """Takes over a link. `limit_rate`: bytes a second."""
        self._link = link
        self._limit = RateLimit(limit_rate)
        self._piece = max(limit_rate // _PIECES, _LEAST_PIECE)
        self._rest = memoryview(b"")

    @property
    def peer(self) -> SshPeer | None:
        """See `Link`."""
        return self._link.peer

    @property
    def wire_sent(self) -> int:
        """See `Link`."""
        return self._link.wire_sent

    @property
    def wire_received(self) -> int:
        """See `Link`."""
        return self._link.wire_received

    @property
    def ending(self) -> str:
        """See `ToldLink`."""
        return ending_of(self._link)

    def read(self) -> bytes:
        """The next bytes, at most a share of a second's; waits for them, and for the limit."""
        if not self._rest:
            self._rest = memoryview(self._link.read())
        piece, self._rest = self._rest[: self._piece], self._rest[self._piece :]
        self._limit.wait(len(piece))
        return bytes(piece)

    def write(self, data: bytes) -> None:
        """See `Link`."""
        self._link.write(data)

    def close(self) -> None:
        """See `Link`."""
        self._link.close()
