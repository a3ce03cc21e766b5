"""The client's end: one SSH connection, one session, and on it the remote `evidencesync`."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

import asyncssh
from asyncssh.constants import MSG_IGNORE

from evidencesync.custody.documents import SshPeer
from evidencesync.errors import ConnectError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.home import stand_in_for_libraries
from evidencesync.limits import MAX_STDERR
from evidencesync.ssh.address import Address
from evidencesync.ssh.channel import SSH_PACKET, SSH_WINDOW
from evidencesync.ssh.config import Hop, resolve_route
from evidencesync.ssh.failures import Attempt, explain, explain_no_word
from evidencesync.ssh.hostkeys import KnownHosts
from evidencesync.ssh.identities import Identities, load_identities, unlock_identities
from evidencesync.ssh.options import SshOptions
from evidencesync.ssh.stream import ALGORITHMS, KEEPALIVE_FOREVER, SshStream
from evidencesync.ssh.wire import WireConnector

_STATUS_SECONDS: Final = 5.0  # how long an exit status may come after the end of the stream
_SHOWN_STDERR: Final = 600  # characters of the remote end's messages in one of ours


class ClientChannel(SshStream, asyncssh.SSHClientSession[bytes]):
    """A `Channel` to a remote command, with what the command said besides."""

    def __init__(self, timeout_seconds: float, resources: AsyncExitStack) -> None:
        super().__init__(timeout_seconds)
        self.exit_status: int | None = None
        self._resources = resources
        self._stderr = bytearray()
        self._spoke = False
        self._status_known = asyncio.Event()

    @property
    def stderr_text(self) -> str:
        """The last lines of the remote end's stderr, safe for a terminal, joined with ` | `."""
        lines = [safe_text(line) for line in bytes(self._stderr).split(b"\n") if line.strip()]
        text = " | ".join(lines[-5:])
        return text if len(text) <= _SHOWN_STDERR else "…" + text[-_SHOWN_STDERR:]

    async def read(self) -> bytes:
        """See `Channel`. Raises ConnectError where the remote command ended before its first byte."""
        block = await super().read()
        if block:
            self._spoke = True
        elif not self._spoke:
            raise await self._explain_silence()
        return block

    async def close(self) -> None:
        """See `Channel`."""
        await super().close()
        await self._resources.aclose()

    async def _explain_silence(self) -> ConnectError:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._status_known.wait(), _STATUS_SECONDS)
        return explain_no_word(self.exit_status, self.stderr_text)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """A packet's bytes; those of stderr are kept apart, the last 64 KiB of them."""
        if datatype is None:
            super().data_received(data, datatype)
            return
        self._stderr += data
        del self._stderr[:-MAX_STDERR]

    def exit_status_received(self, status: int) -> None:
        """The remote command's exit status. Most commands end right after it."""
        self.exit_status = status
        self._status_known.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone."""
        # A command that ended has said all it had to say; but while reading is paused, some of it may just have been dropped.
        if exc is None and self.exit_status is not None and not self._reading_paused:
            self.eof_received()
        super().connection_lost(exc)
        self._status_known.set()


class _Client(asyncssh.SSHClient):
    """Sees the host key that asyncssh did not find among the known ones, and hands out the keys to log in with."""

    def __init__(self, attempt: Attempt, keys: Sequence[asyncssh.SSHKeyPair]) -> None:
        self._attempt = attempt
        self._keys = list(keys)

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Never True: what is not recorded is not accepted."""
        self._attempt.shown = key
        return False

    def public_key_auth_requested(self) -> Any:
        """All keys at once, then no more."""
        keys, self._keys = self._keys, []
        return keys or None

    def begin_auth(self, username: str) -> None:
        """The host key was good."""
        self._attempt.host_verified = True


async def connect(address: Address, options: SshOptions, role: str = "--vault") -> ClientChannel:
    """Starts `evidencesync serve` at an address, for a vault or (`--source`) for a source. See `open_channel`."""
    if not address.path:
        what = role.removeprefix("--")
        raise UsageError(f"{address.display()} names a server, but no {what} on it", hint=f"Add the {what}'s path: host:/path")
    return await open_channel(address, options, ("serve", role, address.path))


async def open_channel(address: Address, options: SshOptions, command: Sequence[str]) -> ClientChannel:
    """Connects, checks host keys, logs in, and runs `<remote command> <command, quoted for a shell>`.

    Raises ConnectError, HostKeyError, AuthenticationError, LinkLostError (a timeout or a reset), SigningKeyError,
    PassphraseError, UsageError and ConfigurationError. Close the channel when it is no longer needed.
    """
    route = await resolve_route(address, options)
    async with AsyncExitStack() as stack:
        connection = await log_in(route, options, stack)
        line = " ".join([options.remote_command, *map(shlex.quote, command)])
        resources = stack.pop_all()
        channel = ClientChannel(options.timeout_seconds, resources)
        stack.push_async_callback(channel.close)
        try:
            async with asyncio.timeout(options.timeout_seconds or None):
                await connection.create_session(
                    lambda: channel, line, encoding=None, window=SSH_WINDOW, max_pktsize=SSH_PACKET, request_pty=False
                )
        except (OSError, TimeoutError, asyncssh.Error) as error:
            raise explain(error, route[-1], Attempt(host_verified=True, logged_in=True)) from error
        channel.peer = peer_of(connection, route[-1])
        stack.pop_all()
        return channel


async def _tunnel(hops: Sequence[Hop], options: SshOptions, stack: AsyncExitStack, target: Hop) -> Any:
    """What the target is reached through: the last jump host, or the network."""
    if hops:
        return await log_in(hops, options, stack)
    connector = WireConnector(
        family=target.family,
        local_address=target.bind_address,
        proxy_command=target.proxy_command,
        timeout_seconds=options.timeout_seconds,
    )
    stack.push_async_callback(connector.wait_closed)
    stack.callback(connector.close)
    return connector


async def log_in(route: Sequence[Hop], options: SshOptions, stack: AsyncExitStack) -> asyncssh.SSHClientConnection:
    """A connection to the last server of the route. Asks for passphrases only when the keys that need none are refused."""
    target = route[-1]
    known_hosts = await asyncio.to_thread(KnownHosts, target.known_hosts)
    identities = await load_identities(target)
    stack.push_async_callback(identities.close)
    keys: list[asyncssh.SSHKeyPair] = identities.keys
    if not keys:
        keys = await _unlock(identities, target, options)
    while True:
        attempt = Attempt(keys_offered=len(keys))
        async with AsyncExitStack() as tries:
            tunnel = await _tunnel(route[:-1], options, tries, target)
            try:
                connection = await _handshake(target, tunnel, options, known_hosts, attempt, keys)
            except (OSError, TimeoutError, ValueError, asyncssh.Error) as error:
                keys = await _unlock(identities, target, options) if isinstance(error, asyncssh.PermissionDenied) else []
                if not keys:
                    raise explain(error, target, attempt, known_hosts) from error
            else:
                _spare_ignore_packets(connection)
                tries.push_async_callback(_disconnect, connection)
                stack.push_async_exit(tries.pop_all())
                return connection


async def _unlock(identities: Identities, hop: Hop, options: SshOptions) -> list[asyncssh.SSHKeyPair]:
    if options.ask_passphrase is None or not identities.locked:
        return []
    opened = await unlock_identities(identities, hop, options.ask_passphrase)
    identities.locked.clear()
    return opened


async def _handshake(
    hop: Hop, tunnel: Any, options: SshOptions, known_hosts: KnownHosts, attempt: Attempt, keys: Sequence[asyncssh.SSHKeyPair]
) -> asyncssh.SSHClientConnection:
    """Says everything, so that asyncssh reads no file: no config, and keys through `_Client`.

    (With an empty list of `client_keys` it would look for the default ones.)
    """
    return await asyncssh.connect(
        hop.host,
        hop.port,
        config=None,
        tunnel=tunnel,
        username=hop.user,
        client_factory=lambda: _Client(attempt, keys),
        client_keys=None,
        known_hosts=known_hosts.callback(),
        host_key_alias=hop.lookup,
        server_host_key_algs=known_hosts.known(hop.lookup, hop.port).algorithms(),
        **_settings(options),
    )


def _settings(options: SshOptions) -> dict[str, Any]:
    """What every connection has: the algorithms, the timeouts, and no way in but public keys."""
    stand_in_for_libraries()
    return {
        **ALGORITHMS,
        "x509_trusted_cert_paths": [],
        "connect_timeout": None,  # the connector has its own
        "login_timeout": options.timeout_seconds,
        "keepalive_interval": options.timeout_seconds / 4,
        "keepalive_count_max": KEEPALIVE_FOREVER,
        "password_auth": False,
        "kbdint_auth": False,
        "host_based_auth": False,
        "gss_auth": False,
        "gss_kex": False,
        "gss_host": None,
        "x509_trusted_certs": None,
        "agent_forwarding": False,
        "x11_forwarding": False,
        "pkcs11_provider": None,
        "env": None,
        "send_env": None,
        "utf8_decode_errors": "backslashreplace",
    }


def _spare_ignore_packets(connection: asyncssh.SSHClientConnection) -> None:
    """Leaves out the empty packet that asyncssh sends before each one of data: half of all packets, at both ends.

    It stands against an attack on CBC with predictable IVs (RFC 4251 §9.3.1), and no such cipher is offered.
    asyncssh has no setting for it. An ignored packet may always be missing, so a later asyncssh can only make this useless.
    """
    send = connection.send_packet

    def send_packet(kind: int, *parts: bytes, **settings: Any) -> None:
        if kind != MSG_IGNORE:
            send(kind, *parts, **settings)

    setattr(connection, "send_packet", send_packet)  # noqa: B010 - mypy takes an assignment to a method for a mistake


async def _disconnect(connection: asyncssh.SSHClientConnection) -> None:
    connection.close()
    await connection.wait_closed()


def peer_of(connection: asyncssh.SSHClientConnection, hop: Hop) -> SshPeer:
    """The server as a manifest states it."""
    key = connection.get_server_host_key()
    if key is None:
        raise ConnectError(f"{safe_text(hop.host)} showed no host key")
    names = ("send_cipher", "send_mac", "recv_cipher", "recv_mac", "server_version")
    algorithms = {name: safe_text(str(connection.get_extra_info(name) or ""), 200) for name in names}
    return SshPeer(user=hop.user, host=hop.host, port=hop.port, host_key=key.get_fingerprint(), algorithms=algorithms)
