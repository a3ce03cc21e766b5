"""What a command line may say about SSH."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from evidencesync.ssh.program import Program


class Person(Protocol):
    """Somebody at the terminal, whom ssh may ask for a passphrase, a PIN or a touch. ssh asks on the terminal itself."""

    def lend(self) -> None:
        """ssh may write there from now on: whatever else is shown there gives way."""

    def take_back(self) -> None:
        """ssh asks for nothing more. Called once for each `lend`."""

    def show(self, line: str) -> None:
        """A line from ssh or the server before the login is complete (a banner, a request to touch a key), safe to show."""


@dataclass(frozen=True, slots=True)
class SshOptions:
    """Options of every command whose address may be remote. None means: what the user's ssh does by itself.

    `config` is the file that stands in for `~/.ssh/config` and the system's (`none`: no file at all). `known_hosts` is then the
    only file whose host keys count. `remote_command` is given to the remote shell as it is; it may hold arguments of its own.
    Without a `person` ssh asks nobody.
    """

    identity: Path | None = None
    port: int | None = None
    config: Path | None = None
    known_hosts: Path | None = None
    remote_command: str = "evidencesync"
    timeout_seconds: float = 60.0
    program: Program = field(default_factory=Program)
    person: Person | None = None
