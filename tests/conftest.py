"""What every test may rely on: a home folder of its own, real programs, and a CI run in which nothing was skipped in silence."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import re
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import hypothesis
import pytest

from evidencesync.errors import EvidenceSyncError
from tests.support.false_clock import take_the_place_of_libfaketime
from tests.support.made_once import make_once
from tests.support.measuring import keep_for_the_chosen, measured, unmeasured
from tests.support.memory_disk import write_into_memory
from tests.support.programs import (
    PACKAGE_IN_REASON,
    PACKAGES,
    WITHOUT,
    find,
    make_path_without,
    path_with_more_folders,
    say_missing,
)
from tests.support.soak import often
from tests.support.spared_disk import spare

if TYPE_CHECKING:
    from tests.support.bench_of_evidence import Bench

IN_CI: Final = os.environ.get("CI", "").lower() in {"1", "true", "yes"}

# The only reasons for which a test may be skipped in CI: what the machine below a container cannot be told to have.
ALLOWED_SKIPS: Final = (
    r"the file system has no reflinks",
    r"the file system refuses names that are not UTF-8",
    r"the kernel refuses to mount here",
    r"only where the system has \S+",
    r"the bundle's packages are not here",
)

# What a child's disposition is inherited from; a test that sends one of them to a child expects what a user at a terminal sees.
_INHERITED_SIGNALS: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD)

# What a terminal, or whoever started this run, says about how output is to look, and what Python is to do.
_OTHER_PEOPLES_WISHES: Final = (
    "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TERM", "COLORTERM", "TTY_COMPATIBLE",
    "TTY_INTERACTIVE", "JUPYTER_COLUMNS", "JUPYTER_LINES", "SSH_AUTH_SOCK", "SSH_AGENT_PID", "SSH_ASKPASS", "SSH_CONNECTION",
    "SSH_CLIENT", "SSH_TTY", "DISPLAY", "PYTHONOPTIMIZE", "PYTHONDEVMODE", "PYTHONUNBUFFERED", "PYTHONUTF8", "PYTHONIOENCODING",
    "PYTHONDONTWRITEBYTECODE", "PYTHONWARNINGS", "RSYNC_RSH", "RSYNC_PASSWORD", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE",
    "POSIXLY_CORRECT", "BLOCK_SIZE", "TMOUT", "CDPATH", "BASH_ENV", "ENV",
)  # fmt: skip

_skipped = pytest.StashKey[list[str]]()

hypothesis.settings.register_profile("local", deadline=None, print_blob=True, max_examples=often(15, 1000))
# In CI the same examples every time, so that a red run is about the change, and can be repeated anywhere.
hypothesis.settings.register_profile("ci", hypothesis.settings.get_profile("local"), derandomize=True)
hypothesis.settings.load_profile("ci" if IN_CI else "local")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A vault, its examiner and an empty source. A file of tests that begin with evidence has one of its own."""
    from tests.support.bench_of_evidence import make_bench

    return make_bench(tmp_path)


@pytest.fixture(autouse=True, scope="session")
def private_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home folder for this run: no test reads or changes the SSH keys, known hosts, agent or settings of whoever runs it."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("VISUAL", "true")  # no test waits for somebody who edits
        for name in os.environ:
            if name.startswith(("XDG_", "EVIDENCESYNC_")) or name in _OTHER_PEOPLES_WISHES:
                patch.delenv(name)
        path = make_path_without(tmp_path_factory.mktemp("programs")) if WITHOUT else path_with_more_folders()
        patch.setenv("PATH", path)
        keep_for_the_chosen()
        spare(home.stat().st_dev, patch.setattr)
        make_once(patch.setattr)
        umask = os.umask(0o022)  # modes of files are what many tests are about; those about the umask choose their own
        yield home
        os.umask(umask)


@pytest.fixture
def measured_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the processes that a test starts measured for coverage, where the run is."""
    for name, value in measured({}).items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], str]:
    """Gives the path of a program that a test needs. Where it is missing the test is skipped; in CI it fails."""
    return find_program


def find_program(name: str) -> str:
    """The path of the program `name`, for fixtures as well."""
    return find(name) or _refuse_for_want_of(name)


def _refuse_for_want_of(program: str) -> NoReturn:
    if IN_CI:
        pytest.fail(f"{say_missing(program)}, and CI must judge us with it", pytrace=False)
    pytest.skip(say_missing(program))


@contextmanager
def _skipped_without_a_known_program() -> Iterator[None]:
    """Most tests start a program by its bare name. Where one of the listed ones is not there, no test has said anything yet."""
    try:
        yield
    except (FileNotFoundError, EvidenceSyncError) as error:
        absent = error if isinstance(error, FileNotFoundError) else error.__cause__  # our own error where it is ssh
        program = str(absent.filename) if isinstance(absent, FileNotFoundError) else ""
        if program not in PACKAGES or find(program) is not None:
            raise
        _refuse_for_want_of(program)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """A test that lacks a program."""
    with _skipped_without_a_known_program():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    """A fixture that lacks a program: for each test that asks for it. That of a module is made once alone."""
    with _skipped_without_a_known_program():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Nothing that collection makes becomes garbage: to look for some in the middle of it took a fifth of it, and later again.

    Nor is it measured for coverage, which took two thirds of it, in each of xdist's workers.
    """
    gc.disable()
    try:
        with unmeasured():
            return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    """Makes the place where skips are remembered, and what is true for the whole process."""
    config.stash[_skipped] = []
    write_into_memory()
    take_the_place_of_libfaketime()
    _start_programs_as_from_a_terminal()
    _share_one_heap()


def _share_one_heap() -> None:
    """Else glibc keeps what each of thousands of short threads has freed, in sixteen heaps: ten times of what is in use."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-8, 1)  # M_ARENA_MAX


_GROWTH_BYTES: Final = 64 << 20
_taken_bytes = [0]


def pytest_runtest_logfinish() -> None:
    """Gives back what a test has freed, where it is much. Pictures, images and caches would add up to a gigabyte."""
    if sys.platform != "linux" or _resident_bytes() < _taken_bytes[0] + _GROWTH_BYTES:
        return
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    _taken_bytes[0] = _resident_bytes()


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * mmap.PAGESIZE


def _start_programs_as_from_a_terminal() -> None:
    """A run in the background of a script, or under nohup, ignores signals, and its children would inherit that.

    What a handler catches begins anew in another program, so handlers that do nothing: this run itself goes on ignoring them.
    """
    for number in _INHERITED_SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _go_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INHERITED_SIGNALS)


def _go_on(*_: object) -> None:
    pass


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
    """Says what to install for the tests that were skipped, and names the skips that CI refuses."""
    skipped = config.stash[_skipped]
    wanted = [found for line in skipped if (found := re.search(PACKAGE_IN_REASON, line))]
    if wanted:
        count = "1 test was" if len(wanted) == 1 else f"{len(wanted)} tests were"
        packages = ", ".join(sorted({found[1] for found in wanted}))
        terminalreporter.section(f"{count} skipped: install {packages} to run all of them", yellow=True)
    if IN_CI and skipped:
        terminalreporter.section("skipped in CI, and not on the list in tests/conftest.py", red=True, bold=True)
        for line in skipped:
            terminalreporter.write_line(line)
