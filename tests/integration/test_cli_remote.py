"""The command line over SSH: a real OpenSSH server, and the server of our own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evidencesync import __version__
from tests.integration.cli_program import ITEM, TIMEOUT_SECONDS, Done, Lab, far_program, schema_errors

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd

pytestmark = pytest.mark.usefixtures("measured_processes")  # what is started here is seen nowhere else


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    made.write("notes.txt", b"hello")
    made.write("image", os.urandom(900_000))
    return made


def _ssh_options(sshd: Sshd) -> tuple[str, ...]:
    return ("-i", str(sshd.identity), "-p", str(sshd.port), "-F", "none", "--known-hosts", str(sshd.known_hosts))


def test_a_push_through_a_real_ssh_server(lab: Lab, sshd: Sshd) -> None:
    vault = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
    options = ("--sign-key", "ana", *_ssh_options(sshd), "--remote-command", far_program())
    first = lab.run("push", "evidence", vault, *ITEM, *options, "--json")
    assert first.code == 0, first
    assert schema_errors(first.document, "push-output") == []
    assert first.document["wire_sent"] > 900_000
    lab.write("notes.txt", b"changed")
    second = lab.run("push", "evidence", vault, *ITEM, *options)
    assert second.code == 0, second
    assert f"  next         evidencesync verify {vault} " in second.out
    header = lab.header(2)
    assert (header["direction"], header["ssh"]["port"], header["ssh"]["host_key"]) == ("push", sshd.port, sshd.host_fingerprint)
    assert lab.run("verify", "vault").code == 0


def test_v_says_what_is_run_who_answers_and_what_they_have(lab: Lab, sshd: Sshd) -> None:
    vault = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
    options = ("--sign-key", "ana", *_ssh_options(sshd), "--remote-command", far_program())
    said = lab.run("push", "evidence", vault, *ITEM, *options, "-v")
    assert said.code == 0, said
    lines = [line.removeprefix("info: ") for line in said.err.splitlines() if line.startswith("info: ")]
    assert "debug1:" not in said.err
    [started] = [line for line in lines if line.startswith("starting: ")]
    words = shlex.split(started.removeprefix("starting: "))
    assert words[0] == "ssh"
    assert words[-1].endswith(f"serve --vault {lab.folder}/vault")
    assert str(sshd.identity) in words
    assert [line for line in lines if line.startswith(f"logged in to 127.0.0.1:{sshd.port} as {sshd.user}: host key SHA256:")]
    assert [line for line in lines if line.startswith(f"the other end is evidencesync {__version__}, protocol ")]
    for line in (
        "settings file: none",
        "the vault knows the examiner as ana@lab; this will be acquisition 1",
        "the vault's index knows 0 contents of the case",
        f"receipts are kept in {lab.folder}/home/.local/share/evidencesync/receipts",
    ):
        assert line in lines
    assert "PRIVATE KEY" not in said.err
    assert not [line for line in lab.run("push", "evidence", vault, *ITEM, *options).err.splitlines() if "info:" in line]
    assert "\ndebug: debug1: " in lab.run("push", "evidence", vault, *ITEM, *options, "-vv").err


def test_another_program_is_named_on_the_command_line_in_the_environment_or_in_the_settings(lab: Lab, sshd: Sshd) -> None:
    program = lab.folder / "my ssh" / "ssh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho used >> {shlex.quote(str(lab.folder))}/used\nexec ssh "$@"\n')
    program.chmod(0o755)
    named = f"'{program}' -o ConnectionAttempts=1"
    settings = lab.folder / "settings.toml"
    settings.write_text(f'ssh = "{named}"\n')
    show = ("custody", "show", f"{sshd.user}@127.0.0.1:{lab.folder}/vault", *ITEM, "--sign-key", "ana", *_ssh_options(sshd))
    show = (*show, "--remote-command", far_program())
    assert lab.push().code == 0
    assert lab.run(*show).code == 0
    assert not (lab.folder / "used").exists()
    ways: list[tuple[tuple[str, ...], dict[str, str]]] = [
        (("--ssh", named), {}),
        ((), {"EVIDENCESYNC_SSH": named}),
        (("--config", str(settings)), {}),
    ]
    for arguments, environment in ways:
        done = lab.run(*show, *arguments, env=environment)
        assert done.code == 0, done
        assert (lab.folder / "used").read_text()
        (lab.folder / "used").unlink()
    for wrong in ("", "'", "ssh host", "ssh -N", "ssh -o", "no-such-ssh"):
        assert lab.run(*show, "--ssh", wrong or "''").code == 2, wrong


def test_what_goes_wrong_on_the_way_has_its_own_code(lab: Lab, sshd: Sshd, closed_port: int) -> None:
    vault = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
    push = ("push", "evidence", vault, *ITEM, "--sign-key", "ana", "--json")
    options = (*_ssh_options(sshd), "--remote-command", far_program())
    nobody = lab.make_key("nobody")
    empty = lab.folder / "no_hosts"
    empty.write_bytes(b"")
    cases = [
        (20, ("-p", str(closed_port))),
        (20, ("--remote-command", "no-such-program")),
        (21, ("--known-hosts", str(empty))),
        (22, ("-i", str(nobody))),
        (2, ("--known-hosts", "/dev/null")),
    ]
    for code, changed in cases:
        done = lab.run(*push, *options, *changed)
        said = [f"warning: {changed[0]} was given more than once: the last one counts"]
        assert (done.code, done.err.splitlines()) == (code, said), (changed, done)
        assert schema_errors(done.document, "error-output") == []
    unknown = lab.run(*push, *options, "--known-hosts", str(empty)).error
    assert sshd.host_fingerprint in unknown["message"]
    assert "evidencesync host trust" in unknown["hint"]
    elsewhere = lab.run("push", "evidence", f"{sshd.user}@127.0.0.1:/nowhere", *ITEM, "--sign-key", "ana", *options, "--json")
    assert (elsewhere.code, elsewhere.error["slug"]) == (10, "vault-not-found")
    assert not lab.acquisition().exists()


def _every_far_command(lab: Lab, sshd: Sshd, *options: str) -> list[Done]:
    """A push, a pull and a custody note over sshd."""
    far = f"{sshd.user}@127.0.0.1:{lab.folder}"
    given = (*ITEM, *_ssh_options(sshd), "--sign-key", "ana", "--json", *options)
    note = ("custody", "note", f"{far}/vault", "--text", "x")
    once = ("--retries", "0")
    return [
        lab.run("push", "evidence", f"{far}/vault", *given, *once),
        lab.run("pull", f"{far}/evidence", "vault", *given, *once),
        lab.run(*note, *given),
    ]


@pytest.mark.parametrize(
    ("program", "code", "slugs", "words"),
    [
        ("echo Welcome; no-such-program", 20, {"no-remote"}, ("Welcome", "exit status 127", "no-such-program")),
        ("yes this is a long greeting | head -c 20000; :", 20, {"no-remote"}, ("is not evidencesync", "long greeting")),
        ("echo 1 shell, 2 logs; sleep 60 #", 23, {"link-lost", "session-gone"}, ("has not begun", "1 shell, 2 logs")),
    ],
)
def test_what_answers_in_place_of_evidencesync_is_said_and_not_accused(
    lab: Lab, sshd: Sshd, program: str, code: int, slugs: set[str], words: tuple[str, ...]
) -> None:
    for done in _every_far_command(lab, sshd, "--remote-command", program, "--timeout", "1"):
        assert done.code == code, done
        assert done.error["slug"] in slugs, done
        assert all(word in done.error["message"] for word in words), done
        assert "What has arrived" not in (done.error["hint"] or ""), done


def test_a_proxy_that_does_not_connect_has_let_nothing_arrive(lab: Lab, sshd: Sshd) -> None:
    for proxy, code, slug in (("no-such-program", 20, "cannot-connect"), ("false", 23, "dropped")):
        ssh = ("--ssh", f"ssh -o 'ProxyCommand={proxy} %h %p'")
        for done in _every_far_command(lab, sshd, "--remote-command", far_program(), "--retries", "0", *ssh)[:2]:
            assert (done.code, done.error["slug"]) == (code, slug), done
            assert proxy == "false" or proxy in done.error["message"], done
            assert "arrived" not in (done.error["hint"] or ""), done


def test_a_host_key_is_trusted_only_on_purpose(lab: Lab, sshd: Sshd) -> None:
    server = f"ssh://{sshd.user}@127.0.0.1:{sshd.port}"
    hosts = lab.folder / "hosts"
    trust = ("host", "trust", server, "-F", "none", "--known-hosts", str(hosts))
    for refused in (
        lab.run(*trust, answer="no\n"),
        lab.run(*trust, answer="\n"),
        lab.run(*trust, "--fingerprint", "SHA256:" + "A" * 43),
    ):
        assert refused.code == 21
    assert lab.run(*trust).code == 2
    assert not hosts.exists()
    asked = lab.run(*trust, "--quiet", answer="yes\n")
    assert asked.code == 0
    assert sshd.host_fingerprint in asked.err
    assert "trusted now" in asked.out
    again = lab.run(*trust, "--json").document
    assert schema_errors(again, "host-trust-output") == []
    assert (again["fingerprint"], again["added"]) == (sshd.host_fingerprint, False)
    hosts.unlink()
    assert lab.run(*trust, "--fingerprint", sshd.host_fingerprint).code == 0
    other = lab.make_key("other").with_suffix(".pub").read_text()
    hosts.write_text(f"[127.0.0.1]:{sshd.port} {other}")
    changed = lab.run(*trust, "--yes", "--json")
    assert (changed.code, changed.error["slug"]) == (21, "host-key-changed")
    assert lab.run("host", "trust", "./folder").code == 2


@pytest.fixture
def server(lab: Lab) -> Iterator[tuple[subprocess.Popen[bytes], int, str]]:
    (lab.folder / "authorized").write_bytes((lab.folder / "ana.pub").read_bytes())
    errors = lab.folder / "serve.err"
    with errors.open("wb") as stream:
        process = lab.start(
            "serve", "--vault", "vault", "--listen", "127.0.0.1:0", "--authorized-keys", "authorized", "--json", stderr=stream
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield process, int(json.loads(line)["listening"].rpartition(":")[2]), errors.read_text()
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=TIMEOUT_SECONDS)


def test_our_own_server_says_where_it_listens_and_receives(lab: Lab, server: tuple[subprocess.Popen[bytes], int, str]) -> None:
    process, port, said = server
    assert said.splitlines()[0] == f"listening on 127.0.0.1:{port}"
    assert schema_errors({"listening": f"127.0.0.1:{port}"}, "serve-output") == []
    vault = f"ssh://ana@127.0.0.1:{port}{lab.folder}/vault"
    options = ("-i", "ana", "-F", "none")
    assert lab.run("push", "evidence", vault, *ITEM, *options).code == 21
    assert lab.run("host", "trust", vault, "-F", "none", "--yes").code == 0
    for number in (1, 2):
        done = lab.run("push", "evidence", vault, *ITEM, *options, "--json")
        assert (done.code, done.document["acquisition"]) == (0, number), done
    assert lab.run("restore", vault, "copy", *ITEM, *options).code == 0
    assert (lab.folder / "copy" / "image").read_bytes() == (lab.folder / "evidence" / "image").read_bytes()
    verified = lab.run("verify", vault, *options)
    assert (verified.code, "verdict: PASS" in verified.out) == (0, True), verified
    lab.make_key("eve")
    assert lab.run("push", "evidence", vault, *ITEM, "-i", "eve", "-F", "none").code == 22
    assert lab.run("push", "evidence", vault, *ITEM, *options, "--sign-key", "eve").code == 32
    process.terminate()
    out, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert (process.returncode, out) == (0, b"")
    assert lab.run("verify", "vault").code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_our_own_server_ends_when_it_is_asked_to(number: int, server: tuple[subprocess.Popen[bytes], int, str]) -> None:
    process, _, _ = server
    process.send_signal(number)
    process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0


def test_our_own_server_in_the_background_of_a_script_goes_on_at_a_ctrl_c_for_others(lab: Lab) -> None:
    """A shell without job control has what it starts with `&` ignore SIGINT; SIGTERM ends it."""
    (lab.folder / "authorized").write_bytes((lab.folder / "ana.pub").read_bytes())
    serve = lab.command("serve", "--vault", "vault", "--listen", "127.0.0.1:0", "--authorized-keys", "authorized", "--json")
    process = lab.start(stdin=subprocess.DEVNULL, command=["sh", "-c", 'trap "" INT; exec "$@"', "sh", *serve])
    try:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["listening"].rpartition(":")[2]
        process.send_signal(signal.SIGINT)
        assert lab.run("host", "trust", f"ssh://ana@127.0.0.1:{port}/", "-F", "none", "--yes").code == 0
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0


def test_sessions_that_stand_still_keep_nobody_out_of_our_own_server(
    lab: Lab, server: tuple[subprocess.Popen[bytes], int, str], require_program: Callable[[str], str]
) -> None:
    """More of them than asyncio's own pool has threads, by default four and one for each core."""
    _, port, _ = server
    line = [require_program("ssh"), "-vv", "-F", "none", "-p", str(port), "-i", str(lab.folder / "ana")]
    for option in ("IdentitiesOnly=yes", "BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"):
        line += ["-o", option]
    idle = [
        subprocess.Popen([*line, "ana@127.0.0.1", "x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(min((os.cpu_count() or 1) + 5, 30))
    ]
    try:
        for process in idle:
            assert process.stderr is not None
            assert any(b"exec request accepted" in said for said in process.stderr)
        vault = f"ssh://ana@127.0.0.1:{port}{lab.folder}/vault"
        assert lab.run("host", "trust", vault, "-F", "none", "--yes").code == 0
        done = lab.run("push", "evidence", vault, *ITEM, "-i", "ana", "-F", "none", "--timeout", "50")
        assert done.code == 0, done
    finally:
        for process in idle:
            process.kill()
            process.communicate(timeout=TIMEOUT_SECONDS)
