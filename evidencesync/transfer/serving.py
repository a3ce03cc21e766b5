"""The two ways in which a vault's end is started: by sshd with the streams in place, or as an SSH server of our own."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from evidencesync.errors import ConfigurationError, EvidenceSyncError
from evidencesync.ssh.channel import Channel
from evidencesync.transfer.link import ChannelLink, Link
from evidencesync.transfer.memory import keep_large_blocks
from evidencesync.transfer.receive import receive, refuse
from evidencesync.transfer.stdio import take_standard_streams
from evidencesync.vault.layout import HOST_KEY
from evidencesync.vault.vault import Vault

_THREADS: Final = 96  # above what evidencesync.ssh.server lets in: 32 sessions, and 32 who are logging in


def serve_stdio(vault_path: str) -> None:
    """Serves one session on standard input and output, as sshd starts it. Raises what ended the session."""
    keep_large_blocks()
    _serve_link(take_standard_streams(), vault_path, _received_from(os.environ.get("SSH_CONNECTION", "")), None)


def offer_stdio(source: str) -> None:
    """Serves one pull on standard input and output, as sshd starts it. Raises what ended it."""
    from evidencesync.transfer.offering import offer  # a vault's end needs none of it

    keep_large_blocks()
    allow_many_files()
    offer(take_standard_streams(), os.fsencode(source))


def serve_listening(
    vault_path: str,
    host: str,
    port: int,
    authorized_keys: Path,
    host_key: Path | None,
    announce: Callable[[str, int, str], None],
) -> None:
    """Serves until SIGINT or SIGTERM. `announce` is told address, port and the host key's fingerprint.

    A signal that is ignored from the start, as SIGINT is in the background of a script, stays ignored.
    Raises ConfigurationError when the address or the files cannot be used.
    """
    import asyncio

    keep_large_blocks()
    Vault.open(Path(vault_path))  # so that a wrong path is said now, and not to the first client
    asyncio.run(_serve(vault_path, host, port, authorized_keys, host_key, announce))


async def _serve(
    vault_path: str,
    host: str,
    port: int,
    authorized_keys: Path,
    host_key: Path | None,
    announce: Callable[[str, int, str], None],
) -> None:
    # Not above: asyncssh takes long to import, and what sshd starts needs none of these.
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    from evidencesync.ssh.server import serve_embedded

    loop = asyncio.get_running_loop()
    # Each session keeps a thread for as long as it lasts, and a login needs one for a moment: by default asyncio has four
    # and one for each core, so that a few transfers would keep everybody else out.
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, "session"))

    shown: list[str] = []

    def ready(address: str, number: int, fingerprint: str) -> None:
        shown.append(fingerprint)
        announce(address, number, fingerprint)

    async def handle(channel: Channel, who: str) -> None:
        def run(work: Coroutine[Any, Any, Any]) -> Any:
            return asyncio.run_coroutine_threadsafe(work, loop).result()

        await asyncio.to_thread(_serve_link, ChannelLink(channel, run), vault_path, who, shown[0])

    serving = loop.create_task(
        serve_embedded(host, port, host_key or Path(vault_path) / HOST_KEY, authorized_keys, handle, ready)
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # a script that started us in the background means Ctrl-C for others
            loop.add_signal_handler(number, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def _serve_link(link: Link, vault_path: str, received_from: str, host_key: str | None) -> None:
    """One session. A vault that cannot be opened is the client's business to know: he named it, or whoever set this up."""
    try:
        allow_many_files()
        vault = Vault.open(Path(vault_path))
    except EvidenceSyncError as error:
        refuse(link, error)
        raise
    receive(link, vault, received_from, host_key=host_key)


def allow_many_files() -> None:
    """Lifts the soft limit on open files: between its arrival and its place in the tree, each large content is open."""
    try:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the limit on open files cannot be read: {error}") from error


def _received_from(connection: str) -> str:
    """What sshd says of the client, as a receipt states it: address and port. The variable is the server's, not the client's."""
    parts = connection.split()
    return f"{parts[0]} port {parts[1]}" if len(parts) == 4 and connection.isascii() and connection.isprintable() else "unknown"
