"""A remote command that ends before its first byte: that there is no evidencesync is told apart from one that fails."""

from __future__ import annotations

import pytest

from evidencesync.connection.not_begun import not_started
from evidencesync.errors import ConnectError, NoRemoteError
from evidencesync.exit_codes import ExitCode
from evidencesync.ssh.explain import explain_no_output


@pytest.mark.parametrize(
    ("status", "stderr"),
    [
        (127, "bash: line 1: evidencesync: command not found"),
        (127, ""),
        (126, "sh: 1: evidencesync: Permission denied"),
        (1, "evidencesync: Command not found."),  # csh
    ],
)
def test_no_evidencesync_there_has_a_slug_of_its_own(status: int, stderr: str) -> None:
    error = explain_no_output(status, stderr)
    assert (type(error), error.slug, error.exit_code) == (NoRemoteError, "no-remote", ExitCode.CONNECT)
    assert stderr in error.message
    assert "--remote-command" in (error.hint or "")


@pytest.mark.parametrize(("status", "stderr"), [(2, "error: the settings cannot be read"), (1, ""), (None, ""), (255, "x")])
def test_one_that_fails_before_its_first_word_is_not_called_missing(status: int | None, stderr: str) -> None:
    error = explain_no_output(status, stderr)
    assert (type(error), error.slug) == (ConnectError, "cannot-connect")


def test_another_program_that_answers_is_no_evidencesync() -> None:
    assert not_started(b"This account is currently not available.\n", "x").slug == "no-remote"
    assert not_started(b" \n", "x").slug == "cannot-connect"


def test_a_greeting_hides_neither_the_status_nor_the_reason_of_the_shell() -> None:
    error = not_started(b"Welcome!\n", "x", "with exit status 127 (stderr: bash: evidencesync: command not found)")
    assert error.slug == "no-remote"
    assert all(part in error.message for part in ("Welcome!", "exit status 127", "command not found"))


def test_one_that_may_not_be_run_is_there() -> None:
    error = explain_no_output(126, "sh: 1: evidencesync: Permission denied")
    assert "can't be run" in error.message
    assert "allowed" in (error.hint or "")
