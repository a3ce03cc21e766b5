"""The `host trust` command that records a server's key: it works as it stands there, when it is typed.

It names the server as the user or his configuration names it to ssh, and not as ssh resolves that: a HostKeyAlias, a jump host
and all else that is said about a name in the configuration hold for that name alone.
"""

from __future__ import annotations

import shlex

from evidencesync.evidence.display import safe_text
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions
from evidencesync.ssh.program import DEFAULT


def trust_command(
    options: SshOptions, name: str, user: str | None, port: int | None, jump: str | None, *, is_target: bool
) -> str:
    """The command line, safe to show. `jump` is what is said for -J on the way there, `is_target` that it is no jump host itself.

    No identity is named: nobody logs in to a server whose key is asked for.
    """
    program = options.program
    ssh = [*program.words, *program.arguments] if is_target else [program.ssh]
    if program.config is not None and options.config is None:
        ssh += ["-F", program.config]
    if jump is not None:
        ssh += ["-J", jump]
    words = ["evidencesync", "host", "trust"]
    if options.known_hosts is not None:
        words += ["--known-hosts", str(options.known_hosts)]
    if options.config is not None:
        words += ["-F", str(options.config)]
    if ssh != [DEFAULT]:
        words += ["--ssh", shlex.join(ssh)]
    return safe_text(shlex.join([*words, _address(name, user, port)]))


def _address(name: str, user: str | None, port: int | None) -> str:
    server = Address(user, name, port, "", local=False).host_text
    if port is None and ":" not in name:
        return server
    return f"ssh://{server}" + ("" if port is None else f":{port}")
