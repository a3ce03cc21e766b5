"""How a server is reached, from the address, the command line and the OpenSSH config file, made explicit.

asyncssh would read the config file itself, but then a line in it could switch host-key checks off
(`UserKnownHostsFile none`), and jump hosts would be checked against other files than their targets. So the file is read here,
and what is honoured becomes values: Host, Match, Include, HostName, Port, User, IdentityFile, CertificateFile, IdentitiesOnly,
IdentityAgent, ProxyJump, ProxyCommand, HostKeyAlias, UserKnownHostsFile, GlobalKnownHostsFile, AddressFamily, BindAddress.
asyncssh is given those, and no file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncssh

from evidencesync.errors import ConfigurationError, NoHomeError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.home import expand, home_folder, own_folder, stand_in_for_libraries
from evidencesync.ssh.address import Address, parse_host, parse_server
from evidencesync.ssh.options import SshOptions

_MAX_HOPS: Final = 8  # jump hosts on the way; more is a config that goes round in circles
_GLOBAL_KNOWN_HOSTS: Final = (Path("/etc/ssh/ssh_known_hosts"), Path("/etc/ssh/ssh_known_hosts2"))
_SWITCHED_OFF: Final = frozenset({"none", "/dev/null"})


@dataclass(frozen=True, slots=True)
class Hop:
    """One server on the way, everything said. `lookup` is the name under which its host key is recorded.

    `identities` None means OpenSSH's default key files. `agent` is a socket's path, empty for no agent.
    """

    host: str
    port: int
    user: str
    lookup: str
    known_hosts: tuple[Path, ...]
    identities: tuple[Path, ...] | None
    certificates: tuple[Path, ...]
    identities_only: bool
    agent: str
    proxy_command: tuple[str, ...]
    family: int
    bind_address: str | None


def own_known_hosts() -> Path:
    """The file that `host trust` writes, in the user's config folder (XDG Base Directory Specification). Raises NoHomeError."""
    return own_folder("XDG_CONFIG_HOME", ".config") / "evidencesync" / "known_hosts"


async def resolve_route(address: Address, options: SshOptions) -> tuple[Hop, ...]:
    """The servers on the way to an address, jump hosts first, the target last.

    As with ssh, `-i` and `-p` speak of the target only; `-F` and `--known-hosts` of every server on the way.
    Raises UsageError and ConfigurationError. Runs in a thread: a `Match exec` in a config file runs a program.
    """
    if address.local:
        raise UsageError(f"{address.display()} is a local path, not a server")
    if address.port is not None and options.port is not None and address.port != options.port:
        raise UsageError(f"{address.display()} names another port than -p {options.port}")
    return await asyncio.to_thread(_resolve_route, address, options)


def _resolve_route(address: Address, options: SshOptions) -> tuple[Hop, ...]:
    port = address.port if address.port is not None else options.port
    target, jumps = _resolve_hop(address.host, port, address.user, options, options.identity)
    hops = [target]
    while jumps:
        # The text names the nearest jump host first. That one may have a ProxyJump of its own; the others are told theirs.
        for index, text in reversed(list(enumerate(jumps))):
            user, host, jump_port = parse_server(text)
            hop, further = _resolve_hop(host, jump_port, user, options, None)
            hops.insert(0, hop)
            jumps = further if index == 0 else jumps
        if len(hops) > _MAX_HOPS + 1:
            raise ConfigurationError(f"more than {_MAX_HOPS} jump hosts on the way to {address.display()}")
    return tuple(hops)


def _resolve_hop(
    host: str, port: int | None, user: str | None, options: SshOptions, identity: Path | None
) -> tuple[Hop, list[str]]:
    settings = _load_settings(host, port, user, options)
    config = settings.config
    identities, certificates = _paths(config.get("IdentityFile")), _paths(config.get("CertificateFile"))
    if identity is not None:
        identities, certificates = (identity,), ()
    bind = config.get("BindAddress")
    alias = config.get("HostKeyAlias")
    jumps = _jumps(settings.tunnel, {host.lower(), settings.host.lower()})
    command = settings.proxy_command if isinstance(settings.proxy_command, (list, tuple)) and not jumps else ()
    resolved_host = parse_host(settings.host)
    hop = Hop(
        host=resolved_host,
        port=settings.port,
        user=settings.username,
        lookup=(alias if isinstance(alias, str) else resolved_host).lower(),
        known_hosts=_known_hosts_files(config.get("UserKnownHostsFile"), config.get("GlobalKnownHostsFile"), options),
        identities=identities or None,
        certificates=certificates,
        identities_only=identity is not None or bool(config.get("IdentitiesOnly")),
        agent=_agent_socket(config.get("IdentityAgent", ())),
        proxy_command=tuple(command),
        family=settings.family,
        bind_address=bind if isinstance(bind, str) else None,
    )
    return hop, jumps


def _jumps(setting: object, own_names: set[str]) -> list[str]:
    """The jump hosts that a ProxyJump names. Under `Host *` it speaks of the jump host too, which is then reached directly."""
    jumps = [jump.strip() for jump in setting.split(",")] if isinstance(setting, str) else []
    return [] if jumps and parse_server(jumps[-1])[1].lower() in own_names else jumps


def _load_settings(host: str, port: int | None, user: str | None, options: SshOptions) -> asyncssh.SSHClientConnectionOptions:
    """asyncssh's reading of the config file. Its keys, agent and known hosts are left out: only values are taken from it."""
    stand_in_for_libraries()
    try:
        settings = asyncssh.SSHClientConnectionOptions(
            host=host,
            config=_config_files(options.config),
            client_keys=None,
            client_host_keysign=False,
            known_hosts=b"",
            x509_trusted_certs=None,
            x509_trusted_cert_paths=[],
            **({} if port is None else {"port": port}),
            **({} if user is None else {"username": user}),
        )
        if settings.config.has_match_final():
            settings.update(host=settings.host, reload=True, final=True)
    except (OSError, ValueError, asyncssh.Error) as error:
        raise ConfigurationError(
            f"the SSH settings for {safe_text(host)} can't be used: {safe_text(str(error), 300)}",
            hint="Check the SSH config file (-F FILE, else ~/.ssh/config).",
        ) from error
    return settings


def _config_files(chosen: Path | None) -> list[str]:
    if chosen is None:
        default = _own_ssh_file("config")
        return [str(default)] if default is not None and default.is_file() else []
    if str(chosen).lower() == "none":
        return []
    if not chosen.is_file():
        raise ConfigurationError(f"the SSH config file {safe_text(str(chosen))} is not there")
    return [str(chosen)]


def _known_hosts_files(user: object, everyone: object, options: SshOptions) -> tuple[Path, ...]:
    """`--known-hosts` alone; else the config's or the default files, and the tool's own. Checks can't be switched off."""
    if options.known_hosts is not None:
        _refuse_switched_off([str(options.known_hosts)], "--known-hosts")
        return (options.known_hosts,)
    files = [file for file in map(_own_ssh_file, ("known_hosts", "known_hosts2")) if file is not None]
    if isinstance(user, list):
        _refuse_switched_off(user, "UserKnownHostsFile")
        files = list(_paths(user))
    files.extend(_paths(everyone) if isinstance(everyone, list) else _GLOBAL_KNOWN_HOSTS)
    with contextlib.suppress(NoHomeError):  # then nothing can have been recorded there
        files.append(own_known_hosts())
    return tuple(file for file in files if str(file) != "/dev/null")


def _own_ssh_file(name: str) -> Path | None:
    """A file in the user's `~/.ssh`; None for a process without a home, which has none there."""
    try:
        return home_folder() / ".ssh" / name
    except NoHomeError:
        return None


def _refuse_switched_off(names: list[str], setting: str) -> None:
    if not names or any(name.lower() in _SWITCHED_OFF for name in names):
        raise ConfigurationError(
            f"{setting} would switch host-key checks off",
            hint="Name a real known_hosts file, or remove the setting. A key is recorded with: evidencesync host trust ADDRESS",
        )


def _paths(value: object) -> tuple[Path, ...]:
    return tuple(expand(name) for name in value) if isinstance(value, list) else ()


def _agent_socket(setting: object) -> str:
    """IdentityAgent as ssh_config(5) has it: a path, `none`, `SSH_AUTH_SOCK`, or `$NAME`; unset means SSH_AUTH_SOCK."""
    if setting is None:
        return ""
    if not isinstance(setting, str) or setting == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK", "")
    if setting.startswith("$"):
        return os.environ.get(setting[1:], "")
    return str(expand(setting))
