"""Who takes part: each knows how to be made ready and how to be run, and nothing about what is compared."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from tests.bench.measure import Cost, Meter, run_quietly
from tests.bench.sshd import Server
from tests.bench.work import Step

_COUNTED: Final = re.compile(r"^Total bytes (?:sent|received): ([0-9,.]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Place:
    """Where a run happens: `folder` is the contender's own, emptied before each run; `home` is everybody's home folder."""

    folder: Path
    home: Path
    server: Server
    meter: Meter
    evidencesync: str


class Contender(Protocol):
    """One way of doing the work."""

    @property
    def name(self) -> str:
        """As the table shows it."""
        ...

    @property
    def program(self) -> str:
        """What must be installed; also what `--only` selects by."""
        ...

    def prepare(self, place: Place, known: Sequence[Step]) -> None:
        """Makes a destination that holds `known` already, as earlier runs would have left it. Not measured."""
        ...

    def run(self, place: Place, step: Step) -> Cost:
        """Sends one source. Raises RunError."""
        ...


@dataclass(frozen=True)
class Rsync:
    """rsync over OpenSSH, each item into a folder of its own. `--stats` counts before encryption, without SSH's framing.

    With `related`, it may take what the other items hold (`--link-dest` to up to twenty of them, rsync's limit).
    """

    name: str = "rsync -a"
    options: Sequence[str] = ("-a",)
    ssh_options: Sequence[str] = ()
    related: bool = False
    program: str = "rsync"

    def prepare(self, place: Place, known: Sequence[Step]) -> None:
        """Copies, as an earlier run would have left them."""
        (place.folder / "files").mkdir()
        for step in known:
            target = self._target(place, step)
            target.mkdir()
            run_quietly(["rsync", "-a", "--whole-file", f"{step.source}/", f"{target}/"], home=place.home)

    def run(self, place: Place, step: Step) -> Cost:
        """One transfer."""
        cost, output = place.meter.run(self.command(place, step), home=place.home)
        counted = [int(re.sub(r"\D", "", number)) for number in _COUNTED.findall(output)]
        return replace(cost, wire_bytes=sum(counted) if len(counted) == 2 else None)

    def command(self, place: Place, step: Step) -> list[str]:
        """The command line."""
        far = shlex.join([*place.meter.far_command, shutil.which("rsync") or "rsync"])
        ssh = shlex.join(place.server.ssh_command(*self.ssh_options))
        target = self._target(place, step)
        others = sorted(path for path in target.parent.iterdir() if path != target)[:20] if self.related else []
        options = [*self.options, *(f"--link-dest={path}" for path in others), "--stats", "--no-human-readable"]
        return ["rsync", *options, "-e", ssh, f"--rsync-path={far}", f"{step.source}/", f"{place.server.login}:{target}/"]

    def _target(self, place: Place, step: Step) -> Path:
        return place.folder / "files" / f"{step.case}-{step.item}"


@dataclass(frozen=True)
class HashdeepAroundRsync:
    """What people do who need proof: hashes at the source, rsync, hashes compared there. MD5 and SHA-256, its default."""

    name: str = "hashdeep, rsync, hashdeep"
    program: str = "hashdeep"

    def prepare(self, place: Place, known: Sequence[Step]) -> None:
        """As for rsync."""
        Rsync().prepare(place, known)

    def run(self, place: Place, step: Step) -> Cost:
        """The three steps, one after the other, as one shell command."""
        known = shlex.quote(str(place.folder / "known.txt"))
        rsync = Rsync().command(place, step)
        target = rsync[-1].partition(":")[2]
        audit = f"cd {shlex.quote(target)} && {shlex.join(place.meter.far_command)} hashdeep -rl -a -k {known} ."
        steps = [
            f"hashdeep -rl . > {known}",
            f"{shlex.join(rsync)} > /dev/null",
            shlex.join([*place.server.ssh_command(), place.server.login, audit]),
        ]
        cost, _ = place.meter.run(["sh", "-c", " && ".join(steps)], inside=step.source, home=place.home)
        return cost


class FarVault(NamedTuple):
    """The address of a vault, and the options by which it is reached."""

    address: str
    options: list[str]


@dataclass(frozen=True)
class EvidenceSync:
    """Us, through sshd. Wire bytes are what `--json` says: bytes on ssh's pipes, before encryption and framing."""

    name: str = "evidencesync"
    options: Sequence[str] = ()
    program: str = "evidencesync"

    def prepare(self, place: Place, known: Sequence[Step]) -> None:
        """A new vault that trusts the client's key, with an acquisition of each."""
        trust = ["--trust", f"{place.server.key}.pub", "--principal", "bench"]
        run_quietly([place.evidencesync, "init", str(place.folder / "vault"), "--name", "bench", *trust], home=place.home)
        for step in known:
            run_quietly(self._command(place, step), home=place.home)

    def run(self, place: Place, step: Step) -> Cost:
        """One push."""
        cost, output = place.meter.run(self._command(place, step), home=place.home)
        result = json.loads(output)
        return replace(cost, wire_bytes=int(result["wire_sent"]) + int(result["wire_received"]))

    def _command(self, place: Place, step: Step) -> list[str]:
        far = self.connecting(place)
        name = ["--case", step.case, "--item", step.item, "--examiner", "bench"]
        return [place.evidencesync, "push", str(step.source), far.address, *name, "--json", *far.options, *self.options]

    def connecting(self, place: Place) -> FarVault:
        """How the vault is reached."""
        server = place.server
        far = shlex.join([*place.meter.far_command, "env", f"HOME={place.home}", place.evidencesync])
        return FarVault(
            f"ssh://{server.login}:{server.port}{place.folder / 'vault'}",
            ["-i", str(server.key), "--known-hosts", str(server.known_hosts), "--remote-command", far],
        )


@dataclass(frozen=True)
class Verify:
    """Our verify, of a vault that holds the source once."""

    name: str = "evidencesync verify"
    program: str = "evidencesync"

    def prepare(self, place: Place, known: Sequence[Step]) -> None:
        """A vault with the source in it."""
        EvidenceSync(options=("--no-read-back",)).prepare(place, known)

    def run(self, place: Place, step: Step) -> Cost:
        """Every check there is, BLAKE3 of every file among them."""
        del step  # what it reads is in the vault
        verify = [place.evidencesync, "verify", str(place.folder / "vault"), "--json"]
        cost, _ = place.meter.run(verify, home=place.home, both_ends=False)
        return replace(cost, loopback_bytes=None)


@dataclass(frozen=True)
class Compare:
    """Our compare, of the source with the manifest that a vault has of it."""

    name: str = "evidencesync compare"
    options: Sequence[str] = ()
    program: str = "evidencesync"

    def prepare(self, place: Place, known: Sequence[Step]) -> None:
        """A vault with the source in it."""
        EvidenceSync(options=("--no-read-back",)).prepare(place, known)

    def run(self, place: Place, step: Step) -> Cost:
        """BLAKE3 of every file, and what was modified, moved, copied, is missing or new."""
        manifest = next((place.folder / "vault").glob("cases/*/*/acquisitions/0001/manifest.jsonl"))
        compare = [place.evidencesync, "compare", str(manifest), str(step.source), "--json", *self.options]
        cost, _ = place.meter.run(compare, home=place.home, both_ends=False)
        return replace(cost, loopback_bytes=None)


@dataclass(frozen=True)
class HashdeepAudit:
    """hashdeep's audit of the same files, against a list made beforehand. MD5 and SHA-256, its default."""

    name: str = "hashdeep -a"
    program: str = "hashdeep"

    def prepare(self, place: Place, known: Sequence[Step]) -> None:
        """The list of what is there."""
        command = f"hashdeep -rl . > {shlex.quote(str(place.folder / 'known.txt'))}"
        place.meter.run(["sh", "-c", command], inside=known[-1].source, home=place.home, both_ends=False)

    def run(self, place: Place, step: Step) -> Cost:
        """One audit."""
        audit = ["hashdeep", "-rl", "-a", "-k", str(place.folder / "known.txt"), "."]
        cost, _ = place.meter.run(audit, inside=step.source, home=place.home, both_ends=False)
        return replace(cost, loopback_bytes=None)


@dataclass(frozen=True)
class B3sum:
    """b3sum over the same files, as many at once as a command line takes."""

    name: str = "b3sum"
    program: str = "b3sum"

    def prepare(self, place: Place, known: Sequence[Step]) -> None:
        """Nothing: it reads the source itself."""

    def run(self, place: Place, step: Step) -> Cost:
        """One pass."""
        command = "find . -type f -print0 | xargs -0 b3sum > /dev/null"
        cost, _ = place.meter.run(["sh", "-c", command], inside=step.source, home=place.home, both_ends=False)
        return replace(cost, loopback_bytes=None)
