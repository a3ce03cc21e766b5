"""Brings a bundle to the source's machine for as long as a pull takes: copies it, lets it check itself there, removes it again.

It lies in a folder that a person has named, and that must be new: what is removed afterwards is what was made here. Commands go
to the account's shell there, over the user's ssh; nothing but a POSIX shell, mkdir, tar, gzip and rm is needed.
"""

from __future__ import annotations

import contextlib
import posixpath
import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from evidencesync.acquire.bundle_file import PROGRAM, CheckedBundle
from evidencesync.acquire.connect import pause_seconds
from evidencesync.acquire.remote_command import FarRun, run_there
from evidencesync.custody.documents import BroughtAgent
from evidencesync.errors import ConnectError, DigestMismatchError, EvidenceSyncError, LinkLostError, StorageError, UsageError
from evidencesync.evidence.display import is_clean, safe_text, shell_text
from evidencesync.limits import MAX_PATH
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions

_NEW: Final = "Name a folder that is not there yet, in one that is, where programs may run and 120 MB have room."
_REMOVALS: Final = 5  # attempts, some ten seconds: the link may be what has just been lost
Say = Callable[[str], None]


def agent_folder(text: str) -> str:
    """Checks the folder that a person has named for the agent. Raises UsageError."""
    shown = safe_text(text, 200)
    is_bounded = is_clean(text) and len(text.encode()) <= MAX_PATH // 2
    if not text.startswith("/") or posixpath.normpath(text) != text or text == "/" or not is_bounded:
        raise UsageError(
            f"the agent's folder is written as a whole path, without dots and a slash at its end: {shown}", hint=_NEW
        )
    return text


class BroughtBundle:
    """A bundle that lies in a folder of the source's machine, from `bring` to `remove`."""

    def __init__(self, bundle: CheckedBundle, address: Address, options: Callable[[], SshOptions], folder: str) -> None:
        self._bundle = bundle
        self._address = address
        self._options = options
        self._folder = folder
        self._path = f"{folder}/{bundle.folder}"
        self._program = shlex.quote(f"{self._path}/{PROGRAM}")
        self._where = safe_text(f"{address.host_text}:{folder}", 300)

    @property
    def agent(self) -> BroughtAgent:
        """What the manifest states."""
        return BroughtAgent(self._path, self._bundle.sums_sha256, self._bundle.signed_by)

    def options(self) -> SshOptions:
        """How evidencesync is started from it."""
        return msgspec.structs.replace(self._options(), remote_command=self._program)

    def make_folder(self) -> None:
        """Makes the folder. Raises StorageError where that is not possible, as where it is there already."""
        self._require(self._run(f"mkdir -m 700 -- {shlex.quote(self._folder)}"), "the agent's folder cannot be made")

    def copy(self) -> None:
        """Copies and unpacks the bundle, and compares what is there. Raises StorageError, DigestMismatchError."""
        folder = shlex.quote(self._folder)
        self._require(self._run(f"cd -- {folder} && tar -xzf -", self._bundle.packed()), "the bundle cannot be unpacked")
        checked = self._run(f"{self._program} --check-bundle")
        self._require(checked, "the bundle does not start")
        said = {tuple(line.split()[:2]) for line in checked.printed.decode("ascii", "replace").splitlines()}
        if ("SHA-256", self._bundle.sums_sha256) not in said:
            raise DigestMismatchError(f"the bundle in {self._where} is not the one that was copied there", hint="Copy it again.")

    def remove(self) -> None:
        """Removes the folder. Raises what connecting fails with, and StorageError."""
        self._require(self._run(f"rm -rf -- {shlex.quote(self._folder)}"), "the agent cannot be removed")

    def left(self, why: str = "") -> str:
        """What to say of a folder that could not be removed, and why it could not."""
        command = shell_text("ssh", self._address.host_text, f"rm -rf -- {shlex.quote(self._folder)}")
        because = f" ({why})" if why else ""
        return f"the agent may still lie in {self._where}{because}: write that down, and remove it with: {command}"

    def _run(self, command: str, feed: Iterable[bytes] = ()) -> FarRun:
        return run_there(self._address, self._options(), command, feed)

    def _require(self, ran: FarRun, what: str) -> None:
        if ran.status != 0:
            raise StorageError(f"{what} in {self._where}: {ran.said or f'exit status {ran.status}'}", hint=_NEW)


@contextlib.contextmanager
def brought(bundle: BroughtBundle, say: Say, warn: Say) -> Iterator[BroughtBundle]:
    """Brings a bundle for the length of a `with`, and removes it whatever happens. `warn` is told what may be left.

    Raises the errors of connecting (20 to 23), StorageError, DigestMismatchError.
    """
    try:
        bundle.make_folder()
    except LinkLostError:  # nobody knows whether it was made
        warn(bundle.left())
        raise
    try:
        bundle.copy()
        yield bundle
    finally:
        _remove(bundle, say, warn)


def _remove(bundle: BroughtBundle, say: Say, warn: Say) -> None:
    """Removes what was brought. It must not replace the error that ended the pull: where it cannot, it says so."""
    is_removed, why = False, ""
    try:
        for attempt in range(_REMOVALS):
            try:
                bundle.remove()
            except (ConnectError, LinkLostError) as error:
                why = error.message
                time.sleep(pause_seconds(attempt))
                continue
            except EvidenceSyncError as error:
                why = error.message
                break
            is_removed = True
            say("the agent is removed again")
            return
    finally:  # also where a second Ctrl-C ends the attempts
        if not is_removed:
            warn(bundle.left(why))
