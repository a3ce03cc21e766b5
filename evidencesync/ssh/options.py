"""What a command line may say about SSH."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

AskPassphrase = Callable[[str], str]
"""Asks a person for the passphrase of the key that the text names. Called in a thread; may block."""


@dataclass(frozen=True, slots=True)
class SshOptions:
    """Options of every command whose address may be remote. None means: what `~/.ssh/config` says, else SSH's default.

    `config` is the file that stands in for `~/.ssh/config` (`none`: no file at all). `known_hosts` is then the only file
    whose host keys count. `remote_command` is given to the remote shell as it is; it may hold arguments of its own.
    """

    identity: Path | None = None
    port: int | None = None
    config: Path | None = None
    known_hosts: Path | None = None
    remote_command: str = "evidencesync"
    timeout_seconds: float = 60.0
    ask_passphrase: AskPassphrase | None = None
