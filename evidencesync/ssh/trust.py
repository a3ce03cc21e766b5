"""Fetches the host key of a server with the user's ssh, for `host trust`.

There is no trust on first use: a key that is not recorded is refused. `host trust` records a key after a person has compared its
fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from evidencesync.errors import ConnectError, EvidenceSyncError, HostKeyError
from evidencesync.files.temporary import temporary_folder
from evidencesync.ssh.address import Address
from evidencesync.ssh.log import ConnectFailure, ServerKey
from evidencesync.ssh.options import SshOptions
from evidencesync.ssh.recorded import fingerprint_of
from evidencesync.ssh.route import Hop, find_route
from evidencesync.ssh.ssh_process import SshProcess

_NO_LOGIN: Final = ("-o", "PreferredAuthentications=none")


@dataclass(frozen=True, slots=True)
class FetchedHostKey:
    """A server's host key. `line` is its type and base64, as for a known_hosts file; None for a key that is known already."""

    hop: Hop
    key: ServerKey
    line: str | None


def fetch_host_key(address: Address, options: SshOptions) -> FetchedHostKey:
    """The key that the server at an address shows and proves to hold. Logs in to jump hosts, but not to the server.

    Raises HostKeyChangedError if another key is recorded or this one is revoked, and what connecting raises.
    """
    hop, key = _see(address, options, _NO_LOGIN)
    return _fetch_unknown(address, options) if key is None else FetchedHostKey(hop, key, None)


def _fetch_unknown(address: Address, options: SshOptions) -> FetchedHostKey:
    """Lets ssh write the unknown key into a temporary known_hosts file, which it does after the server has proved to hold it."""
    with temporary_folder() as folder:
        file = folder / "known_hosts"
        learning = (
            "StrictHostKeyChecking=no",
            f"UserKnownHostsFile={file}",
            "GlobalKnownHostsFile=/dev/null",
            "HashKnownHosts=no",
        )
        hop, key = _see(address, options, (*_NO_LOGIN, *(word for one in learning for word in ("-o", one))))
        lines = file.read_text("utf-8").splitlines() if file.exists() else []
    for line in lines:
        fields = line.split()
        if key is not None and len(fields) >= 3 and fingerprint_of(fields[2]) == key.fingerprint:
            kind = fields[1]
            return FetchedHostKey(hop, msgspec.structs.replace(key, type=kind), f"{kind} {fields[2]}")
    raise ConnectError(f"ssh does not say which host key {hop.where} has shown")


def _see(address: Address, options: SshOptions, more: tuple[str, ...]) -> tuple[Hop, ServerKey | None]:
    """Connects until the host key is checked. The key is None if it is not recorded. Raises what fails before that.

    Also raises for a jump host whose key is not recorded: that one must be trusted first.
    """
    route = find_route(address, options, more)
    child = SshProcess(route, options, "exit")
    try:
        child.wait_ready()
    except HostKeyError:
        if child.logs[-1].host_key_refusal is not ConnectFailure.HOST_KEY_UNKNOWN:
            raise
        return route[-1], None
    except EvidenceSyncError:
        if not child.logs[-1].is_host_verified:
            raise
    finally:
        child.kill()
        child.release()
    shown = child.logs[-1].host_key
    if shown is None:
        raise ConnectError(f"ssh does not say which host key {route[-1].where} has shown")
    return route[-1], shown
