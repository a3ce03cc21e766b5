"""Reaches a vault by its address, wherever it lies."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from evidencesync.errors import EvidenceSyncError
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions
from evidencesync.transfer.link import ChannelLink, EventLoopThread, Link, LocalLink, local_pair
from evidencesync.transfer.memory import keep_large_blocks
from evidencesync.transfer.receive import receive
from evidencesync.vault.vault import Vault


def reach_vault(address: Address, options: SshOptions) -> Link:
    """A link to the vault's end: in this process for a local path, else over SSH.

    Raises what connecting fails with: exit codes 10, 20, 21, 22, 23.
    """
    keep_large_blocks()
    if address.local:
        return _reach_local(address.path)
    from evidencesync.ssh.client import connect  # asyncssh takes half a second to import

    loop = EventLoopThread()
    try:
        return _OwnedLink(loop.run(connect(address, options)), loop)
    except BaseException:
        loop.stop()
        raise


class _OwnedLink(ChannelLink):
    """A channel together with the event loop that drives it."""

    def __init__(self, channel: Any, loop: EventLoopThread) -> None:
        super().__init__(channel, loop.run)
        self._loop = loop
        self._closed = False

    def close(self) -> None:
        """Closes the connection, then the loop."""
        if not self._closed:
            self._closed = True
            try:
                super().close()
            finally:
                self._loop.stop()


class _LocalVaultLink(LocalLink):
    """This process's end of a link to a vault on this machine; waits for the vault's thread when it is closed."""

    def __init__(self, end: LocalLink, thread: threading.Thread) -> None:
        super().__init__(end.incoming, end.outgoing)
        self._thread = thread

    def close(self) -> None:
        """Ends the session and waits until the vault's end has let go of its lock."""
        super().close()
        self._thread.join()


def _reach_local(path: str) -> Link:
    vault = Vault.open(Path(path))
    ours, theirs = local_pair()
    thread = threading.Thread(target=_serve_local, args=(theirs, vault), name="vault", daemon=True)
    thread.start()
    return _LocalVaultLink(ours, thread)


def _serve_local(link: LocalLink, vault: Vault) -> None:
    try:
        receive(link, vault, f"local, user {os.getuid()}", may_return=False)
    except EvidenceSyncError:
        return  # the other end of the link was told, and raises it
