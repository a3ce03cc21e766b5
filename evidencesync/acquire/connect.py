"""Connects to a vault, or to the source of a pull, by its address: over SSH, or in this process.

It waits before another attempt where a server has no room, or a link was lost.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import msgspec

from evidencesync.connection.event_log import NO_EVENTS, Events
from evidencesync.connection.link import Link, LocalLink, OwnVaultLink, ThreadedLink, local_pair
from evidencesync.connection.process import keep_large_blocks
from evidencesync.connection.progress import Progress
from evidencesync.connection.ssh_link import SshLink
from evidencesync.errors import DroppedError, EvidenceSyncError, LinkLostError
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions

if TYPE_CHECKING:
    from evidencesync.connection.sender_connection import Pulled
    from evidencesync.custody.documents import SshPeer
    from evidencesync.vault.vault import Vault

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0

_LinkT = TypeVar("_LinkT")
Role = Literal["--vault", "--source"]
"""The option of `serve` with which the other end is started."""


def longest_pause(attempt: int) -> float:
    """Returns the upper limit of `pause_seconds`: it doubles with each attempt, up to LONGEST_PAUSE."""
    return min(FIRST_PAUSE * 2.0 ** min(attempt, 16), LONGEST_PAUSE)


def pause_seconds(attempt: int) -> float:
    """Returns how long to wait before an attempt (the first is 0): longer each time, and random, so that clients spread out."""
    return longest_pause(attempt) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads clients out, and hides nothing


def not_regained(attempts: int, last: EvidenceSyncError) -> LinkLostError:
    """The error that ends a run whose lost link did not come back in so many attempts; `last` is what the last one met."""
    if attempts == 0:
        return LinkLostError(last.message)
    tried = "the attempt to get it back has" if attempts == 1 else f"{attempts} attempts to get it back have"
    return LinkLostError(f"the link was lost, and {tried} failed{'' if attempts == 1 else '; the last'}: {last.message}")


def wait_for_place(refused: EvidenceSyncError, progress: Progress, attempt: int, retries: int) -> None:
    """Notifies the user why the run waits, and waits before the next attempt."""
    seconds = pause_seconds(attempt)
    progress.stage = "waiting"
    progress.events.record("waiting", slug=refused.slug, message=refused.message)
    progress.notify(f"{refused.message}; trying again in {seconds:.1f} s ({attempt + 1} of {retries})")
    time.sleep(seconds)


def connect_first(first: Callable[[], _LinkT], again: Callable[[], _LinkT], retries: int, progress: Progress) -> _LinkT:
    """Makes the first connection of a run. If it is dropped before the handshake, it is retried up to `retries` times.

    A server that has too many connections drops some of the new ones (sshd's MaxStartups). Every other error is raised at once:
    a mistyped address must be reported now.
    """
    try:
        return first()
    except DroppedError as error:
        dropped = error
    for attempt in range(retries):
        wait_for_place(dropped, progress, attempt, retries)
        progress.stage = "connecting"
        try:
            return again()
        except DroppedError as error:
            dropped = error
    raise dropped


def connect_to_vault(address: Address, options: SshOptions) -> Link:
    """A link to the vault's end: in this process for a local path, else over SSH.

    Raises what connecting fails with: exit codes 10, 20, 21, 22, 23.
    """
    with connecting(address, options) as link:
        return link()


@contextlib.contextmanager
def connecting(
    address: Address, options: SshOptions, role: Role = "--vault", events: Events = NO_EVENTS
) -> Iterator[Callable[[], Link]]:
    """Begins to connect to a vault, or to the source's end of a pull, while the caller does other work.

    `events`: where a vault's end in this process tells what happens.

    Yields a function that waits for the link and returns it. If the block ends before that was called, the attempt is cancelled.
    """
    keep_large_blocks()
    if address.local:
        yield partial(_connect_locally, address.path, events=events)
        return
    what = role.removeprefix("--")
    if not address.path:
        raise address.without_path(what)
    carried = SshLink(address, options, ("serve", role, address.path))
    is_taken = False

    def take() -> Link:
        nonlocal is_taken
        try:
            carried.finish_open()
        except EvidenceSyncError:
            carried.kill()
            raise
        is_taken = True
        return ThreadedLink(carried)

    try:
        yield take
    finally:
        if not is_taken:
            carried.kill()


def connect_to_source(address: Address, options: SshOptions) -> Link:
    """A link to the source's end of a pull, over SSH. Raises what `connect_to_vault` raises."""
    with connecting(address, options, "--source") as link:
        return link()


def connect_for_pull(path: str, pulled: Pulled, peer: SshPeer | None, events: Events = NO_EVENTS) -> Link:
    """A link to the vault's end in this process, for what a pull brings from `peer`."""
    return _connect_locally(path, f"{peer.user}@{peer.host} port {peer.port}" if peer else None, pulled, events)


def _connect_locally(
    path: str, received_from: str | None = None, pulled: Pulled | None = None, events: Events = NO_EVENTS
) -> Link:
    from evidencesync.vault.vault import Vault  # the vault's half is needed for a local one only

    vault = Vault.open(Path(path))
    ours, theirs = local_pair()
    thread = threading.Thread(target=_serve_local, args=(theirs, vault, received_from, pulled, events), name="vault", daemon=True)
    thread.start()
    return OwnVaultLink(ours, thread)


def _serve_local(link: LocalLink, vault: Vault, received_from: str | None, pulled: Pulled | None, events: Events) -> None:
    """Runs the vault's end. Every error is sent over the link: otherwise the sender would wait for its whole timeout."""
    try:
        from evidencesync.connection.sender_connection import SINGLE_SESSION
        from evidencesync.ingest.receive import receive

        host, who = (
            msgspec.structs.replace(SINGLE_SESSION, events=events.of_vault()),
            received_from or f"local, user {os.getuid()}",
        )
        receive(link, vault, who, may_reconnect=False, pulled=pulled, host=host)
    except EvidenceSyncError:
        return  # the other end of the link was told, and raises it
    except Exception as error:  # noqa: BLE001 - such as no memory to load the vault's half: nothing was sent yet
        from evidencesync.files.shortages import unexpected
        from evidencesync.protocol.failures import failure_of
        from evidencesync.protocol.framing import frame_of
        from evidencesync.protocol.messages import PATIENT_VERSION, PREAMBLE

        with contextlib.suppress(LinkLostError):
            link.write(PREAMBLE + frame_of(failure_of(unexpected(error), PATIENT_VERSION)))
    finally:
        link.close()
