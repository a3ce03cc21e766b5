"""`host trust`: shows a server's host key, asks, and records it. No other command records a host key."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from evidencesync.cli.command import Run, command, group
from evidencesync.cli.options import ServerChoice
from evidencesync.errors import CommandKind, HostKeyError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.exit_codes import ExitCode

if TYPE_CHECKING:
    from evidencesync.ssh.address import Address

_QUESTION: Final = "Is it the one that the server's administrator told you?"
_FINGERPRINT: Final = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
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
    """Does nothing: without a callback, typer would replace a group of one command by that command."""


def trust(
    run: Run,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="[user@]host[:path] or ssh://[user@]host[:port][/path]")],
    ssh: ServerChoice,
    fingerprint: Annotated[
        str | None,
        typer.Option(
            metavar="SHA256:...", help="The fingerprint that the administrator told you; if it matches, you are not asked."
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask. Use this only after you have compared the fingerprint.")
    ] = False,
) -> ExitCode:
    """Shows the fingerprint of a server's host key, asks, and adds the key to a known_hosts file.

    Compare the fingerprint with one that you got in another way: on the server, `ssh-keygen -lf` shows it. The answer y or yes
    records the key; any other answer does not.
    """
    from evidencesync.cli.outputs import HostTrustOutput
    from evidencesync.cli.terminal import person_at
    from evidencesync.ssh.known_hosts import own_known_hosts, remember_host_key
    from evidencesync.ssh.trust import fetch_host_key

    if fingerprint is not None and not _FINGERPRINT.fullmatch(fingerprint):
        raise UsageError(
            f"not a whole fingerprint: {safe_text(fingerprint, 80)}",
            hint="It is SHA256: and 43 characters, as `ssh-keygen -lf` prints it on the server.",
        )
    options = ssh.options(run.settings, person_at(run.console))
    shown = fetch_host_key(_parse_server(address), options)
    name, key, file = safe_text(shown.hop.lookup), shown.key, options.known_hosts or own_known_hosts()
    if fingerprint is not None and fingerprint != key.fingerprint:
        raise HostKeyError(
            f"{name} shows another key than expected: {safe_text(key.type)} {key.fingerprint}",
            hint="Do not go on: ask the server's administrator.",
        )
    if shown.line is not None:
        run.console.print_notice(f"{name} shows this host key: {safe_text(key.type)} {key.fingerprint}")
        if fingerprint is None and not yes and not run.console.ask(_QUESTION, _BEFOREHAND):
            raise HostKeyError(f"the host key of {name} is not trusted", hint="Nothing was recorded.")
        remember_host_key(file, shown.hop.lookup, shown.line)
    output = HostTrustOutput(
        shown.hop.host, shown.hop.port, key.type, key.fingerprint, safe_text(str(file)), shown.line is not None
    )
    said = "was known already" if shown.line is None else f"is trusted now, in {safe_text(str(file))}"
    run.console.print_result(output, [f"{name} {safe_text(key.type)} {key.fingerprint} {said}"])
    return ExitCode.COMPLETE


def _parse_server(text: str) -> Address:
    """An address; a bare `host` or `user@host` is a server here, since a local path has no host key."""
    from evidencesync.ssh.address import Address

    parsed = Address.parse(text)
    if parsed.local and "/" not in text and not text.startswith("."):
        with contextlib.suppress(UsageError):  # no name of a host
            parsed = Address.parse(f"{text}:")
    if parsed.local:
        raise UsageError(
            f"{parsed.display()} is a local path, not a server", hint="Write: [user@]host, or ssh://[user@]host:port"
        )
    if parsed.port is None and parsed.path.isascii() and parsed.path.isdigit():
        written = msgspec.structs.replace(parsed, port=int(parsed.path), path="").display()
        raise UsageError(f"{parsed.display()} names a path, and no port", hint=f"A port is written so: {written}")
    return parsed
