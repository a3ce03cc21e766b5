"""Which program is the user's ssh, and what he adds to its command line: `--ssh PROGRAM`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from evidencesync.errors import ConfigurationError
from evidencesync.evidence.display import safe_text

DEFAULT: Final = "ssh"
# ssh(1). What would make ssh do something else than to carry one command is refused: another command, forwardings, no session
# at all, a log elsewhere.
_OPTIONS: Final = "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:P:Q:R:S:TVw:W:XYy"
_REFUSED: Final = frozenset("fnsDEGLNOQRVWwy")
_HINT: Final = "Write it as for rsync -e: a program, and options of ssh that say how the server is reached (-o, -i, -J, -p ...)."


@dataclass(frozen=True, slots=True)
class Program:
    """What is started. `words` end with ssh itself; `arguments` are the options that were added, but for -F and -J.

    -F and -J are apart because the way through jump hosts is made here: see `evidencesync.ssh.route`.
    """

    words: tuple[str, ...] = (DEFAULT,)
    arguments: tuple[str, ...] = ()
    config: str | None = None
    jump: str | None = None

    @property
    def ssh(self) -> str:
        """What ssh itself would start for a jump host."""
        return self.words[-1]


def parse_program(text: str) -> Program:
    """`ssh`, a path, or one of them with options, quoted as for a shell. Words before one that is called ssh start it.

    Raises ConfigurationError for what is no command line, and for options that make ssh do something else.
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
        raise ConfigurationError(f"--ssh {safe_text(text, 200)}: {what} cannot stand there", hint=_HINT)
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
