"""The interface of an SSH channel: ordered bytes in both directions, with bounds on what is held in memory."""

from __future__ import annotations

from typing import Final, Protocol

from evidencesync.limits import KIB, MIB

MAX_BLOCK: Final = 1 * MIB  # what one read returns at most
HIGH_WATER: Final = 4 * MIB  # above this much in memory, writers wait, and reading from the connection is paused
LOW_WATER: Final = 1 * MIB  # below this much in memory, both continue
SSH_WINDOW: Final = 16 * MIB  # what a peer may send before we have read it
SSH_PACKET: Final = 255 * KIB  # OpenSSH caps it at 32 KiB by itself


class Channel(Protocol):
    """Bytes to and from the other end. One reader and one writer at a time.

    Every method may raise LinkLostError (the connection ended or went silent).
    """

    stall_seconds: float
    """How long the other end may neither read what is written nor send anything; 0: without a limit."""

    async def read(self) -> bytes:
        """What has arrived, at most 1 MiB, waiting for the first byte; `b""` once the other end has finished."""

    async def write(self, data: bytes) -> None:
        """Queues `data`, and waits while more than the high-water mark is queued."""

    async def write_eof(self) -> None:
        """Signals the end of what is written. Reading continues."""

    async def close(self) -> None:
        """Sends what is queued, as far as the other end reads it within a few seconds, then releases everything. Repeatable."""

    @property
    def wire_sent(self) -> int:
        """Bytes written to the socket so far, ciphertext and SSH's own packets included."""

    @property
    def wire_received(self) -> int:
        """Bytes read from the socket so far, ciphertext and SSH's own packets included."""


class ServedChannel(Channel, Protocol):
    """A channel at the server's end."""

    is_turned_away: bool
    """Whether the server has no place for this connection: the client is told so, and the session ends."""

    def admit_principal(self, who: str) -> bool:
        """Reports that the vault trusts the person at the other end, the principal `who`. Returns whether there is a place.

        Without a place, the client is told so.
        """
