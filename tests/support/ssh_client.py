"""Our client for tests that live in an event loop: a link that the user's ssh carries, with any command."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from evidencesync.connection.ssh_link import SshLink
from evidencesync.custody.documents import SshPeer
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions

T = TypeVar("T")
_POOL = ThreadPoolExecutor(64, "ssh client")


async def in_thread(work: Callable[..., T], *arguments: object) -> T:
    """Waits for it in a thread, of which there are enough."""
    return await asyncio.get_running_loop().run_in_executor(_POOL, work, *arguments)


class ClientChannel:
    """The link, for coroutines."""

    def __init__(self, link: SshLink) -> None:
        self.link = link

    async def read(self) -> bytes:
        return await in_thread(self.link.read)

    async def write(self, data: bytes) -> None:
        await in_thread(self.link.write, data)

    async def write_eof(self) -> None:
        await in_thread(self.link.finish_writing)

    async def close(self) -> None:
        await in_thread(self.link.close)

    def abort(self) -> None:
        """The process that carries it is killed."""
        os.kill(self.link.process_id, signal.SIGKILL)

    @property
    def peer(self) -> SshPeer | None:
        return self.link.peer

    @property
    def stderr_text(self) -> str:
        return self.link._child.stderr_text

    @property
    def exit_status(self) -> int | None:
        return self.link._child.logs[-1].exit_status


async def open_channel(address: Address, options: SshOptions, command: Sequence[str]) -> ClientChannel:
    """Connects, checks host keys, logs in, and runs `<remote command> <command, quoted for a shell>`."""

    def connect() -> SshLink:
        link = SshLink(address, options, command)
        try:
            link.finish_open()
        except BaseException:
            link.kill()
            raise
        return link

    return ClientChannel(await in_thread(connect))
