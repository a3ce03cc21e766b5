"""Strangers who take places and say nothing: connections without a key, sessions with a login key that no vault trusts."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import asyncssh
import msgspec
import pytest

from evidencesync.acquire.connect import connect_first
from evidencesync.acquire.push import push
from evidencesync.connection.progress import Progress
from evidencesync.connection.ssh_link import SshLink
from evidencesync.custody.documents import SESSION_NAMESPACE, SessionClaim
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.sshsig import SigningKey, sign_document
from evidencesync.delta.refine import DELTA_PARAMETERS
from evidencesync.errors import BusyError
from evidencesync.evidence.digest import sha512_of
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.ingest.transfers import find_transfers
from evidencesync.protocol.failures import error_of
from evidencesync.protocol.framing import FrameDecoder, decode_message, frame_of
from evidencesync.protocol.messages import (
    PREAMBLE,
    VERSIONS,
    Begin,
    Failure,
    Hello,
    Message,
    Patience,
    Ready,
    Records,
    Status,
    Welcome,
)
from evidencesync.ssh.address import Address
from evidencesync.ssh.keys import load_signer
from evidencesync.ssh.options import SshOptions
from evidencesync.vault.layout import VaultLayout
from tests.integration.cli_program import ITEM, TIMEOUT_SECONDS, Lab
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.ssh_client import open_channel

STRANGER = "127.0.0.2"
T = TypeVar("T")


class Loop:
    """An event loop in a thread, for clients that are made by hand."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(TIMEOUT_SECONDS)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    made.write("notes.txt", b"hello")
    made.make_key("eve")
    (made.folder / "authorized").write_bytes((made.folder / "ana.pub").read_bytes() + (made.folder / "eve.pub").read_bytes())
    return made


def started(lab: Lab, vault: str, listen: str) -> subprocess.Popen[bytes]:
    command = ("serve", "--vault", vault, "--listen", listen, "--authorized-keys", "authorized", "--json")
    return lab.start(*command, stderr=subprocess.DEVNULL)


@pytest.fixture
def port(lab: Lab) -> Iterator[int]:
    """Our own server, as it is by default, and its host key known."""
    process = lab.start(
        "serve",
        "--vault",
        "vault",
        "--listen",
        "0.0.0.0:0",
        "--authorized-keys",
        "authorized",
        "--json",
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        number = int(json.loads(process.stdout.readline())["listening"].rpartition(":")[2])
        assert lab.run("host", "trust", f"ssh://ana@127.0.0.1:{number}/", "-F", "none", "--yes").code == 0
        yield number
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT_SECONDS)


def silent_connections(port: int, count: int) -> list[socket.socket]:
    """Connections of the stranger that never say a word. Some may be dropped at once."""
    made = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS, (STRANGER, 0))
        sock.settimeout(0)
        made.append(sock)
    return made


def still_open(connections: list[socket.socket]) -> int:
    """How many the server has not dropped."""
    count = 0
    for sock in connections:
        try:
            while sock.recv(4096):
                pass
        except BlockingIOError:
            count += 1
        except OSError:
            continue
    return count


async def silent_sessions(lab: Lab, port: int, count: int) -> list[asyncssh.SSHClientConnection]:
    """Sessions of the stranger, who may log in, and whom no vault trusts. Some may be dropped."""
    made = []
    for _ in range(count):
        with suppress(OSError, asyncssh.Error):
            connection = await asyncssh.connect(
                "127.0.0.1",
                port,
                username="eve",
                config=None,
                known_hosts=None,
                client_keys=[str(lab.folder / "eve")],
                local_addr=(STRANGER, 0),
            )
            made.append(connection)
            await connection.create_process("serve", encoding=None)
    return made


def push_from(lab: Lab, port: int, address: str) -> None:
    config = lab.folder / f"config-{address}"
    config.write_text(f"Host *\n  BindAddress {address}\n")
    vault = f"ssh://ana@127.0.0.1:{port}{lab.folder}/vault"
    done = lab.run("push", "evidence", vault, *ITEM, "-i", "ana", "-F", str(config), "--timeout", "50")
    assert done.code == 0, done


def test_a_silent_stranger_keeps_nobody_out_of_our_own_server(lab: Lab, port: int, loop: Loop) -> None:
    """60 connections without a key and 32 sessions from one address hold on: neither others nor his neighbours wait long."""
    sessions = loop.run(silent_sessions(lab, port, 32))
    connections = silent_connections(port, 60)
    try:
        push_from(lab, port, "127.0.0.3")
        assert 0 < still_open(connections) <= 48
        push_from(lab, port, STRANGER)
    finally:
        for sock in connections:
            sock.close()
        for connection in sessions:
            loop.run(_abort(connection))


async def _abort(connection: asyncssh.SSHClientConnection) -> None:
    connection.abort()
    await connection.wait_closed()


def test_one_trusted_person_who_holds_session_after_session_keeps_nobody_out(lab: Lab, port: int, loop: Loop) -> None:
    """33 sessions of one trusted key, for 33 items, that do nothing: half of the places are for others."""
    assert lab.run("trust", "add", "vault", "eve.pub", "--principal", "eve@lab").code == 0
    signer = load_signer(str(lab.folder / "eve"), None, None)
    layout = VaultLayout(lab.folder / "vault")
    held = loop.run(_hold_sessions(lab, port, signer, range(17)))
    try:
        held += loop.run(_hold_sessions(lab, port, signer, range(17, 33)))
        push_from(lab, port, "127.0.0.3")
        assert len(find_transfers(layout)) == 16
    finally:
        for connection in held:
            loop.run(_abort(connection))


async def _hold_sessions(lab: Lab, port: int, signer: SigningKey, numbers: range) -> list[asyncssh.SSHClientConnection]:
    return await asyncio.gather(*(_hold_session(lab, port, signer, number) for number in numbers))


async def _hold_session(lab: Lab, port: int, signer: SigningKey, number: int) -> asyncssh.SSHClientConnection:
    """Proves a trusted key, hears that it got a place or has to wait for one, and then says no more."""
    connection = await asyncssh.connect(
        "127.0.0.1", port, username="eve", config=None, known_hosts=None, client_keys=[str(lab.folder / "eve")]
    )
    process = await connection.create_process("serve", encoding=None)
    decoder = FrameDecoder()

    async def hear() -> Message:
        while True:
            for kind, body in decoder.update(await process.stdout.read(65536)):
                return decode_message(kind, body)

    process.stdin.write(PREAMBLE + frame_of(Hello(list(VERSIONS), "t", "push", b"", DELTA_PARAMETERS, 0)))
    welcome = await hear()
    assert isinstance(welcome, Welcome)
    claim = msgspec.json.encode(
        SessionClaim(
            nonce=welcome.nonce.hex(),
            vault_id=welcome.vault_id,
            vault_key=PublicKey.from_blob(welcome.vault_key).fingerprint,
            case="HELD",
            item=f"I{number}",
            session=f"{number:032x}",
            key=signer.public_key.fingerprint,
        )
    )
    signature = sign_document(signer, SESSION_NAMESPACE, sha512_of(claim))
    begin = Begin(claim, signature, read_back=True, resumes=False, seen=0, vault_seen=0)
    process.stdin.write(frame_of(Patience(600_000, 0, 0)) + frame_of(begin))
    assert isinstance(await hear(), Status | Records | Ready)
    return connection


def test_who_is_turned_away_hears_so_in_his_own_version(lab: Lab, port: int, loop: Loop) -> None:
    """One login key has 32 places for those whom nobody trusts yet; the next one is told, and not dropped."""

    async def told(versions: list[int]) -> Failure:
        async with asyncssh.connect(
            "127.0.0.1", port, username="eve", config=None, known_hosts=None, client_keys=[str(lab.folder / "eve")]
        ) as connection:
            process = await connection.create_process("serve", encoding=None)
            process.stdin.write(PREAMBLE + frame_of(Hello(versions, "t", "push", b"", "p", 0)))
            decoder = FrameDecoder()
            while block := await process.stdout.read(4096):
                for kind, body in decoder.update(block):
                    message = decode_message(kind, body)
                    assert isinstance(message, Failure)
                    return message
            raise AssertionError("hung up without a word")

    sessions = loop.run(silent_sessions(lab, port, 32))
    try:
        assert len(sessions) == 32
        new = loop.run(told(list(VERSIONS)))
        assert isinstance(error_of(new), BusyError)
        assert loop.run(told([1])).slug == "locked"
    finally:
        for connection in sessions:
            loop.run(_abort(connection))


def test_40_pushes_at_once_all_end_well(tmp_path: Path, keygen_of: Path, loop: Loop) -> None:
    """More than the 32 sessions that our own server serves at a time, from one address and with one key: the others wait."""
    bench = make_bench(tmp_path)
    (bench.source / "a").write_bytes(b"one")
    key = keygen_of
    (tmp_path / "authorized").write_bytes(key.with_suffix(".pub").read_bytes())
    lab = Lab(tmp_path)
    (tmp_path / "home").mkdir()
    vault = str(bench.vault.layout.root)
    process = lab.start(
        "serve",
        "--vault",
        vault,
        "--listen",
        "127.0.0.1:0",
        "--authorized-keys",
        "authorized",
        "--json",
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        port = int(json.loads(process.stdout.readline())["listening"].rpartition(":")[2])
        public = (bench.vault.layout.root / "host_key.pub").read_text()
        (tmp_path / "hosts").write_text(f"[127.0.0.1]:{port} {public}")
        options = SshOptions(identity=key, known_hosts=tmp_path / "hosts", config=Path("none"), timeout_seconds=100.0)
        address = Address.parse(f"ssh://ana@127.0.0.1:{port}{vault}")

        def reach() -> SshLink:
            return loop.run(open_channel(address, options, ["serve"])).link

        with ThreadPoolExecutor(40) as pool:
            pushes: list[Future[int]] = [pool.submit(_push_one, bench, number, reach) for number in range(40)]
            assert [one.result(TIMEOUT_SECONDS) for one in pushes] == [1] * 40
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT_SECONDS)


def _push_one(bench: Bench, number: int, reach: Any) -> int:
    progress = Progress()
    name = ItemName(Title("C"), Title(f"I{number}"))
    request = bench.request(name=name, retries=40, timeout_seconds=100)
    link = connect_first(reach, reach, request.retries, progress)
    return push(link, request, progress, again=reach).acquisition


@pytest.fixture
def keygen_of(tmp_path: Path) -> Path:
    path = tmp_path / "login"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path
