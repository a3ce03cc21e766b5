"""A connection to our server, as a session needs it: bytes both ways, in order, with a bound on what is held."""

from __future__ import annotations

from typing import Final, Protocol

from evidencesync.limits import KIB, MIB

MAX_BLOCK: Final = 1 * MIB  # what one read returns at most
HIGH_WATER: Final = 4 * MIB  # above this much held, a writer waits and a reader's source is paused
LOW_WATER: Final = 1 * MIB  # below this much held, it goes on
SSH_WINDOW: Final = 16 * MIB  # what a peer may have sent and we have not taken yet
SSH_PACKET: Final = 255 * KIB  # OpenSSH caps it at 32 KiB by itself


class Channel(Protocol):
    """Bytes to and from the other end. One reader and one writer at a time.

    Every method may raise LinkLostError (the connection ended or went silent).
    """

    stall_seconds: float
    """For how long the other end may take nothing of what is written, and say nothing; 0 for ever."""

    async def read(self) -> bytes:
        """What has arrived, at most 1 MiB, waiting for the first byte; `b""` once the other end has finished."""

    async def write(self, data: bytes) -> None:
        """Queues `data`, and waits while more than the high-water mark is queued."""

    async def write_eof(self) -> None:
        """Says that nothing more will be written. Reading goes on."""

    async def close(self) -> None:
        """Sends what is queued as far as the other end takes it in a few seconds, then lets go of everything. Repeatable."""

    @property
    def wire_sent(self) -> int:
        """Bytes written to the socket so far, ciphertext and SSH's own packets included."""

    @property
    def wire_received(self) -> int:
        """Bytes read from the socket so far, ciphertext and SSH's own packets included."""


class ServedChannel(Channel, Protocol):
    """A channel at the server's end. Whoever serves it says what it is worth."""

    is_turned_away: bool
    """Whether there is no place for it: whoever is there is to be told so, and no more."""

    def vouch(self, who: str) -> bool:
        """Somebody who is trusted, and called `who`, is at the other end: whether there is a place for him.

        If not, he is told so, too.
        """
