"""A channel of our server on top of asyncssh: flow control in both directions, end of stream, detection of a dead link."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import asyncssh

from evidencesync.errors import EvidenceSyncError, LinkLostError, ProtocolError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import seconds_text
from evidencesync.ssh.asyncssh_limits import Blocks
from evidencesync.ssh.channel import HIGH_WATER, LOW_WATER, MAX_BLOCK
from evidencesync.ssh.wire import WIRE, LinkProgress, Wire

_CLOSE_SECONDS: Final = 5.0
_DRAIN_LOOK_SECONDS: Final = 0.005

# AEAD AES first: it is the fastest here, and unlike ChaCha20-Poly1305 and CBC it needs no strict key exchange. CTR with
# encrypt-then-MAC is for clients that have none of it.
ENCRYPTION: Final = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
MACS: Final = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
# AES may encrypt 2^32 blocks under one key (RFC 4344 §3.2), which is 64 GiB; OpenSSH rekeys on its own at that limit.
REKEY_BYTES: Final = 32 * 1024**3
ALGORITHMS: Final[dict[str, Any]] = {
    "encryption_algs": list(ENCRYPTION),
    "mac_algs": list(MACS),
    "compression_algs": ["none"],  # the protocol compresses by itself
    "rekey_bytes": REKEY_BYTES,
    "rekey_seconds": 24 * 3600,
}
KEEPALIVE_FOREVER: Final = 2**31  # asyncssh counts lost answers, not lost progress; `_Watch` is the one that gives up


class SshStream:
    """The methods of `Channel`, and the callbacks that asyncssh makes of a session. One asyncssh channel, one `Wire`.

    Memory: at most `HIGH_WATER` and one block of what arrives, and asyncssh's own window (16 MiB) behind that.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self.stall_seconds = timeout_seconds
        self._arrived = 0
        self._chan: Any = None
        self._wire = Wire()
        self._blocks = Blocks()
        self._held = 0
        self._reading_paused = False
        self._writing_paused = False
        self._ended = False
        self._closed = asyncio.Event()
        self._failure: EvidenceSyncError | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._watch: asyncio.TimerHandle | None = None

    @property
    def wire_sent(self) -> int:
        """See `Channel`."""
        return self._wire.sent

    @property
    def wire_received(self) -> int:
        """See `Channel`."""
        return self._wire.received

    async def read(self) -> bytes:
        """See `Channel`."""
        while not self._blocks:
            if self._ended:
                return b""
            self._raise_failure()
            self._readable.clear()
            await self._readable.wait()
        first = self._blocks.take()
        taken, size = [first], len(first)
        while self._blocks and size + self._blocks.first_size() <= MAX_BLOCK:
            taken.append(self._blocks.take())
            size += len(taken[-1])
        self._held -= size
        if self._reading_paused and self._held <= LOW_WATER:
            self._reading_paused = False
            self._chan.resume_reading()
        return first if len(taken) == 1 else b"".join(taken)

    async def write(self, data: bytes | memoryview) -> None:
        """See `Channel`. A view's bytes are copied before this returns."""
        self._raise_failure()
        try:
            self._chan.write(data)
        except OSError as error:
            raise self._failure or LinkLostError("the other end takes nothing more") from error
        if not self._writable.is_set():
            await self._wait_to_write()
            self._raise_failure()

    async def _wait_to_write(self) -> None:
        """Waits until the other end has read enough. An end that neither reads nor sends is lost, even if its SSH server answers.

        Then the process behind that server hangs.
        """
        while not self._writable.is_set():
            before = self._taken()
            try:
                async with asyncio.timeout(self.stall_seconds or None):
                    await self._writable.wait()
            except TimeoutError:
                if self._taken() == before:
                    self._fail(LinkLostError(f"the other end has taken nothing for {seconds_text(self.stall_seconds)}"))
                    self._wire.abort()

    def _taken(self) -> tuple[int, int, int]:
        """Values that change while the other end reads or sends."""
        taken = self._wire.progress().taken if self._wire.paused else 0  # else only keepalives move on the socket
        return self._chan.get_write_buffer_size(), taken, self._arrived

    async def write_eof(self) -> None:
        """See `Channel`."""
        self._raise_failure()
        self._chan.write_eof()

    async def close(self) -> None:
        """See `Channel`. Waits for what is queued, since closing asyncssh's connection would drop it.

        Does not wait for the other end to close: a vault that has acknowledged may still be busy with its index.
        """
        if self._chan is not None and not self._closed.is_set():
            self._chan.close()
            try:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    while self._has_unsent():  # noqa: ASYNC110 - asyncssh tells nobody when its last byte is sent
                        await asyncio.sleep(_DRAIN_LOOK_SECONDS)
            except TimeoutError:
                self._wire.abort()
        self._stop_watch()
        self._blocks.clear()
        self._held = 0

    def abort(self) -> None:
        """Drops the connection at once, with everything that is queued."""
        self._wire.abort()

    def _has_unsent(self) -> bool:
        return not self._closed.is_set() and (self._chan.get_write_buffer_size() > 0 or self._wire.progress().backlog)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _fail(self, failure: EvidenceSyncError) -> None:
        if self._failure is None:
            self._failure = failure
        self._readable.set()
        self._update_writable()

    def _update_writable(self) -> None:
        if self._failure is not None or not (self._writing_paused or self._wire.paused):
            self._writable.set()
        else:
            self._writable.clear()

    # What asyncssh calls.

    def connection_made(self, chan: Any) -> None:
        """The channel is open."""
        self._chan = chan
        wire = chan.get_extra_info(WIRE)
        if isinstance(wire, Wire):
            self._wire = wire
            wire.on_change = self._update_writable
        chan.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        self._update_writable()
        self._start_watch()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """A packet's bytes."""
        self._blocks.append(data)
        self._held += len(data)
        self._arrived += len(data)
        if self._held > HIGH_WATER and not self._reading_paused:
            self._reading_paused = True
            self._chan.pause_reading()
        self._readable.set()

    def eof_received(self) -> bool:
        """The other end has finished. True: our own direction stays open."""
        self._ended = True
        self._readable.set()
        return True

    def pause_writing(self) -> None:
        """The other end's window is full and `HIGH_WATER` is queued."""
        self._writing_paused = True
        self._update_writable()

    def resume_writing(self) -> None:
        """The queue has gone down to `LOW_WATER`."""
        self._writing_paused = False
        self._update_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel, or the connection under it, is gone. Without an end of the stream before it, that is a loss."""
        self._stop_watch()
        self._fail(_explain_loss(exc))
        self._closed.set()

    # A link is dead if nothing has moved for the whole timeout. Silence alone proves nothing, since answers to keepalives break
    # it. A late answer proves nothing either: on a slow link it waits behind queued data, and that moves.

    def _start_watch(self) -> None:
        if self._timeout > 0:
            loop = asyncio.get_running_loop()
            self._schedule_watch(loop, self._wire.progress(), loop.time())

    def _schedule_watch(self, loop: asyncio.AbstractEventLoop, progress: LinkProgress, since: float) -> None:
        self._watch = loop.call_later(self._timeout / 4, self._look, loop, progress, since)

    def _look(self, loop: asyncio.AbstractEventLoop, before: LinkProgress, since: float) -> None:
        progress = self._wire.progress()
        if before.is_alive(progress):
            self._schedule_watch(loop, progress, loop.time())
        elif loop.time() - since < self._timeout:
            self._schedule_watch(loop, progress, since)
        else:
            self._fail(LinkLostError(f"nothing has moved over the connection for {seconds_text(self._timeout)}"))
            self._wire.abort()

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


def _explain_loss(error: Exception | None) -> EvidenceSyncError:
    if error is None:
        return LinkLostError("the connection was closed by the other end")
    if isinstance(error, asyncssh.ProtocolError):
        return ProtocolError(f"the other end broke the SSH protocol: {safe_text(error.reason, 200)}")
    return LinkLostError(f"the connection was lost: {safe_text(str(error), 200)}")
