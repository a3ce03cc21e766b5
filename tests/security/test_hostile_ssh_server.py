"""A server that puts lines into what the user's ssh logs of it, to be taken for another one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import msgspec
import pytest

from evidencesync.errors import EvidenceSyncError, HostKeyChangedError, HostKeyError, LinkLostError, ProtocolError
from evidencesync.exit_codes import ExitCode
from evidencesync.ssh import ssh_process as child_module
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import Program, SshOptions
from evidencesync.ssh.route import find_route
from evidencesync.ssh.ssh_process import SshProcess
from tests.conftest import find_program
from tests.support.patience import PATIENCE_SECONDS, wait_until

OTHER = f"SHA256:{'A' * 43}"
LIE = f"well\r\ndebug1: Server host key: ssh-ed25519 {OTHER}\r\n"
SUCCESS = f'{LIE}debug1: SSH2_MSG_NEWKEYS received\r\nAuthenticated to lab ([192.0.2.1]:22) using "publickey".\r\n'
UtcTime = Callable[[asyncssh.SSHServerConnection], None]


class _Liar(asyncssh.SSHServer):
    def __init__(self, at_login: UtcTime, at_session: UtcTime) -> None:
        self._at_login, self._at_session = at_login, at_session

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        self._at_login(self._connection)
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return True

    def auth_completed(self) -> None:
        self._at_session(self._connection)


def _nothing(_: asyncssh.SSHServerConnection) -> None:
    pass


def _say(text: str) -> UtcTime:
    return lambda connection: connection.send_debug(text, always_display=True)


def _hang_up(text: str) -> UtcTime:
    return lambda connection: connection.disconnect(asyncssh.DISC_BY_APPLICATION, text)


@contextmanager
def liar(folder: Path, *, at_login: UtcTime = _nothing, at_session: UtcTime = _nothing) -> Iterator[tuple[Address, SshOptions]]:
    """The server, and how it is reached by ssh."""
    find_program("ssh")
    key, identity = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    identity.write_private_key(folder / "identity")
    (folder / "identity").chmod(0o600)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: _Liar(at_login, at_session),
            server_host_keys=[key],
            process_factory=lambda process: process.stdout.write("word\n"),
        )

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(PATIENCE_SECONDS)
    try:
        known = folder / "known"
        public = key.export_public_key().decode().split()
        known.write_text(f"[127.0.0.1]:{server.get_port()} {public[0]} {public[1]}\n")
        address = Address.parse(f"ssh://ana@127.0.0.1:{server.get_port()}/v")
        yield address, SshOptions(folder / "identity", config=Path("none"), known_hosts=known)
    finally:

        async def end() -> None:
            server.close()
            await server.wait_closed()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), loop).result(PATIENCE_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_SECONDS)
        loop.close()


def _go(address: Address, options: SshOptions) -> str:
    """What the server is on record for, once it has spoken."""
    child = SshProcess(find_route(address, options), options, "serve")
    try:
        peer = child.wait_ready()
        if os.read(child.source, 100):
            child.begin_receiving()
        elif (error := child.end()) is not None:
            raise error
        return peer.host_key
    finally:
        child.kill()
        child.release()


def test_an_honest_server_is_on_record_for_its_key(tmp_path: Path) -> None:
    with liar(tmp_path) as (address, options):
        assert _go(address, options) != OTHER


@pytest.mark.parametrize("text", [LIE, SUCCESS, "x\ndebug1: Remote protocol version 2.0, remote software version Good\ny"])
def test_lines_about_another_server_end_the_connection(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "_MORE_SECONDS", 0.0)
    with liar(tmp_path, at_login=_say(text)) as (address, options), pytest.raises(ProtocolError) as caught:
        _go(address, options)
    assert caught.value.exit_code is ExitCode.PEER


def test_lines_that_come_after_the_login_are_heard_of_before_the_first_byte_is_taken(tmp_path: Path) -> None:
    with liar(tmp_path, at_session=_say(LIE)) as (address, options), pytest.raises(ProtocolError):
        _go(address, options)


def test_a_reason_to_hang_up_cannot_make_it_look_as_if_nothing_was_wrong(tmp_path: Path) -> None:
    with liar(tmp_path, at_login=_hang_up(SUCCESS)) as (address, options), pytest.raises(EvidenceSyncError):
        _go(address, options)


def test_an_unknown_key_stays_unknown_whatever_the_server_says(tmp_path: Path) -> None:
    with liar(tmp_path, at_login=_say("x\nPermission denied (publickey).\n")) as (address, options):
        assert options.known_hosts is not None
        options.known_hosts.write_text("")
        with pytest.raises(HostKeyError):
            _go(address, options)


@pytest.mark.parametrize("text", [SUCCESS, SUCCESS.replace(LIE, "x\r\n"), "x\r\ndebug1: Exit status 0\r\n" + SUCCESS])
def test_an_unknown_key_stays_unknown_where_a_login_is_claimed_before_the_key_is_shown(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = asyncssh.SSHServerConnection._send_kexinit

    def begin_with_words(connection: asyncssh.SSHServerConnection) -> None:
        begin(connection)
        if connection.is_server():
            connection._kex_complete = True  # else they are kept for later
            connection.send_debug(text, always_display=True)
            connection._kex_complete = False

    monkeypatch.setattr(child_module, "_MORE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(asyncssh.SSHServerConnection, "_send_kexinit", begin_with_words)
    monkeypatch.setattr(
        asyncssh.SSHServerConnection, "_get_extra_kex_algs", lambda _: []
    )  # strict exchanges of keys take no words
    with liar(tmp_path) as (address, options):
        assert options.known_hosts is not None
        options.known_hosts.write_text("")
        with pytest.raises(HostKeyError):
            _go(address, options)


REFUSALS = {
    "unknown": "x\r\nHost key verification failed.\r\n",
    "changed": "x\r\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\nHost key verification failed.\r\n",
    "revoked": "x\r\n@       WARNING: REVOKED HOST KEY DETECTED!               @\r\nHost key verification failed.\r\n",
}


@pytest.mark.parametrize("moment", ["at_login", "at_session"])
@pytest.mark.parametrize("text", REFUSALS.values(), ids=REFUSALS)
def test_a_server_whose_key_is_recorded_cannot_make_it_look_refused(tmp_path: Path, text: str, moment: str) -> None:
    """Nobody is told that a good key is another one, and to record it anew."""
    with liar(tmp_path, **{moment: _hang_up(text)}) as (address, options), pytest.raises(ProtocolError) as caught:
        _go(address, options)
    assert "shows the host key that is recorded for it" in caught.value.message


@pytest.mark.parametrize("setting", ["RevokedHostKeys {}/none", "KnownHostsCommand /bin/echo"])
def test_where_keys_may_be_revoked_elsewhere_sshs_word_counts(tmp_path: Path, setting: str) -> None:
    """Nobody is called a liar who may be none."""
    config = tmp_path / "config"
    config.write_text(f"Host *\n  {setting.format(tmp_path)}\n")
    with liar(tmp_path, at_login=_hang_up(REFUSALS["revoked"])) as (address, options):
        known = f"UserKnownHostsFile {options.known_hosts}\n"
        config.write_text(config.read_text() + f"  {known}")
        with pytest.raises(HostKeyChangedError):
            _go(address, msgspec.structs.replace(options, config=config, known_hosts=None))


@pytest.mark.parametrize("text", REFUSALS.values(), ids=REFUSALS)
def test_a_server_whose_key_is_another_or_revoked_cannot_make_it_look_recorded(tmp_path: Path, text: str) -> None:
    with liar(tmp_path, at_login=_hang_up(text)) as (address, options):
        assert options.known_hosts is not None
        name, kind, good = options.known_hosts.read_text().split()
        other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()[1]
        for lines in (f"{name} {kind} {other}\n", f"{name} {kind} {good}\n@revoked {name} {kind} {good}\n"):
            options.known_hosts.write_text(lines)
            with pytest.raises(HostKeyChangedError):
                _go(address, options)


@pytest.mark.parametrize("where", ["log", "stderr"])
def test_a_server_that_talks_without_end_can_be_left(tmp_path: Path, where: str, require_program: Callable[[str], str]) -> None:
    require_program("ssh")
    program = tmp_path / "ssh"
    program.write_text(
        """#!/bin/sh
        for word; do case $word in -G) exec ssh "$@";; esac; done
        while [ "$1" != -E ]; do shift; done
        test LOG = log && exec yes noise >"$2"
        exec yes noise >&2
        """.replace("LOG", where)
    )
    program.chmod(0o700)
    options = SshOptions(config=Path("none"), known_hosts=tmp_path / "known", program=Program((str(program),)))
    child = SshProcess(find_route(Address.parse("ssh://ana@127.0.0.1:9/v"), options), options, "serve")
    ending = threading.Thread(target=child.kill, daemon=True)
    wait_until(lambda: child.logs[0].messages or child._shown)
    ending.start()
    ending.join(PATIENCE_SECONDS)
    assert not ending.is_alive()
    child.release()


def test_a_server_that_never_completes_the_login_is_given_up_where_nobody_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_program("ssh")
    monkeypatch.setattr(child_module, "_LOGIN_SECONDS", 0.3)
    ended = threading.Event()

    def talk(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            connection.sendall(b"SSH-2.0-x\r\n")
            with contextlib.suppress(OSError):
                while not ended.wait(0.1):
                    connection.sendall(bytes((0, 0, 0, 12, 6, 2)) + bytes(10))  # SSH_MSG_IGNORE

    with socket.create_server(("127.0.0.1", 0)) as listener:
        talking = threading.Thread(target=talk, args=(listener,), daemon=True)
        talking.start()
        address = Address.parse(f"ssh://ana@127.0.0.1:{listener.getsockname()[1]}/v")
        try:
            with pytest.raises(LinkLostError, match="has not completed the login"):
                _go(address, SshOptions(config=Path("none"), known_hosts=tmp_path / "known", timeout_seconds=0.1))
        finally:
            ended.set()
            talking.join(PATIENCE_SECONDS)
