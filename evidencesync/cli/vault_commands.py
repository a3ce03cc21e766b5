"""`init` and `vault`: makes a vault, and says which machine may write to it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evidencesync.cli.command import Run, command, group
from evidencesync.cli.options import VaultPath, local_vault
from evidencesync.cli.own_state import adding_to_own_chain
from evidencesync.cli.signers import signer_text, signers_of
from evidencesync.cli.trust_files import named_key
from evidencesync.cli.vault_key_command import VaultKeyChoice, chosen_vault_key
from evidencesync.errors import CommandKind, UsageError, hinting
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.evidence.number_format import count_text
from evidencesync.exit_codes import ExitCode

if TYPE_CHECKING:
    from evidencesync.vault.vault import Vault


def add_commands(app: typer.Typer) -> None:
    """Adds `init`, and the group `vault`."""
    command(
        app,
        "init",
        "evidencesync init /srv/vault --trust ana.pub",
        "evidencesync init /srv/vault --name 'Digital lab' --trust ana.pub --principal ana@lab",
        kind=CommandKind.CHANGES,
    )(init)
    vault = group(app, "vault", "Says, and changes, which machine writes to a vault on a network file system.")
    examples = ("evidencesync vault writer /mnt/nas/vault", "evidencesync vault writer /mnt/nas/vault --take")
    command(vault, "writer", *examples, kind=CommandKind.CHANGES)(writer)


def init(
    run: Run,
    vault: Annotated[str, typer.Argument(metavar="VAULT", help="The folder to make. It may exist if it is empty.")],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The vault's name for people.  [default: its folder's name]")
    ] = None,
    trust: Annotated[
        list[str] | None, typer.Option(metavar="PUBKEY", help="Public key file of an examiner; may be repeated.")
    ] = None,
    principal: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="The signer's name; one for each --trust.  [default: the keys' comments]"),
    ] = None,
    two_person: Annotated[
        str,
        typer.Option(
            metavar="WHAT", help="What needs two people: seal, trust, or both with a comma between.  [default: nothing]"
        ),
    ] = "nothing",
    vault_key: VaultKeyChoice = None,
) -> ExitCode:
    """Makes a vault: a folder for evidence, with its own key and a list of trusted signers.

    Make it on the machine that will keep the evidence, under the account that will own it. What comes next is printed at the
    end: a line for authorized_keys, with which a trusted key can do this and nothing else, and the commands for the examiner.
    """
    from evidencesync.cli.first_steps import FirstSteps
    from evidencesync.cli.outputs import InitOutput
    from evidencesync.custody.rule_of_two import typed_rule
    from evidencesync.vault.create import create_vault

    keys, principals = trust or [], principal or []
    if principals and len(keys) != len(principals):
        raise UsageError(
            f"--trust was given {count_text(len(keys), 'time')}, and --principal {count_text(len(principals), 'time')}",
            hint="Give one --principal NAME for each --trust PUBKEY, or none: then the keys' comments are their names.",
        )
    rule = typed_rule(two_person)
    folder = local_vault(vault)
    names = principals or itertools.repeat(None, len(keys))
    trusted = [named_key(Path(file), who) for file, who in zip(keys, names, strict=True)]
    title = name if name is not None else folder.absolute().name
    made = create_vault(folder, title, trusted, two_person=rule, in_agent=chosen_vault_key(vault_key))
    settings = made.settings
    with _was_made(made):
        signers = signers_of(made)
    root = safe_text(str(made.layout.root))
    lines = [
        f"vault      {root}",
        f"name       {safe_text(settings.name)}",
        f"id         {settings.id}",
        f"key        {settings.key}",
        *(f"trusts     {signer_text(signer)}" for signer in signers[1:]),
    ]
    steps = FirstSteps.into(made.layout.root, trusted)
    lines += steps.lines() if trusted else [f"next       evidencesync trust add {shell_text(str(made.layout.root))} KEY.pub"]
    output = InitOutput(
        root, settings.id, settings.name, settings.key, settings.created, signers, steps.authorized_keys, steps.commands
    )
    run.console.print_result(output, lines)
    return ExitCode.COMPLETE


@contextlib.contextmanager
def _was_made(vault: Vault) -> Iterator[None]:
    """Gives errors after a vault was made a hint that says so: it cannot be made again."""
    from evidencesync.files.disk import storing

    root = shell_text(str(vault.layout.root))
    hint = f"The vault was made: do not make it again. Look at it when the disk is well: evidencesync verify {root}"
    with hinting(hint), storing("read the new vault"):
        yield


def writer(
    run: Run,
    vault: VaultPath,
    take: Annotated[bool, typer.Option("--take", help="Make this machine the only one that writes to the vault.")] = False,
) -> ExitCode:
    """Shows which machine writes to a vault; with --take, makes this machine the writer.

    On NFS, CIFS, FUSE and similar file systems, a lock works on one machine only. A vault there has one writing machine, which
    vault.toml names. Other machines may read; if they try to write, they are refused with 11. Use --take only when nothing writes
    on the other machine: a session that runs there ends before it publishes, and the next one reuses what had arrived.
    """
    from evidencesync.cli.outputs import VaultWriterOutput
    from evidencesync.vault.vault import Vault
    from evidencesync.vault.writer import kind_of_vault, this_machine

    opened = Vault.open(local_vault(vault))
    here = this_machine()
    before = opened.settings.writer
    taken = take and (before is None or before.machine != here.id)
    if taken:
        with adding_to_own_chain(run, opened):
            opened.trust.take_writing(here)
        opened = Vault.open(opened.layout.root)
    found, kind = opened.settings.writer, kind_of_vault(opened.layout)
    output = VaultWriterOutput(
        vault_id=opened.settings.id,
        file_system=kind.name,
        locks_between_machines=kind.has_real_locks,
        writer=found.name if found is not None else None,
        writer_machine=found.machine if found is not None else None,
        since=found.since if found is not None else None,
        here=here.name,
        here_machine=here.id,
        may_write=found.machine == here.id if found is not None else kind.has_real_locks,
        taken=taken,
    )
    if found is not None:
        who = f"{safe_text(found.name)}, since {found.since}{' (this machine)' if found.machine == here.id else ''}"
    elif kind.has_real_locks:
        who = "whichever machine has the lock: none is named, and none has to be"
    else:
        who = "no machine is named, so none may write. Name this one: --take"
    locks = "hold for all who can write there" if kind.has_real_locks else "do not hold between machines"
    lines = [f"writes       {who}", f"file system  {kind.name}: locks {locks}", f"here         {here.name} ({here.id})"]
    run.console.print_result(output, lines)
    return ExitCode.COMPLETE
