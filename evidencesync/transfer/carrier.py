"""An SSH connection in a process of its own, the carrier: encryption and packets get a processor core for themselves.

This is the end of whoever uses it; `evidencesync.transfer.carrying` is what runs in the carrier. Two things join them:
- a pipe for what is sent. It holds a megabyte where the system lets it, and is written and read in large pieces.
- a pair of sockets for everything else: what to open, questions to a person, what arrives, counts, errors.

When the pair of sockets closes without a goodbye, the carrier drops the connection at once and ends: a process that is killed
sends nothing any more. Ctrl-C reaches both, and only this end listens to it. Keys and agents are used in the carrier alone;
its arguments are two descriptors and a folder, and nothing secret is in its environment.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
from typing import Final

import msgspec

from evidencesync.custody.documents import SshPeer
from evidencesync.errors import EvidenceSyncError, InternalError, LinkLostError, ResourcesError
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions
from evidencesync.transfer.carriage import (
    LENGTH,
    Answer,
    Ask,
    Block,
    Close,
    Ended,
    Failed,
    FromCarrier,
    Logged,
    Opened,
    Role,
    ToCarrier,
    encode,
    length_of,
    make_open,
    read_failed,
)
from evidencesync.transfer.launch import launch

_CLOSE_SECONDS: Final = 15.0  # the carrier itself gives up after eight


class Carrier:
    """A connection to a remote command: bytes both ways. One thread reads, one thread writes. See `transfer.link.Link`.

    Made without a connection, so that the carrier can start while other things are done: `open` comes next, or its two halves
    with other things between. `close` or `kill` in any case.
    """

    def __init__(self) -> None:
        """Starts the process. Raises ResourcesError where the system has no room for one."""
        self.peer: SshPeer | None = None
        self.wire_sent = 0
        self.wire_received = 0
        self._end: EvidenceSyncError | None = None
        self._finished = False
        self._closed = False
        self._decoder = msgspec.msgpack.Decoder(FromCarrier)
        try:
            launched = launch()
        except OSError as error:
            raise ResourcesError(f"a process for the SSH connection can't be started: {error.strerror}") from error
        self._control, self._sink, self._process = launched.control, launched.sink, launched.process
        self._incoming = self._control.makefile("rb")

    @property
    def process_id(self) -> int:
        """The carrier's."""
        return self._process.pid

    def open(self, address: Address, options: SshOptions) -> None:
        """`begin_open` and `finish_open`, one after the other."""
        self.begin_open(address, options)
        self.finish_open(options)

    def begin_open(self, address: Address, options: SshOptions, role: Role = "--vault") -> None:
        """Says what to connect to, and what that end is to serve. Does not wait. Raises LinkLostError."""
        levels = [logging.getLogger(name).getEffectiveLevel() for name in (None, "asyncssh")]
        self._tell(make_open(address, options, levels[0], levels[1], role))

    def finish_open(self, options: SshOptions) -> None:
        """Waits until it has connected, logged in and started the remote command; a person is asked from here, in this thread.

        Raises what `evidencesync.ssh.client.connect` raises, and what `options.ask_passphrase` raises.
        """
        while True:
            match self._next():
                case Opened() as opened:
                    self.peer = opened.peer
                    return
                case Ask() as ask if options.ask_passphrase is not None:
                    self._tell(Answer(os.fsencode(options.ask_passphrase(ask.question))))
                case other:
                    raise InternalError(f"{type(other).__name__} came from the carrier before a connection")

    def read(self) -> bytes:
        """The next bytes, waiting for them; `b""` once the other end has finished. Raises LinkLostError, ConnectError."""
        while not self._finished:
            match self._next():
                case Block() as block:
                    self.wire_sent, self.wire_received = block.wire_sent, block.wire_received
                    if block.data:
                        return block.data
                case Ended():
                    self._finished = True
                case other:
                    raise InternalError(f"{type(other).__name__} came from the carrier amid the data")
        return b""

    def write(self, data: bytes) -> None:
        """Hands over all of `data`, waiting while pipe and carrier are full. Raises LinkLostError."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._sink, view) :]
        except OSError as error:
            raise self._end or LinkLostError("the connection takes nothing more") from error

    def close(self) -> None:
        """Lets the carrier send what it was given, as far as the other end takes it in a few seconds, and waits for its end.

        A thread that waits in `read` or `write` is woken by that end. Repeatable.
        """
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(EvidenceSyncError):
            self._tell(Close())
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        finally:
            self._let_go()

    def kill(self) -> None:
        """Ends the carrier and the connection at once. Repeatable, and nothing after `close`."""
        if self._closed:
            return
        self._closed = True
        self._process.kill()
        self._let_go()

    def _let_go(self) -> None:
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        self._process.wait()
        os.close(self._sink)
        self._incoming.close()  # after a reader that waited, which the end of the stream has woken
        self._control.close()

    def _tell(self, message: ToCarrier) -> None:
        try:
            self._control.sendall(encode(message))
        except OSError as error:
            raise self._end or self._lost() from error

    def _next(self) -> FromCarrier:
        """The next message that is not for the log. Raises the error that it may be, and LinkLostError where none comes."""
        while True:
            message = self._receive()
            match message:
                case Logged():
                    logging.getLogger(message.logger).log(message.level, "%s", message.text)
                case Failed():
                    self._end = read_failed(message)
                    raise self._end
                case _:
                    return message

    def _receive(self) -> FromCarrier:
        if self._end is not None:
            raise self._end
        try:
            header = self._incoming.read(LENGTH.size)
            body = self._incoming.read(length_of(header)) if len(header) == LENGTH.size else b""
            message: FromCarrier | None = self._decoder.decode(body) if body else None
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise self._lost() from error
        if message is None:
            raise self._lost()
        return message

    def _lost(self) -> LinkLostError:
        return LinkLostError("the connection was closed" if self._closed else "the process that carried the connection has ended")
