"""Who takes part: each knows how to be made ready and how to be run, and nothing about what is compared."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from tests.bench.measure import Cost, Meter, run_quietly
from tests.bench.sshd import Server

_COUNTED: Final = re.compile(r"^Total bytes (?:sent|received): ([0-9,.]+)$", re.MULTILINE)
CASE: Final = ("--case", "bench", "--item", "bench-1")


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

    def prepare(self, place: Place, base: Path | None) -> None:
        """Makes an empty destination, or one that holds `base` already. Not measured."""
        ...

    def run(self, place: Place, source: Path) -> Cost:
        """Does the work once. Raises RunError."""
        ...


@dataclass(frozen=True)
class Rsync:
    """rsync over OpenSSH. Its wire bytes are what `--stats` says: before encryption, without SSH's framing."""

    name: str = "rsync -a"
    options: Sequence[str] = ("-a",)
    ssh_options: Sequence[str] = ()
    program: str = "rsync"

    def prepare(self, place: Place, base: Path | None) -> None:
        """A copy of `base`, as an earlier run would have left it."""
        destination = place.folder / "files"
        destination.mkdir()
        if base is not None:
            run_quietly(["rsync", "-a", "--whole-file", f"{base}/", f"{destination}/"], home=place.home)

    def run(self, place: Place, source: Path) -> Cost:
        """One transfer."""
        cost, output = place.meter.run(self.command(place, source), home=place.home)
        counted = [int(re.sub(r"\D", "", number)) for number in _COUNTED.findall(output)]
        return replace(cost, wire_bytes=sum(counted) if len(counted) == 2 else None)

    def command(self, place: Place, source: Path) -> list[str]:
        """The command line."""
        far = shlex.join([*place.meter.far_command, shutil.which("rsync") or "rsync"])
        ssh = shlex.join(place.server.ssh_command(*self.ssh_options))
        target = f"{place.server.login}:{place.folder / 'files'}/"
        return ["rsync", *self.options, "--stats", "--no-human-readable", "-e", ssh, f"--rsync-path={far}", f"{source}/", target]


@dataclass(frozen=True)
class HashdeepAroundRsync:
    """What people do who need proof: hashes at the source, rsync, hashes compared there. MD5 and SHA-256, its default."""

    name: str = "hashdeep, rsync, hashdeep"
    program: str = "hashdeep"

    def prepare(self, place: Place, base: Path | None) -> None:
        """As for rsync."""
        Rsync().prepare(place, base)

    def run(self, place: Place, source: Path) -> Cost:
        """The three steps, one after the other, as one shell command."""
        known = shlex.quote(str(place.folder / "known.txt"))
        audit = (
            f"cd {shlex.quote(str(place.folder / 'files'))} && {shlex.join(place.meter.far_command)} hashdeep -rl -a -k {known} ."
        )
        steps = [
            f"hashdeep -rl . > {known}",
            f"{shlex.join(Rsync().command(place, source))} > /dev/null",
            shlex.join([*place.server.ssh_command(), place.server.login, audit]),
        ]
        cost, _ = place.meter.run(["sh", "-c", " && ".join(steps)], inside=source, home=place.home)
        return cost


@dataclass(frozen=True)
class EvidenceSync:
    """Us, through sshd. Wire bytes are what `--json` says: bytes on the SSH socket, encryption and framing included."""

    name: str = "evidencesync"
    options: Sequence[str] = ()
    program: str = "evidencesync"

    def prepare(self, place: Place, base: Path | None) -> None:
        """A new vault that trusts the client's key, with one acquisition of `base`."""
        trust = ["--trust", f"{place.server.key}.pub", "--principal", "bench"]
        run_quietly([place.evidencesync, "init", str(place.folder / "vault"), "--name", "bench", *trust], home=place.home)
        if base is not None:
            run_quietly(self._command(place, base), home=place.home)

    def run(self, place: Place, source: Path) -> Cost:
        """One push."""
        cost, output = place.meter.run(self._command(place, source), home=place.home)
        result = json.loads(output)
        return replace(cost, wire_bytes=int(result["wire_sent"]) + int(result["wire_received"]))

    def _command(self, place: Place, source: Path) -> list[str]:
        server = place.server
        address = f"ssh://{server.login}:{server.port}{place.folder / 'vault'}"
        far = shlex.join([*place.meter.far_command, "env", f"HOME={place.home}", place.evidencesync])
        connect = ["-i", str(server.key), "--known-hosts", str(server.known_hosts), "--remote-command", far]
        push = [place.evidencesync, "push", str(source), address, *CASE, "--examiner", "bench", "--json"]
        return [*push, *connect, *self.options]


@dataclass(frozen=True)
class Verify:
    """Our verify, of a vault that holds the source once."""

    name: str = "evidencesync verify"
    program: str = "evidencesync"

    def prepare(self, place: Place, base: Path | None) -> None:
        """A vault with `base` in it."""
        EvidenceSync(options=("--no-read-back",)).prepare(place, base)

    def run(self, place: Place, source: Path) -> Cost:
        """Every check there is, BLAKE3 of every file among them."""
        del source  # what it reads is in the vault
        cost, _ = place.meter.run([place.evidencesync, "verify", str(place.folder / "vault"), "--json"], home=place.home)
        return replace(cost, loopback_bytes=None)


@dataclass(frozen=True)
class B3sum:
    """b3sum over the same files, as many at once as a command line takes."""

    name: str = "b3sum"
    program: str = "b3sum"

    def prepare(self, place: Place, base: Path | None) -> None:
        """Nothing: it reads the source itself."""

    def run(self, place: Place, source: Path) -> Cost:
        """One pass."""
        command = "find . -type f -print0 | xargs -0 b3sum > /dev/null"
        cost, _ = place.meter.run(["sh", "-c", command], inside=source, home=place.home)
        return replace(cost, loopback_bytes=None)
