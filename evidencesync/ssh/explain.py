"""Turns the end of an ssh process into our own errors: which hop failed, for which reason, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from evidencesync.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    DroppedError,
    EvidenceSyncError,
    HostKeyChangedError,
    HostKeyError,
    LinkLostError,
    NoRemoteError,
    ProtocolError,
)
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import seconds_text
from evidencesync.ssh.log import ConnectFailure, SshLog
from evidencesync.ssh.recorded import is_recorded
from evidencesync.ssh.route import Hop

FAILED: Final = 255  # what ssh ends with where it failed itself; a remote command may end with it, too
_LOST_HINT: Final = "Run the same command again; the server's log says why it has dropped the connection."
_JUMP_KEY_HINT: Final = (
    "It is a jump host, and -i speaks of the last server only: name its key in your SSH config (IdentityFile), "
    "or load it into ssh-agent."
)
_ASKED_NOBODY: Final = " Nobody could be asked for a passphrase here: a key that has one must be in ssh-agent."
_CANNOT_RUN, _NO_COMMAND = 126, 127  # what a POSIX shell ends with where a command cannot be run, or is not found
_NOT_FOUND: Final = "not found"  # csh has the status 1 for everything
_NO_PROXY: Final = ("not found", "no such file")
"""What a shell says of a ProxyCommand that it cannot run. Before a server has proved its identity, nothing of it is on stderr."""
_WARNING: Final = "warning"  # of ssh (a key file), or of a shell: the command runs all the same
_PROXY_HINT: Final = "Check ProxyCommand in your SSH config: `ssh HOST` must work first."
_CONNECT: Final = {
    ConnectFailure.NAME: ("the host name of {where} can't be found", "Check the host name."),
    ConnectFailure.NO_ALGORITHM: (
        "{where} and this machine have no safe algorithm in common",
        "Update its SSH software, or name an algorithm that it has in your SSH config.",
    ),
    ConnectFailure.NOT_SSH: ("{where} does not speak SSH as it should", "Check the host name and the port."),
    ConnectFailure.SESSION: ("{where} runs no command for us", "Ask the server's administrator."),
    ConnectFailure.UNREACHABLE: ("can't connect to {where}", "Check the host name and the port; does a server listen there?"),
}
_CHANGED_HINT: Final = (
    "Do not go on before the server's administrator has confirmed the new key by another way. "
    "Then remove the recorded line and run: {}"
)
_HOST_KEY: Final = (ConnectFailure.HOST_KEY_REVOKED, ConnectFailure.HOST_KEY_CHANGED, ConnectFailure.HOST_KEY_UNKNOWN)


class Ended(msgspec.Struct, frozen=True):
    """An ssh that has ended: its log of each hop, its exit status, and what it printed on stderr, safe to show."""

    route: Sequence[Hop]
    logs: Sequence[SshLog]
    status: int
    stderr: str
    timeout_seconds: float


def explain_login(ended: Ended) -> EvidenceSyncError:
    """The reason why there is no session: that of the first hop that failed."""
    for number, (hop, log) in enumerate(zip(ended.route, ended.logs, strict=True)):
        is_target = number == len(ended.route) - 1
        if (refusal := log.host_key_refusal) is not None:
            return _explain_host_key(hop, log, refusal)
        if log.contradiction is not None:
            return contradicted(hop, log)
        if log.is_authenticated and not is_target:
            if ConnectFailure.SESSION in log.refusals:
                onward = ended.route[number + 1]
                return ConnectError(f"{onward.where} can't be reached through the jump host: {log.last_message}")
            continue
        if log.is_authenticated:
            return _explain_session(hop, log, ended)
        if log.refusal is not None and (
            is_target or log.refusal is not ConnectFailure.CLOSED or not _has_failed(ended, number + 1)
        ):
            return _explain_refusal(hop, log, log.refusal, ended)
        if log.messages and not is_target:
            return ConnectError(f"{hop.where}, a jump host, can't be reached: {log.last_message}")
    return _explain_nothing(ended)


def _has_failed(ended: Ended, number: int) -> bool:
    """Whether a later hop has a reason of its own: it failed, and therefore the hop before it was closed."""
    return any(log.refusal not in (None, ConnectFailure.CLOSED) for log in ended.logs[number:])


def explain_end(ended: Ended) -> LinkLostError:
    """The reason why a session was lost after it had begun."""
    hop, log = ended.route[-1], ended.logs[-1]
    if any(ConnectFailure.SILENT in one.refusals for one in ended.logs):
        return LinkLostError(f"nothing has moved over the connection for {seconds_text(ended.timeout_seconds)}")
    reason = _last_message(log, ended)
    return LinkLostError(f"the connection to {hop.where} was lost: {reason}")


def explain_no_output(exit_status: int | None, stderr: str) -> ConnectError:
    """The error for a remote command that ended before its first byte: it does not exist, or it failed early.

    `stderr` is what it printed there, safe to show.
    """
    status = "" if exit_status is None else f" with exit status {exit_status}"
    said = f" (stderr: {stderr})" if stderr else ""
    if exit_status == _CANNOT_RUN:
        return NoRemoteError(
            f"evidencesync can't be run at the other end: the remote command ended{status}{said}",
            hint="The account there must be allowed to run it, and to read its files. Another is named with --remote-command.",
        )
    if exit_status == _NO_COMMAND or (exit_status == 1 and _NOT_FOUND in stderr.lower()):
        return NoRemoteError(f"there is no evidencesync at the other end: the remote command ended{status}{said}")
    return ConnectError(
        f"the remote command ended{status} before it sent anything{said}",
        hint="Run it by hand to see why: ssh HOST evidencesync --version. Another one is named with --remote-command.",
    )


def contradicted(hop: Hop, log: SshLog) -> ProtocolError:
    """The error for a server that has put lines into ssh's log which contradict ssh's own lines."""
    return ProtocolError(
        f"{hop.where} makes ssh report its {safe_text(str(log.contradiction))} in two ways: the server forges ssh's log"
    )


def other_destination(hop: Hop, log: SshLog) -> ConfigurationError | None:
    """The error if ssh connected to another server, or as another user, than `ssh -G` has said: the manifest would be wrong.

    None otherwise, and for names in other scripts than ASCII, which the log may write in several ways.
    """
    said = (hop.host.lower(), str(hop.port), hop.user)
    if log.destination in (None, said) or not all(part.isascii() and part.isprintable() and "\\" not in part for part in said):
        return None
    host, port, user = map(safe_text, log.destination)
    return ConfigurationError(
        f"ssh says that it goes to {hop.where} as {safe_text(hop.user)}, and went to {host}:{port} as {user}",
        hint="The SSH config means another server each time that it is read (Match exec?).",
    )


def _revoked(hop: Hop, what: str) -> HostKeyChangedError:
    """The error for a server with a revoked host key."""
    return HostKeyChangedError(f"{safe_text(hop.lookup)} shows a host key that is marked as revoked: {what}")


def _explain_session(hop: Hop, log: SshLog, ended: Ended) -> EvidenceSyncError:
    if ConnectFailure.SESSION in log.refusals:
        return ConnectError(
            f"{hop.where} refuses to run the remote command: {log.refusals[ConnectFailure.SESSION]}",
            hint="Ask the server's administrator.",
        )
    return DroppedError(f"the connection to {hop.where} ended: {_last_message(log, ended)}", hint=_LOST_HINT)


def _last_message(log: SshLog, ended: Ended) -> str:
    return log.last_message or ended.stderr or f"ssh ended with status {ended.status}"


def _explain_refusal(hop: Hop, log: SshLog, refusal: ConnectFailure, ended: Ended) -> EvidenceSyncError:
    where, reason = hop.where, log.refusals[refusal]
    if refusal in _HOST_KEY:
        return _explain_host_key(hop, log, refusal)
    if refusal is ConnectFailure.DENIED:
        besides = [word for word in log.messages if word != reason][-4:]  # why a key was not used, for example
        said = " | ".join([reason, *besides, *([ended.stderr] if ended.stderr else [])])
        hint = AuthenticationError.default_hint if hop is ended.route[-1] else _JUMP_KEY_HINT
        hint += _ASKED_NOBODY if hop.asks_nobody else ""
        return AuthenticationError(
            f"{where} does not let the user '{safe_text(hop.user)}' in with what was offered: {said}", hint=hint
        )
    if refusal is ConnectFailure.SILENT:
        return LinkLostError(f"{where} does not answer in time", hint="Check the host name, the port and the network.")
    if refusal is ConnectFailure.CLOSED:
        if log.is_host_verified:
            return DroppedError(f"the connection to {where} was lost: {reason}", hint=_LOST_HINT)
        if hop.has_proxy_command and _cannot_run(ended.stderr):
            return ConnectError(f"ProxyCommand, which should connect to {where}, fails: {ended.stderr}", hint=_PROXY_HINT)
        said = f" ({ended.stderr})" if ended.stderr else ""
        return DroppedError(f"can't connect to {where}: it hung up before it proved its identity: {reason}{said}")
    what, hint = _CONNECT[refusal]
    return ConnectError(f"{what.format(where=where)}: {reason}", hint=hint)


def _cannot_run(stderr: str) -> bool:
    """Whether a line of stderr says that a program is missing. A warning of a missing file does not."""
    lines = [line for line in stderr.lower().split(" | ") if _WARNING not in line]
    return any(word in line for word in _NO_PROXY for line in lines)


def _explain_host_key(hop: Hop, log: SshLog, refusal: ConnectFailure) -> HostKeyError | ProtocolError:
    """The error for a refused host key. The server may have forged the refusal in the log, but not which key it has."""
    name = safe_text(hop.lookup)
    shown = log.host_key
    if shown is not None and not shown.is_certificate and log.contradiction is None and is_recorded(hop, shown.fingerprint):
        return ProtocolError(
            f"{hop.where} shows the host key that is recorded for it, {shown.fingerprint}, and makes ssh report it as refused",
            hint="Run the same command again. If it fails again, the server itself writes this: ask its administrator.",
        )
    what = "none that ssh can name" if shown is None else f"{safe_text(shown.type)} {shown.fingerprint}"
    places = f" ({', '.join(log.offending[:5])})" if log.offending else ""
    if refusal is ConnectFailure.HOST_KEY_REVOKED:
        return _revoked(hop, what + places)
    if refusal is ConnectFailure.HOST_KEY_CHANGED:
        return HostKeyChangedError(
            f"{name} shows another host key than the one recorded: {what}{places}",
            hint=_CHANGED_HINT.format(hop.trust_command),
        )
    return HostKeyError(
        f"the host key of {name} is not known: {what}",
        hint=f"Compare the fingerprint with the server's administrator by another way, then: {hop.trust_command}",
    )


def _explain_nothing(ended: Ended) -> EvidenceSyncError:
    """The error if the log gives no reason: the program is no ssh, could not start, or a ProxyCommand failed."""
    log, hop = ended.logs[-1], ended.route[-1]
    said = " | ".join(part for part in (log.last_message, ended.stderr) if part)
    if ended.status < 0:
        return LinkLostError("the process that carried the connection has ended")
    if not log.is_connected and not log.messages and ended.status != FAILED:
        shown = safe_text(hop.program[0], 200)
        return ConfigurationError(f"the SSH client {shown} ended with status {ended.status}: {said or 'it printed nothing'}")
    return ConnectError(f"can't connect to {hop.where}: {said or f'ssh ended with status {ended.status}'}")
