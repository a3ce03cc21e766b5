"""The command line of a capture: --exec and its words, a push of a command without a SOURCE, and what does not fit."""

from __future__ import annotations

import pytest

from evidencesync.cli.app import main
from evidencesync.cli.capture import SourceChoice, cut_words
from evidencesync.errors import UsageError
from evidencesync.source.command import CommandLine


@pytest.mark.parametrize(
    ("typed", "parsed"),
    [
        (["-", "vault", "--case", "C"], ["-", "vault", "--case", "C"]),
        (["disk.img", "vault"], ["disk.img", "vault"]),
        (["--command", "avml -", "vault"], ["-", "--command", "avml -", "vault"]),
        (["--command=avml", "vault"], ["-", "--command=avml", "vault"]),
        (["--command=avml", "vault", "--name", "-"], ["-", "--command=avml", "vault", "--name", "-"]),
        (["-", "vault", "--command", "avml"], ["-", "vault", "--command", "avml"]),
        (["--exec", "dd", "if=/dev/sda", "--", "vault"], ["-", "--exec", '["dd", "if=/dev/sda"]', "vault"]),
        (["vault", "--exec", "ps", "--", "--name", "ps"], ["-", "vault", "--exec", '["ps"]', "--name", "ps"]),
    ],
)
def test_a_push_of_a_command_is_a_push_of_standard_input_to_the_parser(typed: list[str], parsed: list[str]) -> None:
    assert cut_words(typed, is_push=True) == parsed


def test_a_pull_keeps_its_machine() -> None:
    assert cut_words(["host", "vault", "--exec", "ps", "--"], is_push=False) == ["host", "vault", "--exec", '["ps"]']


def test_words_without_an_end_are_refused_with_the_way_to_write_them() -> None:
    with pytest.raises(UsageError, match="no -- behind") as refused:
        cut_words(["--exec", "ps", "vault"], is_push=True)
    assert "--exec avml /dev/stdout -- VAULT" in str(refused.value.hint)


def test_words_without_an_end_are_no_defect(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", "--exec", "ps", "vault"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --exec has no --")
    assert "defect" not in said


@pytest.mark.parametrize(
    ("choice", "line"),
    [
        (SourceChoice(), None),
        (SourceChoice(shell_command="ps aux | sort"), CommandLine(shell="ps aux | sort")),
        (SourceChoice(words='["ps", "aux", ""]'), CommandLine(words=("ps", "aux", ""))),
    ],
)
def test_what_is_run_is_what_was_typed(choice: SourceChoice, line: CommandLine | None) -> None:
    assert choice.line() == line


@pytest.mark.parametrize(
    "choice",
    [
        SourceChoice(shell_command="a", words='["a"]'),
        SourceChoice(shell_command="a\nb"),
        SourceChoice(shell_command="a" * 5000),
        SourceChoice(words="ps"),
        SourceChoice(words="[]"),
        SourceChoice(words='["a\\u001b"]'),
        SourceChoice(words="[1]"),
    ],
)
def test_a_command_that_no_manifest_could_state_is_refused(choice: SourceChoice) -> None:
    with pytest.raises(UsageError):
        choice.line()


@pytest.mark.parametrize("name", ["a/b", "..", ".", "x" * 250])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be called"):
        SourceChoice(name=name).request()


def test_filters_and_captures_exclude_one_another() -> None:
    with pytest.raises(UsageError, match="filters are not for"):
        SourceChoice(exclude=["*"]).refuse_filters()
    SourceChoice(shell_command="x", name="y", idle_timeout=3).refuse_filters()
    for choice in (SourceChoice(name="x"), SourceChoice(expect_bytes="3"), SourceChoice(idle_timeout=3)):
        with pytest.raises(UsageError, match="is for standard input and for commands"):
            choice.refuse_alone()
