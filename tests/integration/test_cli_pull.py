"""Pulls over a real SSH server: the far end started by the remote command, or as a forced command."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.cli_program import ITEM, Done, Lab, far_program, schema_errors, started_program
from tests.support.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    made.write("notes.txt", b"hello")
    made.write("folder/image", os.urandom(900_000))
    return made


def options(sshd: Sshd) -> tuple[str, ...]:
    return (
        "--sign-key",
        "ana",
        "-i",
        str(sshd.identity),
        "-p",
        str(sshd.port),
        "-F",
        "none",
        "--known-hosts",
        str(sshd.known_hosts),
    )


def source_of(lab: Lab, sshd: Sshd, path: str = "evidence") -> str:
    return f"{sshd.user}@127.0.0.1:{lab.folder}/{path}"


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_pull_through_a_real_ssh_server(lab: Lab, sshd: Sshd) -> None:
    arguments = (
        "pull",
        source_of(lab, sshd),
        "vault",
        *ITEM,
        *options(sshd),
        "--remote-command",
        far_program(),
        "--note",
        "taken at night",
        "--detail",
        "seal_number=4711",
    )
    first = lab.run(*arguments, "--json")
    assert first.code == 0, first
    assert schema_errors(first.document, "pull-output") == []
    assert first.document["wire_received"] > 900_000 > first.document["wire_sent"]
    header, receipt = lab.header(1), json.loads((lab.acquisition(1) / "receipt.json").read_text())
    assert (header["direction"], header["digests_taken_at"], header["notes"]) == ("pull", "source", ["taken at night"])
    assert (header["ssh"]["port"], header["ssh"]["host_key"]) == (sshd.port, sshd.host_fingerprint)
    assert header["source"]["path"] == str(lab.folder / "evidence")
    assert abs(float(header["clock"]["peer_offset_seconds"])) < 60
    assert receipt["host_keys"] == {"receiver": None, "sender": sshd.host_fingerprint}
    assert receipt["lookup"] == "item"
    assert json.loads((lab.acquisition(1) / "acquired.json").read_text())["details"]["seal_number"] == "4711"
    kept = Path(first.document["receipts"])
    assert (kept / "manifest.jsonl").read_bytes() == (lab.acquisition(1) / "manifest.jsonl").read_bytes()
    assert abs(first.document["source_clock_ahead_seconds"]) < 60
    lab.write("notes.txt", b"changed")
    second = lab.run(*arguments)
    assert second.code == 0, second
    assert "acquisition 2: published, complete" in second.out
    third = lab.run(*arguments, "--json")
    assert (third.code, third.document["literal_bytes"], third.document["files"]) == (0, 0, 2)
    assert lab.run("verify", "vault").code == 0
    assert lab.run("receipts", "check", "--vault", "vault").code == 0


def test_a_pull_from_this_machine_takes_no_source_that_holds_the_vault(lab: Lab, sshd: Sshd) -> None:
    """As a push does not: what is written would be read, and the source would change while it is read."""
    for place, said in (("", "lie one inside the other"), ("vault/cases", "lie one inside the other")):
        done = lab.run(
            "pull", source_of(lab, sshd, place), "vault", *ITEM, *options(sshd), "--remote-command", far_program(), "--json"
        )
        assert (done.code, done.error["slug"]) == (2, "usage"), done
        assert said in done.error["message"]
    beside = lab.run("pull", source_of(lab, sshd), "vault", *ITEM, *options(sshd), "--remote-command", far_program())
    assert beside.code == 0, beside
    assert lab.run("verify", "vault").code == 0


def test_a_forced_command_offers_one_path_and_nothing_else(lab: Lab, tmp_path: Path, sshd: Sshd) -> None:
    identity = lab.make_key("visitor")
    offered = lab.folder / "evidence"
    (offered / "out").symlink_to("/etc")
    before = sshd.authorized_keys.read_text()
    key = identity.with_name("visitor.pub").read_text()
    sshd.authorized_keys.write_text(f'{before}restrict,command="{far_program()} serve --source {offered}" {key}')
    try:
        visitor = (*options(sshd), "-i", str(identity))

        def pull(path: str) -> Done:
            return lab.run("pull", f"{sshd.user}@127.0.0.1:{path}", "vault", *ITEM, *visitor, "--json")

        for asked, code, slug in (
            ("/etc", 10, "not-there"),
            (f"{offered}/out", 10, "not-there"),
            (f"{offered}/out/passwd", 10, "not-there"),
            (f"{offered}/../ana", 40, "path-escape"),
            (f"{lab.folder}", 10, "not-there"),
            (f"{offered}/no-such", 10, "not-there"),
        ):
            refused = pull(asked)
            assert (refused.code, refused.error["slug"]) == (code, slug), (asked, refused)
        assert not lab.acquisition().exists()
        part, whole = pull(f"{offered}/folder"), pull("/")
        assert (part.code, part.document["files"]) == (0, 1), part
        assert (whole.code, whole.document["files"]) == (0, 2), whole
        pushed = lab.run("push", "evidence", f"{sshd.user}@127.0.0.1:{lab.folder}/vault", *ITEM, *visitor, "--json")
        assert (pushed.code, pushed.error["slug"]) == (20, "cannot-connect"), pushed  # what is offered takes nothing
        assert pushed.error["message"] == "a vault was asked for, and this server serves a source"
        sshd.authorized_keys.write_text(f'{before}restrict,command="{far_program()} serve --vault {lab.folder}/vault" {key}')
        pulled = pull(str(offered))
        assert (pulled.code, pulled.error["message"]) == (20, "a source was asked for, and this server serves a vault")
        assert "authorized_keys" in pulled.error["hint"]
    finally:
        sshd.authorized_keys.write_text(before)


def test_what_cannot_be_read_there_ends_with_3(lab: Lab, sshd: Sshd) -> None:
    lab.write("secret", b"secret").chmod(0)
    drop = (
        "import ctypes, os, sys; p = ctypes.CDLL(None).prctl; [p(24, c, 0, 0, 0) for c in (1, 2)]; "
        "os.execvp(sys.argv[1], sys.argv[1:])"
    )
    remote = f"{shlex.quote(sys.executable)} -c {shlex.quote(drop)} {started_program()}"
    done = lab.run("pull", source_of(lab, sshd), "vault", *ITEM, *options(sshd), "--remote-command", remote, "--json")
    assert (done.code, done.document["verdict"], done.document["flags"]) == (3, "gaps", {"unreadable": 1}), done
    assert [(found["flag"], found["path"]) for found in done.document["flagged"]] == [("unreadable", "secret")]
    assert lab.run("verify", "vault").code == 0


@pytest.mark.parametrize("victim", ["pull", "serve"])
def test_whichever_end_is_killed_the_next_run_goes_on(lab: Lab, sshd: Sshd, victim: str) -> None:
    lab.write("large", os.urandom(24_000_000))
    pid = lab.folder / "pid"
    remote = f"sh -c 'echo $$ > {pid}; exec \"$@\"' sh {started_program()}"
    arguments = ("pull", source_of(lab, sshd), "vault", *ITEM, *options(sshd), "--remote-command", remote, "--json")
    running = lab.start(*arguments, "--limit-rate", "10M", "--retries", "0")
    staged = lab.folder / "vault" / "cases" / "2024-017" / "LAPTOP-1" / "incoming"
    wait_until(lambda: sum(file.stat().st_size for file in staged.rglob("*") if file.is_file()) > 8_000_000)
    far = int(pid.read_text())
    os.kill(running.pid if victim == "pull" else far, signal.SIGKILL)
    out, err = running.communicate(timeout=PATIENCE_SECONDS)
    if victim == "serve":
        assert running.returncode == 23, (out, err)
        assert "Go on with: evidencesync pull" in json.loads(out)["error"]["hint"]
    wait_until(lambda: not Path(f"/proc/{far}").exists())  # the other end does not stay behind
    assert not lab.acquisition().exists()
    again = lab.run(*arguments)
    assert again.code == 0, again
    assert again.document["reused_bytes"] > 4_000_000
    assert again.document["continued"] == 1
    assert lab.run("verify", "vault").code == 0


def test_an_expert_checks_a_pull_with_ssh_keygen_alone(lab: Lab, sshd: Sshd) -> None:
    done = lab.run("pull", source_of(lab, sshd), "vault", *ITEM, *options(sshd), "--remote-command", far_program())
    assert done.code == 0, done
    folder = lab.acquisition()
    trusted = lab.folder / "trusted"
    vault_key = (lab.folder / "vault" / "vault_key.pub").read_text()
    trusted.write_text(f"ana@lab {(lab.folder / 'ana.pub').read_text()}vault {vault_key}")
    for who, namespace, name in (
        ("ana@lab", "manifest", "manifest.jsonl"),
        ("ana@lab", "custody", "acquired.json"),
        ("vault", "receipt", "receipt.json"),
        ("vault", "custody", "received.json"),
    ):
        command: list[str | Path] = [
            "ssh-keygen",
            "-Y",
            "verify",
            "-f",
            trusted,
            "-I",
            who,
            "-n",
            f"{namespace}@evidencesync",
            "-s",
            f"{folder / name}.sig",
        ]
        subprocess.run(command, input=(folder / name).read_bytes(), check=True, capture_output=True)
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder, check=True)


def test_a_pull_needs_a_remote_source_and_a_local_vault(lab: Lab) -> None:
    sign = ("--sign-key", "ana", "--json")
    for source, vault in (("evidence", "vault"), ("host:/evidence", "host:/vault"), ("host:", "vault")):
        refused = lab.run("pull", source, vault, *ITEM, *sign)
        assert refused.code == 2, refused
    assert lab.run("pull", "host:/evidence", "no-vault", *ITEM, *sign).code == 10
    for arguments in ((), ("--vault", "vault", "--source", "evidence"), ("--source", "evidence", "--listen", "127.0.0.1:0")):
        assert lab.run("serve", *arguments).code == 2


def test_a_pull_refuses_what_it_could_not_keep_to(lab: Lab) -> None:
    (lab.folder / "list").write_text("a\n")
    sign = ("--sign-key", "ana", "--json")
    for refused in (
        ("--files-from", "list"),
        ("--agentless", "--one-file-system"),
        ("--itemize",),
        ("--dry-run", "--files-from", "list"),
    ):
        done = lab.run("pull", "host:/evidence", "vault", *ITEM, *sign, *refused)
        assert done.code == 2, done
