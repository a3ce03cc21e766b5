"""Who takes part where something is fetched from the far end: restores, and lists. All bytes are counted by the row's line."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.bench.contenders import EvidenceSync, Place, Rsync
from tests.bench.measure import Cost, run_quietly
from tests.bench.work import Step

_NAME: Final = ("--case", "bench", "--item", "bench-1")


@dataclass(frozen=True)
class Reading:
    """A command of ours that reads the vault, such as `restore`; `words` stand behind its address.

    With `basis`, it is told where the older state lies.
    """

    name: str
    command: str
    words: Sequence[str] = ()
    basis: bool = False
    program: str = "evidencesync"

    def prepare(self, place: Place, known: Sequence[Step]) -> None:
        """A vault with an acquisition of each; and here, where it is a basis, the first of them as it was."""
        EvidenceSync(options=("--no-read-back",)).prepare(place, known)
        if self.basis:
            _copy(place, known[0], "older")

    def run(self, place: Place, step: Step) -> Cost:
        """One command."""
        del step  # what it reads is in the vault
        connect = EvidenceSync().connecting(place)
        words = [word.format(here=place.folder) for word in self.words]
        basis = ["--basis", str(place.folder / "older")] if self.basis else []
        command = [place.evidencesync, *self.command.split(), connect.address, *words, *basis, *connect.options]
        return place.meter.run(command, home=place.home)[0]


@dataclass(frozen=True)
class RsyncBack:
    """rsync from the far end; with `basis`, into a folder that has the older state."""

    name: str = "rsync -a"
    basis: bool = False
    ssh_options: Sequence[str] = ()
    program: str = "rsync"

    def prepare(self, place: Place, known: Sequence[Step]) -> None:
        """The last state there; and here, where it is a basis, the first."""
        Rsync().prepare(place, known[-1:])
        if self.basis:
            _copy(place, known[0], "restored")

    def run(self, place: Place, step: Step) -> Cost:
        """One transfer."""
        push = Rsync(self.name, ssh_options=self.ssh_options).command(place, step)
        there = push[-1]
        return place.meter.run([*push[:-2], there, f"{place.folder / 'restored'}/"], home=place.home)[0]


@dataclass(frozen=True)
class Scp:
    """scp of a folder from the far end. It has no use for an older state."""

    name: str = "scp -r"
    ssh_options: Sequence[str] = ()
    program: str = "scp"

    def prepare(self, place: Place, known: Sequence[Step]) -> None:
        """The last state there."""
        Rsync().prepare(place, known[-1:])

    def run(self, place: Place, step: Step) -> Cost:
        """One transfer."""
        there = Rsync().command(place, step)[-1].rstrip("/")
        ssh = place.server.ssh_command(*self.ssh_options)[1:]
        options = [word if word != "-p" else "-P" for word in ssh]
        return place.meter.run(["scp", "-q", "-r", "-p", *options, there, str(place.folder / "restored")], home=place.home)[0]


@dataclass(frozen=True)
class Find:
    """What one types over ssh to see names, sizes and times: a plain copy there, which proves nothing."""

    name: str = "ssh find -ls"
    program: str = "ssh"

    def prepare(self, place: Place, known: Sequence[Step]) -> None:
        """The last state there."""
        Rsync().prepare(place, known[-1:])

    def run(self, place: Place, step: Step) -> Cost:
        """One list."""
        folder = Rsync().command(place, step)[-1].partition(":")[2]
        far = shlex.join([*place.meter.far_command, "find", folder, "-ls"])
        return place.meter.run([*place.server.ssh_command(), place.server.login, far], home=place.home)[0]


def restore(name: str, *, basis: bool = False, options: Sequence[str] = ()) -> Reading:
    """Our restore of the last acquisition, into a folder that is not there yet."""
    return Reading(name, "restore", ("{here}/restored", *_NAME, *options), basis)


LIST: Final = Reading("evidencesync list", "list")
SHOW: Final = Reading("evidencesync show --files", "show", (*_NAME, "--files", "--limit", "1000000"))


def _copy(place: Place, step: Step, name: str) -> None:
    run_quietly(["cp", "-a", str(step.source), str(place.folder / name)], home=place.home)
