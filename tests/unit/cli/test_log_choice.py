"""A run with a log writes there that it begins and how it ends, whatever ends it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.cli.command import Run
from evidencesync.cli.console import Console
from evidencesync.cli.log_choice import LogPlaces, logged
from evidencesync.cli.settings import LoadedSettings, Settings
from evidencesync.errors import LinkLostError, UsageError
from evidencesync.exit_codes import ExitCode


def run_with(log: Path | str | None, work: Callable[[Run], ExitCode], settings: Settings | None = None) -> ExitCode:
    run = Run(Console(), LoadedSettings(settings or Settings()))
    return logged(run, None if log is None else str(log), "push", work, LogPlaces([]), of={"case": "C", "item": None})


def events(log: Path) -> list[tuple[str, int | None, str | None]]:
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    return [(line["event"], line.get("code"), line.get("slug")) for line in lines]


def test_the_code_of_a_run_is_the_last_thing_in_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert run_with(log, lambda _: ExitCode.GAPS) is ExitCode.GAPS
    assert events(log) == [("begun", None, None), ("ended", 3, None)]


@pytest.mark.parametrize(
    ("error", "code", "slug"),
    [
        (LinkLostError("gone"), 23, "link-lost"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("a defect"), 1, "internal-error"),
    ],
)
def test_what_ends_a_run_is_in_its_log_and_is_raised(tmp_path: Path, error: BaseException, code: int, slug: str) -> None:
    log = tmp_path / "log"

    def work(_: Run) -> ExitCode:
        raise error

    with pytest.raises(type(error)):
        run_with(log, work)
    assert events(log) == [("begun", None, None), ("refused", code, slug), ("ended", code, None)]


def test_without_a_log_the_run_is_the_same(tmp_path: Path) -> None:
    def work(run: Run) -> ExitCode:
        run.events.record("link-lost")
        return ExitCode.COMPLETE

    assert run_with(None, work) is ExitCode.COMPLETE
    assert list(tmp_path.iterdir()) == []


def test_a_system_without_a_log_is_said_before_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def connected(_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("evidencesync.connection.event_sinks.SystemSink._connected", connected)
    for typed, settings in (("syslog", None), (None, Settings(log="journald"))):
        with pytest.raises(UsageError, match="takes nothing"):
            run_with(typed, lambda _: pytest.fail("it ran"), settings)
