"""What people type who know rsync, scp, restic, borg or an imaging tool, and what it is called or done here."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Final

FROM_OTHERS: Final[Mapping[str, str]] = {
    "check": "verify",
    "ls": "list",
    "copy": "restore",
    "extract": "restore",
    "sync": "push",
    "backup": "push",
    "acquire": "push",
    "send": "push",
    "log": "show",
    "create": "push",
    "snapshots": "list",
    "prune": "clean",
    "remove": "retire",
    "delete": "retire",
    "rm": "retire",
    "set": "edit",
    "get": "show",
    "--recipient": "--encrypt-to",
    "--encrypt": "--encrypt-to",
    "--note": "--text",
    "--comment": "--note",
    "--tag": "--note",
    "--description": "--note",
    "--message": "--text",
    "-m": "--text",
    "--bwlimit": "--limit-rate",
    "-l": "--limit-rate",
    "-n": "--dry-run",
    "-c": "--case",
    "-e": "--ssh",
    "-i": "--sign-key",
    "--identity": "--sign-key",
    "--rsh": "--ssh",
    "--rsync-path": "--remote-command",
    "--remote-path": "--remote-command",
    "--case-number": "--case",
    "--evidence-number": "--item",
    "--evidence": "--item",
    "--exhibit": "--item",
    "--key": "--sign-key",
    "--operator": "--examiner",
    "--outfile": "--output",
}
"""What other programs, or other commands, call it. It is suggested where the command has the name on the right."""
OTHER_UNITS: Final = ("--limit-rate",)
"""Options whose values mean something else than those of other programs' options."""

_ACQUIRING: Final = ("push", "pull", "watch")
_LONG: Final = (*_ACQUIRING, "verify", "restore", "export", "report", "compare")
_NOT_NEEDED: Final = (
    "Options of rsync such as -a and -z are not needed: all that a file has is recorded, and compressed on its way."
)
_PROGRESS: Final = "Progress is shown by itself on a terminal; -q silences it."
_RESUMED: Final = "It needs no option: after an interruption, the same command again sends only the rest."
_NEVER_DELETED: Final = "Nothing is deleted or replaced in a vault: each acquisition states all that the source had."
_HASHED: Final = "A checksum needs no option: BLAKE3 and SHA-256 of every file are always taken."
_READ_BACK: Final = "It needs no option: what was stored is read back and compared; later, evidencesync verify VAULT does that."
_OF_SSH: Final = "Options of ssh are given with its name, as in: --ssh 'ssh -J JUMPHOST'; or they stand in ~/.ssh/config."
_WITH_A_KEY: Final = "A key signs, and logs in: -i FILE, or ssh-agent. A passphrase is asked for on the terminal."
_NO_REPOSITORY: Final = "The vault stands without an option: {bare}."
_NO_FORCE: Final = "Nothing can be forced: what is refused, is refused for the reason that is said then."


def _for(commands: tuple[str, ...], names: str, sentence: str) -> dict[tuple[str, str], str]:
    return dict.fromkeys(itertools.product(commands, names.split()), sentence)


_NEVER_REMOVED: Final = (
    "What is published is never removed from a vault. What is wrong is said with: evidencesync custody note, or custody correct."
)

OTHERWISE: Final[Mapping[tuple[str, str], str]] = {
    ("init", "-r"): _NO_REPOSITORY,
    ("evidencesync", "version"): "The version is shown with: evidencesync --version.",
    ("evidencesync", "status"): "What a vault has is shown with: evidencesync list VAULT; whether it is as it was, with: verify.",
    **_for(("evidencesync",), "rm remove delete forget", _NEVER_REMOVED),
    **_for(_ACQUIRING, "--exclude-from", "Give an --exclude PATTERN for each line of that file."),
    **_for(_ACQUIRING, "--include-from", "Give an --include PATTERN for each line of that file; or --files-from FILE."),
    **_for(_ACQUIRING, "-a -z -r --archive --recursive --compress-level -H -A -X -S --sparse -t --times", _NOT_NEEDED),
    **_for(_LONG, "--progress --info --stats --human-readable --no-progress", _PROGRESS),
    **_for(_ACQUIRING, "-P", "-p N (or --port N) is the port; progress is shown by itself on a terminal, and -q silences it."),
    **_for(_ACQUIRING, "--partial --append --append-verify --inplace --resume --partial-dir", _RESUMED),
    **_for(_ACQUIRING, "--delete --delete-after --update -u --ignore-existing --remove-source-files", _NEVER_DELETED),
    **_for(_ACQUIRING, "--checksum -c --hash --md5 --sha1 --sha256 --algorithm", _HASHED),
    **_for(_ACQUIRING, "--verify", _READ_BACK),
    **_for(_ACQUIRING, "-o -J -C -4 -6", _OF_SSH),
    **_for(_ACQUIRING, "--password --password-file --passphrase --encryption", _WITH_A_KEY),
    **_for((*_LONG, "list", "show", "clean"), "--repo --repository --vault", _NO_REPOSITORY),
    **_for((*_LONG, "init", "clean"), "--force -f", _NO_FORCE),
}
"""What is done otherwise, by command and option; `{bare}` is the command line without that option's name."""
