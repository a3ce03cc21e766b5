"""The client against a real OpenSSH server."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evidencesync.acquire.connect import connect_to_vault
from evidencesync.connection.link import Link
from evidencesync.errors import (
    AuthenticationError,
    ConnectError,
    DroppedError,
    HostKeyError,
    LinkLostError,
    NoRemoteError,
    SigningKeyError,
    UsageError,
)
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions, parse_program
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ssh_client import ClientChannel, open_channel

if TYPE_CHECKING:
    from tests.integration.conftest import Agent, Relay, Sshd

PYTHON = shlex.quote(sys.executable)
ECHO = f"{PYTHON} -c 'import shutil, sys; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)'; :"
MIB = 1024 * 1024


@asynccontextmanager
async def opened(address: Address, options: SshOptions, *command: str) -> AsyncIterator[ClientChannel]:
    channel = await open_channel(address, options, command)
    try:
        yield channel
    finally:
        await channel.close()


async def read_all(channel: ClientChannel) -> bytes:
    blocks = []
    while block := await channel.read():
        blocks.append(block)
    return b"".join(blocks)


def test_bytes_come_back_from_a_remote_command_and_the_end_is_seen(sshd: Sshd) -> None:
    async def scenario() -> None:
        async with opened(sshd.address(), sshd.options(remote_command=ECHO)) as channel:
            await channel.write(b"one ")
            await channel.write(b"two")
            await channel.write_eof()
            assert await read_all(channel) == b"one two"
            assert await channel.read() == b""

    asyncio.run(scenario())


def test_the_peer_names_user_host_port_key_and_algorithms(sshd: Sshd) -> None:
    async def scenario() -> None:
        async with opened(sshd.address(), sshd.options(remote_command=ECHO)) as channel:
            peer = channel.peer
            assert peer is not None
            assert (peer.user, peer.host, peer.port) == (sshd.user, "127.0.0.1", sshd.port)
            assert peer.host_key == sshd.host_fingerprint
            assert peer.algorithms["send_cipher"] == peer.algorithms["recv_cipher"] == "aes128-gcm@openssh.com"
            assert peer.algorithms["server_version"].startswith("SSH-2.0-OpenSSH")

    asyncio.run(scenario())


def test_64_mib_go_both_ways_at_once_and_the_wire_is_counted(sshd: Sshd) -> None:
    block = os.urandom(MIB)
    count = 64

    async def scenario() -> None:
        async with opened(sshd.address(), sshd.options(remote_command=ECHO)) as channel:

            async def send() -> None:
                for _ in range(count):
                    await channel.write(block)
                await channel.write_eof()

            sender = asyncio.create_task(send())
            digest, size = hashlib.sha256(), 0
            while got := await channel.read():
                assert len(got) <= MIB
                digest.update(got)
                size += len(got)
            await sender
            assert size == count * MIB
            assert digest.digest() == hashlib.sha256(block * count).digest()
            assert (channel.link.wire_sent, channel.link.wire_received) == (64 * MIB, 64 * MIB)

    asyncio.run(scenario())


def test_a_writer_waits_while_the_other_end_does_not_read(sshd: Sshd) -> None:
    async def scenario() -> None:
        async with opened(sshd.address(), sshd.options(remote_command="sleep 60;:")) as channel:
            written = 0

            async def send() -> None:
                nonlocal written
                while True:
                    await channel.write(bytes(MIB))
                    written += MIB

            with pytest.raises(TimeoutError):
                await asyncio.wait_for(send(), 1.5)
            assert written < 32 * MIB

    asyncio.run(scenario())


def test_what_nobody_reads_is_not_gathered_without_end(sshd: Sshd) -> None:
    async def scenario() -> None:
        async with opened(sshd.address(), sshd.options(remote_command="head -c 400000000 /dev/zero;:")) as channel:
            await channel.read()
            await asyncio.sleep(2)
            assert channel.link.wire_received < 32 * MIB
            total = MIB
            while block := await channel.read():
                total += len(block)
            assert total > 390_000_000

    asyncio.run(scenario())


def test_arguments_reach_the_command_as_they_are(sshd: Sshd) -> None:
    hostile = "/vault/with space/'quote'/$HOME/`id`/\"double\"/ü;exit"

    async def scenario() -> bytes:
        async with opened(sshd.address(), sshd.options(remote_command="printf %s"), hostile) as channel:
            return await read_all(channel)

    assert asyncio.run(scenario()).decode() == hostile


def test_a_vault_is_reached_by_serve_with_its_path(sshd: Sshd) -> None:
    link: Link = connect_to_vault(sshd.address("/a vault"), sshd.options(remote_command="printf '<%s>'"))
    try:
        assert link.read() == b"<serve><--vault></a vault>"
    finally:
        link.close()


def test_an_address_without_a_path_is_no_vault(sshd: Sshd) -> None:
    with pytest.raises(UsageError, match="no vault"):
        connect_to_vault(sshd.address(""), sshd.options())


def test_a_command_that_is_not_there_is_said_with_a_hint(sshd: Sshd) -> None:
    async def scenario() -> None:
        async with opened(sshd.address(), sshd.options(remote_command="no-such-program"), "serve") as channel:
            await channel.read()

    with pytest.raises(NoRemoteError, match=r"exit status 127.*no-such-program") as caught:
        asyncio.run(scenario())
    assert "--remote-command" in (caught.value.hint or "")


def test_what_stderr_says_is_bounded_and_shown_without_control_characters(sshd: Sshd) -> None:
    command = r"head -c 300000 /dev/zero | tr '\0' x >&2; printf '\n\033]0;title\007\033[2Jgone\n' >&2; exit 3;:"

    async def scenario() -> ClientChannel:
        async with opened(sshd.address(), sshd.options(remote_command=command)) as channel:
            with pytest.raises(ConnectError) as caught:
                await channel.read()
            assert caught.value.slug == "cannot-connect"  # something was started, and failed: it is there
            assert "\x1b" not in caught.value.message
            assert "exit status 3" in caught.value.message
            return channel

    channel = asyncio.run(scenario())
    assert channel.stderr_text.endswith(r"\x1b]0;title\x07\x1b[2Jgone")
    assert len(channel.stderr_text) < 1000
    assert channel.exit_status == 3


def test_a_key_that_is_not_authorized_is_an_authentication_error(sshd: Sshd, tmp_path: Path, keygen: Callable[..., Path]) -> None:
    stranger = keygen(tmp_path / "stranger")
    with pytest.raises(AuthenticationError, match="does not let"):
        asyncio.run(open_channel(sshd.address(), sshd.options(identity=stranger), ["true"]))


def test_an_identity_that_is_not_there_is_named(sshd: Sshd, tmp_path: Path) -> None:
    with pytest.raises(SigningKeyError, match="absent"):
        asyncio.run(open_channel(sshd.address(), sshd.options(identity=tmp_path / "absent"), ["true"]))


def test_a_key_in_the_agent_is_used_for_its_public_file(sshd: Sshd, tmp_path: Path, agent: Agent) -> None:
    public = tmp_path / "identity.pub"
    public.write_bytes(sshd.identity.with_name("identity.pub").read_bytes())
    agent.add(sshd.identity)

    async def scenario() -> bytes:
        async with opened(sshd.address(), sshd.options(identity=public, remote_command="echo in;:")) as channel:
            return await read_all(channel)

    assert asyncio.run(scenario()) == b"in\n"


def test_too_many_keys_in_the_agent_do_not_hide_the_named_one(
    sshd: Sshd, tmp_path: Path, agent: Agent, keygen: Callable[..., Path]
) -> None:
    for number in range(8):
        agent.add(keygen(tmp_path / f"other{number}"))

    async def scenario() -> bytes:
        async with opened(sshd.address(), sshd.options(remote_command="echo in;:")) as channel:
            return await read_all(channel)

    assert asyncio.run(scenario()) == b"in\n"


def test_too_many_keys_and_no_named_one_is_an_authentication_error(
    sshd: Sshd, tmp_path: Path, agent: Agent, keygen: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for number in range(8):
        agent.add(keygen(tmp_path / f"other{number}"))
    with pytest.raises(AuthenticationError):
        asyncio.run(open_channel(sshd.address(), sshd.options(identity=None), ["true"]))


def test_a_config_file_gives_host_name_port_user_and_identity(sshd: Sshd, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"Host lab\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User {sshd.user}\n  IdentityFile {sshd.identity}\n"
        f"  UserKnownHostsFile {sshd.known_hosts}\n"
    )
    options = SshOptions(config=config, remote_command="echo in;:")

    async def scenario() -> bytes:
        async with opened(Address.parse("lab:/vault"), options) as channel:
            assert channel.peer is not None
            assert channel.peer.port == sshd.port
            return await read_all(channel)

    assert asyncio.run(scenario()) == b"in\n"


@pytest.mark.parametrize("setting", ["none", "/dev/null"])
def test_a_config_that_switches_host_key_checks_off_is_refused(sshd: Sshd, tmp_path: Path, setting: str) -> None:
    config = tmp_path / "config"
    config.write_text(f"Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile {setting}\n")
    options = sshd.options(config=config, known_hosts=None)
    with pytest.raises(HostKeyError, match="UserKnownHostsFile"):
        asyncio.run(open_channel(sshd.address(), options, ["true"]))


def test_a_proxy_command_is_run_and_may_make_noise(sshd: Sshd, tmp_path: Path) -> None:
    relay = tmp_path / "relay.py"
    relay.write_text(
        "import os, socket, sys, threading\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "print('noise on stderr', file=sys.stderr)\n"
        "def up():\n"
        "    while data := os.read(0, 65536): s.sendall(data)\n"
        "    s.shutdown(socket.SHUT_WR)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while data := s.recv(65536): os.write(1, data)\n"
    )
    config = tmp_path / "config"
    config.write_text(f"Host *\n  ProxyCommand {sys.executable} {relay} %h %p\n")

    async def scenario() -> bytes:
        async with opened(sshd.address(), sshd.options(config=config, remote_command="echo in;:")) as channel:
            return await read_all(channel)

    assert asyncio.run(scenario()) == b"in\n"


def test_a_jump_host_is_gone_through_and_both_host_keys_are_checked(sshd: Sshd, tmp_path: Path) -> None:
    config = tmp_path / "config"
    key = sshd.host_key
    hosts = tmp_path / "hosts"
    jump = f"Host jump\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User {sshd.user}\n  IdentityFile {sshd.identity}\n"
    config.write_text(jump + f"Host target\n  HostName localhost\n  Port {sshd.port}\n  User {sshd.user}\n  ProxyJump jump\n")
    options = sshd.options(config=config, known_hosts=hosts, remote_command="echo in;:")

    async def scenario() -> bytes:
        async with opened(Address.parse("target:/vault"), options) as channel:
            return await read_all(channel)

    jump_line = f"[127.0.0.1]:{sshd.port} ssh-ed25519 {key}\n"
    target_line = f"[localhost]:{sshd.port} ssh-ed25519 {key}\n"
    hosts.write_text(jump_line + target_line)
    assert asyncio.run(scenario()) == b"in\n"
    for known, unknown in ((jump_line, "localhost"), (target_line, "127.0.0.1")):
        hosts.write_text(known)
        with pytest.raises(Exception, match=rf"\[{unknown}\]:{sshd.port} is not known"):
            asyncio.run(scenario())


def test_nobody_listening_is_a_connect_error(sshd: Sshd, closed_port: int) -> None:
    with pytest.raises(ConnectError):
        asyncio.run(open_channel(Address.parse(f"ssh://127.0.0.1:{closed_port}/v"), sshd.options(), ["true"]))


def test_a_host_name_that_does_not_exist_is_a_connect_error(sshd: Sshd) -> None:
    with pytest.raises(ConnectError, match="can't be found"):
        asyncio.run(open_channel(Address.parse("ssh://no-such-host.invalid/v"), sshd.options(), ["true"]))


def test_a_server_that_says_nothing_ends_in_a_timeout(
    sshd: Sshd, fake_server: Callable[[Callable[[socket.socket], object]], int]
) -> None:
    port = fake_server(lambda sock: sock.recv(1000) and threading.Event().wait(3))
    with pytest.raises(LinkLostError):
        asyncio.run(open_channel(Address.parse(f"ssh://127.0.0.1:{port}/v"), sshd.options(timeout_seconds=0.5), ["true"]))


def test_something_that_is_not_ssh_is_a_connect_error(
    sshd: Sshd, fake_server: Callable[[Callable[[socket.socket], object]], int]
) -> None:
    port = fake_server(lambda sock: sock.sendall(b"HTTP/1.1 400 Bad Request\r\n" * 2000))
    with pytest.raises((ConnectError, LinkLostError)):
        asyncio.run(open_channel(Address.parse(f"ssh://127.0.0.1:{port}/v"), sshd.options(), ["true"]))


def test_a_server_that_hangs_up_before_it_shows_who_it_is_is_no_interrupted_transfer(
    sshd: Sshd, fake_server: Callable[[Callable[[socket.socket], object]], int]
) -> None:
    port = fake_server(lambda sock: sock.close())
    with pytest.raises(LinkLostError, match="before it proved its identity") as raised:
        asyncio.run(open_channel(Address.parse(f"ssh://127.0.0.1:{port}/v"), sshd.options(), ["true"]))
    assert "does it let this machine in" in str(raised.value.hint)


def test_a_proxy_command_whose_program_is_missing_is_named_and_not_tried_again(sshd: Sshd, tmp_path: Path) -> None:
    config = tmp_path / "proxy.conf"
    for program in ("no-such-program", "/nowhere/no-such-program"):
        config.write_text(f"Host *\n  ProxyCommand {program} %h %p\n")
        with pytest.raises(ConnectError, match="no-such-program") as raised:
            asyncio.run(open_channel(sshd.address(), sshd.options(config=config), ["true"]))
        assert not isinstance(raised.value, DroppedError)
        assert "ProxyCommand" in str(raised.value.hint)


def test_a_warning_of_a_missing_file_makes_no_proxy_command_a_missing_one(sshd: Sshd, tmp_path: Path) -> None:
    """A server that drops it, because it has too many connections, is tried again."""
    config = tmp_path / "proxy.conf"
    config.write_text("Host *\n  ProxyCommand false\n")
    options = sshd.options(config=config, program=parse_program("ssh -i /nowhere/key"))
    with pytest.raises(DroppedError):
        asyncio.run(open_channel(sshd.address(), options, ["true"]))


def test_a_server_that_hangs_up_is_no_broken_proxy_command_where_there_is_none(
    sshd: Sshd, fake_server: Callable[[Callable[[socket.socket], object]], int]
) -> None:
    port = fake_server(lambda sock: sock.close())
    options = sshd.options(program=parse_program("ssh -i /nowhere/not-found"))
    with pytest.raises(DroppedError) as raised:
        asyncio.run(open_channel(Address.parse(f"ssh://127.0.0.1:{port}/v"), options, ["true"]))
    assert "ProxyCommand" not in raised.value.message


def test_a_connection_that_is_reset_in_the_middle_is_a_lost_link(sshd: Sshd, relay: Relay) -> None:
    async def scenario() -> None:
        address = Address.parse(f"ssh://{sshd.user}@127.0.0.1:{relay.port}/v")
        hosts = relay.known_hosts(sshd)
        async with opened(address, sshd.options(known_hosts=hosts, remote_command="cat /dev/zero;:")) as channel:
            for _ in range(20):
                await channel.read()
            relay.reset()
            with pytest.raises(LinkLostError):
                await read_all(channel)
            with pytest.raises(LinkLostError):
                await channel.write(b"x")

    asyncio.run(scenario())


def test_a_link_that_goes_silent_is_given_up_after_the_timeout(sshd: Sshd, relay: Relay) -> None:
    async def scenario() -> None:
        address = Address.parse(f"ssh://{sshd.user}@127.0.0.1:{relay.port}/v")
        options = sshd.options(known_hosts=relay.known_hosts(sshd), remote_command="cat;:", timeout_seconds=3.0)
        async with opened(address, options) as channel:
            await channel.write(b"x")
            assert await channel.read() == b"x"
            await asyncio.sleep(4.5)  # quiet, but alive: keepalives pass
            await channel.write(b"y")
            assert await channel.read() == b"y"
            relay.freeze()
            with pytest.raises(LinkLostError, match="nothing has moved"):
                await channel.read()

    asyncio.run(scenario())


@pytest.fixture
def fake_server() -> Iterator[Callable[[Callable[[socket.socket], object]], int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def start(serve: Callable[[socket.socket], object]) -> int:
        def run() -> None:
            sock, _ = listener.accept()
            with sock:
                try:
                    serve(sock)
                except OSError:
                    return

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield start
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    listener.close()
