"""Each shell that has a completion completes commands and options with it, after nothing but `completion install`."""

from __future__ import annotations

import os
import pty
import select
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from tests.integration.cli_program import TIMEOUT_SECONDS, started_program


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell with a home folder of its own, where `evidencesync` can be typed."""
    program = tmp_path / "bin" / "evidencesync"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {started_program()} "$@"\n')
    program.chmod(0o755)
    home = tmp_path / "a home"
    home.mkdir()
    return {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(home), "TERM": "xterm", "LC_ALL": "C"}


def output(environment: dict[str, str], *words: str) -> str:
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=TIMEOUT_SECONDS).stdout


def test_bash(shell: dict[str, str], require_program: Callable[[str], str]) -> None:
    said = output({**shell, "SHELL": require_program("bash")}, "evidencesync", "completion", "install")
    script = "COMP_WORDS=(evidencesync {}); COMP_CWORD={}; _evidencesync_completion evidencesync; echo ${{COMPREPLY[*]}}"

    def completed(words: str) -> list[str]:
        line = f"{said.splitlines()[-1]}; {script.format(words, len(words.split()))}"
        return sorted(output(shell, "bash", "--norc", "-c", line).split())

    assert completed("pu") == ["pull", "push"]
    assert completed("push --exa") == ["--examiner"]
    assert completed("trust re") == ["retire", "revoke"]
    assert completed("push /no-such") == []  # bash itself completes names of files


def test_fish(shell: dict[str, str], require_program: Callable[[str], str], tmp_path: Path) -> None:
    fish = require_program("fish")
    output(shell, "evidencesync", "completion", "install", "fish")
    (tmp_path / "evidence.dd").write_text("")

    def completed(line: str) -> list[str]:
        return [found.split("\t")[0] for found in output(shell, fish, "-c", f"complete -C '{line}'").splitlines()]

    assert completed("evidencesync pu") == ["pull", "push"]
    assert completed("evidencesync push --exa") == ["--examiner"]
    assert completed(f"evidencesync push {tmp_path}/evi") == [f"{tmp_path}/evidence.dd"]


def test_zsh_from_the_first_time_on(shell: dict[str, str], require_program: Callable[[str], str]) -> None:
    zsh = require_program("zsh")
    said = output({**shell, "SHELL": zsh}, "evidencesync", "completion", "install")
    Path(shell["HOME"], ".zshrc").write_text(f"PS1='ready> '\n{said.splitlines()[-1]} -u\n")
    child, terminal = pty.fork()
    if not child:
        os.execve(zsh, ["zsh", "-i"], shell)
    try:
        _wait_for(terminal, b"ready> ")
        os.write(terminal, b"evidencesync push --exami\t")
        _wait_for(terminal, b"ner")
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def _wait_for(terminal: int, text: bytes) -> None:
    shown, end = b"", monotonic() + TIMEOUT_SECONDS
    while text not in shown:
        assert select.select([terminal], [], [], max(0, end - monotonic()))[0], shown
        shown += os.read(terminal, 4096)


def test_a_shell_that_nobody_knows_is_a_usage_error(shell: dict[str, str]) -> None:
    for variable, words, said in (("/bin/tcsh", [], "'tcsh'"), ("", [], "not known which shell"), ("/bin/bash", ["sh"], "'sh'")):
        line = ["evidencesync", "completion", "show", *words]
        done = subprocess.run(line, env={**shell, "SHELL": variable}, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert said in done.stderr
        assert "bash, zsh, fish" in done.stderr


def test_installing_again_replaces_the_file_and_nothing_else(shell: dict[str, str]) -> None:
    for _ in range(2):
        output(shell, "evidencesync", "completion", "install", "bash")
    made = [found.relative_to(shell["HOME"]) for found in Path(shell["HOME"]).rglob("*") if found.is_file()]
    assert made == [Path(".local/share/bash-completion/completions/evidencesync")]
    assert output(shell, "evidencesync", "completion", "show", "bash") == (Path(shell["HOME"]) / made[0]).read_text()
