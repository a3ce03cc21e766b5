"""Standard input, and what a command prints here or behind a real sshd, is acquired once, and never taken for more than it is."""

from __future__ import annotations

import hashlib
import html
import json
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evidencesync.limits import SMALL_FILE
from evidencesync.protocol.messages import PREAMBLE
from evidencesync.vault.journal import JournaledSegment, read_journal
from tests.integration.cli_program import ITEM, Lab, schema_errors
from tests.integration.conftest import Sshd, make_key, running_sshd
from tests.support.patience import PATIENCE_SECONDS, wait_until


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    made.write("memory", os.urandom(3_000_000) + bytes(2_000_000) + b"end")
    return made


def hear_interrupts() -> None:
    """Gives a child Ctrl-C, which a test that runs in the background would take from it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def entries(lab: Lab, number: int = 1) -> dict[str, dict[str, Any]]:
    lines = (lab.acquisition(number) / "manifest.jsonl").read_bytes().splitlines()[1:-1]
    return {entry.get("path", ""): entry for entry in map(json.loads, lines)}


def far(sshd: Sshd) -> tuple[str, ...]:
    server = ("-p", str(sshd.port), "-F", "none", "--known-hosts", str(sshd.known_hosts))
    return ("--sign-key", "ana", "-i", str(sshd.identity), *server)


def stored(lab: Lab, name: str, number: int = 1) -> bytes:
    return (lab.acquisition(number) / "data" / name).read_bytes()


@pytest.mark.parametrize(("command", "status"), [("no-such-program-here", 127), ("/", 126)])
def test_a_command_that_a_shell_cannot_run_makes_no_acquisition(lab: Lab, command: str, status: int) -> None:
    refused = lab.run("push", "--command", command, "vault", *ITEM, "--sign-key", "ana")
    assert (refused.code, f"the command was not run (exit status {status}): " in refused.err) == (2, True)
    assert not (lab.folder / "vault" / "cases" / "2024-017" / "LAPTOP-1" / "acquisitions" / "0001").exists()


# Standard input.


def test_standard_input_is_acquired_as_one_file_and_verified(lab: Lab) -> None:
    done = lab.push("--name", "notes.txt", "--expect-bytes", "6", "--json", source="-", answer="hello\n")
    assert done.code == 0, done
    assert schema_errors(done.document, "push-output") == []
    ((name, entry),) = entries(lab).items()
    capture = entry["capture"]
    assert (name, entry["size"], capture["source"], capture["end"]) == ("notes.txt", 6, "standard-input", "end-of-data")
    assert capture["expected_bytes"] == 6
    assert capture["started"] <= capture["ended"]
    assert stored(lab, "notes.txt") == b"hello\n"
    assert lab.header()["method"]["options"]["captured"] == "standard input"
    assert lab.run("verify", "vault", "--all-digests").code == 0


def test_a_large_stream_has_the_digests_of_sha256sum(lab: Lab) -> None:
    memory = lab.folder / "evidence" / "memory"
    with memory.open("rb") as stream:
        process = lab.start("push", "-", "vault", *ITEM, "--sign-key", "ana", "--name", "memory.lime", stdin=stream)
        assert process.wait(PATIENCE_SECONDS) == 0
    process.communicate()
    entry = entries(lab)["memory.lime"]
    summed = subprocess.run(["sha256sum", memory], check=True, capture_output=True, text=True).stdout.split()[0]
    assert (entry["sha256"], entry["size"]) == (summed, memory.stat().st_size)
    assert stored(lab, "memory.lime") == memory.read_bytes()


@pytest.mark.parametrize("size", [100_000, SMALL_FILE, SMALL_FILE + 1])
def test_what_comes_is_sent_once_and_counted_once(lab: Lab, size: int) -> None:
    (lab.folder / "notes").write_bytes(os.urandom(size))
    with (lab.folder / "notes").open("rb") as stream:
        process = lab.start("push", "-", "vault", *ITEM, "--sign-key", "ana", stdin=stream)
        process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    receipt = json.loads((lab.acquisition() / "receipt.json").read_bytes())
    assert receipt["transfer"]["literal_bytes"] == size


def test_too_little_is_kept_flagged_and_said(lab: Lab) -> None:
    done = lab.push("--name", "notes", "--expect-bytes", "4kB", source="-", answer="hello")
    assert done.code == 3
    assert "notes may not be all: 4,000 bytes were expected, and 5 came" in done.out + done.err
    assert entries(lab)["notes"]["flags"] == ["unreadable"]
    assert stored(lab, "notes") == b"hello"
    shown = lab.run("show", "vault", *ITEM, "--files")
    assert "notes <- standard input [unreadable]" in shown.out
    assert lab.run("verify", "vault").code == 0  # as with every gap that the manifest states


def test_standard_input_on_which_nothing_comes_is_no_acquisition_unless_that_is_meant(lab: Lab) -> None:
    done = lab.push(source="-", answer="")
    assert (done.code, "nothing has come on standard input" in done.err) == (2, True), done
    assert not (lab.folder / "vault" / "cases" / "2024-017" / "LAPTOP-1" / "acquisitions" / "0001").exists()
    assert lab.push("--allow-empty", source="-", answer="").code == 0
    assert entries(lab)["input"]["size"] == 0


def test_no_standard_input_is_an_error_with_an_example(lab: Lab) -> None:
    near, terminal = os.openpty()
    process = lab.start("push", "-", "vault", *ITEM, "--sign-key", "ana", stdin=terminal)
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    os.close(near)
    os.close(terminal)
    assert process.returncode == 2
    assert b"standard input is a terminal" in said
    assert b"| evidencesync push - vault" in said


# A command here.


def test_what_a_command_prints_is_acquired_with_what_it_says_of_it(lab: Lab) -> None:
    line = f"cat {shlex.quote(str(lab.folder / 'evidence' / 'memory'))}; echo read >&2"
    done = lab.run("push", "--command", line, "vault", *ITEM, "--sign-key", "ana", "--name", "memory", "--json")
    assert done.code == 0, done
    found = entries(lab)
    assert set(found) == {"", "memory", "memory.stderr"}
    output, errors = found["memory"]["capture"], found["memory.stderr"]["capture"]
    assert (output["source"], output["shell_command"], output["exit_status"]) == ("standard-output", line, 0)
    assert (errors["source"], errors["exit_status"]) == ("standard-error", 0)
    assert stored(lab, "memory.stderr") == b"read\n"
    assert stored(lab, "memory") == (lab.folder / "evidence" / "memory").read_bytes()
    assert lab.run("verify", "vault", "--all-digests").code == 0
    assert lab.run("restore", "vault", "copy", *ITEM).code == 0
    assert (lab.folder / "copy" / "memory").read_bytes() == stored(lab, "memory")
    again = lab.run("push", "--command", line, "vault", *ITEM, "--sign-key", "ana", "--name", "memory", "--json")
    assert again.document["literal_bytes"] == 0  # an output that has not changed does not travel again


def test_words_reach_the_program_as_they_were_typed(lab: Lab) -> None:
    done = lab.run("push", "--exec", "printf", "%s|", "a  b", "$HOME", "*", "--", "vault", *ITEM, "--sign-key", "ana")
    assert done.code == 0, done
    assert stored(lab, "output") == b"a  b|$HOME|*|"
    assert entries(lab)["output"]["capture"]["arguments"] == ["printf", "%s|", "a  b", "$HOME", "*"]


NOT_WHOLE: dict[str, tuple[tuple[str, ...], str]] = {
    "that fails": (("printf part; echo why >&2; exit 3",), "the command ended with exit status 3"),
    "that is killed": (("printf part; echo why >&2; kill -9 $$",), "the command was ended by signal 9"),
    "that goes silent": (
        ("printf part; echo why >&2; exec sleep 1000", "--idle-timeout", "1"),
        "nothing more came, and it was ended",
    ),
}


@pytest.mark.parametrize("name", NOT_WHOLE)
def test_a_command_that_does_not_end_well_gives_what_it_gave_and_never_passes_for_whole(lab: Lab, name: str) -> None:
    (line, *more), words = NOT_WHOLE[name]
    done = lab.run("push", "--command", line, "vault", *ITEM, "--sign-key", "ana", *more)
    assert done.code == 3, done
    assert f"output may not be all: {words}" in done.out + done.err
    assert (stored(lab, "output"), stored(lab, "output.stderr")) == (b"part", b"why\n")
    assert entries(lab)["output"]["flags"] == ["unreadable"]
    assert lab.run("report", "vault", *ITEM, "-o", "report.html").code == 0
    page = (lab.folder / "report.html").read_text()
    assert f"standard output of: {html.escape(line)}" in page
    assert words in page


def test_the_first_interrupt_ends_a_capture_and_keeps_what_had_come(lab: Lab) -> None:
    ready = lab.folder / "ready"
    line = f"printf part; touch {shlex.quote(str(ready))}; exec sleep 1000"
    process = lab.start("push", "--command", line, "vault", *ITEM, "--sign-key", "ana", preexec_fn=hear_interrupts)
    wait_until(ready.exists)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 3, (out, err)
    assert b"ended here: what has come is acquired" in err
    assert stored(lab, "output") == b"part"
    assert entries(lab)["output"]["capture"]["end"] == "interrupted"
    assert lab.run("verify", "vault").code == 0


def test_standard_error_that_is_left_open_is_never_said_to_be_whole(lab: Lab) -> None:
    os.mkfifo(lab.folder / "end")
    line = f"printf all; echo first >&2; {{ cat {shlex.quote(str(lab.folder / 'end'))}; echo late >&2; }} >/dev/null & exit 0"
    done = lab.run("push", "--command", line, "vault", *ITEM, "--sign-key", "ana")
    (lab.folder / "end").write_bytes(b"")
    assert done.code == 3, done
    found = entries(lab)
    assert (found["output"].get("flags"), found["output.stderr"]["flags"]) == (None, ["unreadable"])
    output, errors = found["output"]["capture"], found["output.stderr"]["capture"]
    assert (output["end"], errors["end"]) == ("end-of-data", "left-open")
    assert errors["ended"] > output["ended"]
    assert stored(lab, "output.stderr") == b"first\n"


def test_a_program_that_is_not_there_makes_no_acquisition(lab: Lab) -> None:
    done = lab.run("push", "--exec", "no-such-program", "--", "vault", *ITEM, "--sign-key", "ana")
    assert done.code == 2
    assert "cannot run no-such-program" in done.err
    assert not (lab.folder / "vault" / "cases" / "2024-017" / "LAPTOP-1" / "acquisitions" / "0001").exists()


@pytest.mark.parametrize(
    "more",
    [
        ("--exclude", "*"),
        ("--dry-run",),
        ("--skip-unchanged",),
        ("--quick",),
        ("--allow-empty",),
        ("--on-read-error", "fail"),
        ("--retries-changed", "1"),
    ],
)
def test_options_that_mean_nothing_here_are_refused(lab: Lab, more: tuple[str, ...]) -> None:
    done = lab.run("push", "--command", "true", "vault", *ITEM, "--sign-key", "ana", *more)
    assert done.code == 2, done
    assert "standard input and commands" in done.err


# A command on another machine.


def test_a_command_behind_sshd_needs_nothing_there_and_is_acquired(lab: Lab, sshd: Sshd) -> None:
    memory = lab.folder / "evidence" / "memory"
    line = f"cat {shlex.quote(str(memory))}; echo slow >&2"
    done = lab.run("pull", f"{sshd.user}@127.0.0.1", "vault", *ITEM, *far(sshd), "--command", line, "--name", "sda", "--json")
    assert done.code == 0, done
    header, found = lab.header(), entries(lab)
    assert (header["direction"], header["digests_taken_at"]) == ("pull", "arrival")
    assert header["ssh"]["host_key"] == sshd.host_fingerprint
    assert "path" not in header["source"]
    assert found["sda"]["sha256"] == hashlib.sha256(memory.read_bytes()).hexdigest()
    assert (found["sda"]["capture"]["shell_command"], found["sda"]["capture"]["exit_status"]) == (line, 0)
    assert stored(lab, "sda.stderr") == b"slow\n"
    assert lab.run("verify", "vault").code == 0


FAR_ENDS: dict[str, tuple[str, dict[str, object]]] = {
    "fails": ("printf part; exit 7", {"exit_status": 7, "end": "end-of-data"}),
    "is killed": ("printf part; kill -9 $$", {"end": "end-of-data", "exit_status": None, "signal": None}),
    "loses its link": ("printf part; kill -9 $PPID; sleep 2", {"end": "link-lost"}),
}


@pytest.mark.parametrize("name", FAR_ENDS)
def test_a_far_command_that_does_not_end_well_is_started_once_and_kept_in_part(lab: Lab, sshd: Sshd, name: str) -> None:
    line, facts = FAR_ENDS[name]
    counted = f"echo x >> {shlex.quote(str(lab.folder / 'starts'))}; {line}"
    done = lab.run("pull", f"ssh://{sshd.user}@127.0.0.1:{sshd.port}", "vault", *ITEM, *far(sshd), "--command", counted)
    assert done.code == 3, done
    assert b"part".startswith(stored(lab, "output"))
    capture = entries(lab)["output"]["capture"]
    assert {key: capture.get(key) for key in facts} == facts
    assert (lab.folder / "starts").read_text() == "x\n"


def test_words_reach_a_far_program_as_they_were_typed(lab: Lab, sshd: Sshd) -> None:
    words = ("printf", "%s|", "a  b", "$HOME", "*")
    done = lab.run("pull", f"{sshd.user}@127.0.0.1", "vault", *ITEM, *far(sshd), "--exec", *words, "--")
    assert done.code == 0, done
    assert stored(lab, "output") == b"a  b|$HOME|*|"


@pytest.mark.parametrize("source", ["host:/path", "/dev/sda"])
def test_a_path_is_no_machine(lab: Lab, source: str) -> None:
    done = lab.run("pull", source, "vault", *ITEM, "--sign-key", "ana", "--command", "true")
    assert (done.code, "a command needs a machine" in done.err) == (2, True), done


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]) -> Iterator[Sshd]:
    folder = tmp_path_factory.mktemp("talkative")
    make_key(folder / "host_ed25519")
    greeting = 'ForceCommand echo Welcome; eval "$SSH_ORIGINAL_COMMAND"\n'
    with running_sshd(folder, require_program("sshd"), greeting) as running:
        yield running


def test_a_greeting_of_the_shell_is_said_and_stated(lab: Lab, talkative: Sshd) -> None:
    done = lab.run("pull", f"{talkative.user}@127.0.0.1", "vault", *ITEM, *far(talkative), "--command", "printf x")
    assert done.code == 0, done
    assert "prints 8 bytes before each command, which begin: Welcome" in done.err
    assert any("prints 8 bytes before each command" in note for note in lab.header()["notes"])
    assert stored(lab, "output") == b"Welcome\nx"


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]) -> Iterator[Sshd]:
    folder = tmp_path_factory.mktemp("bound")
    make_key(folder / "host_ed25519")
    (folder / "preamble").write_bytes(PREAMBLE)
    with running_sshd(folder, require_program("sshd"), f"ForceCommand cat {folder}/preamble\n") as running:
        yield running


def test_a_key_that_runs_evidencesync_there_is_told_that_it_runs_nothing_else(lab: Lab, bound: Sshd) -> None:
    done = lab.run("pull", f"{bound.user}@127.0.0.1", "vault", *ITEM, *far(bound), "--command", "printf x")
    assert done.code == 20, done
    assert "runs evidencesync for this key, and no other command" in done.err


# What a capture has left in a vault.


def stored_segments(folder: Path) -> list[int]:
    """The lengths of the segments of a capture that the vault has stored."""
    lengths = []
    for path in folder.glob("**/journal"):
        with path.open("rb") as journal:
            lengths += [record.length for record in read_journal(journal) if isinstance(record, JournaledSegment)]
    return lengths


def left_behind(lab: Lab, line: str, *more: str) -> None:
    """A capture whose program is killed when the vault has stored some of it."""
    lab.write("memory", os.urandom(12_000_000))
    process = lab.start("push", "--command", line, "vault", *ITEM, "--sign-key", "ana", *more, start_new_session=True)
    incoming = lab.folder / "vault" / "cases" / "2024-017" / "LAPTOP-1" / "incoming"
    wait_until(lambda: len(stored_segments(incoming)) > 1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_what_a_capture_has_left_in_a_vault_is_acquired_as_far_as_it_came(lab: Lab) -> None:
    line = f"cat {shlex.quote(str(lab.folder / 'evidence' / 'memory'))}; exec sleep 1000"
    left_behind(lab, line)
    memory = (lab.folder / "evidence" / "memory").read_bytes()
    assert "of a capture, which cannot be made again: push - with --recover publishes it" in lab.run("clean", "vault").err
    done = lab.run("push", "-", "vault", *ITEM, "--sign-key", "ana", "--recover", "--name", "memory.lime", "--json")
    assert done.code == 3, done
    entry = entries(lab)["memory.lime"]
    data = stored(lab, "memory.lime")
    assert memory.startswith(data)
    assert len(data) > 500_000
    assert (entry["sha256"], entry["flags"]) == (hashlib.sha256(data).hexdigest(), ["unreadable"])
    capture = entry["capture"]
    assert (capture["end"], capture["source"], capture["shell_command"]) == ("link-lost", "standard-output", line)
    assert "exit_status" not in capture
    assert lab.header()["digests_taken_at"] == "arrival"
    assert "what the vault had received when the link was lost for good" in lab.header()["notes"][-1]
    assert lab.run("verify", "vault", "--all-digests").code == 0
    assert lab.run("restore", "vault", "copy", *ITEM).code == 0
    assert os.listdir(lab.folder / "vault" / "cases" / "2024-017" / "LAPTOP-1" / "incoming") == []
    again = lab.run("push", "-", "vault", *ITEM, "--sign-key", "ana", "--recover")
    assert (again.code, "no capture has left anything" in again.err) == (10, True), again


def test_what_a_power_cut_has_damaged_of_what_was_left_ends_it_there(lab: Lab) -> None:
    line = f"cat {shlex.quote(str(lab.folder / 'evidence' / 'memory'))}; exec sleep 1000"
    left_behind(lab, line)
    (content,) = (lab.folder / "vault").glob("cases/*/*/incoming/*/contents/00000000")
    first = stored_segments(lab.folder / "vault")[0]
    with content.open("r+b") as file:
        file.seek(first + 10)
        file.write(b"elsewhere!")
    done = lab.run("push", "-", "vault", *ITEM, "--sign-key", "ana", "--recover")
    assert done.code == 3, done
    assert "from the first damaged byte on stay in the staging area" in done.err
    assert stored(lab, "output") == (lab.folder / "evidence" / "memory").read_bytes()[:first]
    assert content.exists()
    assert lab.run("verify", "vault", "--all-digests").code == 0


@pytest.mark.parametrize("more", [("--command", "true"), ("--expect-bytes", "1"), ("--idle-timeout", "5")])
def test_recover_reads_nothing_but_what_was_left(lab: Lab, more: tuple[str, ...]) -> None:
    done = lab.run("push", "-", "vault", *ITEM, "--sign-key", "ana", "--recover", *more)
    assert (done.code, "what has come already" in done.err) == (2, True), done


def test_recover_is_for_a_vault_on_this_machine(lab: Lab) -> None:
    done = lab.run("push", "-", "nobody@127.0.0.1:/srv/vault", *ITEM, "--sign-key", "ana", "--recover")
    assert (done.code, "a vault on this machine" in done.err) == (2, True), done
