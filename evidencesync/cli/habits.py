"""What people type who know rsync, scp, restic, borg or an imaging tool, and what it is called or done here."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Final

HELP_WORDS: Final = ("help", "man")
FROM_OTHERS: Final[Mapping[str, str]] = {
    **dict.fromkeys("ls dir snapshots archives stats cases items acquisitions versions".split(), "list"),
    **dict.fromkeys("sync backup acquire send create snapshot commit rsync scp cp put upload store save".split(), "push"),
    **dict.fromkeys("dd image mirror ingest import".split(), "push"),
    **dict.fromkeys("copy clone fetch extract checkout recover dump cat mount download get-file".split(), "restore"),
    **dict.fromkeys("check fsck scrub test validate audit".split(), "verify"),
    **dict.fromkeys("log info cat-file ls-files ls-tree find details describe".split(), "show"),
    **dict.fromkeys("prune gc compact cleanup unlock break-lock".split(), "clean"),
    **dict.fromkeys("rebuild repair-index rebuild-index".split(), "reindex"),
    **dict.fromkeys("config configure preferences".split(), "settings"),
    **dict.fromkeys("setup new mkvault create-vault init-vault".split(), "init"),
    **dict.fromkeys("cmp check-manifest hashdeep".split(), "compare"),
    **dict.fromkeys("daemon server listen".split(), "serve"),
    **dict.fromkeys("follow monitor tail".split(), "watch"),
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
IN_GROUPS: Final[Mapping[tuple[str, str], str]] = {
    **{("custody", word): "custody show" for word in "list log history chain".split()},
    ("custody", "add"): "custody note",
    ("custody", "verify"): "verify",
    ("custody", "handover"): "custody hand-over",
    ("receipts", "show"): "receipts list",
    ("receipts", "verify"): "receipts check",
    ("receipts", "forget"): "receipts forget-head",
    ("trust", "show"): "trust list",
    ("host", "add"): "host trust",
    ("host", "accept"): "host trust",
    ("timestamp", "add"): "timestamp fetch",
    ("timestamp", "list"): "timestamp show",
    ("timestamp", "get"): "timestamp fetch",
    ("settings", "list"): "settings show",
    ("vault", "create"): "init",
    ("vault", "info"): "list",
    ("vault", "check"): "verify",
    **{("evidencesync", word): "trust list" for word in "keys key users signers who trusted".split()},
    **{("evidencesync", word): "custody show" for word in "history chain".split()},
    **{("evidencesync", word): "custody note" for word in "tag annotate comment".split()},
    ("evidencesync", "transfer"): "custody hand-over",
    ("evidencesync", "handover"): "custody hand-over",
    ("evidencesync", "add"): "push",
}
"""The command, by its whole name, that is meant by a word in a group of commands, or at the beginning."""
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

_NEVER_MOVED: Final = (
    "What is published keeps its place. What is wrong is said with: evidencesync custody note, or custody correct."
)
_HASHES: Final = (
    "BLAKE3 and SHA-256 of each file are always taken. They are shown by: evidencesync show {rest} --files; "
    "and lie beside the data, in BLAKE3SUMS and SHA256SUMS."
)
_CORRECTED: Final = (
    "Records are never edited or removed. A correction is a new one: evidencesync custody correct {rest} --record N."
)
_SHOWN: Final = "What a vault has is shown by: evidencesync list {rest}. Whether all is as it was: evidencesync verify {rest}."
_VERSION: Final = "The version is shown with: evidencesync --version. An option stands behind the command: list -v."
_KEY: Final = "A key is made with: ssh-keygen -t ed25519. Its .pub file is for: evidencesync init VAULT --trust FILE.pub."
_NO_LOGIN: Final = "Nothing logs in beforehand: each command does, as in: evidencesync list ana@vault.lab:/srv/vault."
_SEALED: Final = "A seal cannot be undone. Acquire into a new item, and say why with: evidencesync custody note."
_NO_REPAIR: Final = "Nothing is repaired in a vault: it is evidence. What is damaged says: evidencesync verify {rest}."

OTHERWISE: Final[Mapping[tuple[str, str], str]] = {
    ("init", "-r"): _NO_REPOSITORY,
    **_for(("evidencesync",), "version -V -v", _VERSION),
    (
        "evidencesync",
        "status",
    ): "What a vault has shows: evidencesync list {rest}. Whether all is as it was: evidencesync verify {rest}.",
    **_for(("evidencesync",), "rm remove delete forget expire reset revert", _NEVER_REMOVED),
    **_for(("evidencesync",), "mv move rename", _NEVER_MOVED),
    **_for(
        ("evidencesync",),
        "keygen genkey",
        "A key is made with: ssh-keygen -t ed25519. Its .pub file goes to: evidencesync init --trust.",
    ),
    **_for(("evidencesync",), "hash sha256sum b3sum md5sum digest", _HASHES),
    **_for(
        ("evidencesync",),
        "login connect ssh",
        "No command logs in: each one does by itself, as in: evidencesync list ana@vault.lab:/srv/vault.",
    ),
    **_for(("evidencesync",), "resume continue retry", _RESUMED),
    **_for(("evidencesync",), "repair fix heal", _NO_REPAIR),
    **_for(("host",), "list show ls", "Hosts that are trusted stand in known_hosts, one a line: less ~/.ssh/known_hosts."),
    **_for(("host",), "remove rm delete forget untrust", "A host key is removed with: ssh-keygen -R HOST."),
    **_for(("custody",), "edit change update rm remove delete", _CORRECTED),
    **_for(
        ("custody",),
        "unseal reopen",
        "A seal cannot be undone: acquire into a new item, and say why with: evidencesync custody note.",
    ),
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
"""What is done otherwise, by command and word. `{bare}` is the command line without that word, `{rest}` what stands behind it."""
