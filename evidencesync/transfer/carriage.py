"""What a process and its carrier (`evidencesync.transfer.carrier`) tell each other: four bytes length (big-endian), MessagePack.

Both are the same program on the same machine. Still, a carrier reads what a peer sends, so what comes from it is bounded and
held to its form. Texts that may hold any bytes (paths, a command) travel as bytes, as `os.fsencode` makes them.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final, Literal

import msgspec

from evidencesync.custody.documents import SshPeer
from evidencesync.errors import EvidenceSyncError, InternalError, error_from_slug
from evidencesync.limits import MIB
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import AskPassphrase, SshOptions

LENGTH: Final = struct.Struct(">I")
MAX_MESSAGE: Final = 2 * MIB  # a block is at most 1 MiB


Role = Literal["--vault", "--source"]
"""What the other end is asked to serve."""


class Open(msgspec.Struct, frozen=True, tag=True):
    """Where to, and how. The carrier's first message. `log_level` and `ssh_log_level` are those of the process that asks."""

    user: bytes | None
    host: bytes
    port: int | None
    path: bytes
    identity: bytes | None
    options_port: int | None
    config: bytes | None
    known_hosts: bytes | None
    remote_command: bytes
    timeout_seconds: float
    may_ask: bool
    log_level: int
    ssh_log_level: int
    role: Role


class Answer(msgspec.Struct, frozen=True, tag=True):
    """What a person answered to `Ask`."""

    text: bytes


class Close(msgspec.Struct, frozen=True, tag=True):
    """Everything has been written: send it, and end."""


class Ask(msgspec.Struct, frozen=True, tag=True):
    """A passphrase is needed."""

    question: str


class Opened(msgspec.Struct, frozen=True, tag=True):
    """The remote command runs."""

    peer: SshPeer | None


class Block(msgspec.Struct, frozen=True, tag=True):
    """Bytes that arrived, none of them where only the counts are news. Counts are bytes on the socket so far."""

    data: bytes
    wire_sent: int
    wire_received: int


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The other end has finished."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """No connection, or none any more."""

    slug: str
    message: str
    hint: str | None


class Logged(msgspec.Struct, frozen=True, tag=True):
    """A log record."""

    logger: str
    level: int
    text: str


FromCarrier = Ask | Opened | Block | Ended | Failed | Logged
ToCarrier = Open | Answer | Close


def encode(message: FromCarrier | ToCarrier) -> bytes:
    """A message as it travels."""
    body = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(body)) + body


def length_of(header: bytes) -> int:
    """The length that the first four bytes of a message announce. Raises InternalError beyond any real one."""
    length: int = LENGTH.unpack(header)[0]
    if length > MAX_MESSAGE:
        raise InternalError(f"a message of {length} bytes between two processes of this program")
    return length


def make_open(address: Address, options: SshOptions, log_level: int, ssh_log_level: int, role: Role) -> Open:
    """The request to connect to a remote address."""
    return Open(
        user=_encoded(address.user),
        host=os.fsencode(address.host),
        port=address.port,
        path=os.fsencode(address.path),
        identity=_encoded(options.identity),
        options_port=options.port,
        config=_encoded(options.config),
        known_hosts=_encoded(options.known_hosts),
        remote_command=os.fsencode(options.remote_command),
        timeout_seconds=options.timeout_seconds,
        may_ask=options.ask_passphrase is not None,
        log_level=log_level,
        ssh_log_level=ssh_log_level,
        role=role,
    )


def read_open(request: Open, ask: AskPassphrase) -> tuple[Address, SshOptions]:
    """What was asked for."""
    user = None if request.user is None else os.fsdecode(request.user)
    address = Address(user, os.fsdecode(request.host), request.port, os.fsdecode(request.path), local=False)
    options = SshOptions(
        identity=_path(request.identity),
        port=request.options_port,
        config=_path(request.config),
        known_hosts=_path(request.known_hosts),
        remote_command=os.fsdecode(request.remote_command),
        timeout_seconds=request.timeout_seconds,
        ask_passphrase=ask if request.may_ask else None,
    )
    return address, options


def make_failed(error: EvidenceSyncError) -> Failed:
    """An error on its way to the process that asked. Texts of errors are safe to show, and hold no lone surrogates."""
    return Failed(error.slug, error.message, error.hint)


def read_failed(failed: Failed) -> EvidenceSyncError:
    """The error as it was."""
    return error_from_slug(failed.slug, failed.message, failed.hint)


def _encoded(value: str | Path | None) -> bytes | None:
    return None if value is None else os.fsencode(value)


def _path(value: bytes | None) -> Path | None:
    return None if value is None else Path(os.fsdecode(value))
