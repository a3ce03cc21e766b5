from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Annotated

import pytest
import typer

from evidencesync.cli import app as whole
from evidencesync.cli.command import Run, command
from evidencesync.cli.console import Console
from evidencesync.cli.guard import guard
from evidencesync.errors import EvidenceSyncError
from evidencesync.exit_codes import ExitCode
from evidencesync.protocol.failures import all_errors


def _raising(error: BaseException) -> Callable[[], ExitCode]:
    def work() -> ExitCode:
        raise error

    return work


def _every_error() -> list[type[EvidenceSyncError]]:
    errors = [error for error in all_errors() if error.__module__ == "evidencesync.errors"]
    assert len(errors) > 25
    return errors


@pytest.mark.parametrize("error", _every_error(), ids=lambda error: error.__name__)
def test_every_error_ends_with_its_own_exit_code(error: type[EvidenceSyncError], capfd: pytest.CaptureFixture[str]) -> None:
    assert guard(Console(as_json=True), _raising(error("it happened"))) == error.exit_code
    said = json.loads(capfd.readouterr().out)["error"]
    assert (said["code"], said["slug"], said["message"]) == (error.exit_code, error.slug, "it happened")


def test_ctrl_c_is_130(capfd: pytest.CaptureFixture[str]) -> None:
    assert guard(Console(), _raising(KeyboardInterrupt())) == 130
    assert capfd.readouterr().err.startswith("error: interrupted\n")


def test_a_defect_is_1_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert guard(Console(), _raising(ZeroDivisionError("oops\x1b[2J"))) == 1
    error, hint = capfd.readouterr().err.splitlines()
    assert error == r"error: ZeroDivisionError: oops\x1b[2J"
    assert hint.startswith("hint: This is a defect")


@dataclasses.dataclass(frozen=True)
class Group:
    needed: Annotated[str, typer.Option("--needed")]
    given: Annotated[int, typer.Option("--given")] = 7


def _program(seen: list[object]) -> typer.Typer:
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)

    def act(
        run: Run, name: Annotated[str, typer.Argument()], group: Group, late: Annotated[bool, typer.Option("--late")] = False
    ) -> ExitCode:
        """Does it."""
        seen.extend([run.console.as_json, name, group, late])
        return ExitCode.GAPS

    command(app, "act", "act x")(act)
    return app


def test_an_option_that_is_given_twice_is_warned_about(private_home: object, capfd: pytest.CaptureFixture[str]) -> None:
    assert whole.main(["list", "nowhere", "--case", "A", "--case", "B", "-v", "-v"]) == 10
    assert capfd.readouterr().err.count("warning: --case was given more than once: the last one counts\n") == 1


def test_a_group_stands_for_its_options(private_home: object) -> None:
    seen: list[object] = []
    with pytest.raises(SystemExit) as left:
        _program(seen)(["x", "--needed", "y", "--late", "--json"])
    assert left.value.code == 3
    assert seen == [True, "x", Group("y", 7), True]


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["push"],
        ["push", "a", "b", "--case"],
        ["verify", "v", "--acquisition", "many"],
        ["list", "v", "--no-such-option"],
        ["trust", "x"],
    ],
)
def test_a_command_line_that_makes_no_sense_is_2(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert whole.main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "\nhint: " in err
    assert "See: evidencesync " in err
    assert whole.main([*arguments, "--json"]) == 2
    assert json.loads(capfd.readouterr().out)["error"]["slug"] == "usage"


def test_nothing_at_all_shows_the_help_and_is_2(capfd: pytest.CaptureFixture[str]) -> None:
    assert whole.main([]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "Usage: evidencesync" in err


def test_what_a_user_typed_is_shown_without_its_control_characters(capfd: pytest.CaptureFixture[str]) -> None:
    assert whole.main(["\x1b[31mred"]) == 2
    assert "\x1b" not in capfd.readouterr().err
