"""Our own SSH server: it accepts public keys only, and runs one service, whatever command a client asks for."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncssh

from evidencesync.errors import ConfigurationError, EvidenceSyncError, NoSpaceError
from evidencesync.evidence.display import safe_text
from evidencesync.files.placing import place_file
from evidencesync.files.shortages import is_full, is_shortage, unexpected
from evidencesync.home import read_named, stand_in_for_libraries
from evidencesync.limits import MAX_TRUST_FILE
from evidencesync.outside import require_outside
from evidencesync.ssh.asyncssh_limits import limit_channel, limit_connection, wants_tiny_packets
from evidencesync.ssh.authorized_keys import authorized_keys_of
from evidencesync.ssh.channel import SSH_PACKET, SSH_WINDOW, ServedChannel
from evidencesync.ssh.connection_limits import ConnectionLimiter, Limits, LoginDecision
from evidencesync.ssh.private_files import check_key_file
from evidencesync.ssh.server_channel import ALGORITHMS, KEEPALIVE_FOREVER, SshStream
from evidencesync.ssh.wire import WIRE, Gate, Wire, WireListener

_LOG: Final = logging.getLogger(__name__)
_MAX_SESSIONS: Final = 32  # of people whom the vault trusts; each may hold a few windows of memory
_MAX_QUEUE: Final = 64  # of people whom the vault trusts, and who wait for one of these places; each costs a thread
_MAX_CONNECTIONS: Final = 256  # of all who have logged in
_MAX_STRANGERS: Final = 128  # of those who have logged in and are not known to be trusted; each costs a thread
_STRANGERS_OF_ADDRESS: Final = 64  # many users may come from one address, and each needs this place for a second
_STRANGERS_OF_KEY: Final = 32
_MAX_LOGINS: Final = 192  # of connections that have not logged in yet; each costs a key exchange
_LOGINS_OF_ADDRESS: Final = 48
_HELLO_SECONDS: Final = 10  # for a program, to agree on keys
_LOGIN_SECONDS: Final = 60  # for a person, who may have a passphrase to type or a key to touch
_PROOF_SECONDS: Final = 60  # the same, for the key that signs
# If a share is full, a connection that has had this much time gives up its place to the next one.
_LOGIN_PATIENCE_SECONDS: Final = 2.0
_PROOF_PATIENCE_SECONDS: Final = 10.0
_OTHER_KEY: Final = "Name another file: --host-key FILE. It is made where it is missing."
_COMPLAINT_SECONDS: Final = 60.0
_MAX_ATTEMPTS: Final = 20  # keys one connection may try

Handler = Callable[[ServedChannel, str], Awaitable[None]]
"""Serves one session. The text names the client: `USER from ADDRESS with SHA256:...`, safe for a terminal."""
Ready = Callable[[str, int, str], None]
"""Called once with the address and port that the server listens on, and the host key's fingerprint."""


async def serve_embedded(
    host: str,
    port: int,
    host_key_file: Path,
    authorized_keys: Path,
    handler: Handler,
    ready: Ready | None = None,
    *,
    timeout_seconds: float = 120.0,
    own_place: Path | None = None,
) -> None:
    """Serves until it is cancelled. Port 0 takes a free port. A missing host key is made (see `load_host_key`).

    `authorized_keys` is read again for each login: a removed key cannot log in any more. A handler that raises ends its own
    session only. Raises ConfigurationError for a key, a file or an address that cannot be used.
    """
    host_key = await asyncio.to_thread(load_host_key, host_key_file, own_place)
    await asyncio.to_thread(_read_authorized_keys, authorized_keys)  # an unusable file is reported now, and not at a login
    stand_in_for_libraries()
    asyncio.get_running_loop().set_exception_handler(_LoopErrorLog())
    server = _Server(authorized_keys, handler, timeout_seconds, ConnectionLimiter(_limits()))
    try:
        acceptor = await asyncssh.listen(
            host,
            port,
            config=None,
            tunnel=WireListener(Gate(server.limiter.admit, server.limiter.gone)),
            server_factory=lambda: _Login(server),
            server_host_keys=[host_key],
            **_settings(timeout_seconds),
        )
    except OSError as error:
        raise ConfigurationError(f"can't listen on {safe_text(host)} port {port}: {error.strerror}") from error
    try:
        if ready is not None:
            address = acceptor.get_addresses()[0]
            ready(str(address[0]), int(address[1]), host_key.get_fingerprint())
        await asyncio.get_running_loop().create_future()
    finally:
        acceptor.close()
        await server.close()


class _LoopErrorLog:
    """Logs errors of the event loop. A shortage repeats for each connection: it is logged once a minute, so it fills no log."""

    def __init__(self) -> None:
        self._said: float | None = None

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None or not is_shortage(error):
            loop.default_exception_handler(context)
        elif self._said is None or loop.time() - self._said >= _COMPLAINT_SECONDS:
            self._said = loop.time()
            _LOG.warning("connections have to wait: %s", unexpected(error).message)


def _limits() -> Limits:
    return Limits(
        logins=_MAX_LOGINS,
        logins_of_address=_LOGINS_OF_ADDRESS,
        connections=_MAX_CONNECTIONS,
        strangers=_MAX_STRANGERS,
        strangers_of_address=_STRANGERS_OF_ADDRESS,
        strangers_of_key=_STRANGERS_OF_KEY,
        sessions=_MAX_SESSIONS,
        queue=_MAX_QUEUE,
        hello_seconds=_HELLO_SECONDS,
        login_seconds=_LOGIN_SECONDS,
        proof_seconds=_PROOF_SECONDS,
        login_patience_seconds=_LOGIN_PATIENCE_SECONDS,
        proof_patience_seconds=_PROOF_PATIENCE_SECONDS,
    )


def _settings(timeout_seconds: float) -> dict[str, Any]:
    return {
        **ALGORITHMS,
        "login_timeout": _LOGIN_SECONDS,
        "keepalive_interval": timeout_seconds / 4,
        "keepalive_count_max": KEEPALIVE_FOREVER,
        "public_key_auth": True,
        "password_auth": False,
        "kbdint_auth": False,
        "host_based_auth": False,
        "gss_host": None,
        "gss_auth": False,
        "gss_kex": False,
        "x509_trusted_certs": None,
        "allow_pty": False,
        "line_editor": False,
        "agent_forwarding": False,
        "x11_forwarding": False,
        "allow_scp": False,
        "sftp_factory": None,
        "encoding": None,
        "utf8_decode_errors": "backslashreplace",
    }


class _Server:
    """Holds what all connections of a server share."""

    def __init__(self, authorized_keys: Path, handler: Handler, timeout_seconds: float, limiter: ConnectionLimiter) -> None:
        self.authorized_keys = authorized_keys
        self.handler = handler
        self.timeout_seconds = timeout_seconds
        self.limiter = limiter
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self, channel: _ServiceChannel, who: str) -> None:
        """Runs the handler for a session."""
        task = asyncio.get_running_loop().create_task(self._run(channel, who))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _run(self, channel: _ServiceChannel, who: str) -> None:
        status = 1
        try:
            await self.handler(channel, who)
            status = 0
        except EvidenceSyncError as error:
            _LOG.warning("session of %s ended: %s", who, error.message)
        except Exception as error:  # noqa: BLE001 - one session's defect is logged, and must not end the others
            if is_shortage(error):
                _LOG.warning("session of %s ended: %s", who, unexpected(error).message)
            else:
                _LOG.exception("session of %s ended by a defect", who)
        finally:
            await channel.finish(status)

    async def close(self) -> None:
        """Ends every session and connection."""
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.limiter.close()


class _Login(asyncssh.SSHServer):
    """One connection: lets an authorized key log in, and then opens one session, once."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._connection: asyncssh.SSHServerConnection | None = None
        self._keys: asyncssh.SSHAuthorizedKeys | None = None
        self._fingerprint = ""
        self._attempts = 0
        self._used = False
        self._wire = Wire()
        self._busy = False

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._wire = conn.get_extra_info(WIRE)
        limit_connection(conn, self._wire.abort, lambda: self._wire.most_received is None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection = None

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    async def begin_auth(self, username: str) -> bool:
        """True: a key is needed. (False would let anybody in.) A file that can't be read now lets nobody in."""
        self._keys = None
        self._server.limiter.agreed_keys(self._wire)
        try:
            self._keys = await asyncio.to_thread(_read_authorized_keys, self._server.authorized_keys)
        except ConfigurationError as error:
            _LOG.error("%s", error.message)
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """asyncssh checks the signature after this, and only the key of the last call can have been the one that got in."""
        self._attempts += 1
        if self._attempts > _MAX_ATTEMPTS:
            self.abort()
            return False
        if self._keys is None or self._connection is None:
            return False
        address = str(self._connection.get_extra_info("peername", ("",))[0])
        self._fingerprint = key.get_fingerprint()
        return self._keys.validate(key, "", address) is not None

    def auth_completed(self) -> None:
        """Asks the limiter for a place: more connections may log in than have room."""
        entry = self._server.limiter.logged_in(self._wire, self._fingerprint)
        self._busy = entry is LoginDecision.BUSY
        if entry is LoginDecision.DROPPED:
            self.abort()

    def session_requested(self) -> Any:
        """The one session; forwardings of every kind are refused by asyncssh's defaults."""
        if self._used or self._connection is None:
            return False
        self._used = True
        chan = self._connection.create_server_channel(encoding=None, window=SSH_WINDOW, max_pktsize=SSH_PACKET)
        limit_channel(chan)
        return chan, _ServiceChannel(self._server, self._who(), self._wire, busy=self._busy)

    def _who(self) -> str:
        conn = self._connection
        user = str(conn.get_extra_info("username", "")) if conn is not None else ""
        address = str(conn.get_extra_info("peername", ("",))[0]) if conn is not None else ""
        return f"{safe_text(user, 64)} from {safe_text(address, 64)} with {self._fingerprint}"


class _ServiceChannel(SshStream, asyncssh.SSHServerSession[bytes]):
    """The session. It starts the service for any command, and for nothing else."""

    def __init__(self, server: _Server, who: str, wire: Wire, *, busy: bool) -> None:
        super().__init__(server.timeout_seconds)
        self._server = server
        self._who = who
        self._entered_by = wire
        self.is_turned_away = busy

    def connection_made(self, chan: Any) -> None:
        """Called when the channel is open. Drops a client that asks for tiny packets."""
        super().connection_made(chan)
        if wants_tiny_packets(chan):
            self._entered_by.abort()

    def admit_principal(self, who: str) -> bool:
        """See `ServedChannel`."""
        return self._server.limiter.admit_principal(self._entered_by, who)

    def shell_requested(self) -> bool:
        return False

    def subsystem_requested(self, subsystem: str) -> bool:
        return False

    def exec_requested(self, command: str) -> bool:
        return True

    def session_started(self) -> None:
        self._server.start(self, self._who)

    async def finish(self, status: int) -> None:
        """Sends the exit status, and closes."""
        if self._chan is not None and not self._closed.is_set():
            with suppress(OSError):
                self._chan.exit(status)
        self._server.limiter.finished(self._entered_by)
        await self.close()


def _read_authorized_keys(file: Path) -> asyncssh.SSHAuthorizedKeys:
    """Reads OpenSSH's authorized_keys, as it is now. Raises ConfigurationError where it lets no key log in."""
    try:
        data = read_named(file, MAX_TRUST_FILE, again=True)
        if len(data) > MAX_TRUST_FILE:
            raise ValueError("the file is too large")
        return authorized_keys_of(data.decode("utf-8"), datetime.now(UTC))
    except OSError as error:
        raise ConfigurationError(f"authorized keys can't be read from {safe_text(str(file))}: {error.strerror}") from error
    except ValueError as error:
        reason = safe_text(str(error), 200)
        raise ConfigurationError(f"authorized keys in {safe_text(str(file))} can't be used: {reason}") from error


def load_host_key(file: Path, own_place: Path | None = None) -> asyncssh.SSHKey:
    """The server's own key. A missing key is made (Ed25519, mode 0600, with FILE.pub), durably.

    No key is made in a vault, except at `own_place`, where a vault has its host key. Nothing is replaced: an existing FILE.pub
    stays, with a warning. Raises UsageError for a place in a vault, ConfigurationError for a file without a private key,
    ExposedKeyError for one that others can read.
    """
    shown = safe_text(str(file), 200)
    try:
        if not os.path.lexists(file):
            _make_host_key(file, shown, own_place)
        elif not file.is_file():
            raise ConfigurationError(f"the host key {shown} can't be used: it is no file", hint=_OTHER_KEY)
        check_key_file(file)
        return asyncssh.read_private_key(file)
    except OSError as error:
        if is_shortage(error):
            raise unexpected(error) from error
        refused = NoSpaceError if is_full(error) else ConfigurationError
        raise refused(f"the host key {shown} can't be used: {error.strerror}", hint=_OTHER_KEY) from error
    except asyncssh.KeyImportError as error:
        raise ConfigurationError(f"{shown} holds no host key: {safe_text(str(error), 200)}") from error


def _make_host_key(file: Path, shown: str, own_place: Path | None) -> None:
    """Writes the key under a temporary name, and then gives it its name: two servers that start at once end up with one key."""
    key = asyncssh.generate_private_key("ssh-ed25519", comment="evidencesync")
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    public = f"{file.name}.pub"
    drafts = {name: f"{name}.{os.getpid()}.new" for name in (file.name, public)}
    placed = None
    try:
        if own_place is None or file.name != own_place.name or not os.path.samestat(os.fstat(folder), own_place.parent.stat()):
            require_outside(folder, shown, (), _OTHER_KEY)
        _write(folder, drafts[file.name], key.export_private_key("openssh"), 0o600)
        _write(folder, drafts[public], key.export_public_key("openssh"), 0o644)
        for name, draft in drafts.items():
            place_file(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
            placed = name
    except FileExistsError:
        if placed is not None:
            _LOG.warning("%s is there already and was left as it is: it is not the public part of the new host key", public)
    finally:
        for draft in drafts.values():
            with suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=folder)
        os.fsync(folder)  # else a power cut takes the key that clients have in their known_hosts: "changed" for all of them
        os.close(folder)


def _write(folder: int, name: str, data: bytes, mode: int) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())  # before it gets its name
