"""An SFTP server of asyncssh's in a thread, whose answers a test may bend."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asyncssh

from evidencesync.acquire.agentless import pull_agentless
from evidencesync.acquire.connect import connect_for_pull
from evidencesync.acquire.request import PushOutcome
from evidencesync.connection.progress import Progress
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions
from evidencesync.ssh.sftp import SftpSource
from tests.conftest import find_program
from tests.support.bench_of_evidence import Bench
from tests.support.patience import PATIENCE_SECONDS


@dataclass(frozen=True)
class RunningSftp:
    """Where it listens, and how it is reached."""

    port: int
    identity: Path
    known_hosts: Path

    def connect(self, timeout_seconds: float = 20) -> SftpSource:
        """A connection to it."""
        options = SshOptions(
            identity=self.identity, known_hosts=self.known_hosts, config=Path("none"), timeout_seconds=timeout_seconds
        )
        return SftpSource(Address("somebody", "127.0.0.1", self.port, "/", local=False), options).finish_open()

    def pull(self, bench: Bench, path: bytes, timeout_seconds: float = 20, **changes: object) -> PushOutcome:
        """Pulls a path of it into the bench's vault. With `retries`, a lost connection is made again."""
        return pull_over_sftp(partial(self.connect, timeout_seconds), bench, path, timeout_seconds=timeout_seconds, **changes)


def pull_over_sftp(connect: Callable[[], SftpSource], bench: Bench, path: bytes, **changes: object) -> PushOutcome:
    """Pulls a path of a server into the bench's vault."""
    vault = partial(connect_for_pull, str(bench.vault.layout.root))
    request = bench.request(source=path, vault=b"", **changes)
    return pull_agentless(connect(), vault, request, Progress(), again=connect)


class _Login(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        del username
        return False  # whoever comes is let in


@contextmanager
def sftp_server(folder: Path, factory: type[asyncssh.SFTPServer] = asyncssh.SFTPServer) -> Iterator[RunningSftp]:
    """A server whose SFTP sessions are made by `factory`. Its keys lie in `folder`. The user's ssh reaches it."""
    find_program("ssh")
    host_key, identity = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    identity.write_private_key(str(folder / "sftp_identity"))
    (folder / "sftp_identity").chmod(0o600)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1", 0, server_factory=_Login, server_host_keys=[host_key], sftp_factory=factory, allow_scp=False
        )

    acceptor = asyncio.run_coroutine_threadsafe(listen(), loop).result(20)
    port = acceptor.get_port()
    known_hosts = folder / "sftp_known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{port} {host_key.export_public_key().decode()}")
    try:
        yield RunningSftp(port, folder / "sftp_identity", known_hosts)
    finally:

        async def stop() -> None:
            acceptor.close()
            await acceptor.wait_closed()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_SECONDS)
        loop.close()
