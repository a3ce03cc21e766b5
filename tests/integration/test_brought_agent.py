"""`pull --bring-agent`: a bundle is brought to the machine that is read, and nothing of it stays, whatever ends the pull."""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli_program import ITEM, TIMEOUT_SECONDS, Done, Lab, schema_errors, started_program
from tests.integration.conftest import Sshd
from tests.support.key_pairs import write_key_pair
from tests.support.patience import wait_until
from tests.support.small_bundle import FOLDER, small_bundle

READS = f'exec {started_program()} "$@"'


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    made.write("log", b"what happened\n" * 100)
    return made


def words(lab: Lab, sshd: Sshd, *more: str | Path) -> list[str]:
    source = sshd.address(f"{lab.folder}/evidence").display()
    reach = ("-i", sshd.identity, "--known-hosts", sshd.known_hosts, "-F", "none", "--sign-key", "ana")
    return [str(word) for word in ("pull", source, "vault", *ITEM, *reach, "--bring-agent", lab.folder / "agent", *more)]


def pull(lab: Lab, sshd: Sshd, program: str, *more: str | Path, key: Path | None = None) -> Done:
    bundle = small_bundle(lab.folder / "bundle", program, key=key)
    return lab.run(*words(lab, sshd, "--bundle", bundle, *more))


def document(lab: Lab, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((lab.acquisition() / name).read_text())
    return found


def test_a_brought_agent_reads_the_source_is_named_in_the_documents_and_is_gone_afterwards(lab: Lab, sshd: Sshd) -> None:
    write_key_pair(lab.folder / "builder", "builder")
    done = pull(lab, sshd, READS, key=lab.folder / "builder")
    assert done.code == 0, done.err
    assert (lab.acquisition() / "data/log").read_bytes() == (lab.folder / "evidence/log").read_bytes()
    agent = lab.header()["agent"]
    assert agent["path"] == f"{lab.folder}/agent/{FOLDER}"
    assert agent["signed_by"].startswith("SHA256:")
    assert document(lab, "receipt.json")["agent"] == agent
    assert schema_errors(lab.header(), "manifest-line") == []
    assert schema_errors(document(lab, "receipt.json"), "receipt") == []
    assert "the agent is removed again" in done.err
    assert not (lab.folder / "agent").exists()
    shown = lab.run("show", "vault", *ITEM)
    assert agent["sums_sha256"] in shown.out
    assert lab.run("verify", "vault").code == 0


def test_a_folder_that_is_there_already_is_left_alone(lab: Lab, sshd: Sshd) -> None:
    (lab.folder / "agent").mkdir()
    (lab.folder / "agent/theirs").touch()
    done = pull(lab, sshd, READS)
    assert (done.code, "cannot be made" in done.err) == (1, True)
    assert (lab.folder / "agent/theirs").exists()
    assert not lab.acquisition().exists()


def test_a_bundle_that_is_not_whole_is_not_brought(lab: Lab, sshd: Sshd) -> None:
    bundle = small_bundle(lab.folder / "bundle", READS, more={"packages.py": b""})
    done = lab.run(*words(lab, sshd, "--bundle", bundle))
    assert (done.code, "packages.py is gone, or not listed" in done.err) == (31, True)
    assert not (lab.folder / "agent").exists()


@pytest.mark.parametrize(
    ("program", "code", "said"),
    [
        ("exit 1", 20, "evidencesync"),
        ("case $1 in serve) echo broken >&2; exit 3;; esac", 20, "broken"),
    ],
)
def test_an_agent_that_does_not_work_is_removed_too(lab: Lab, sshd: Sshd, program: str, code: int, said: str) -> None:
    done = pull(lab, sshd, program)
    assert (done.code, said in done.err) == (code, True), done.err
    assert not (lab.folder / "agent").exists()


def test_an_interrupt_removes_it_as_well(lab: Lab, sshd: Sshd) -> None:
    begun = lab.folder / "begun"
    bundle = small_bundle(lab.folder / "bundle", f"touch {shlex.quote(str(begun))}; exec sleep {TIMEOUT_SECONDS}")
    process = lab.start(*words(lab, sshd, "--bundle", bundle))
    wait_until(begun.exists)
    assert (lab.folder / "agent").exists()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 130, err.decode()
    assert not (lab.folder / "agent").exists()


def test_what_cannot_be_removed_is_named_with_the_command_that_does(lab: Lab, sshd: Sshd) -> None:
    """While the agent works, the account's key stops being accepted."""
    letters_in = sshd.authorized_keys.read_bytes()
    try:
        done = pull(lab, sshd, f"rm {shlex.quote(str(sshd.authorized_keys))}; exit 1")
    finally:
        sshd.authorized_keys.write_bytes(letters_in)
    assert done.code == 20
    assert f"the agent may still lie in {sshd.user}@127.0.0.1:{lab.folder}/agent" in done.err
    assert f"rm -rf -- {lab.folder}/agent" in done.err


def test_a_place_that_runs_no_programs_is_said(lab: Lab, sshd: Sshd) -> None:
    bundle = small_bundle(lab.folder / "bundle", READS)
    refused = lab.run(*words(lab, sshd, "--bundle", bundle, "--bring-agent", "/proc/agent"))
    assert (refused.code, "the agent's folder cannot be made" in refused.err) == (1, True)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--agentless"], "--agentless"),
        (["--dry-run"], "--dry-run"),
        (["--remote-command", "evidencesync"], "--remote-command"),
        (["--bring-agent", "agent"], "whole path"),
        (["--bring-agent", "/"], "whole path"),
        (["--bring-agent", "/tmp/../x"], "whole path"),
        (["--bring-agent", "other:/tmp/x"], "the machine that is read"),
    ],
)
def test_what_makes_no_sense_with_it_is_refused(lab: Lab, sshd: Sshd, more: list[str], said: str) -> None:
    done = pull(lab, sshd, READS, *more)
    assert (done.code, said in done.err) == (2, True), done.err


def test_without_a_bundle_it_is_said_how_one_is_made(lab: Lab, sshd: Sshd) -> None:
    done = lab.run(*words(lab, sshd))
    assert (done.code, "make bundle" in done.err) == (2, True)


def test_the_settings_name_the_bundle(lab: Lab, sshd: Sshd) -> None:
    small_bundle(lab.folder / "bundle", READS)
    (lab.folder / "settings.toml").write_text('bundle = "bundle"\n')
    done = lab.run(*words(lab, sshd), env={"EVIDENCESYNC_CONFIG": str(lab.folder / "settings.toml")})
    assert done.code == 0, done.err
