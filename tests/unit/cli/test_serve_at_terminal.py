"""A person who lands in `serve`, by a login with a key that may only push, is told so at once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evidencesync.serve import serving
from tests.support.bench_of_evidence import make_bench


@pytest.mark.parametrize("what", [("--vault",), ("--source",), ("--config", "none", "--vault")])
def test_serve_does_not_wait_for_a_person(what: tuple[str, ...]) -> None:
    near, far = os.openpty()
    try:
        command = [sys.executable, "-m", "evidencesync", "serve", *what, "/nowhere"]
        done = subprocess.run(command, stdin=far, capture_output=True, check=False)
    finally:
        os.close(near)
        os.close(far)
    assert (done.returncode, done.stdout) == (2, b"")
    error, hint = done.stderr.decode().splitlines()
    assert error == "error: this is the other end of a push or a pull, and it has nothing to say to a person"
    assert "your key may only push" in hint


@pytest.mark.parametrize("what", ["--vault", "--source"])
def test_a_person_who_has_no_terminal_is_told_what_this_is(what: str, tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    if what == "--vault":
        make_bench(tmp_path / "served")
        served /= "vault"
    with start(what, served, SSH_CONNECTION="192.0.2.1 50000 192.0.2.2 22") as process:
        said = read_line(process)
    assert "nothing to say to a person" in said
    assert "your key may only push" in said
    assert "evidencesync push SOURCE VAULT" in said


@pytest.mark.parametrize("environment", [{}, {"SSH_CONNECTION": "a", "SSH_ORIGINAL_COMMAND": "evidencesync serve --vault x"}])
def test_a_client_is_not_taken_for_a_person(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.delenv("SSH_ORIGINAL_COMMAND", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(serving, "_PERSON_SECONDS", 0.0)
    ours, theirs = os.pipe()
    sink = os.open(os.devnull, os.O_WRONLY)
    link = serving.StdioLink(ours, sink)
    link._notify_login()
    assert capfd.readouterr().err == ""
    os.write(theirs, b"x")
    monkeypatch.setenv("SSH_CONNECTION", "a")
    monkeypatch.delenv("SSH_ORIGINAL_COMMAND", raising=False)
    assert link.read() == b"x"  # it speaks
    assert capfd.readouterr().err == ""
    link.close()
    for descriptor in (ours, theirs):
        os.close(descriptor)


@contextlib.contextmanager
def start(what: str, served: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "evidencesync", "serve", what, str(served)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe, env={**kept, **environment}) as process:
        try:
            yield process
        finally:
            process.kill()


def read_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stderr is not None
    return process.stderr.readline().decode()
