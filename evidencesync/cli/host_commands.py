"""`host trust`: shows a server's key, asks, and remembers. The only way in which a host key becomes known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from evidencesync.cli.command import Run, command, group
from evidencesync.cli.options import ServerChoice
from evidencesync.errors import CommandKind, ExitCode, HostKeyChangedError, HostKeyError, UsageError
from evidencesync.evidence.display import safe_text

if TYPE_CHECKING:
    from evidencesync.ssh.address import Address
    from evidencesync.ssh.hostkeys import HostKey, Known
    from evidencesync.ssh.options import SshOptions

_QUESTION: Final = "Is it the one that the server's administrator told you?"
_BEFOREHAND: Final = "Give the fingerprint that the server's administrator told you: --fingerprint SHA256:..."


def add_commands(app: typer.Typer) -> None:
    """Adds the group `host`."""
    host = group(app, "host", "Decides which SSH servers are the ones they say they are.")
    host.callback()(_stay_a_group)
    command(
        host,
        "trust",
        "evidencesync host trust ana@vault.lab",
        "evidencesync host trust ssh://vault.lab:2222 --fingerprint SHA256:Xq3...",
        kind=CommandKind.CHANGES,
    )(trust)


def _stay_a_group() -> None:
    """A typer app with one command would become that command."""


def trust(
    run: Run,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="[user@]host[:path] or ssh://[user@]host[:port][/path]")],
    ssh: ServerChoice,
    fingerprint: Annotated[
        str | None, typer.Option(metavar="SHA256:...", help="What the administrator told you; nothing is asked if it is that.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask. Say this only if you have compared the fingerprint.")] = False,
) -> ExitCode:
    """Shows the fingerprint of a server's host key, asks, and adds the key to a known_hosts file.

    Compare the fingerprint with one that you got in another way: on the server, `ssh-keygen -lf` shows it.
    """
    import asyncio

    from evidencesync.cli.outputs import HostTrustOutput
    from evidencesync.cli.passphrase import make_asker
    from evidencesync.ssh.client import fetch_host_key
    from evidencesync.ssh.hostkeys import remember_host_key

    asker = make_asker()
    options = ssh.options(run.settings, asker.for_login() if asker else None)
    server = _parse_server(address)
    key = asyncio.run(fetch_host_key(server, options))
    file, known = asyncio.run(_look_up(server, options, key))
    name = safe_text(key.host if key.port == 22 else f"[{key.host}]:{key.port}")
    if fingerprint is not None and fingerprint != key.fingerprint:
        raise HostKeyError(
            f"{name} shows another key than expected: {safe_text(key.algorithm)} {key.fingerprint}",
            hint="Do not go on: ask the server's administrator.",
        )
    is_known = _is_known(known, key, name)
    if not is_known:
        run.console.note(f"{name} shows this host key: {safe_text(key.algorithm)} {key.fingerprint}")
        if fingerprint is None and not yes and not run.console.ask(_QUESTION, _BEFOREHAND):
            raise HostKeyError(f"the host key of {name} is not trusted", hint="Nothing was recorded.")
        remember_host_key(file, key)
    output = HostTrustOutput(key.host, key.port, key.algorithm, key.fingerprint, safe_text(str(file)), not is_known)
    said = "was known already" if is_known else f"is trusted now, in {safe_text(str(file))}"
    run.console.give(output, [f"{name} {safe_text(key.algorithm)} {key.fingerprint} {said}"])
    return ExitCode.COMPLETE


def _parse_server(text: str) -> Address:
    """An address; a bare `host` or `user@host` is a server here, since a local path has no host key."""
    from evidencesync.ssh.address import Address

    parsed = Address.parse(text)
    if parsed.local and "/" not in text and not text.startswith("."):
        parsed = Address.parse(f"{text}:")
    if parsed.local:
        raise UsageError(f"{parsed.display()} is a local path, not a server")
    return parsed


async def _look_up(server: Address, options: SshOptions, key: HostKey) -> tuple[Path, Known]:
    """The file that a new key goes to, and what is recorded for the server in all files that count."""
    from evidencesync.ssh.config import own_known_hosts, resolve_route
    from evidencesync.ssh.hostkeys import KnownHosts

    route = await resolve_route(server, options)
    known = KnownHosts(route[-1].known_hosts).known(key.host, key.port)
    return options.known_hosts or own_known_hosts(), known


def _is_known(known: Known, key: HostKey, name: str) -> bool:
    """Whether this very key is recorded. Raises HostKeyChangedError for a revoked one, or where another is recorded."""
    if key.fingerprint in {revoked.get_fingerprint() for revoked in known.revoked}:
        raise HostKeyChangedError(f"{name} shows a host key that is marked as revoked: {key.fingerprint}")
    recorded = {one.get_fingerprint() for one in known.keys}
    if recorded and key.fingerprint not in recorded and not known.borrowed:
        raise HostKeyChangedError(
            f"{name} shows another host key than the one recorded: {safe_text(key.algorithm)} {key.fingerprint}; "
            f"recorded is {', '.join(sorted(recorded)[:5])}",
            hint="Ask the server's administrator by another way. Only if the key was changed on purpose, remove the recorded "
            "line from your known_hosts file and run this again.",
        )
    return key.fingerprint in recorded
