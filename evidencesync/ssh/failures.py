"""What went wrong on the way to a server, in our own errors: where it failed, what was shown, and what to do about it."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import Final

import asyncssh

from evidencesync.errors import AuthenticationError, ConnectError, DroppedError, EvidenceSyncError, LinkLostError, NoRemoteError
from evidencesync.evidence.display import safe_text
from evidencesync.ssh.config import Hop
from evidencesync.ssh.hostkeys import KnownHosts, refusal

_LOST_HINT: Final = "Run the same command again; the server's log says why it has dropped the connection."
_RESET: Final = frozenset({errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT})
_NO_COMMAND: Final = frozenset({126, 127})  # what a POSIX shell ends with where a command cannot be run, or is not found
_NOT_FOUND: Final = "not found"  # csh has the status 1 for everything
_CLOSED: Final = "SSH connection closed"  # what asyncssh calls a refused channel, where the whole connection is gone
_TOO_MANY: Final = "authentication failures"  # OpenSSH says so as a protocol error


@dataclass(slots=True)
class Attempt:
    """How far one attempt to log in came."""

    shown: asyncssh.SSHKey | None = None  # a host key that is not among the known ones
    host_verified: bool = False
    logged_in: bool = False
    keys_offered: int = 0


def explain(error: BaseException, hop: Hop, attempt: Attempt, known_hosts: KnownHosts | None = None) -> EvidenceSyncError:
    """Our error for one of asyncssh, of the system, or of time."""
    where = safe_text(f"{hop.host}:{hop.port}" if ":" not in hop.host else f"[{hop.host}]:{hop.port}")
    reason = safe_text(str(error), 300)
    if known_hosts is not None and (attempt.shown is not None or isinstance(error, asyncssh.HostKeyNotVerifiable)):
        return refusal(attempt.shown, hop.lookup, hop.port, known_hosts=known_hosts, address=_trust_address(hop), reason=reason)
    if isinstance(error, asyncssh.PermissionDenied) or _TOO_MANY in reason:
        return _explain_denial(hop, attempt, where)
    if isinstance(error, OSError):
        return _explain_system(error, where, attempt)
    if attempt.logged_in:
        return _explain_session(error, where, reason)
    return _explain_handshake(error, attempt, where, reason)


def explain_no_word(exit_status: int | None, stderr: str) -> ConnectError:
    """A remote command that has ended before its first byte: there is none, or it has not come as far as that.

    `stderr` is what it said besides, safe to show.
    """
    status = "" if exit_status is None else f" with exit status {exit_status}"
    said = f" (stderr: {stderr})" if stderr else ""
    if exit_status in _NO_COMMAND or (exit_status == 1 and _NOT_FOUND in stderr.lower()):
        return NoRemoteError(f"there is no evidencesync at the other end: the remote command ended{status}{said}")
    return ConnectError(
        f"the remote command ended{status} before it said anything{said}",
        hint="Run it by hand to see why: ssh HOST evidencesync --version. Another one is named with --remote-command.",
    )


def _explain_session(error: BaseException, where: str, reason: str) -> EvidenceSyncError:
    if isinstance(error, asyncssh.ChannelOpenError) and error.reason != _CLOSED:
        return ConnectError(f"{where} refuses to run the remote command: {reason}", hint="Ask the server's administrator.")
    return DroppedError(f"the connection to {where} ended: {reason}", hint=_LOST_HINT)


def _explain_handshake(error: BaseException, attempt: Attempt, where: str, reason: str) -> EvidenceSyncError:
    if isinstance(error, asyncssh.ChannelOpenError):
        return ConnectError(f"{where} can't be reached through the jump host: {reason}")
    if isinstance(error, asyncssh.ConnectionLost):
        return _explain_loss(attempt, where, reason)
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return ConnectError(f"{where} has no safe algorithm in common with us: {reason}", hint="Update its SSH software.")
    if not attempt.host_verified:
        return ConnectError(f"{where} does not speak SSH as it should: {reason}", hint="Check the host name and the port.")
    if isinstance(error, ValueError):  # what asyncssh raises when an agent does not sign
        return AuthenticationError(f"no key could be used to log in to {where}: {reason}")
    return DroppedError(f"the connection to {where} ended: {reason}", hint=_LOST_HINT)


def _explain_denial(hop: Hop, attempt: Attempt, where: str) -> AuthenticationError:
    keys = "the key that was" if attempt.keys_offered == 1 else f"the {attempt.keys_offered} keys that were"
    message = f"{where} does not let {safe_text(hop.user)} in with {keys} offered"
    if attempt.keys_offered:
        return AuthenticationError(message)
    return AuthenticationError(
        f"there is no key to log in to {where} as {safe_text(hop.user)}",
        hint="Name a key with -i FILE, or load it into ssh-agent. Passwords are not used.",
    )


def _explain_loss(attempt: Attempt, where: str, reason: str) -> LinkLostError:
    if attempt.host_verified:
        return DroppedError(f"the connection to {where} was lost: {reason}", hint=_LOST_HINT)
    return DroppedError(f"{where} closed the connection before it showed who it is: {reason}")


def _explain_system(error: OSError, where: str, attempt: Attempt) -> EvidenceSyncError:
    if isinstance(error, TimeoutError):
        return LinkLostError(f"{where} does not answer in time", hint="Check the host name, the port and the network.")
    reason = safe_text(error.strerror or str(error), 300)
    if isinstance(error, socket.gaierror):
        return ConnectError(f"the host name of {where} can't be found: {reason}", hint="Check the host name.")
    if error.errno in _RESET:
        return _explain_loss(attempt, where, reason)
    return ConnectError(
        f"can't connect to {where}: {reason}", hint="Check the host name and the port; does a server listen there?"
    )


def _trust_address(hop: Hop) -> str:
    """The server as `host trust` takes it."""
    host = f"[{hop.host}]" if ":" in hop.host else hop.host
    return safe_text(f"ssh://{host}:{hop.port}")
