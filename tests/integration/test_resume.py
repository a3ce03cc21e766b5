"""Ends that are killed in the middle of a push over a real SSH server, and the run after that."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.cli_program import ITEM, TIMEOUT_SECONDS, Lab, started_program
from tests.integration.test_cli_remote import _ssh_options
from tests.support.patience import wait_until

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd

MIB = 1 << 20
SIZE = 24 * MIB
STAGED = 8 * MIB


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    chance = random.Random(11)
    made.write("image", chance.randbytes(SIZE))
    for number in range(200):
        made.write(f"a/{number:03}", chance.randbytes(5_000))
    return made


@pytest.fixture
def small_lab(tmp_path: Path) -> Lab:
    """For moments at the end of a push, which come sooner."""
    made = Lab.make(tmp_path)
    made.write("image", random.Random(12).randbytes(2 * MIB))
    return made


def pids_of(lab: Lab, pattern: str) -> list[int]:
    """Processes whose command line holds a text and then this laboratory's folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if str(lab.folder) in command.partition(pattern)[2]:
                found.append(int(process.name))
    return found


class Pushing:
    """A push of the laboratory's evidence over SSH, slow enough to be met in the middle of it."""

    def __init__(self, lab: Lab, sshd: Sshd, *options: str) -> None:
        self.lab = lab
        vault = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
        ssh = ("--sign-key", "ana", *_ssh_options(sshd), "--remote-command", started_program(), "--compress", "never", "--json")
        self.arguments = ("push", "evidence", vault, *ITEM, *ssh)
        self.process = lab.start(*self.arguments, "--limit-rate", "12M", *options)

    def wait_until_staged(self, size: int) -> None:
        """Waits until so many bytes lie in staging."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self._staged() < size:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _staged(self) -> int:
        contents = self.lab.folder.glob("vault/cases/*/*/incoming/*/contents/*")
        size = 0
        for path in contents:
            with contextlib.suppress(FileNotFoundError):  # it has just been put into its place
                size += path.stat().st_size
        return size

    def pids(self, pattern: str) -> list[int]:
        """Processes at the vault's end whose command line holds a text and this laboratory's folder."""
        return pids_of(self.lab, pattern)

    def ended(self) -> dict[str, object]:
        """What the push says when it is done."""
        out, err = self.process.communicate(timeout=TIMEOUT_SECONDS)
        assert self.process.returncode == 0, (out, err)
        said: dict[str, object] = json.loads(out)
        return said

    def again(self) -> dict[str, object]:
        """The same command once more."""
        done = self.lab.run(*self.arguments)
        assert done.code == 0, done
        return done.document


def assert_whole(lab: Lab) -> None:
    stored = lab.folder.glob("vault/cases/*/*/acquisitions/0001/data/image")
    assert [path.read_bytes() for path in stored] == [(lab.folder / "evidence" / "image").read_bytes()]
    assert lab.run("verify", "vault").code == 0
    assert [os.listdir(path) for path in lab.folder.glob("vault/cases/*/*/incoming")] == [[]]


def test_a_killed_sender_runs_again_and_sends_only_the_rest(lab: Lab, sshd: Sshd) -> None:
    pushing = Pushing(lab, sshd)
    pushing.wait_until_staged(STAGED)
    pushing.process.kill()
    pushing.process.communicate()
    said = pushing.again()
    assert (said["acquisition"], said["continued"]) == (1, 1)
    assert int(str(said["literal_bytes"])) < SIZE - STAGED + 6 * MIB  # a segment that was on its way, and the small files
    assert_whole(lab)


def test_a_killed_vaults_end_is_started_again_and_gets_only_the_rest(lab: Lab, sshd: Sshd) -> None:
    pushing = Pushing(lab, sshd)
    pushing.wait_until_staged(STAGED)
    for pid in pushing.pids("serve --vault"):
        with contextlib.suppress(ProcessLookupError):  # it may just have come to its end
            os.kill(pid, signal.SIGKILL)
    said = pushing.ended()
    assert (said["acquisition"], said["continued"], said["interruptions"]) == (1, 1, 2)
    assert_whole(lab)


def test_a_broken_connection_is_made_again_and_the_session_goes_on(lab: Lab, sshd: Sshd) -> None:
    pushing = Pushing(lab, sshd)
    pushing.wait_until_staged(STAGED)
    (serving,) = [pid for pid in pushing.pids("serve --vault") if "sh" not in Path(f"/proc/{pid}/comm").read_text()]
    connection = _parent(serving)
    while "sshd" not in Path(f"/proc/{connection}/comm").read_text():
        connection = _parent(connection)
    os.kill(connection, signal.SIGKILL)
    said = pushing.ended()
    assert (said["acquisition"], said["continued"], said["interruptions"]) == (1, 0, 1)
    assert int(str(said["literal_bytes"])) < SIZE + 64 * MIB
    assert_whole(lab)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_session_that_waits_for_its_sender_ends_when_it_is_told_to(lab: Lab, sshd: Sshd) -> None:
    pushing = Pushing(lab, sshd)
    pushing.wait_until_staged(STAGED)
    pushing.process.kill()
    pushing.process.communicate()
    for pid in pushing.pids("serve --vault"):
        with contextlib.suppress(ProcessLookupError):  # it may just have come to its end
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while pushing.pids("serve --vault"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert pushing.again()["acquisition"] == 1
    assert_whole(lab)


@pytest.mark.parametrize(
    "moment",
    ["incoming/*/acquisition/manifest.jsonl.sig", "acquisitions/0001", "custody/0001-acquired.json"],
)
def test_a_vaults_end_killed_while_it_concludes_has_published_once_or_not_at_all(small_lab: Lab, sshd: Sshd, moment: str) -> None:
    lab = small_lab
    pushing = Pushing(lab, sshd)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not list(lab.folder.glob(f"vault/cases/*/*/{moment}")) and pushing.process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    for pid in pushing.pids("serve --vault"):
        with contextlib.suppress(ProcessLookupError):  # it may just have come to its end
            os.kill(pid, signal.SIGKILL)
    assert pushing.ended()["acquisition"] == 1  # of a session that came to its end, or of the one after it
    assert_whole(lab)
    assert len(list(lab.folder.glob("vault/cases/*/*/acquisitions/*"))) == 1
    wait_until(lambda: not pushing.pids("serve --vault"))


def test_a_sender_killed_while_the_vault_concludes_finds_it_published(lab: Lab, sshd: Sshd) -> None:
    pushing = Pushing(lab, sshd)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not list(lab.folder.glob("vault/cases/*/*/incoming/*/acquisition/SHA256SUMS")) or pushing._staged() > 0:
        assert pushing.process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    pushing.process.kill()
    pushing.process.communicate()
    assert pushing.again()["acquisition"] in {1, 2}
    assert_whole(lab)
