"""`watch` as a process: real writers, real signals, a real vault, and a real SSH server once.

What is waited for here is always something that must happen; how long it takes decides nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.corpus.lister import differences, list_folder, read_manifest
from tests.integration.cli_program import ITEM, TIMEOUT_SECONDS, Done, Lab, far_program, schema_errors
from tests.support.file_systems import mount

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd

QUICK = ("--settle", "0.3s", "--every", "3s")
WRITER = """
import itertools, select, sys
for number in itertools.count():
    with open(sys.argv[1], "a") as log:
        log.write(f"line {number}\\n")
    if select.select([sys.stdin], [], [], 0.02)[0]:
        break
"""


class Watching:
    """A watch that runs; its messages are read as they come."""

    def __init__(self, lab: Lab, *arguments: str, **options: Any) -> None:
        self.lab = lab
        self.process = lab.start("watch", "evidence", *arguments, **options)
        self.err = ""

    def wait_for(self, words: str, times: int = 1) -> None:
        """Until the words were said so many times."""
        self._until(lambda: self.err.count(words) >= times, words)

    def wait_for_acquisition(self, number: int) -> None:
        self.wait_for(f"acquisition {number}: published")

    def _until(self, is_so: Callable[[], bool], what: str) -> None:
        assert self.process.stderr is not None
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not is_so():
            assert time.monotonic() < deadline, (what, self.err)
            if select.select([self.process.stderr], [], [], 0.2)[0]:
                block = os.read(self.process.stderr.fileno(), 65536)
                self.err += block.decode()
                assert block or is_so(), (what, self.err)

    def stop(self, number: int = signal.SIGTERM) -> Done:
        self.process.send_signal(number)
        return self.end()

    def end(self) -> Done:
        out, err = self.process.communicate(timeout=TIMEOUT_SECONDS)
        return Done(self.process.returncode, out.decode(), self.err + err.decode())


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    made.write("notes.txt", b"hello")
    made.write("logs/gateway.log", b"begun\n")
    return made


@pytest.fixture
def watching(lab: Lab) -> Iterator[Callable[..., Watching]]:
    """Starts watches, and ends those that a failed test has left."""
    started: list[Watching] = []

    def start(*arguments: str, vault: str = "vault", **options: Any) -> Watching:
        started.append(Watching(lab, vault, *ITEM, "--sign-key", "ana", *QUICK, *arguments, **options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        for stream in (one.process.stdout, one.process.stderr):
            if stream is not None:
                stream.close()
        one.process.wait()


def place(lab: Lab, name: str, content: bytes) -> None:
    """Puts a file into a source that is watched, in one step: no look may see, and push, half of it."""
    whole = lab.folder / "whole"
    whole.write_bytes(content)
    whole.rename(lab.folder / "evidence" / name)


def published(lab: Lab) -> list[str]:
    return sorted(os.listdir(lab.acquisition().parent))


def test_a_growing_log_is_followed_until_all_of_it_is_in_the_vault(lab: Lab, watching: Callable[..., Watching]) -> None:
    log = lab.folder / "evidence" / "logs" / "gateway.log"
    watch = watching("--json")
    watch.wait_for_acquisition(1)
    with subprocess.Popen([sys.executable, "-c", WRITER, log], stdin=subprocess.PIPE) as writer:  # until it is told to end
        watch.wait_for_acquisition(2)
        writer.communicate()
    watch.wait_for_acquisition(3)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while (lab.acquisition(int(published(lab)[-1])) / "data/logs/gateway.log").read_bytes() != log.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    watch.wait_for(f"acquisition {int(published(lab)[-1])}: published")
    done = watch.stop()
    assert done.code in (0, 4), done
    document = done.document
    assert schema_errors(document, "watch-output") == []
    assert (document["all_in_vault"], document["error"], document["failures"]) == (True, None, 0)
    assert [one["acquisition"] for one in document["acquisitions"]] == list(range(1, len(published(lab)) + 1))
    assert document["made"] == len(published(lab))
    kept = sorted((lab.folder / "home/.local/share/evidencesync/receipts").iterdir())
    assert [Path(one["receipts"]) for one in document["acquisitions"]] == kept
    assert lab.run("verify", "vault").code == 0


def test_a_watch_that_is_started_again_pushes_only_what_has_changed(lab: Lab, watching: Callable[..., Watching]) -> None:
    first = watching()
    first.wait_for_acquisition(1)
    assert first.stop().code == 0
    again = watching("--json")
    again.wait_for("unchanged since")
    done = again.stop()
    assert (done.code, done.document["made"], done.document["all_in_vault"]) == (0, 0, True)
    lab.write("new", b"x")
    third = watching()
    third.wait_for_acquisition(2)
    assert third.stop().code == 0
    (remembered,) = (lab.folder / "home/.local/state/evidencesync/watched").iterdir()
    assert schema_errors(json.loads(remembered.read_text()), "watched-source") == []
    remembered.write_bytes(b"{}")
    fourth = watching()
    fourth.wait_for_acquisition(3)
    assert fourth.stop().code == 0
    assert published(lab) == ["0001", "0002", "0003"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_idle_watch_ends_at_once_with_the_code_of_its_last_acquisition(
    number: int, lab: Lab, watching: Callable[..., Watching]
) -> None:
    watch = watching("--settle", "1h", "--every", "1h")
    watch.wait_for_acquisition(1)
    done = watch.stop(number)  # which waits for its end, and not for an hour
    assert done.code == 0, done
    assert "1 acquisition made" in done.out
    assert "all that was seen" in done.out


def test_a_watch_that_is_ended_before_a_change_is_pushed_says_so(lab: Lab, watching: Callable[..., Watching]) -> None:
    watch = watching("--settle", "60s", "--every", "60s", "--json")
    watch.wait_for_acquisition(1)
    place(lab, "notes.txt", b"more")
    watch.wait_for("to be pushed", 2)
    done = watch.stop()
    assert (done.code, done.document["all_in_vault"], done.error["slug"]) == (130, False, "interrupted")
    assert schema_errors(done.document, "watch-output") == []
    assert done.document["made"] == 1


def test_a_watch_that_is_ended_in_the_middle_of_a_push_can_be_gone_on_with(lab: Lab, watching: Callable[..., Watching]) -> None:
    lab.write("image", os.urandom(3_000_000))
    watch = watching("--limit-rate", "100K")
    staging = lab.acquisition().parents[1] / "incoming"
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (staging.is_dir() and any(staging.iterdir())):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    done = watch.stop()
    assert done.code == 130, done
    assert "in the middle of a push" in done.err
    assert "Traceback" not in done.err
    again = watching()
    again.wait_for_acquisition(1)
    assert again.stop().code == 0


def test_a_locked_item_is_waited_for(lab: Lab, watching: Callable[..., Watching]) -> None:
    assert lab.push().code == 0
    item = os.open(lab.acquisition().parents[1], os.O_RDONLY)
    try:
        fcntl.flock(item, fcntl.LOCK_EX)
        watch = watching("--json")
        watch.wait_for("push failed [11 locked]")
    finally:
        os.close(item)
    watch.wait_for_acquisition(2)
    done = watch.stop()
    assert (done.code, done.document["failures"], done.document["made"]) == (0, 1, 1)


def test_what_no_retry_can_mend_ends_a_watch_with_its_code(lab: Lab, watching: Callable[..., Watching]) -> None:
    lab.make_key("stranger")
    watch = watching("--sign-key", "stranger", "--json")
    done = watch.end()
    assert (done.code, done.error["slug"]) == (32, "untrusted-signer")
    assert schema_errors(done.document, "watch-output") == []
    assert lab.push().code == 0
    assert lab.run("custody", "seal", "vault", *ITEM, "--sign-key", "ana", "--reason", "done").code == 0
    done = watching("--json").end()
    assert (done.code, done.error["slug"]) == (11, "sealed")


def test_a_source_that_goes_and_comes_back_is_gone_on_with(lab: Lab, watching: Callable[..., Watching]) -> None:
    watch = watching()
    watch.wait_for_acquisition(1)
    evidence, elsewhere = lab.folder / "evidence", lab.folder / "elsewhere"
    evidence.rename(elsewhere)
    watch.wait_for("the source is not there")
    another = lab.folder / "another"
    another.mkdir()
    (another / "other").write_bytes(b"another folder")
    another.rename(evidence)
    watch.wait_for("the source is there again")
    watch.wait_for_acquisition(2)
    assert watch.stop().code == 0
    assert sorted(os.listdir(lab.acquisition(2) / "data")) == ["other"]


def test_a_disk_that_is_pulled_out_is_waited_for_and_its_empty_mount_point_is_not_pushed(
    lab: Lab, watching: Callable[..., Watching]
) -> None:
    evidence, disk = lab.folder / "evidence", lab.folder / "disk"
    disk.mkdir()
    with mount("-t", "tmpfs", "tmpfs", disk), mount("-t", "tmpfs", "tmpfs", evidence):
        lab.write("seen", b"on the disk")
        watch = watching()
        watch.wait_for_acquisition(1)
        subprocess.run(["umount", "--lazy", evidence], check=True)
        watch.wait_for("the source is not there")
        (disk / "later").write_bytes(b"on the disk, too")
        subprocess.run(["mount", "--bind", disk, evidence], check=True)
        watch.wait_for("the source is there again")
        watch.wait_for_acquisition(2)
        assert watch.stop().code == 0  # before the disk goes again: it would see that
    assert sorted(os.listdir(lab.acquisition(2) / "data")) == ["later"]


def test_an_empty_source_is_waited_for_and_not_pushed(lab: Lab, watching: Callable[..., Watching]) -> None:
    """It may be the folder on which a disk is to be mounted."""
    shutil.rmtree(lab.folder / "evidence")
    (lab.folder / "evidence").mkdir()
    watch = watching()
    watch.wait_for("the source is empty: there is no file in it")
    place(lab, "new", b"x")
    watch.wait_for_acquisition(1)
    assert watch.stop().code == 0
    assert published(lab) == ["0001"]


def test_gaps_are_said_and_the_watch_goes_on(lab: Lab, watching: Callable[..., Watching]) -> None:
    from tests.integration.cli_program import drop_file_privileges

    (lab.folder / "evidence" / "notes.txt").chmod(0)
    watch = watching(preexec_fn=drop_file_privileges)
    watch.wait_for("WITH GAPS")
    place(lab, "new", b"x")
    watch.wait_for_acquisition(2)
    assert watch.stop().code == 3
    assert published(lab) == ["0001", "0002"]


def test_a_watched_source_is_left_as_it_was(lab: Lab, watching: Callable[..., Watching]) -> None:
    evidence = lab.folder / "evidence"
    for path in (evidence / "notes.txt", evidence / "logs/gateway.log", evidence / "logs", evidence):
        os.utime(path, (1_000_000_000, path.stat().st_mtime))
    before = list_folder(evidence)
    watch = watching()
    watch.wait_for_acquisition(1)
    assert watch.stop().code == 0
    assert list_folder(evidence) == before
    assert [path.stat().st_atime for path in (evidence, evidence / "logs", evidence / "notes.txt")] == [1_000_000_000] * 3
    assert differences(before, read_manifest(lab.acquisition() / "manifest.jsonl")[1]) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--settle", "soon"), "not a duration"),
        (("--settle", "5m", "--every", "1m"), "shorter than --settle"),
        (("--receipts", "evidence/receipts"), "every push writes there"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_touched(lab: Lab, arguments: tuple[str, ...], words: str) -> None:
    done = lab.run("watch", "evidence", "vault", *ITEM, "--sign-key", "ana", *arguments, "--json")
    assert (done.code, words in done.error["message"]) == (2, True), done
    assert schema_errors(done.document, "error-output") == []
    assert sorted(os.listdir(lab.folder / "evidence")) == ["logs", "notes.txt"]
    assert not (lab.folder / "vault" / "cases" / "2024-017").exists()


def test_a_state_folder_in_the_source_is_refused(lab: Lab) -> None:
    state = {"EVIDENCESYNC_STATE": str(lab.folder / "evidence" / "state")}
    done = lab.run("watch", "evidence", "vault", *ITEM, "--sign-key", "ana", env=state)
    assert done.code == 2
    assert not (lab.folder / "evidence" / "state").exists()


def test_a_source_that_was_never_there_is_refused(lab: Lab) -> None:
    done = lab.run("watch", "nothing", "vault", *ITEM, "--sign-key", "ana", "--json")
    assert (done.code, done.error["slug"]) == (2, "source-not-found")


def test_a_watch_in_the_background_of_a_script_ends_at_sigterm(lab: Lab, watching: Callable[..., Watching]) -> None:
    watch = watching(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))  # what sh does for `command &`
    watch.wait_for_acquisition(1)
    assert watch.stop().code == 0


def test_a_passphrase_is_asked_for_once(lab: Lab) -> None:
    lab.make_key("locked", passphrase="open sesame")
    assert lab.run("trust", "add", "vault", "locked.pub", "--principal", "l@lab").code == 0
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(lab.folder)  # noqa: TID251 - a process of its own
        command = [os.fsdecode(part) for part in lab.command("watch", "evidence", "vault", *ITEM, "--sign-key", "locked", *QUICK)]
        os.execve(sys.executable, command, {**lab.environment, "NO_COLOR": "1"})
    seen = b""

    def read_until(words: bytes) -> None:
        nonlocal seen
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while words not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([terminal], [], [], 0.2)[0]:
                seen += os.read(terminal, 65536)

    read_until(b"Passphrase for locked")
    os.write(terminal, b"open sesame\n")
    read_until(b"acquisition 1: published")
    place(lab, "new", b"x")
    read_until(b"acquisition 2: published")
    os.kill(pid, signal.SIGTERM)
    with contextlib.suppress(OSError):  # the terminal ends with its process
        while block := os.read(terminal, 65536):
            seen += block
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert seen.count(b"Passphrase for") == 1
    assert b"sesame" not in seen


def test_a_watch_over_ssh_makes_a_connection_for_each_push_and_none_in_between(
    lab: Lab, sshd: Sshd, watching: Callable[..., Watching]
) -> None:
    ssh = ("-i", str(sshd.identity), "-p", str(sshd.port), "-F", "none", "--known-hosts", str(sshd.known_hosts))
    watch = watching(*ssh, "--remote-command", far_program(), "--json", vault=f"{sshd.user}@127.0.0.1:{lab.folder}/vault")
    log = lab.folder / "evidence" / "logs" / "gateway.log"
    for number in (1, 2, 3):
        watch.wait_for_acquisition(number)
        _wait_for_no_children(watch.process.pid)
        if number < 3:
            with log.open("ab") as file:
                file.write(b"more\n")
    done = watch.stop()
    assert done.code == 0, done
    assert [one["acquisition"] for one in done.document["acquisitions"]] == [1, 2, 3]
    assert (lab.acquisition(3) / "data/logs/gateway.log").read_bytes() == log.read_bytes()
    assert lab.header(3)["ssh"]["port"] == sshd.port
    assert lab.run("verify", "vault").code == 0


def _wait_for_no_children(pid: int) -> None:
    """The process of a connection ends soon after its push."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while children.read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.02)
