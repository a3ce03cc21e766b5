"""`serve`: the far end of a push or a pull, started by sshd, or as an SSH server of our own."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from evidencesync.cli.command import Run, command
from evidencesync.cli.log_choice import LogPlaces, ServedLogOption, opened_log
from evidencesync.errors import CommandKind, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.exit_codes import ExitCode
from evidencesync.home import expand, expand_new_file

_LISTEN_HINT = "Write HOST:PORT, such as 0.0.0.0:2222 or [::]:2222. Port 0 takes a free one."


def add_commands(app: typer.Typer) -> None:
    """Adds `serve`."""
    command(
        app,
        "serve",
        "evidencesync serve --vault /srv/vault",
        "evidencesync serve --vault /srv/vault --listen 0.0.0.0:2222 --authorized-keys keys",
        "# In authorized_keys, for sshd to start it for a push, or for a pull:",
        'restrict,command="evidencesync serve --vault /srv/vault" ssh-ed25519 AAA...',
        'restrict,command="evidencesync serve --vault /srv/vault --no-evidence" ssh-ed25519 AAA...',
        'restrict,command="evidencesync serve --vault /srv/vault --log /var/log/evidencesync.jsonl" ssh-ed25519 AAA...',
        'restrict,command="evidencesync serve --source /evidence" ssh-ed25519 AAA...',
        kind=CommandKind.SERVES,
    )(serve)


def serve(
    run: Run,
    vault: Annotated[str | None, typer.Option(metavar="PATH", help="The only vault to serve.")] = None,
    source: Annotated[
        str | None, typer.Option(metavar="PATH", help="The only source that may be pulled. It is only read.")
    ] = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Run an SSH server here, instead of using standard input and output.")
    ] = None,
    authorized_keys: Annotated[
        str | None, typer.Option(metavar="FILE", help="With --listen: the keys that may log in, in OpenSSH's format.")
    ] = None,
    host_key: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="With --listen: the server's key.  [default: VAULT/host_key, made if missing]"),
    ] = None,
    no_evidence: Annotated[
        bool, typer.Option("--no-evidence", help="With --vault: show documents only. Nothing can be restored from afar.")
    ] = False,
    log: ServedLogOption = None,
) -> ExitCode:
    """Runs the server side of push and pull: one session on standard input and output, or a daemon with --listen.

    With --listen it runs until it is interrupted or terminated, which is no failure. With --source it serves one pull: it
    reads that path, or what is below it, needs no key, and writes nothing.

    --log says who has proved which key, what was acquired, and what was read from afar. Several sessions may append to one file.
    Neither the environment nor the settings name it: a client may have a word in them.
    """
    if (vault is None) == (source is None):
        hint = "As in: evidencesync serve --vault /srv/vault"
        raise UsageError("serve needs --vault PATH or --source PATH, and one of them alone", hint=hint)
    if vault is None or source is not None:
        if listen is not None or authorized_keys is not None or host_key is not None or run.console.as_json or no_evidence:
            raise UsageError(
                "--listen, --authorized-keys, --host-key, --no-evidence and --json go with --vault", hint="Leave them out."
            )
        from evidencesync.serve.serving import serve_source_stdio

        with opened_log(run.console, log, _places(source)) as sink:
            serve_source_stdio(source or "", sink)
        return ExitCode.COMPLETE
    if listen is None:
        if run.console.as_json or authorized_keys is not None or host_key is not None:
            raise UsageError("--json, --authorized-keys and --host-key go with --listen", hint="Leave them out, or add --listen.")
        from evidencesync.serve.serving import serve_stdio

        with opened_log(run.console, log, _places(vault)) as sink:
            serve_stdio(vault, shows_evidence=not no_evidence, sink=sink)
        return ExitCode.COMPLETE
    if authorized_keys is None:
        raise UsageError("--listen needs --authorized-keys FILE", hint="It lists the public keys that may log in, one a line.")
    host, port = parse_endpoint(listen)
    from evidencesync.serve.serving import serve_listening

    key_file = expand_new_file(host_key) if host_key is not None else None
    with opened_log(run.console, log, _places(vault)) as sink:
        serve_listening(
            vault,
            host,
            port,
            expand(authorized_keys),
            key_file,
            lambda *where: _announce(run, *where),
            shows_evidence=not no_evidence,
            sink=sink,
        )
    return ExitCode.COMPLETE


def _places(served: str | None) -> LogPlaces:
    """Where the log may not lie: in what is served."""
    from evidencesync.outside import Closed, closed_vault

    path = Path(served or "")
    return LogPlaces([*closed_vault(path), Closed("what is served", path)], path)


def parse_endpoint(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, an IPv6 address in brackets. Raises UsageError."""
    match = re.fullmatch(r"(?:\[(?P<ip6>[0-9A-Fa-f:.%a-z]+)\]|(?P<host>[^\[\]:\s]+)):(?P<port>[0-9]{1,5})", text)
    if match is None or int(match["port"]) > 65535:
        raise UsageError(f"not an address to listen on: {safe_text(text, 100)}", hint=_LISTEN_HINT)
    return match["ip6"] or match["host"], int(match["port"])


def _announce(run: Run, host: str, port: int, fingerprint: str) -> None:
    from evidencesync.cli.outputs import ServeOutput

    where = safe_text(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    run.console.print_notice(f"listening on {where}")
    run.console.print_message(f"host key {fingerprint}, process {os.getpid()}")
    if run.console.as_json:
        run.console.print_result(ServeOutput(where), ())
