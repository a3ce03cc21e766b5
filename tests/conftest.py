"""What every test may rely on: a home folder of its own, real programs, and a CI run in which nothing was skipped in silence."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import hypothesis
import pytest

IN_CI: Final = os.environ.get("CI", "").lower() in {"1", "true", "yes"}

# Where distributions keep servers, which a plain user's PATH may not name.
_MORE_FOLDERS: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")

# The only reasons for which a test may be skipped in CI: what the machine below a container cannot be told to have.
ALLOWED_SKIPS: Final = (
    r"the file system has no reflinks",
    r"the file system refuses names that are not UTF-8",
    r"the kernel refuses to mount here",
    r"only where the system has \S+",
)

_skipped = pytest.StashKey[list[str]]()

hypothesis.settings.register_profile("local", deadline=None, print_blob=True)
# In CI the same examples every time, so that a red run is about the change, and can be repeated anywhere.
hypothesis.settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
hypothesis.settings.load_profile("ci" if IN_CI else "local")


@pytest.fixture(autouse=True, scope="session")
def private_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home folder for this run: no test reads or changes the SSH keys, known hosts, agent or settings of whoever runs it."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        for name in os.environ:
            if name.startswith(("XDG_", "EVIDENCESYNC_")) or name in {"SSH_AUTH_SOCK", "SSH_ASKPASS"}:
                patch.delenv(name)
        yield home


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], str]:
    """Gives the path of a program that a test needs. Where it is missing the test is skipped; in CI it fails."""
    return find_program


def find_program(name: str) -> str:
    """The path of the program `name`, for fixtures as well."""
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *_MORE_FOLDERS)))
    if found is not None:
        return found
    if IN_CI:
        pytest.fail(f"{name} is not installed, and CI must judge us with it", pytrace=False)
    pytest.skip(f"{name} is not installed")


def pytest_configure(config: pytest.Config) -> None:
    """Makes the place where skips are remembered."""
    config.stash[_skipped] = []


def _remember_skip(config: pytest.Config, report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not any(re.match(allowed, reason) for allowed in ALLOWED_SKIPS):
        config.stash[_skipped].append(f"{report.nodeid}: {reason}")


class _SkipGuard:
    """Collects the skips of a run, from xdist's workers too: their reports pass through the controller's hooks."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        _remember_skip(self._config, report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        _remember_skip(self._config, report)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Watches for skips, but not in xdist's workers: what they skip is counted where it is reported."""
    if not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(_SkipGuard(session.config), "skip-guard")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fails a CI run in which a test was skipped for a reason that is not on the list."""
    if IN_CI and session.config.stash[_skipped] and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Names the skips that CI refuses."""
    skipped = config.stash[_skipped]
    if IN_CI and skipped:
        terminalreporter.section("skipped in CI, and not on the list in tests/conftest.py", red=True, bold=True)
        for line in skipped:
            terminalreporter.write_line(line)
