"""A command on this machine: how it ends, and that nothing of it stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evidencesync.errors import UsageError
from evidencesync.source.command import CommandEnd, CommandLine, LocalCommand


def output(command: LocalCommand) -> bytes:
    data = b""
    while part := os.read(command.output, 1000):
        data += part
    return data


@pytest.mark.parametrize(
    ("line", "printed", "said", "end"),
    [
        (CommandLine(shell="echo out; echo err >&2"), b"out\n", b"err\n", CommandEnd(exit_status=0)),
        (CommandLine(shell="exit 7"), b"", b"", CommandEnd(exit_status=7)),
        (CommandLine(shell="kill -9 $$"), b"", b"", CommandEnd(signal=9)),
        (CommandLine(words=("printf", "%s|", "a b", "$HOME", "*")), b"a b|$HOME|*|", b"", CommandEnd(exit_status=0)),
        (CommandLine(shell="cat"), b"", b"", CommandEnd(exit_status=0)),
    ],
)
def test_what_it_prints_and_how_it_ends_is_known(line: CommandLine, printed: bytes, said: bytes, end: CommandEnd) -> None:
    command = LocalCommand(line)
    try:
        assert output(command) == printed
        assert command.end(None) == end
        assert command.errors.taken() == (said, 0)
        assert command.is_over()
    finally:
        command.stop()


@pytest.mark.parametrize("word", ["", "no-such-program", "/etc/passwd", "/etc/passwd/x"])
def test_a_program_that_is_none_is_refused_with_its_name(word: str) -> None:
    with pytest.raises(UsageError, match="cannot run"):
        LocalCommand(CommandLine(words=(word,)))


def test_a_command_that_goes_on_without_output_is_stopped_in_time() -> None:
    command = LocalCommand(CommandLine(shell="exec >&-; sleep 1000"))
    try:
        assert output(command) == b""
        assert command.end(0.05) == CommandEnd(signal=15)
    finally:
        command.stop()


def test_a_command_that_hears_no_signal_and_its_children_end_with_us(tmp_path: Path) -> None:
    line = f"trap '' TERM PIPE; sleep 1000 & echo $! > {tmp_path}/child; echo ready; wait; sleep 1000"
    command = LocalCommand(CommandLine(shell=line))
    assert os.read(command.output, 10) == b"ready\n"
    child = int((tmp_path / "child").read_text())
    command.stop()
    command.stop()
    assert command.is_over()
    await_end_of(child)


def test_a_child_that_hears_no_signal_ends_with_a_command_that_hears_it(tmp_path: Path) -> None:
    line = f"(trap '' TERM PIPE; echo ready; exec sleep 1000) & echo $! > {tmp_path}/child; wait"
    command = LocalCommand(CommandLine(shell=line))
    assert os.read(command.output, 10) == b"ready\n"
    while not (child := (tmp_path / "child").read_text() if (tmp_path / "child").exists() else ""):
        os.sched_yield()
    command.stop()
    await_end_of(int(child))


def test_standard_error_that_others_keep_open_is_not_said_to_have_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evidencesync.source.command.LEFT_OPEN_SECONDS", 0.05)
    os.mkfifo(tmp_path / "end")
    command = LocalCommand(CommandLine(shell=f"echo said >&2; cat {tmp_path}/end >/dev/null & exit 0"))
    try:
        assert output(command) == b""
        assert command.end(None) == CommandEnd(exit_status=0, left_open=True)
    finally:
        command.stop()
        (tmp_path / "end").write_bytes(b"")


def await_end_of(child: int) -> None:
    with pytest.raises(ProcessLookupError):
        while True:  # until the system has taken it away
            os.kill(child, 0)
            if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                raise ProcessLookupError
