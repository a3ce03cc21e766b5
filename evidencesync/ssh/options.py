"""The SSH options of a command line, and the program that is the user's ssh."""

from __future__ import annotations

import shlex
from pathlib import Path, PurePath
from typing import Final, Protocol

import msgspec

from evidencesync.errors import ConfigurationError
from evidencesync.evidence.display import safe_text

DEFAULT: Final = "ssh"
# ssh(1). Options that make ssh do anything else than run one command are refused: another command, forwardings, no session,
# another log.
_OPTIONS: Final = "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:P:Q:R:S:TVw:W:XYy"
_REFUSED: Final = frozenset("fnsDEGLNOQRVWwy")
_HINT: Final = "Write it as for rsync -e: a program, and options of ssh that say how the server is reached (-o, -i, -J, -p ...)."


class Program(msgspec.Struct, frozen=True):
    """The program that is started. `words` end with ssh itself; `arguments` are its options, except -F and -J.

    -F and -J are kept apart because `evidencesync.ssh.route` makes the way through jump hosts.
    """

    words: tuple[str, ...] = (DEFAULT,)
    arguments: tuple[str, ...] = ()
    config: str | None = None
    jump: str | None = None

    @property
    def ssh(self) -> str:
        """The program that ssh itself would start for a jump host."""
        return self.words[-1]


def parse_program(text: str) -> Program:
    """Parses `--ssh`: `ssh` or a path, with options if needed, quoted as for a shell. Words before `ssh` are a wrapper.

    Raises ConfigurationError for a malformed command line, and for options that make ssh do something else.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigurationError(f"--ssh {safe_text(text, 200)}: {error}", hint=_HINT) from error
    if not words:
        raise ConfigurationError("--ssh names no program", hint=_HINT)
    if len(words) == 1:
        return Program((words[0],))
    import getopt  # it is slow to import, and needed for options alone

    place = next((number for number, word in enumerate(words) if PurePath(word).name == DEFAULT), 0)
    try:
        options, rest = getopt.getopt(words[place + 1 :], _OPTIONS)
    except getopt.GetoptError as error:
        raise ConfigurationError(f"--ssh {safe_text(text, 200)}: {safe_text(error.msg, 100)}", hint=_HINT) from error
    refused = [name for name, _ in options if name[1] in _REFUSED]
    if rest or refused:
        what = safe_text((rest or refused)[0], 100)
        raise ConfigurationError(f"--ssh {safe_text(text, 200)}: {what} is not allowed there", hint=_HINT)
    last = {name: value for name, value in options if name in ("-F", "-J")}
    kept = [word for name, value in options if name not in last for word in ((name, value) if value else (name,))]
    return Program(tuple(words[: place + 1]), tuple(kept), last.get("-F"), last.get("-J"))


def missing_program(program: str, reason: str) -> ConfigurationError:
    """The error for a program that cannot be started."""
    return ConfigurationError(
        f"the SSH client {safe_text(program, 200)} cannot be started: {safe_text(reason, 100)}",
        hint="Install OpenSSH's client (the package openssh-client on Debian and Ubuntu, openssh-clients on Fedora and RHEL, "
        "openssh on Arch, SUSE and Alpine), or name the program: --ssh PROGRAM",
    )


class TerminalUser(Protocol):
    """The person at the terminal, whom ssh may ask for a passphrase, a PIN or a touch. ssh asks on the terminal itself."""

    def lend(self) -> None:
        """Gives the terminal to ssh: our own display stops."""

    def take_back(self) -> None:
        """Takes the terminal back: ssh asks for nothing more. Called once for each `lend`."""

    def show(self, line: str) -> None:
        """Shows a line from ssh or the server before the login is complete (a banner, a request to touch a key)."""


class SshOptions(msgspec.Struct, frozen=True):
    """The options of every command whose address may be remote. None: the user's ssh decides.

    `config` is the file to read instead of `~/.ssh/config` and the system's (`none`: no file). `known_hosts`, if given, is the
    only file whose host keys count. `remote_command` is given to the remote shell unchanged; it may hold arguments. Without a
    `person`, ssh asks no questions.
    """

    identity: Path | None = None
    port: int | None = None
    config: Path | None = None
    known_hosts: Path | None = None
    remote_command: str = "evidencesync"
    timeout_seconds: float = 60.0
    program: Program = msgspec.field(default_factory=Program)
    person: TerminalUser | None = None
