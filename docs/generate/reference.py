"""`python -m docs.generate.reference DIR` writes commands.md, exit-codes.md and findings.md from the code that they describe.

A test fails when the committed files say something else than the code.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from docs.generate.command_tree import Command, all_commands, command_line
from evidencesync.cli.settings import setting_keys
from evidencesync.connection.waiting import may_pass
from evidencesync.errors import CommandKind, EvidenceSyncError
from evidencesync.exit_codes import SEVERITY_ORDER, ExitCode
from evidencesync.protocol.failures import all_errors
from evidencesync.verify.checks import DESCRIPTIONS, MEANINGS, Check, Meaning

_GENERATED: Final = "<!-- Generated from the code by `make docs`. Do not edit. -->"

_COMMANDS_HEAD: Final = """# Commands

An ADDRESS is a local path, `[user@]host:path`, or `ssh://[user@]host[:port]/path`. Results go to stdout, progress and
messages to stderr. With `--json` a command prints exactly one JSON document on stdout, also for an error
(`{"error": {"code", "slug", "message", "hint"}}`); `schemas/` says what is in it. There are no colours and no bars where
stderr is no terminal; with `NO_COLOR` nothing has colours.

What a person types wins over the environment (`EVIDENCESYNC_...`), and that over the settings file: the one that
`--config` names, else `~/.config/evidencesync/config.toml`. A settings file never lies among evidence. Passphrases are
asked for on the terminal, and nowhere else. VAULT and `--case` may be left out where they have `EVIDENCESYNC_VAULT` and
`EVIDENCESYNC_CASE` beside them: see [the guide](guide.md#vault-and-case-left-out).
"""

_SETTINGS_HEAD: Final = """## The settings file

TOML, one line a key, each the default of the option or argument of its name; an unknown key is an error. Paths are
relative to the file's own folder, `~` is the home folder.
"""

_CODES_HEAD: Final = """# Exit codes

0 means complete and verified. **Any other code is a failure.** Where several apply, the most severe wins:
{order};
1, 2 and 130 say that the run itself did not finish.

**What a disk does not give** (an I/O error, missing permissions) is 3 from a command that says something of all that it looks
at, and goes on to the end: `verify`, `compare`, `receipts`, `list`; and from `restore`, which makes nothing then, or, with
`--on-damage skip`, restores the other files. It is 1
(`storage`) where one thing is to be shown or made, and cannot be without what was refused: `show`, `diff`, `export`, and
`restore` where the vault itself cannot be opened. From another machine each command has the code that it has where the vault
lies; it is 3 (`incomplete`) where the vault's end cannot read what it needs to open the vault, or to know who reads. Neither says
that something is gone or changed.

**Lists of trust** that are missing, or are not what the vault's last record about them states, are 32 (`trust-changed`) from
`list`, `show`, `diff`, `restore` and `verify`, at the vault and from afar. At the vault `list` shows the other documents all the
same; from afar nobody gets in, for it is not known whose keys are trusted. Put the list back from a backup, on the vault's
machine.

**1 is not the code of a defect alone.** It says that something stood in the way here: the slug says what. `receipt-not-kept` is 1
on purpose, although the acquisition is published: 0, 3 and 4 promise that the proof is on this machine, too, and a script that
goes on after them may delete the source; 13 says that nothing was published, and 23 to run the command again, which would make
a further acquisition. So copy the documents that the hint names, and do not repeat the push.

**A vault of a later format** is 2 (`later-format`) from every command, also from `verify`, whose verdict is then incomplete
unless something else is wrong. **A vault.toml of another vault, or with another key**, is 32 (`wrong-place`) from every command.
A signed document in any other form than this version writes is 32 (`malformed-document`).

**What is gone**: `list`, `show`, `diff`, `timestamp` and `report --verdict` are no checks, but they show no less than is
known without saying so: a removed acquisition is 31; a case, an item or the end of a chain that the vault's own
chain has stated, or that this machine has seen, is 34.

**A damaged record of a chain** is 34 where it is known what the record was: from the record after it, as `verify` looks, from
the vault's own chain, this machine's memory, or a receipt. A command that stops at the record itself ends with 32.
The copy of a record that lies with its acquisition is 32 where it is damaged: what counts is what the chain has, and no push
needs the copy.

**What waiting may end**: slugs with a `*` below may come from what passes by itself. `watch` tries again, and so may a script;
where only the link is concerned, `push` and `pull` do by themselves, up to `--retries` times. All others need a person first.
`not-there`, `vault-not-found` and `no-remote` are waited for only where the vault was reached before.

With `--json` the slug says more exactly what happened, in `error.slug`.
"""

_FINDINGS_HEAD: Final = """# Findings

`verify` numbers its checks. Each finding carries the number of the check that made it (`check`), a severity, and a slug that says
what kind of finding it is. Messages may change from version to version; numbers and slugs do not.

The verdict is **fail** when any finding has a code other than 0, 2, 3 and 10; else **incomplete** when any has one of these but 0
(something could not be checked); else **pass**. Findings with code 0 change neither verdict nor exit code. The most severe of
all codes is the exit code: see [exit-codes.md](exit-codes.md). 2 is the exit code of an incomplete verdict, and of no other.
"""

CODE_TEXTS: Final = {
    ExitCode.COMPLETE: "complete and verified",
    ExitCode.INTERNAL: "an error of our own, or of the machine below",
    ExitCode.USAGE: "usage or configuration",
    ExitCode.GAPS: "complete with gaps: something was unreadable or vanished; listed. From `verify`: not all could be checked",
    ExitCode.SOURCE_CHANGED: "the source changed while it was read; listed",
    ExitCode.NOT_THERE: "vault, case or item not there",
    ExitCode.LOCKED: "locked by somebody else, or sealed",
    ExitCode.KEY: "key, agent or passphrase",
    ExitCode.NO_SPACE: "no space, or over quota",
    ExitCode.CONNECT: "cannot connect",
    ExitCode.HOST_KEY: "host key unknown or changed",
    ExitCode.AUTHENTICATION: "authentication",
    ExitCode.LINK_LOST: "timeout or lost link: run the same command again",
    ExitCode.DIGEST: "digest mismatch",
    ExitCode.MISSING_OR_EXTRA: "missing or extra file",
    ExitCode.SIGNATURE: "bad signature, signer or namespace",
    ExitCode.TIMESTAMP: "bad or missing timestamp",
    ExitCode.CHAIN: "custody chain broken, forked or rolled back",
    ExitCode.PEER: "hostile or broken peer: protocol violation, path escape, limit exceeded",
    ExitCode.INTERRUPTED: "interrupted",
}


_KIND_TEXTS: Final = {
    CommandKind.ACQUIRES: "acquiring",
    CommandKind.SERVES: "serving",
    CommandKind.CHANGES: "changing",
    CommandKind.CHECKS: "checking",
    CommandKind.SHOWS: "showing",
}


def exit_codes_text() -> str:
    """docs/exit-codes.md."""
    order = " > ".join(str(int(code)) for code in SEVERITY_ORDER if code is not ExitCode.COMPLETE)
    lines = [_GENERATED, "", _CODES_HEAD.format(order=order), "| code | meaning |", "|---|---|"]
    lines += [f"| {int(code)} | {CODE_TEXTS[code]} |" for code in ExitCode]
    lines += ["", "## Errors", "", "| slug | code | what it means | what to do |", "|---|---|---|---|"]
    # Only those of the tree itself: what a room derives for its own use says nothing more to a script.
    errors = [
        error for error in all_errors() if error.__module__ == EvidenceSyncError.__module__ and error is not EvidenceSyncError
    ]
    for error in sorted(errors, key=lambda error: (int(error.exit_code), error.slug)):
        meaning = (inspect.getdoc(error) or "").split("\n\n")[0].replace("\n", " ")
        again = " *" if may_pass(error("")) else ""
        lines.append(f"| `{error.slug}`{again} | {int(error.exit_code)} | {meaning} | {_hints_text(error)} |")
    return "\n".join(lines) + "\n"


def _hints_text(error: type[EvidenceSyncError]) -> str:
    """What is said to whoever acquires, then what other kinds of commands say in its place."""
    others: dict[str | None, list[str]] = {}
    for kind, hint in error.other_hints.items():
        others.setdefault(hint, []).append(_KIND_TEXTS[kind])
    said = [f"{hint or 'nothing'} ({', '.join(kinds)})" for hint, kinds in others.items()]
    return "<br>".join([*([error.default_hint] if error.default_hint else []), *said])


def findings_text() -> str:
    """docs/findings.md."""
    lines = [_GENERATED, "", _FINDINGS_HEAD, "## Checks", ""]
    lines += [f"{int(check)}. **{check.name.lower()}**: {DESCRIPTIONS[check]}" for check in Check]
    lines += ["", "## Kinds of findings", "", "| slug | severity | code | what it means |", "|---|---|---|---|"]
    order = ("error", "warning", "info")

    def rank(one: tuple[str, Meaning]) -> tuple[int, int, str]:
        slug, meaning = one
        return order.index(meaning.severity), int(meaning.code), slug

    for slug, meaning in sorted(MEANINGS.items(), key=rank):
        lines.append(f"| `{slug}` | {meaning.severity} | {int(meaning.code)} | {_cell(meaning.text)} |")
    return "\n".join(lines) + "\n"


def commands_text() -> str:
    """docs/commands.md."""
    lines = [_GENERATED, "", _COMMANDS_HEAD]
    for command in all_commands():
        lines += _command_lines(command)
    lines += [_SETTINGS_HEAD]
    lines += [f"- `{key}`" for key in sorted(setting_keys())]
    return "\n".join(lines) + "\n"


def _command_lines(command: Command) -> Iterator[str]:
    yield f"## {' '.join(command.path)}"
    yield ""
    yield f"`{command_line(command)}`"
    yield ""
    yield command.text
    yield ""
    yield "| | | |"
    yield "|---|---|---|"
    for parameter in command.parameters:
        names = ", ".join(f"`{_cell(name)}`" for name in parameter.names)
        value = f" `{_cell(parameter.value)}`" if parameter.value else ""
        yield f"| {names}{value} | {_cell(parameter.text)} | {f'`{parameter.variable}`' if parameter.variable else ''} |"
    yield ""
    yield "```"
    yield command.examples
    yield "```"
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def write_reference(folder: Path) -> None:
    """Writes all three files."""
    (folder / "commands.md").write_text(commands_text(), encoding="utf-8")
    (folder / "exit-codes.md").write_text(exit_codes_text(), encoding="utf-8")
    (folder / "findings.md").write_text(findings_text(), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m docs.generate.reference DIR")
    write_reference(Path(sys.argv[1]))
