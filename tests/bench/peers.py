"""Other programs that people use for this, over the same sshd, where they are installed. None of them signs anything."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.contenders import Place
from tests.bench.measure import Cost, run_quietly
from tests.bench.work import Step


@dataclass(frozen=True)
class Scp:
    """scp -r, which sends everything. Over SFTP, as OpenSSH does since 9.0."""

    name: str = "scp"
    program: str = "scp"

    def prepare(self, place: Place, known: Sequence[Step]) -> None:
        """An empty folder: what it knows is of no use to it."""
        (place.folder / "files").mkdir()

    def run(self, place: Place, step: Step) -> Cost:
        """One copy."""
        _, *options = place.server.ssh_command()
        options[options.index("-p")] = "-P"
        command = ["scp", "-rpq", *options, f"{step.source}/", f"{place.server.login}:{place.folder / 'files'}/"]
        return place.meter.run(command, home=place.home, both_ends=False)[0]


@dataclass(frozen=True)
class Borg:
    """borg create into a repository without encryption, compression as it comes (lz4)."""

    name: str = "borg"
    program: str = "borg"

    def prepare(self, place: Place, known: Sequence[Step]) -> None:
        """A new repository with an archive of each."""
        run_quietly(self._command(place, "init", "--encryption=none", self._repository(place)), home=place.home)
        for step in known:
            run_quietly(self._create(place, step), home=place.home)

    def run(self, place: Place, step: Step) -> Cost:
        """One archive. Every file is read: borg's own cache of unchanged files is left out, for it would not look inside."""
        return place.meter.run(self._create(place, step), home=place.home)[0]

    def _create(self, place: Place, step: Step) -> list[str]:
        number = len(list(place.folder.glob("archive-*")))
        (place.folder / f"archive-{number}").touch()
        archive = f"{self._repository(place)}::{number}"
        return self._command(place, "create", "--files-cache=disabled", archive, str(step.source))

    def _command(self, place: Place, *arguments: str) -> list[str]:
        rsh = f"BORG_RSH={shlex.join(place.server.ssh_command())}"
        access = ("BORG_RELOCATED_REPO_ACCESS_IS_OK=yes", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes")
        far = shlex.join([*place.meter.far_command, "borg"])
        return ["env", rsh, *access, "borg", arguments[0], f"--remote-path={far}", *arguments[1:]]

    def _repository(self, place: Place) -> str:
        return f"ssh://{place.server.login}:{place.server.port}{place.folder / 'borg'}"


@dataclass(frozen=True)
class Restic:
    """restic backup over SFTP. It always encrypts."""

    name: str = "restic"
    program: str = "restic"

    def prepare(self, place: Place, known: Sequence[Step]) -> None:
        """A new repository with a snapshot of each."""
        run_quietly(self._command(place, "init"), home=place.home)
        for step in known:
            run_quietly(self._backup(place, step), home=place.home)

    def run(self, place: Place, step: Step) -> Cost:
        """One snapshot, every file read."""
        return place.meter.run(self._backup(place, step), home=place.home, both_ends=False)[0]

    def _backup(self, place: Place, step: Step) -> list[str]:
        return self._command(place, "backup", "--force", str(step.source))

    def _command(self, place: Place, *arguments: str) -> list[str]:
        sftp = shlex.join([*place.server.ssh_command("-s"), place.server.login, "sftp"])
        repository = f"sftp:{place.server.login}:{place.folder / 'restic'}"
        return ["env", "RESTIC_PASSWORD=bench", "restic", "-q", "-r", repository, "-o", f"sftp.command={sftp}", *arguments]


@dataclass(frozen=True)
class Casync:
    """casync make into a store at the far end."""

    name: str = "casync"
    program: str = "casync"

    def prepare(self, place: Place, known: Sequence[Step]) -> None:
        """A store with an index of each."""
        for step in known:
            run_quietly(self._make(place, step), home=place.home)

    def run(self, place: Place, step: Step) -> Cost:
        """One index, and the chunks that the store lacks."""
        return place.meter.run(self._make(place, step), home=place.home, both_ends=False)[0]

    def _make(self, place: Place, step: Step) -> list[str]:
        number = len(list(place.folder.glob("*.caidx")))
        place.folder.joinpath("casync-ssh").write_text(f'#!/bin/sh\nexec {shlex.join(place.server.ssh_command())} "$@"\n')
        place.folder.joinpath("casync-ssh").chmod(0o700)
        far = f"{place.server.login}:{place.folder}"
        index = [f"--store={far}/default.castr", f"{far}/{number}.caidx", str(step.source)]
        return ["env", f"CASYNC_SSH_PATH={place.folder / 'casync-ssh'}", "casync", "make", *index]
