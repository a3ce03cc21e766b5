"""A clock that shows a time that nothing can count in: every command says so, and nothing calls it a defect."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.cli.app import main
from evidencesync.exit_codes import ExitCode
from evidencesync.files.shortages import unexpected
from tests.conftest import find_program
from tests.integration.cli_program import ITEM, Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    made.write("notes.txt", b"hello")
    return made


@pytest.mark.parametrize(
    ("date", "arguments"),
    [
        ("2300-01-01 00:00:00", ("list", "vault")),
        ("9999-12-31 23:59:59", ("serve", "--vault", "vault")),
        ("1960-01-01 00:00:00", ("push", "evidence", "vault", *ITEM, "--sign-key", "ana")),
    ],
)
def test_a_command_names_the_clock(lab: Lab, date: str, arguments: tuple[str, ...]) -> None:
    command = [find_program("faketime"), "-f", f"@{date}", *lab.command(*arguments)]
    # Where the tests themselves run under faketime, this one takes its place.
    environment = {name: value for name, value in lab.environment.items() if name != "LD_PRELOAD" and "FAKETIME" not in name}
    with lab.start(command=command, env=environment) as program:
        _, err = program.communicate()
    assert program.returncode == 2, err
    assert b"this machine's clock shows " in err
    assert b"Set the clock" in err
    assert b"defect" not in err


def _too_late() -> int:
    raise OverflowError("timestamp too large to convert to C _PyTime_t")


@pytest.mark.parametrize("clock", [_too_late, lambda: -1])
def test_a_clock_that_is_set_to_such_a_time_in_the_middle_is_no_defect(
    clock: Callable[[], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(time, "time_ns", clock)
    said = unexpected(OverflowError("timestamp too large to convert to C _PyTime_t"))
    assert (said.slug, said.exit_code) == ("clock", ExitCode.USAGE)
    assert main(["list", "no-vault"]) == ExitCode.USAGE
    assert "clock" in capsys.readouterr().err


def test_a_sound_clock_hides_no_defect() -> None:
    assert unexpected(OverflowError("x")).slug == "internal-error"
