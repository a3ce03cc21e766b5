"""The command as a process: terminals, signals, closed pipes, full disks."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.integration.cli_program import ITEM, TIMEOUT_SECONDS, Lab

pytestmark = pytest.mark.usefixtures("measured_processes")  # what is started here is seen nowhere else


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    made.write("image", os.urandom(3_000_000))
    return made


def _on_a_terminal(
    lab: Lab, *arguments: str, question: bytes = b"", answers: Sequence[bytes] = (), env: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Runs a command with a terminal of its own, answers each time it asks; its exit code and all that appeared there."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(lab.folder)  # noqa: TID251 - a process of its own
        command = [os.fsdecode(part) for part in lab.command(*arguments)]
        os.execve(sys.executable, command, {**lab.environment, "TERM": "xterm", **(env or {})})
    seen = b""
    answered = 0
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            block = os.read(terminal, 65536)
        except OSError:
            break
        if not block:
            break
        seen += block
        if answered < len(answers) and seen.count(question) > answered:
            os.write(terminal, answers[answered])
            answered += 1
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen


def test_a_person_at_a_terminal_sees_progress_and_then_the_summary(lab: Lab) -> None:
    code, seen = _on_a_terminal(lab, "push", "evidence", "vault", *ITEM, "--sign-key", "ana", "--limit-rate", "2M")
    assert code == 0, seen
    assert b"reading" in seen or b"the vault" in seen
    assert b"\x1b[" in seen
    assert b"published, complete" in seen


@pytest.mark.parametrize("reason", ["TERM", "--quiet", "--json"])
def test_nothing_moves_on_a_terminal_where_that_is_not_wanted(reason: str, lab: Lab) -> None:
    options = [reason] if reason.startswith("--") else []
    env = {} if options else {reason: "dumb"}
    code, seen = _on_a_terminal(lab, "push", "evidence", "vault", *ITEM, "--sign-key", "ana", *options, env=env)
    assert code == 0, seen
    assert b"\x1b" not in seen


def test_the_passphrase_is_asked_for_on_the_terminal_and_not_shown(lab: Lab) -> None:
    lab.make_key("locked", passphrase="open sesame")
    assert lab.run("trust", "add", "vault", "locked.pub", "--principal", "l@lab").code == 0
    push = ("push", "evidence", "vault", *ITEM, "--sign-key", "locked", "--quiet")
    code, seen = _on_a_terminal(lab, *push, question=b"Passphrase for locked", answers=[b"open sesame\n"])
    assert code == 0, seen
    assert b"sesame" not in seen
    code, seen = _on_a_terminal(lab, *push, question=b"assphrase for locked", answers=[b"wrong\n"] * 3)
    assert code == 12, seen
    assert seen.count(b"Wrong passphrase for locked. Once more: ") == 2
    assert b" wrong passphrase for locked\r\n" in seen


def test_a_passphrase_in_the_environment_or_in_a_pipe_is_not_taken(lab: Lab) -> None:
    lab.make_key("locked", passphrase="secret")
    done = lab.push("--sign-key", "locked", "--json", answer="secret\n", env={"EVIDENCESYNC_PASSPHRASE": "secret"})
    assert (done.code, done.error["slug"]) == (12, "wrong-passphrase")
    assert "agent" in done.error["hint"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_push_is_130_and_publishes_nothing(number: signal.Signals, lab: Lab) -> None:
    process = lab.start("push", "evidence", "vault", *ITEM, "--sign-key", "ana", "--limit-rate", "100K")
    staging = lab.acquisition().parents[1] / "incoming"
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline and not (staging.is_dir() and any(staging.iterdir())):
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 130, err
    assert out == b""
    assert err.startswith(b"error: interrupted\n")
    assert b"Traceback" not in err
    assert not lab.acquisition().exists()
    assert lab.push().code == 0


def test_a_reader_that_has_seen_enough_is_no_failure(lab: Lab) -> None:
    for arguments in (("list", "vault"), ("--help",), ("list", "vault", "--json")):
        readable, writable = os.pipe()
        os.close(readable)
        process = lab.start(*arguments, stdout=writable)
        os.close(writable)
        _, err = process.communicate(timeout=TIMEOUT_SECONDS)
        assert (process.returncode, err) == (0, b""), arguments


def test_a_result_that_cannot_be_written_is_a_failure(lab: Lab) -> None:
    with open("/dev/full", "wb") as full:
        process = lab.start("list", "vault", stdout=full)
        _, err = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 1
    assert err.startswith(b"error: the result could not be written to stdout: No space left")


def test_a_traceback_is_shown_with_v_alone(lab: Lab) -> None:
    assert "Traceback" not in lab.run("list", "nowhere").err
    loud = lab.run("list", "nowhere", "-v")
    assert loud.code == 10
    assert "Traceback" in loud.err


def test_a_name_that_is_not_utf_8_can_be_a_source(lab: Lab) -> None:
    source = os.fsencode(lab.folder) + b"/odd-\xff\xfe"
    os.mkdir(source)
    Path(os.fsdecode(source + b"/x")).write_bytes(b"x")
    assert lab.push(source=source).code == 0
    origin = lab.header()["source"]
    assert origin["path_b64"]
    shown = lab.run("show", "vault", *ITEM)
    assert shown.code == 0
    assert r"odd-\xff\xfe" in shown.out


def test_a_serving_end_that_hears_nonsense_says_so(lab: Lab) -> None:
    process = lab.start("serve", "--vault", "vault", stdin=subprocess.PIPE)
    _, err = process.communicate(b"GET / HTTP/1.1\r\n\r\n" * 3000, timeout=TIMEOUT_SECONDS)
    assert process.returncode in {20, 23, 40}, err
    assert err.startswith(b"error: ")
    assert b"Traceback" not in err


def test_a_serving_end_that_hears_nothing_ends(lab: Lab) -> None:
    process = lab.start("serve", "--vault", "vault", stdin=subprocess.PIPE)
    with contextlib.suppress(BrokenPipeError):
        _, err = process.communicate(b"", timeout=TIMEOUT_SECONDS)
        assert b"Traceback" not in err
    assert process.returncode in {20, 23, 40}
