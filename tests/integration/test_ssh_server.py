"""The embedded server, judged by OpenSSH's own client and by asyncssh."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
import pytest

from evidencesync.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    ExposedKeyError,
    HostKeyError,
    LinkLostError,
    ProtocolError,
    UsageError,
)
from evidencesync.ssh import server as server_module
from evidencesync.ssh.address import Address
from evidencesync.ssh.channel import Channel, ServedChannel
from evidencesync.ssh.known_hosts import remember_host_key
from evidencesync.ssh.options import SshOptions
from evidencesync.ssh.server import load_host_key, serve_embedded
from evidencesync.ssh.trust import fetch_host_key
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ssh_client import ClientChannel, in_thread, open_channel

if TYPE_CHECKING:
    from tests.integration.conftest import Agent

MIB = 1024 * 1024


async def echo(channel: Channel, who: str) -> None:
    while block := await channel.read():
        await channel.write(block)
    await channel.write_eof()


@dataclass
class Embedded:
    """A running server, and the sessions it has seen."""

    folder: Path
    port: int = 0
    fingerprint: str = ""
    seen: list[str] = field(default_factory=list)

    @property
    def options(self) -> SshOptions:
        return SshOptions(
            identity=self.folder / "user", known_hosts=self.folder / "known_hosts", config=Path("none"), timeout_seconds=10.0
        )

    @property
    def address(self) -> Address:
        return Address.parse(f"ssh://ana@127.0.0.1:{self.port}/vault")

    async def open(self, *command: str) -> ClientChannel:
        return await open_channel(self.address, self.options, command)

    async def ssh(self, *arguments: str, data: bytes = b"") -> tuple[int, bytes, bytes]:
        """OpenSSH's client."""
        command = ["ssh", "-F", "none", "-i", str(self.folder / "user"), "-o", f"UserKnownHostsFile={self.folder}/known_hosts"]
        command += ["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-p", str(self.port), *arguments]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            out, err = await process.communicate(data)
        return process.returncode or 0, out, err

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """A logged-in connection on which a test may do what our client never does."""
        hosts = str(self.folder / "known_hosts")
        async with asyncssh.connect(
            "127.0.0.1", self.port, username="ana", config=None, known_hosts=hosts, client_keys=[str(self.folder / "user")]
        ) as connection:
            yield connection


@pytest.fixture
def keys(tmp_path: Path, keygen: Callable[..., Path]) -> Path:
    keygen(tmp_path / "user")
    keygen(tmp_path / "stranger")
    (tmp_path / "authorized_keys").write_bytes((tmp_path / "user.pub").read_bytes())
    return tmp_path


@asynccontextmanager
async def running(
    folder: Path, handler: server_module.Handler = echo, *, vouches: bool = True, timeout_seconds: float = 120.0
) -> AsyncIterator[Embedded]:
    embedded = Embedded(folder)
    started = asyncio.Event()

    def ready(host: str, port: int, fingerprint: str) -> None:
        embedded.port, embedded.fingerprint = port, fingerprint
        started.set()

    async def watched(channel: ServedChannel, who: str) -> None:
        embedded.seen.append(who)
        if vouches:
            channel.admit_principal("ana")
        await handler(channel, who)

    task = asyncio.create_task(
        serve_embedded(
            "127.0.0.1", 0, folder / "host_key", folder / "authorized_keys", watched, ready, timeout_seconds=timeout_seconds
        )
    )
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        waiting.cancel()
        await task
    (folder / "known_hosts").unlink(missing_ok=True)
    unknown = SshOptions(config=Path("none"), known_hosts=folder / "known_hosts")
    shown = await in_thread(fetch_host_key, embedded.address, unknown)
    assert shown.line is not None
    remember_host_key(folder / "known_hosts", shown.hop.lookup, shown.line)
    try:
        yield embedded
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def open_when_free(embedded: Embedded) -> None:
    """Opens a session, and closes it, as soon as the server has noticed that others have gone."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                channel = await embedded.open("serve")
            except (ConnectError, LinkLostError):
                await asyncio.sleep(0.05)
                continue
            await channel.close()
            return


async def read_all(channel: Channel | ClientChannel) -> bytes:
    blocks = []
    while block := await channel.read():
        blocks.append(block)
    return b"".join(blocks)


def test_our_client_gets_the_service_whatever_command_it_asks_for(keys: Path) -> None:
    async def scenario() -> None:
        async with running(keys) as embedded:
            channel = await embedded.open("serve", "--vault", "/etc; rm -rf /")
            await channel.write(b"hello")
            await channel.write_eof()
            assert await read_all(channel) == b"hello"
            assert channel.peer is not None
            assert channel.peer.host_key == embedded.fingerprint
            await channel.close()
            assert len(embedded.seen) == 1
            assert embedded.seen[0].startswith("ana from 127.0.0.1 with SHA256:")

    asyncio.run(scenario())


def test_openssh_gets_the_service_with_a_command(keys: Path) -> None:
    async def scenario() -> None:
        async with running(keys) as embedded:
            status, out, _ = await embedded.ssh("ana@127.0.0.1", "anything", "at", "all", data=b"through openssh")
            assert (status, out) == (0, b"through openssh")

    asyncio.run(scenario())


_CURVES = "ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521"
_OLD_MACS = (
    "umac-64-etm@openssh.com,umac-128-etm@openssh.com,hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,"
    "hmac-sha1-etm@openssh.com,umac-64@openssh.com,umac-128@openssh.com,hmac-sha2-256,hmac-sha2-512,hmac-sha1"
)
_ED_AND_RSA = "ssh-ed25519,rsa-sha2-512,rsa-sha2-256"
_DEFAULTS = {  # key exchange, ciphers, and host keys, each in the order of that version
    "7.4": (
        f"curve25519-sha256@libssh.org,{_CURVES},diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512",
        "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-cbc",
        f"ecdsa-sha2-nistp256,{_ED_AND_RSA}",
    ),
    "8.0": (
        f"curve25519-sha256,curve25519-sha256@libssh.org,{_CURVES},diffie-hellman-group-exchange-sha256",
        "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com",
        f"ecdsa-sha2-nistp256,{_ED_AND_RSA}",
    ),
    "10.0": (
        f"sntrup761x25519-sha512@openssh.com,curve25519-sha256,curve25519-sha256@libssh.org,{_CURVES}",
        "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr",
        _ED_AND_RSA,
    ),
}


@pytest.mark.parametrize("version", _DEFAULTS)
def test_clients_since_7_4_come_in_with_what_they_offer_by_default(keys: Path, version: str) -> None:
    exchange, ciphers, host_keys = _DEFAULTS[version]
    offers = {"KexAlgorithms": exchange, "Ciphers": ciphers, "HostKeyAlgorithms": host_keys, "MACs": _OLD_MACS}
    # A new key in the middle, keepalives, and what else a configuration may ask for: that is refused quietly.
    wishes = {"RekeyLimit": "1M", "ServerAliveInterval": "1", "ForwardAgent": "yes", "Compression": "yes", "SendEnv": "*"}
    arguments = [word for name, value in {**offers, **wishes}.items() for word in ("-o", f"{name}={value}")]
    data = os.urandom(4 * MIB)

    async def scenario() -> None:
        async with running(keys) as embedded:
            status, out, err = await embedded.ssh(*arguments, "ana@127.0.0.1", "serve", data=data)
            assert (status, out == data) == (0, True), err

    asyncio.run(scenario())


def test_64_mib_go_both_ways_and_the_server_counts_its_socket(keys: Path) -> None:
    block = os.urandom(MIB)
    counts: list[tuple[int, int]] = []

    async def serve(channel: Channel, who: str) -> None:
        await echo(channel, who)
        counts.append((channel.wire_received, channel.wire_sent))

    async def scenario() -> None:
        async with running(keys, serve) as embedded:
            channel = await embedded.open("serve")

            async def send() -> None:
                for _ in range(64):
                    await channel.write(block)
                await channel.write_eof()

            sender = asyncio.create_task(send())
            size = 0
            while got := await channel.read():
                size += len(got)
            await sender
            assert size == 64 * MIB
            assert (channel.link.wire_sent, channel.link.wire_received) == (64 * MIB, 64 * MIB)
            await channel.close()
            received, sent = counts[0]
            assert 64 * MIB < received < 65 * MIB
            assert 56 * MIB < sent < 65 * MIB  # the last of it may still be queued

    asyncio.run(scenario())


@pytest.mark.parametrize("arguments", [("-T",), ("-T", "-s"), ("-tt",)], ids=["shell", "subsystem", "pty and shell"])
def test_a_shell_a_subsystem_and_a_terminal_are_refused(keys: Path, arguments: tuple[str, ...]) -> None:
    async def scenario() -> None:
        async with running(keys) as embedded:
            extra = ["sftp"] if "-s" in arguments else []
            status, _, _ = await embedded.ssh(*arguments, "ana@127.0.0.1", *extra)
            assert status != 0
            assert embedded.seen == []

    asyncio.run(scenario())


def test_a_terminal_is_refused_with_a_command_too(keys: Path) -> None:
    async def scenario() -> None:
        async with running(keys) as embedded, embedded.raw() as connection:
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.create_process("serve", term_type="xterm", request_pty="force", encoding=None)

    asyncio.run(scenario())


def test_forwardings_of_every_kind_are_refused(keys: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(keys) as embedded, embedded.raw() as connection:
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_connection("127.0.0.1", embedded.port)
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_unix_connection("/run/anything")
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 1)
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.forward_remote_path(str(tmp_path / "socket"), str(tmp_path / "other"))

    asyncio.run(scenario())


def test_agent_and_x11_forwarding_are_refused(keys: Path, agent: Agent) -> None:
    async def scenario() -> None:
        async with running(keys) as embedded:
            _, out, _ = await embedded.ssh("-A", "ana@127.0.0.1", "serve", data=b"x")
            assert out == b"x"  # the request is refused, the service goes on
            async with embedded.raw() as connection:
                with pytest.raises(asyncssh.ChannelOpenError):
                    await connection.create_process("serve", x11_forwarding=True, x11_display="127.0.0.1:9", encoding=None)

    asyncio.run(scenario())


def test_environment_variables_are_not_kept(keys: Path) -> None:
    kept: list[object] = []

    async def serve(channel: Channel, who: str) -> None:
        kept.append(dict(channel._chan.get_environment_bytes()))  # type: ignore[attr-defined]

    async def scenario() -> None:
        async with running(keys, serve) as embedded, embedded.raw() as connection:
            process = await connection.create_process("serve", env={"LD_PRELOAD": "x" * 1000}, encoding=None)
            await process.wait()

    asyncio.run(scenario())
    assert kept == [{}]


def test_a_connection_has_one_session(keys: Path) -> None:
    async def scenario() -> None:
        async with running(keys) as embedded, embedded.raw() as connection:
            process = await connection.create_process("serve", encoding=None)
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.create_process("serve", encoding=None)
            process.stdin.write_eof()
            await process.wait()

    asyncio.run(scenario())


def test_a_key_that_is_not_authorized_does_not_get_in(keys: Path) -> None:
    async def scenario() -> None:
        async with running(keys) as embedded:
            options = SshOptions(identity=keys / "stranger", known_hosts=keys / "known_hosts", config=Path("none"))
            with pytest.raises(AuthenticationError):
                await open_channel(embedded.address, options, ["serve"])
            assert embedded.seen == []

    asyncio.run(scenario())


def test_passwords_and_no_authentication_at_all_do_not_get_in(keys: Path) -> None:
    async def scenario() -> None:
        async with running(keys) as embedded:
            with pytest.raises(asyncssh.PermissionDenied):
                await asyncssh.connect(
                    "127.0.0.1", embedded.port, username="ana", password="x", config=None, known_hosts=None, client_keys=None
                )
            methods = await asyncssh.get_server_auth_methods("127.0.0.1", embedded.port, username="ana", config=None)
            assert list(methods) == ["publickey"]

    asyncio.run(scenario())


def test_a_key_that_is_taken_out_of_the_file_does_not_get_in_any_more(keys: Path) -> None:
    async def scenario() -> None:
        async with running(keys) as embedded:
            await (await embedded.open("serve")).close()
            (keys / "authorized_keys").write_bytes((keys / "stranger.pub").read_bytes())
            with pytest.raises(AuthenticationError):
                await embedded.open("serve")
            (keys / "authorized_keys").unlink()
            with pytest.raises(AuthenticationError):
                await embedded.open("serve")

    asyncio.run(scenario())


def test_from_in_the_authorized_keys_is_honoured(keys: Path) -> None:
    async def scenario() -> None:
        public = (keys / "user.pub").read_text()
        async with running(keys) as embedded:
            (keys / "authorized_keys").write_text(f'restrict,from="192.0.2.1" {public}')
            with pytest.raises(AuthenticationError):
                await embedded.open("serve")
            (keys / "authorized_keys").write_text(f'restrict,command="other",from="127.0.0.0/8" {public}')
            await (await embedded.open("serve")).close()

    asyncio.run(scenario())


def test_a_handler_that_fails_ends_its_own_session_only(keys: Path) -> None:
    async def serve(channel: Channel, who: str) -> None:
        if await channel.read() == b"bad":
            raise ProtocolError("nonsense")
        await channel.write(b"fine")

    async def scenario() -> None:
        async with running(keys, serve) as embedded:
            good = await embedded.open("serve")
            bad = await embedded.open("serve")
            await bad.write(b"bad")
            with suppress(Exception):
                await bad.read()
            assert bad.exit_status == 1
            await good.write(b"good")
            assert await read_all(good) == b"fine"
            assert good.exit_status == 0
            await bad.close()
            await good.close()

    asyncio.run(scenario())


def test_what_was_written_last_arrives_before_the_session_closes(keys: Path) -> None:
    async def serve(channel: Channel, who: str) -> None:
        await channel.read()
        await channel.write(bytes(3 * MIB))

    async def scenario() -> None:
        async with running(keys, serve) as embedded:
            for _ in range(5):
                channel = await embedded.open("serve")
                await channel.write(b"go")
                assert len(await read_all(channel)) == 3 * MIB
                await channel.close()

    asyncio.run(scenario())


def test_more_connections_than_the_limit_are_dropped(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_MAX_LOGINS", 3)

    async def scenario() -> None:
        async with running(keys) as embedded:
            silent = [await asyncio.open_connection("127.0.0.1", embedded.port) for _ in range(3)]
            for waiting, _ in silent:
                await waiting.readline()  # the server's version: it has taken the connection
            reader, writer = await asyncio.open_connection("127.0.0.1", embedded.port)
            with suppress(ConnectionError):
                assert await reader.read() == b""
            for _, other in [*silent, (reader, writer)]:
                other.close()
            await open_when_free(embedded)

    asyncio.run(scenario())


def test_more_sessions_than_the_limit_are_refused(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_MAX_CONNECTIONS", 2)

    async def scenario() -> None:
        async with running(keys) as embedded:
            inside = [await embedded.open("serve") for _ in range(2)]
            with pytest.raises(LinkLostError):
                await (await embedded.open("serve")).read()
            for channel in inside:
                await channel.close()
            await open_when_free(embedded)

    asyncio.run(scenario())


def test_a_stranger_who_sends_more_than_a_greeting_is_dropped(keys: Path) -> None:
    """Nobody takes what he sends, and nobody knows him: it would lie in memory."""

    async def wait(channel: Channel, who: str) -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        async with running(keys, wait, vouches=False) as embedded, embedded.raw() as connection:
            process = await connection.create_process("serve", encoding=None)
            process.stdin.write(bytes(8 * MIB))
            async with asyncio.timeout(PATIENCE_SECONDS):
                await connection.wait_closed()

    asyncio.run(scenario())


def test_a_shortage_that_meets_each_connection_is_said_once(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The event loop says it of each with a traceback: nobody without a key may fill the log."""

    async def scenario() -> None:
        async with running(keys):
            loop = asyncio.get_running_loop()
            for _ in range(100):
                shortage = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                loop.call_exception_handler({"message": "socket.accept() out of system resource", "exception": shortage})
            loop.call_exception_handler({"message": "something else", "exception": ZeroDivisionError()})

    asyncio.run(scenario())
    said = [one for one in caplog.records if "Too many open files" in one.getMessage()]
    assert len(said) == 1
    assert said[0].exc_info is None
    assert [one for one in caplog.records if "something else" in one.getMessage()]


def test_a_connection_that_does_not_log_in_is_dropped(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_LOGIN_SECONDS", 0.5)

    async def scenario() -> None:
        async with running(keys) as embedded:
            reader, writer = await asyncio.open_connection("127.0.0.1", embedded.port)
            async with asyncio.timeout(PATIENCE_SECONDS):
                with suppress(ConnectionError):
                    await reader.read()
            writer.close()

    asyncio.run(scenario())


def test_nonsense_on_the_port_does_not_stop_the_server(keys: Path) -> None:
    async def scenario() -> None:
        async with running(keys) as embedded:
            for noise in (b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n" + os.urandom(5000), b"\0" * 100_000):
                _, writer = await asyncio.open_connection("127.0.0.1", embedded.port)
                writer.write(noise)
                await asyncio.sleep(0.1)
                writer.close()
            await (await embedded.open("serve")).close()

    asyncio.run(scenario())


@pytest.mark.parametrize("who", ["server", "client"])
def test_an_end_that_takes_nothing_is_given_up_though_the_line_is_alive(keys: Path, who: str) -> None:
    """A process that hangs: its SSH still answers keepalives, so nothing but what it does not take tells."""
    ended: list[BaseException | None] = []

    async def write_all(channel: Channel | ClientChannel) -> None:
        try:
            for _ in range(64):
                await channel.write(bytes(MIB))
        except LinkLostError as error:
            ended.append(error)

    async def scenario() -> None:
        over, gave_up = asyncio.Event(), asyncio.Event()

        async def serve(channel: Channel, _: str) -> None:
            if who == "client":
                channel.stall_seconds = 0.5
                await write_all(channel)
                gave_up.set()
            await over.wait()

        async with running(keys, serve, timeout_seconds=60) as embedded:
            channel = await embedded.open("serve")
            async with asyncio.timeout(60):
                if who == "server":
                    channel.link.timeout_seconds = 0.5
                    await write_all(channel)
                else:
                    await gave_up.wait()
            over.set()
            await channel.close()

    asyncio.run(scenario())
    assert "has taken nothing" in str(ended[0])


def test_the_host_key_is_made_once_private_and_readable_by_ssh_keygen(keys: Path) -> None:
    file = keys / "made"
    first = load_host_key(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_host_key(file).get_fingerprint() == first.get_fingerprint()
    shown = subprocess.run(["ssh-keygen", "-l", "-f", file], check=True, capture_output=True, text=True).stdout
    assert first.get_fingerprint() in shown
    assert "(ED25519)" in shown
    assert sorted(path.name for path in keys.glob("made*")) == ["made", "made.pub"]


def test_a_host_key_that_others_may_read_or_that_is_none_is_refused(keys: Path) -> None:
    load_host_key(keys / "open")
    (keys / "open").chmod(0o644)
    with pytest.raises(ExposedKeyError, match="others can get at"):
        load_host_key(keys / "open")
    (keys / "junk").write_bytes(b"junk")
    (keys / "junk").chmod(0o600)
    with pytest.raises(ConfigurationError, match="no host key"):
        load_host_key(keys / "junk")


def test_a_host_key_is_made_in_a_vault_only_where_a_vault_has_its_own(keys: Path) -> None:
    vault = keys / "vault"
    (vault / "cases").mkdir(parents=True)
    (vault / "vault.toml").write_bytes(b"")
    (keys / "alias").symlink_to("vault")
    (keys / "another").mkdir()
    for place in (vault / "key", vault / "cases" / "host_key", keys / "alias" / "key", vault / "host_key.pub"):
        with pytest.raises(UsageError, match="in a vault"):
            load_host_key(place, vault / "host_key")
    with pytest.raises(UsageError, match="in a vault"):
        load_host_key(vault / "host_key", keys / "another" / "host_key")
    assert sorted(os.listdir(vault)) == ["cases", "vault.toml"]
    load_host_key(keys / "alias" / "host_key", vault / "host_key")
    assert sorted(os.listdir(vault)) == ["cases", "host_key", "host_key.pub", "vault.toml"]


def test_what_is_no_file_is_no_host_key_and_is_not_waited_for(keys: Path) -> None:
    os.mkfifo(keys / "fifo")
    (keys / "nowhere").symlink_to("not-there")
    for place in (keys / "fifo", keys / "nowhere", keys):
        with pytest.raises(ConfigurationError, match="it is no file"):
            load_host_key(place)
    assert not (keys / "not-there").exists()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_public_key_that_is_there_is_never_written_over(keys: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    kept = keys / "kept"
    public = keys / "new.pub"
    (kept if kind == "link" else public).write_bytes(b"somebody's file\n")
    if kind == "link":
        public.symlink_to(kept)
    with caplog.at_level(logging.WARNING):
        made = load_host_key(keys / "new")
    assert (public.read_bytes(), kept.read_bytes() if kind == "link" else b"") == (
        b"somebody's file\n",
        b"somebody's file\n" if kind == "link" else b"",
    )
    assert public.is_symlink() == (kind == "link")
    assert "left as it is" in caplog.text
    assert load_host_key(keys / "new").get_fingerprint() == made.get_fingerprint()
    assert not list(keys.glob("*.new"))


def test_another_host_key_after_a_restart_is_refused(keys: Path) -> None:
    async def scenario() -> None:
        async with running(keys) as embedded:
            old = (keys / "known_hosts").read_text().split(" ", 1)[1]
            (keys / "host_key").unlink()
            async with running(keys) as again:
                (keys / "known_hosts").write_text(f"[127.0.0.1]:{again.port} {old}")
                with pytest.raises(HostKeyError):
                    await again.open("serve")
            assert embedded.seen == []

    asyncio.run(scenario())


def test_authorized_keys_that_are_missing_or_hold_no_key_are_said_at_the_start(keys: Path) -> None:
    (keys / "authorized_keys").write_text("no key at all\n")
    with pytest.raises(ConfigurationError):
        asyncio.run(serve_embedded("127.0.0.1", 0, keys / "host_key", keys / "authorized_keys", echo))
    with pytest.raises(ConfigurationError):
        asyncio.run(serve_embedded("127.0.0.1", 0, keys / "host_key", keys / "absent", echo))


def test_a_client_that_vanishes_ends_its_session(keys: Path) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def serve(channel: Channel, who: str) -> None:
        try:
            while await channel.read():
                began.set()
        finally:
            ended.set()

    async def scenario() -> None:
        async with running(keys, serve) as embedded:
            channel = await embedded.open("serve")
            await channel.write(b"x")
            await began.wait()
            channel.abort()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await ended.wait()
            await channel.close()

    asyncio.run(scenario())
