"""What runs in a carrier: one SSH connection, on behalf of the process that started it. See `evidencesync.transfer.carrier`.

One thread and one event loop: what comes through the pipe goes to the channel, what arrives goes to the pair of sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from concurrent.futures import Future
from typing import Final

import msgspec

from evidencesync.errors import EvidenceSyncError, LinkLostError
from evidencesync.evidence.display import safe_text
from evidencesync.limits import KIB
from evidencesync.shortages import unexpected
from evidencesync.ssh.client import ClientChannel, connect
from evidencesync.transfer.carriage import (
    LENGTH,
    Answer,
    Ask,
    Block,
    Close,
    Ended,
    FromCarrier,
    Logged,
    Open,
    Opened,
    ToCarrier,
    encode,
    length_of,
    make_failed,
    read_open,
)
from evidencesync.transfer.memory import keep_large_blocks

_LOG: Final = logging.getLogger(__name__)
_STEP: Final = 256 * KIB  # read from the pipe at once: stays in a core's own cache until it is encrypted
_COUNT_SECONDS: Final = 0.25
_DRAIN_SECONDS: Final = 3.0
_MAX_LOGGED: Final = 8 * KIB


class _Asker:
    """The process that started us: what it says, and what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.closing = asyncio.Event()
        self.wake = asyncio.Event()  # for whoever waits for the pipe
        self._loop = asyncio.get_running_loop()
        self._reader = reader
        self._writer = writer
        self._decoder = msgspec.msgpack.Decoder(ToCarrier)
        self._answer: Future[str] | None = None

    async def receive(self) -> ToCarrier | None:
        """The next message; None when the process has gone."""
        try:
            length = length_of(await self._reader.readexactly(LENGTH.size))
            message: ToCarrier = self._decoder.decode(await self._reader.readexactly(length))
        except (OSError, asyncio.IncompleteReadError):
            return None
        return message

    async def listen(self) -> None:
        """Takes in what it says, until it has gone."""
        while (message := await self.receive()) is not None:
            if isinstance(message, Answer) and self._answer is not None:
                self._answer.set_result(os.fsdecode(message.text))
            elif isinstance(message, Close):
                self.closing.set()
                self.wake.set()
                self._give_up_asking()
        self._give_up_asking()

    def _give_up_asking(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LinkLostError("nobody is left to be asked"))

    def ask(self, question: str) -> str:
        """Asks for a passphrase. Called in a thread; waits."""
        self._answer = Future()
        self._loop.call_soon_threadsafe(self.tell, Ask(question))
        return self._answer.result()

    def tell(self, message: FromCarrier) -> None:
        """Queues a message."""
        if not self._writer.is_closing():
            self._writer.write(encode(message))

    async def told(self) -> None:
        """Waits until most of what is queued was taken. One that has gone takes nothing, and is noticed elsewhere."""
        with contextlib.suppress(OSError):
            await self._writer.drain()

    async def finish(self) -> None:
        """Waits until all that is queued was taken."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class _ForwardLog(logging.Handler):
    """Log records belong where the command line shows them, safely."""

    def __init__(self, asker: _Asker) -> None:
        super().__init__()
        self._asker = asker
        self._loop = asyncio.get_running_loop()

    def emit(self, record: logging.LogRecord) -> None:
        text = safe_text(self.format(record)[:_MAX_LOGGED])
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._asker.tell, Logged(record.name, record.levelno, text))


class _Carriage:
    """One connection, from the request to its end."""

    def __init__(self, asker: _Asker, source: int) -> None:
        self._asker = asker
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._channel: ClientChannel | None = None

    def abort(self) -> None:
        """Nothing more goes out."""
        if self._channel is not None:
            self._channel.abort()

    async def run(self, request: Open) -> None:
        """Opens the connection and carries until one of the two ends it; says what it ended with."""
        address, options = read_open(request, self._asker.ask)
        try:
            self._channel = channel = await connect(address, options, request.role)
            self._asker.tell(Opened(channel.peer))
            gc.freeze()  # asyncssh and its friends are here to stay, and need not be looked through again and again
            try:
                await self._carry(channel)
            finally:
                await channel.close()
        except EvidenceSyncError as error:
            self._asker.tell(make_failed(error))

    async def _carry(self, channel: ClientChannel) -> None:
        tasks = [asyncio.create_task(work) for work in (self._send(channel), self._count(channel))]
        receiving = asyncio.create_task(self._receive(channel))
        closing = asyncio.create_task(self._asker.closing.wait())
        try:
            await asyncio.wait({receiving, closing}, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                receiving.result()
            await closing
            await asyncio.wait({tasks[0]}, timeout=_DRAIN_SECONDS)
        finally:
            for task in (*tasks, receiving, closing):
                task.cancel()
            await asyncio.gather(*tasks, receiving, closing, return_exceptions=True)

    async def _send(self, channel: ClientChannel) -> None:
        """From the pipe to the channel, until the pipe is empty and will stay so. A channel that takes no more closes the pipe.

        Why it takes no more, the receiving side knows, after what has still arrived.
        """
        buffer = memoryview(bytearray(_STEP))
        try:
            while count := await self._take(buffer):
                await channel.write(buffer[:count])
                await asyncio.sleep(0)  # the other direction's turn, and the socket's
        except EvidenceSyncError:
            return
        finally:
            os.close(self._source)

    async def _take(self, buffer: memoryview) -> int:
        """Fills a buffer with what the pipe has, waiting for the first byte; 0 at its end."""
        while True:
            try:
                return os.readv(self._source, [buffer])
            except BlockingIOError:
                if self._asker.closing.is_set():
                    return 0
                await self._has_more()

    async def _has_more(self) -> None:
        """Waits until the pipe has bytes or has ended, or until there will be no more."""
        wake = self._asker.wake
        wake.clear()
        self._loop.add_reader(self._source, wake.set)
        try:
            await wake.wait()
        finally:
            self._loop.remove_reader(self._source)

    async def _receive(self, channel: ClientChannel) -> None:
        while block := await channel.read():
            self._asker.tell(Block(block, channel.wire_sent, channel.wire_received))
            await self._asker.told()
        self._asker.tell(Block(b"", channel.wire_sent, channel.wire_received))
        self._asker.tell(Ended())

    async def _count(self, channel: ClientChannel) -> None:
        """The counts, for whoever looks on while nothing arrives."""
        told = 0
        while True:
            await asyncio.sleep(_COUNT_SECONDS)
            if channel.wire_sent != told:
                told = channel.wire_sent
                self._asker.tell(Block(b"", told, channel.wire_received))


async def carry(control: socket.socket, source: int) -> None:
    """Serves one request, and ends with it, or at once when the process that made it has gone."""
    reader, writer = await asyncio.open_connection(sock=control)
    asker = _Asker(reader, writer)
    request = await asker.receive()
    if not isinstance(request, Open):
        return
    logging.basicConfig(handlers=[_ForwardLog(asker)], level=request.log_level, force=True)
    logging.getLogger("asyncssh").setLevel(request.ssh_log_level)
    carriage = _Carriage(asker, source)
    work = asyncio.create_task(carriage.run(request))
    listening = asyncio.create_task(asker.listen())
    await asyncio.wait({work, listening}, return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        carriage.abort()
        work.cancel()
        await asyncio.wait({work}, timeout=_DRAIN_SECONDS)
        signal.raise_signal(signal.SIGTERM)  # a thread may still wait for a program of the SSH config
    try:
        work.result()
    except Exception as error:  # noqa: BLE001 - a defect: it is said in one line, like everything else
        _LOG.info("a defect", exc_info=error)
        asker.tell(make_failed(unexpected(error)))
    listening.cancel()
    await asker.finish()


def main(control: int, source: int) -> None:
    """The program, on the two descriptors that it was started with."""
    held_back = (signal.SIGINT, signal.SIGHUP)
    for number in held_back:
        # Whoever started us hears them, too, and says what is to be done. Not SIG_IGN: a ProxyCommand would inherit that.
        # What nohup or a script has chosen stays, for a ProxyCommand as well.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave_it_to_the_other)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, held_back)
    keep_large_blocks()
    os.set_blocking(source, False)
    for descriptor in (control, source):
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the standard library's signature
    asyncio.run(carry(socket.socket(fileno=control), source))
    gc.freeze()  # whoever waits for the end of this process need not wait until all is looked through for cycles


def _leave_it_to_the_other(*_: object) -> None:
    pass
