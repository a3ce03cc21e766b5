"""`pull --bring-agent`: which bundle is brought to which folder of the source's machine, and what is said of it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from evidencesync.cli.options import RemoteChoice, parse_address
from evidencesync.errors import UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.home import expand

if TYPE_CHECKING:
    from evidencesync.acquire.brought_agent import BroughtBundle
    from evidencesync.cli.command import Run
    from evidencesync.cli.settings import LoadedSettings
    from evidencesync.ssh.address import Address
    from evidencesync.ssh.options import SshOptions

_WHERE: Final = "It is made by: make bundle (docs/field-kit.md). Name it with --bundle FILE, or as `bundle` in the settings file."

_AS_IN: Final = "Write it as: --bring-agent /dev/shm/agent"


@dataclasses.dataclass(frozen=True, slots=True)
class SourceMachineChoice(RemoteChoice):
    """How the source machine is read."""

    agentless: Annotated[
        bool,
        typer.Option(
            "--agentless", help="Read over SFTP: the other machine needs no evidencesync. All data is sent, and hashed here."
        ),
    ] = False
    bring_agent: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Copy a bundle of evidencesync into this new folder of the other machine, read with it, and remove it again.",
        ),
    ] = None
    bundle: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", envvar="EVIDENCESYNC_BUNDLE", help="The bundle for --bring-agent: a .tar.zst on this machine."
        ),
    ] = None

    def check_agent(self, *, is_command: bool, dry_run: bool) -> None:
        """Raises UsageError for what does not go with --bring-agent."""
        beside = {
            "--agentless": self.agentless,
            "--remote-command": self.remote_command is not None,
            "--dry-run": dry_run,
            "a command": is_command,
        }
        for what, is_given in beside.items():
            if self.bring_agent is not None and is_given:
                raise UsageError(f"--bring-agent does not go with {what}", hint="Leave one of them out.")

    def bundle_file(self, settings: LoadedSettings) -> Path:
        """The archive that an option or the settings name. Raises UsageError if neither does."""
        found = expand(self.bundle) if self.bundle is not None else settings.path(settings.values.bundle)
        if found is None:
            raise UsageError("--bring-agent needs a bundle", hint=_WHERE)
        return found


@contextlib.contextmanager
def bringing(
    run: Run, choice: SourceMachineChoice, address: Address, options: Callable[[], SshOptions]
) -> Iterator[BroughtBundle]:
    """Checks the bundle, and brings it for the length of a `with`.

    Raises UsageError, what `check_bundle` raises for a bundle that is not whole, and what `brought` raises.
    """
    from evidencesync.acquire.brought_agent import BroughtBundle, brought
    from evidencesync.acquire.bundle_file import check_bundle

    folder = folder_there(choice.bring_agent or "", address)
    checked = check_bundle(choice.bundle_file(run.settings))
    if checked.signed_by is None:
        run.console.warn("the bundle is unsigned: it is whole, and nobody says who made it")
    else:
        run.console.print_message(f"the bundle is signed by the key {checked.signed_by}")
    run.console.print_message(f"bringing the agent to {safe_text(f'{address.host_text}:{folder}', 300)}")
    agent = BroughtBundle(checked, address, options, folder)
    with brought(agent, run.console.print_message, run.console.warn) as there:
        yield there


def folder_there(text: str, address: Address) -> str:
    """The agent's folder, named as a path or with the machine that is read. Raises UsageError."""
    from evidencesync.acquire.brought_agent import agent_folder

    if text.startswith("/") or ":" not in text:
        return agent_folder(text)
    named = parse_address(text, "agent's folder")
    if (named.local, named.user, named.host, named.port) != (False, address.user, address.host, address.port):
        shown = safe_text(text, 200)
        raise UsageError(f"the agent is brought to the machine that is read, and {shown} is none of its folders", hint=_AS_IN)
    return agent_folder(named.path)
