"""Standard streams that are closed, full, or read by nobody: never a traceback, and never a success that nobody was told of."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.cli_program import TIMEOUT_SECONDS, Lab
from tests.support.every_command import command_lines, run_in_process

_ELSEWHERE: Final = {"serve", "watch"}  # they take the streams of the whole process, or wait for a signal
_MADE: Final = ("/another-vault", "/copy", "/bag", "/report.html", "/asked.tsq")  # what commands make: elsewhere for each test
_UNTOLD: Final = b"error: the result could not be written to stdout: "


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab.make(tmp_path_factory.mktemp("streams"))
    made.make_key("ben")
    made.write("odd-é".encode().decode("utf-8"), b"x")
    (made.folder / "evidence" / os.fsdecode(b"odd-\xff")).write_bytes(b"y")
    assert made.push().code == 0
    return made


@pytest.fixture
def at_home(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(lab.folder / "home"))


def _end(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    _, err = process.communicate(timeout=TIMEOUT_SECONDS)
    return process.returncode, err or b""


def _closing(*numbers: int) -> Callable[[], None]:
    def close() -> None:
        for number in numbers:
            os.close(number)

    return close


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize("as_json", [False, True])
def test_no_command_is_a_success_where_stdout_is_full(
    as_json: bool, lab: Lab, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    for name, line in command_lines(f"{lab.folder}/").items():
        if name in _ELSEWHERE:
            continue
        words = [str(tmp_path / word.rpartition("/")[2]) if word.endswith(_MADE) else word for word in line]
        with open("/dev/full", "w", encoding="utf-8") as full, monkeypatch.context() as patch:
            patch.setattr("sys.stdout", full)
            code = run_in_process([*words, *(["--json"] if as_json else [])])
        err = capfdbinary.readouterr().err
        assert code not in (0, 130), name
        assert err.count(b"error: ") >= 1, (name, err)
        assert b"Traceback" not in err, (name, err)
        assert b"defect" not in err, (name, err)


@pytest.mark.parametrize("arguments", [("verify", "vault", "--json"), ("verify", "vault"), ("list", "vault"), ("--help",)])
def test_a_process_whose_stdout_is_full_or_closed_ends_well_and_is_no_success(lab: Lab, arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        code, err = _end(lab.start(*arguments, stdout=full))
    assert (code, err) == (1, _UNTOLD + b"No space left on device\n")
    if arguments != ("--help",):
        code, err = _end(lab.start(*arguments, stdout=None, preexec_fn=_closing(1)))
        assert (code, err) == (1, _UNTOLD + b"it is closed\n")


def test_a_verdict_that_nobody_has_read_is_no_success_and_a_bad_one_keeps_its_code(lab: Lab, tmp_path: Path) -> None:
    for vault, code in (("vault", 1), (str(_damaged(lab, tmp_path)), 30)):
        readable, writable = os.pipe()
        os.close(readable)
        process = lab.start("verify", vault, stdout=writable)
        os.close(writable)
        assert _end(process) == (code, _UNTOLD + b"Broken pipe\n")


def _damaged(lab: Lab, folder: Path) -> Path:
    copy = folder / "damaged"
    subprocess.run(["cp", "-a", lab.folder / "vault", copy], check=True)
    file = next(copy.glob("cases/*/*/acquisitions/0001/data/odd-*"))
    file.chmod(0o644)
    file.write_bytes(b"z")
    file.chmod(0o444)
    return copy


@pytest.mark.parametrize("numbers", [(0, 2), (0, 1, 2)])
def test_streams_that_are_closed_change_no_verdict_and_no_file(lab: Lab, numbers: tuple[int, ...]) -> None:
    options: dict[str, Any] = {name: None for number, name in enumerate(("stdin", "stdout", "stderr")) if number in numbers}
    for arguments in (["push", "evidence", "vault", *_ITEM, "--sign-key", "ana"], ["verify", "vault"]):
        process = lab.start(*arguments, **options, preexec_fn=_closing(*numbers))
        code, err = _end(process)
        assert code == (1 if 1 in numbers else 0), (arguments, err)
        assert b"Traceback" not in err


_ITEM: Final = ("--case", "2024-017", "--item", "CLOSED")


def test_nothing_at_all_without_a_stderr_is_still_2(lab: Lab) -> None:
    assert _end(lab.start(stderr=None, preexec_fn=_closing(2)))[0] == 2
    with open("/dev/full", "wb") as full:
        assert _end(lab.start(stderr=full))[0] == 2
        assert _end(lab.start("verify", "nowhere", stderr=full))[0] == 10


def test_a_serving_end_without_streams_ends(lab: Lab) -> None:
    for numbers in ((0,), (0, 1, 2)):
        options: dict[str, Any] = {name: None for number, name in enumerate(("stdin", "stdout", "stderr")) if number in numbers}
        code, err = _end(lab.start("serve", "--vault", "vault", **options, preexec_fn=_closing(*numbers)))
        assert code in {20, 23, 40}, (numbers, err)
        assert b"Traceback" not in err


def test_a_watch_whose_summary_nobody_could_read_is_no_success(lab: Lab) -> None:
    item = ("--case", "2024-017", "--item", "WATCHED", "--sign-key", "ana")
    with open("/dev/full", "wb") as full:
        process = lab.start("watch", "evidence", "vault", *item, stdout=full)
        assert process.stderr is not None
        lines: Iterator[bytes] = iter(process.stderr.readline, b"")
        assert any(b"published" in line for line in lines)
        process.send_signal(signal.SIGTERM)
        code, err = _end(process)
    assert code in {1, 130}, err
    assert _UNTOLD in err


@pytest.mark.parametrize(("locale", "encoding"), [("C", "ascii"), ("POSIX", "utf-16")])
def test_odd_names_are_shown_whatever_the_terminal_is_said_to_take(lab: Lab, locale: str, encoding: str) -> None:
    plain = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": encoding}
    shown = lab.run("show", "vault", "--case", "2024-017", "--item", "LAPTOP-1", "--files", env=plain)
    assert shown.code == 0, shown.err
    assert "odd-é" in shown.out
    assert r"odd-\xff" in shown.out
    refused = lab.run("verify", "nowhere-é", env=plain)
    assert refused.code == 10
    assert "nowhere-" in refused.out
    assert "Traceback" not in refused.err
