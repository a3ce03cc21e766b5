"""`vault writer`: which machine writes to a vault that lies where locks do not hold between machines."""

from __future__ import annotations

from typing import Annotated

import typer

from evidencesync.cli.command import Run, command, group
from evidencesync.cli.options import VaultPath, local_vault
from evidencesync.errors import CommandKind, ExitCode
from evidencesync.evidence.display import safe_text


def add_commands(app: typer.Typer) -> None:
    """Adds the group `vault`."""
    vault = group(app, "vault", "Says, and changes, which machine writes to a vault on a network file system.")
    examples = ("evidencesync vault writer /mnt/nas/vault", "evidencesync vault writer /mnt/nas/vault --take")
    command(vault, "writer", *examples, kind=CommandKind.CHANGES)(writer)


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
    from evidencesync.cli.vault_commands import adding_to_own_chain
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
    run.console.give(output, lines)
    return ExitCode.COMPLETE
