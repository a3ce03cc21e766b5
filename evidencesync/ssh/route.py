"""Finds the route to a server by the user's SSH configuration, and makes the ssh command line that connects over it.

`ssh -G` prints how ssh resolves the user's configuration, with everything in it (Match, Include, tokens ...). Settings that
must be different for a transfer are put on the command line, which takes precedence over any file. For each jump host of a
ProxyJump, ssh would start an ssh without our options. So a ProxyJump becomes a ProxyCommand here, which has them.

Options that only some versions know are named only where `ssh -G` shows that this one does.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from evidencesync.errors import ConfigurationError, HostKeyError, ResourcesError, SigningKeyError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import seconds_text
from evidencesync.files.shortages import is_shortage
from evidencesync.home import require_regular
from evidencesync.ssh.address import Address, parse_server
from evidencesync.ssh.known_hosts import as_ssh_finds, known_hosts, trust_command, without_tokens
from evidencesync.ssh.likely_keys import likely_keys
from evidencesync.ssh.options import SshOptions, missing_program
from evidencesync.ssh.private_files import check_key_file

_MAX_HOPS: Final = 8  # jump hosts on the way; more is a config that goes round in circles
# Override whatever a configuration says. Every version since 7.4 knows these.
_ALWAYS: Final = {
    "StrictHostKeyChecking": "yes",
    "NoHostAuthenticationForLocalhost": "no",
    "VerifyHostKeyDNS": "no",
    "CheckHostIP": "no",
    "UpdateHostKeys": "no",
    "FingerprintHash": "sha256",
    "VisualHostKey": "no",
    "PermitLocalCommand": "no",
    "ClearAllForwardings": "yes",
    "ExitOnForwardFailure": "no",
    "Tunnel": "no",
    "ControlMaster": "no",
    "ControlPersist": "no",
    "Compression": "no",
}
# What decides whether a host key is checked, and how `ssh -G` writes yes and no.
_CHECKS: Final = {"StrictHostKeyChecking": "yes", "NoHostAuthenticationForLocalhost": "no", "VerifyHostKeyDNS": "no"}
_SPELLINGS: Final = {"yes": ("yes", "true"), "no": ("no", "false")}
# Override only if `ssh -G` shows another value: some versions do not know these options.
_IF_KNOWN: Final = {
    "ForkAfterAuthentication": "no",
    "StdinNull": "no",
    "SessionType": "default",
    "RemoteCommand": "none",
    "LogVerbose": "none",
    "EnableEscapeCommandline": "no",
    "GSSAPIKeyExchange": "no",  # it shows no host key, which the manifest must state, and which known_hosts is compared with
}
# No terminal, no forwarding, no escape character, no shared connection. They follow the user's own flags: the last one wins.
_FLAGS: Final = ("-T", "-a", "-x", "-e", "none", "-S", "none", "-v")
# ssh's default order of ciphers: in OpenSSH 6.7 to 9.9 (up to 7.5 with CBC at the end), and since 10.0.
_CHACHA, _CTR, _GCM = (
    "chacha20-poly1305@openssh.com",
    "aes128-ctr,aes192-ctr,aes256-ctr",
    "aes128-gcm@openssh.com,aes256-gcm@openssh.com",
)
_DEFAULT_CIPHERS: Final = frozenset(
    {
        f"{_CHACHA},{_CTR},{_GCM}",
        f"{_CHACHA},{_CTR},{_GCM},aes128-cbc,aes192-cbc,aes256-cbc",
        f"{_CHACHA},{_GCM},{_CTR}",
    }
)
_OUR_CIPHERS: Final = f"{_GCM},{_CHACHA},{_CTR}"
_DEFAULT_PORT: Final = 22
_BRACKETS: Final = re.compile(r"\[([0-9.]+)\]")  # which ssh puts around an address of version 4, too
_NOBODY_HINT: Final = "ssh works only for a user whom the password database knows (getent passwd)."
_REVOKING: Final = ("revokedhostkeys", "knownhostscommand")  # as `ssh -G` calls them
_BATCH: Final = "BatchMode=yes"  # see `_timeout_settings`
_NO_COMMAND: Final = b"without a command to execute"
_CLIENT_HINT: Final = "It must be OpenSSH's client, 7.4 or later."
_ANSWER_SECONDS: Final = 60.0  # `ssh -G` may resolve names, and run the commands of `Match exec`
# Settings that name files which ssh opens, as `ssh -G` prints them; and the suffixes of what it opens beside a key.
_OPENED: Final = ("identityfile", "certificatefile", "userknownhostsfile", "globalknownhostsfile", "revokedhostkeys")
_BESIDE_KEYS: Final = ("", ".pub", "-cert.pub")
_KEEPALIVES: Final = 4  # in the time after which a silent link is lost


class Hop(msgspec.Struct, frozen=True):
    """One server on the route, as ssh resolves it. `lookup` is the name under which its host key is recorded.

    `known_hosts` are the files that ssh searches for it, by ssh's names; `system_known_hosts` those of them that are passed to
    ssh as the system's, our own file included.
    """

    host: str
    port: int
    user: str
    lookup: str
    known_hosts: tuple[str, ...]
    system_known_hosts: tuple[str, ...]
    program: tuple[str, ...]
    arguments: tuple[str, ...]
    """The arguments of ssh for this hop, except those for the way there and the log."""
    name: str
    """The name of the server that is given to ssh."""
    trust_command: str
    """The command that records its host key, safe to show."""
    has_revocations_elsewhere: bool = False
    """Whether other sources than known_hosts files may revoke keys: RevokedHostKeys, or a KnownHostsCommand."""
    has_proxy_command: bool = False
    """Whether a ProxyCommand of the user connects to it."""

    @property
    def where(self) -> str:
        """Host and port, safe to show."""
        return safe_text(f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}")

    @property
    def asks_nobody(self) -> bool:
        """Whether ssh has nobody to ask for a passphrase."""
        return _BATCH in self.arguments


def find_route(address: Address, options: SshOptions, more: Sequence[str] = ()) -> tuple[Hop, ...]:
    """The servers on the route to an address: the first jump host first, the target last.

    As with ssh, `-i` and `-p` are for the target only; `-F` and `--known-hosts` are for every server. `more` are arguments for
    the target, before all others. Raises UsageError, ConfigurationError, SigningKeyError, ExposedKeyError, and HostKeyError if
    no host key could be known.
    """
    if address.local:
        raise UsageError(f"{address.display()} is a local path, not a server", hint="A server is [user@]host, without a slash.")
    if address.port is not None and options.port is not None and address.port != options.port:
        raise UsageError(f"{address.display()} names another port than -p {options.port}", hint="Give the port once.")
    port = address.port if address.port is not None else options.port
    target, jump = _find_target(address, port, options, more)
    hops = [target]
    while jump is not None:
        if len(hops) > _MAX_HOPS:
            raise ConfigurationError(f"more than {_MAX_HOPS} jump hosts on the way to {address.display()}")
        hop, jump = _find_jump(jump, hops[0], options)
        hops.insert(0, hop)
    return tuple(hops)


def command_of(route: Sequence[Hop], logs: Sequence[str], wanted: str, *, subsystem: bool) -> list[str]:
    """The ssh command line for a route, with a log file for each hop. It starts a command or a subsystem on the target."""
    way: list[str] = []
    for hop, log in zip(route[:-1], logs, strict=False):
        # ssh expands % in a ProxyCommand, and gives it to a shell.
        said = " ".join(shlex.quote(word).replace("%", "%%") for word in _words(hop, way, log))
        way = ["-o", f"ProxyCommand={said} -W '[%h]:%p' {shlex.quote(hop.name)}", "-o", "ProxyUseFdpass=no"]
    return [*_words(route[-1], way, logs[-1]), *(("-s",) if subsystem else ()), "--", route[-1].name, wanted]


def _words(hop: Hop, way: Sequence[str], log: str) -> list[str]:
    return [*hop.program, *way, *hop.arguments, "-E", log]


def _find_target(address: Address, port: int | None, options: SshOptions, more: Sequence[str]) -> tuple[Hop, str | None]:
    program = options.program
    said = [] if options.identity is None else ["-i", _identity(options.identity), "-o", "IdentitiesOnly=yes"]
    said += program.arguments
    return _resolve(
        _HopRequest(program.words, address.host, address.user, port, tuple(more), tuple(said), program.jump, is_target=True),
        options,
    )


def _find_jump(jump: str, onward: Hop, options: SshOptions) -> tuple[Hop, str | None]:
    """The last jump host of a ProxyJump, and the rest of the ProxyJump before it."""
    further, _, nearest = jump.rpartition(",")
    user, host, port = parse_server(_BRACKETS.sub(r"\1", nearest))
    if (host, port or _DEFAULT_PORT, user or onward.user) == (onward.host, onward.port, onward.user):  # as ssh compares them
        raise ConfigurationError(
            f"{onward.where} is its own jump host",
            hint="ProxyJump under 'Host *' speaks of the jump host, too: leave it out there, as in 'Host * !bastion'.",
        )
    return _resolve(_HopRequest((options.program.ssh,), host, user, port, (), (), further or None, is_target=False), options)


class _HopRequest(msgspec.Struct, frozen=True):
    """One server to resolve: its name for ssh, and its arguments, `more` first. `jump` is the value of -J."""

    program: tuple[str, ...]
    name: str
    user: str | None
    port: int | None
    more: tuple[str, ...]
    said: tuple[str, ...]
    jump: str | None
    is_target: bool

    def words(self, options: SshOptions) -> list[str]:
        """The arguments for ssh, except `more` and the jump hosts."""
        port = [] if self.port is None else ["-p", str(self.port)]
        user = [] if self.user is None else ["-l", self.user]
        return [*_set(_ALWAYS), *_set(_timeout_settings(options)), *port, *user, *self.said, *_config(options)]


def _resolve(request: _HopRequest, options: SshOptions) -> tuple[Hop, str | None]:
    """One hop as `ssh -G` resolves it, and its ProxyJump."""
    said = request.words(options)
    found = _ask(request, [*request.more, *said])
    _require_checks(found, request)
    way = found.get("proxyjump", "none")
    is_direct = way.lower() == "none"
    if is_direct and request.jump is not None:
        said += ["-J", request.jump]
    extra = {key: value for key, value in _IF_KNOWN.items() if found.get(key.lower(), value).lower() != value}
    if found.get("ciphers") in _DEFAULT_CIPHERS:
        extra["Ciphers"] = _OUR_CIPHERS
    hosts = known_hosts(found, options)
    host, port = found.get("hostname", request.name), _port(found, request)
    hop = Hop(
        host=host,
        port=port,
        user=found.get("user", ""),
        lookup=found.get("hostkeyalias", host if port == _DEFAULT_PORT else f"[{host}]:{port}").lower(),
        known_hosts=(*hosts.users, *hosts.system),
        system_known_hosts=hosts.system,
        program=request.program,
        arguments=(*request.more, *_set(extra), *_set(hosts.changed), *said, *_FLAGS),
        name=request.name,
        trust_command=trust_command(options, request.name, request.user, request.port, request.jump, is_target=request.is_target),
        has_revocations_elsewhere=any(found.get(name, "none").lower() != "none" for name in _REVOKING),
        has_proxy_command=found.get("proxycommand", "none").lower() != "none",
    )
    return hop, None if is_direct else _without_jump_tokens(way, hop)


def _without_jump_tokens(way: str, hop: Hop) -> str:
    """A ProxyJump as ssh expands it once it is a ProxyCommand."""
    values = {"h": hop.host, "n": hop.name, "p": str(hop.port), "r": hop.user, "%": "%"}
    return re.sub("%([hnpr%])", lambda token: values[token[1]], way)


def _ask(request: _HopRequest, said: Sequence[str]) -> dict[str, str]:
    """The output of `ssh -G`: each setting's first value. Raises ConfigurationError."""
    jump = () if request.jump is None else ("-J", request.jump)
    asked = _run([*request.program, *jump, *said, "-T", "-G", "--", request.name])
    if asked.returncode and _NO_COMMAND in asked.stderr:  # it is not asked for one here, and would not go into the background
        asked = _run([*request.program, "-o", "ForkAfterAuthentication=no", *jump, *said, "-T", "-G", "--", request.name])
    if asked.returncode:
        lines = [safe_text(line.strip(), 300) for line in asked.stderr.split(b"\n") if line.strip()]
        is_nobody = b"No user exists for uid" in asked.stderr
        raise ConfigurationError(
            f"{safe_text(request.program[-1], 200)} refuses its settings for {safe_text(request.name)}: "
            f"{' | '.join(lines[-3:]) or f'it says nothing, and ends with status {asked.returncode}'}",
            hint=_NOBODY_HINT if is_nobody else "Check the SSH config file (-F FILE, else ~/.ssh/config), and what --ssh adds.",
        )
    found: dict[str, str] = {}
    for line in os.fsdecode(asked.stdout).splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key.lower(), value.strip())
        if key.lower() in _OPENED:
            _require_openable(key, value.strip(), request)
    return found


def _require_openable(key: str, value: str, request: _HopRequest) -> None:
    """Raises ConfigurationError for a file in the configuration that is no regular file: ssh would wait at a FIFO for ever."""
    names = [name + end for name in {value, *value.split()} for end in (_BESIDE_KEYS if key.lower() == "identityfile" else ("",))]
    for name in names:
        try:
            require_regular(as_ssh_finds(name))
        except PermissionError:
            continue  # closed to this user, and so to ssh
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigurationError(
                f"{safe_text(key, 50)} of {safe_text(request.name)} is {safe_text(name, 200)}, where ssh would wait: {reason}",
                hint="Name a regular file in the SSH configuration.",
            ) from error


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=environment(), check=False, timeout=_ANSWER_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigurationError(
            f"{safe_text(command[0], 200)} has not read its settings in {seconds_text(_ANSWER_SECONDS)}",
            hint="Look at what the SSH configuration includes (Include) and runs (Match exec): ssh waits for ever at a FIFO.",
        ) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if is_shortage(error):
            raise ResourcesError(f"a process for the SSH connection can't be started: {reason}") from error
        raise missing_program(command[0], reason) from error


def environment() -> dict[str, str]:
    """The environment for ssh: its log is parsed, and must be in English on every system."""
    return {**os.environ, "LC_ALL": "C"}


def _require_checks(found: dict[str, str], request: _HopRequest) -> None:
    """Raises HostKeyError if host-key checks are off: a wrapper may put options before ours. `ssh -G` shows the result."""
    for key, value in _CHECKS.items():
        if f"{key}=no" in request.more:
            continue  # to learn a key, for `host trust`
        if found.get(key.lower(), value).lower() not in _SPELLINGS[value]:
            raise HostKeyError(
                f"{safe_text(request.program[-1], 200)} switches host-key checks off: {key} {safe_text(found[key.lower()], 50)}",
                hint="Leave that option out of the program that --ssh names.",
            )


def _port(found: dict[str, str], request: _HopRequest) -> int:
    try:
        return int(found["port"])
    except (KeyError, ValueError) as error:
        shown = safe_text(request.program[-1], 200)
        raise ConfigurationError(
            f"{shown} is no SSH client that can be used: with -G it names no port", hint=_CLIENT_HINT
        ) from error


def _set(settings: dict[str, str]) -> list[str]:
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def _timeout_settings(options: SshOptions) -> dict[str, str]:
    """The settings for a silent server, in whole seconds, as ssh needs them; and BatchMode if there is nobody to ask."""
    seconds = max(1, math.ceil(options.timeout_seconds))
    interval = max(1, seconds // _KEEPALIVES)
    silent = {
        "ConnectTimeout": str(seconds),
        "ServerAliveInterval": str(interval),
        "ServerAliveCountMax": str(max(1, round(seconds / interval) - 1)),
    }
    return silent if options.person is not None else {**silent, "BatchMode": "yes"}


def _config(options: SshOptions) -> list[str]:
    config = options.program.config if options.config is None else str(options.config)
    if config is None:
        return []
    if config.lower() != "none":
        _require_config(config)
    return ["-F", config]


def _require_config(file: str) -> None:
    """Raises ConfigurationError for a configuration that is no regular file. ssh would wait at a FIFO, and never end /dev/zero.

    ssh is started more than once, and reads the file each time.
    """
    try:
        require_regular(Path(file))
    except OSError as error:
        raise ConfigurationError(
            f"no SSH configuration can be read from {safe_text(file)}: {error.strerror}",
            hint="Name a file with -F FILE, or 'none' for no configuration. What a command prints must be in a file first: "
            "it is read more than once, which a pipe (as of <(command)) cannot be.",
        ) from error


def _identity(file: Path) -> str:
    """The key file of -i, as ssh needs it. Raises SigningKeyError, ExposedKeyError where ssh would silently skip the key."""
    try:
        check_key_file(file)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            text = f"the key file {safe_text(str(file), 200)}, which -i or the settings name, does not exist"
            raise SigningKeyError(text, hint=likely_keys(file, public=False)) from error
        raise SigningKeyError(
            f"no SSH key can be read from {safe_text(str(file))}: {error.strerror}",
            hint="Name the key with -i FILE, or load it into ssh-agent.",
        ) from error
    return without_tokens(str(file))
