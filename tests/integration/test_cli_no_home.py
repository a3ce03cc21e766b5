"""No home, no name, no working folder, no host name: what needs none of them works, and what needs one says which."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.integration.cli_program import ITEM, TIMEOUT_SECONDS, Lab
from tests.support.every_command import command_lines, run_in_process
from tests.support.ordinary_user import as_ordinary_user

_STRANGER: Final = 54321  # no password database has it
_ELSEWHERE: Final = {"serve", "watch"}  # they take the streams of the whole process, or wait for a signal
_CONNECTING: Final = {"pull", "host trust"}
_NO_PATHS: Final = {
    *("receipts list", "receipts check", "receipts forget-head", "host trust", "timestamp fetch"),
    *("settings show", "settings path", "settings edit", "completion install", "completion show"),
}
# What looks into the user's own folders: remembered heads, receipts, known hosts.
_NEED_A_HOME: Final = {
    "host trust",
    "settings path",
    "settings edit",
    "completion install",
    "push",
    "pull",
    "custody note",
    "custody correct",
    "custody hand-over",
    "custody accept",
    "custody seal",
    "custody consent",
    "custody withdraw",
    "receipts list",
    "receipts check",
    "receipts forget-head",
}
# What the laboratory has no answer to, and its exit codes: an authority, a hand-over, a seen vault, proposals, administrators.
_FAILING: Final = {
    "timestamp attach": (32, 33, 40),
    "timestamp fetch": (20, 23),
    "receipts forget-head": (10,),
    "custody accept": (32,),
    "custody consent": (10,),
    "custody withdraw": (10,),
    "trust two-person": (2,),
    "trust consent": (10,),
    "trust withdraw": (10,),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab.make(tmp_path_factory.mktemp("no-home"))
    made.make_key("ben")
    made.write("a", b"x")
    assert made.push().code == 0
    return made


@pytest.fixture
def lab(template: Lab, tmp_path: Path) -> Lab:
    subprocess.run(["cp", "-a", template.folder, tmp_path / "lab"], check=True)
    return Lab(tmp_path / "lab")


def _lines(lab: Lab) -> dict[str, list[str]]:
    """Every command, with full paths."""
    return {name: line for name, line in command_lines(f"{lab.folder}/").items() if name not in _ELSEWHERE}


def _unknown(_key: object) -> pwd.struct_passwd:
    raise KeyError("nobody knows")


@pytest.mark.parametrize("home", [None, "", "relative/home", "/dev/null"])
def test_a_process_without_a_home_does_what_needs_none_and_names_home_else(
    home: str | None, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """HOME is not set, or is no folder; and nobody knows the user, whom nothing else tells either."""
    monkeypatch.delenv("HOME")
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    for name in ("getpwuid", "getpwnam"):
        monkeypatch.setattr(pwd, name, _unknown)
    monkeypatch.setattr(socket, "gethostname", lambda: "")
    refused = set()
    for name, line in _lines(lab).items():
        if name in _CONNECTING and home is not None:
            continue
        code = run_in_process(line)
        err = capfd.readouterr().err
        assert code != 1, (name, err)
        if code == 2 and "HOME" in err:
            refused.add(name)
        else:
            assert (code == 0) == (name not in {*_FAILING, *_CONNECTING}), (name, code, err)
    expected = _NEED_A_HOME if home is None else _NEED_A_HOME - _CONNECTING
    assert refused == expected - {"pull", "host trust"} | (refused & {"pull", "host trust"})


def test_folders_that_are_named_take_the_place_of_a_home(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", _unknown)
    monkeypatch.setenv("EVIDENCESYNC_RECEIPTS", str(tmp_path / "receipts"))
    monkeypatch.setenv("EVIDENCESYNC_STATE", str(tmp_path / "state"))
    for name, line in _lines(lab).items():
        if name in {"push", "verify", "report", "export", "custody show", "receipts list", "receipts check"}:
            assert run_in_process(line) == 0, (name, capfd.readouterr().err)


@pytest.mark.parametrize("variable", ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"])
def test_a_relative_folder_of_xdgs_is_as_good_as_none(variable: str, lab: Lab) -> None:
    inside = lab.folder / "among-evidence"
    for name in ("evidencesync", "config"):
        (inside / name).mkdir(parents=True, exist_ok=True)
    (inside / "evidencesync" / "config.toml").write_text("no such key")
    assert lab.push(env={variable: "among-evidence"}).code == 0
    assert sorted(os.listdir(inside / "evidencesync")) == ["config.toml"]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only where the system has root to be somebody whom nobody knows")


def _start(lab: Lab, *arguments: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
    command = as_ordinary_user([os.fsdecode(part) for part in lab.command(*arguments)], _STRANGER)
    return subprocess.Popen(command, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _run(lab: Lab, *arguments: str, env: dict[str, str]) -> tuple[int, str]:
    process = _start(lab, *arguments, env=env)
    _, err = process.communicate(timeout=TIMEOUT_SECONDS)
    return process.returncode, err.decode()


@needs_root
def test_somebody_whom_nobody_knows_can_work(lab: Lab, own: Path) -> None:
    """A process as a container or a service has it: another user id, and the environment of root or none."""
    bare = {name: value for name, value in lab.environment.items() if name not in {"HOME", "USER", "LOGNAME"}}
    vault, item = str(own / "vault"), ITEM
    code, err = _run(lab, "list", vault, env=bare)
    assert code == 0, err
    process = _start(lab, "verify", vault, env=bare)
    assert (
        b"not-remembered] what was seen is not remembered: there is no home folder: HOME is not set" in process.communicate()[0]
    )
    assert process.returncode == 0
    told = {**bare, "EVIDENCESYNC_STATE": str(own / "state"), "EVIDENCESYNC_RECEIPTS": str(own / "receipts")}
    push = ("push", str(own / "evidence"), vault, *item, "--sign-key", str(own / "ana"))
    code, err = _run(lab, *push, env=told)
    assert (code, "--examiner" in err) == (2, True), err
    assert _run(lab, *push, "--examiner", "Ana", env=told)[0] == 0
    far = (
        "push",
        str(own / "evidence"),
        "ssh://ana@127.0.0.1:1/vault",
        *item,
        "--sign-key",
        str(own / "ana"),
        "--examiner",
        "Ana",
    )
    code, err = _run(lab, *far, env=told)
    assert (code, "No user exists for uid" in err, "password database" in err) == (2, True, True), err  # ssh itself knows nobody
    rooted = {**told, "HOME": str(own / "closed")}  # the home of whom it was before
    code, err = _run(lab, "list", vault, env=rooted)
    assert code == 0, err
    assert "no settings are read" in err


@needs_root
def test_a_service_that_nobody_knows_can_serve_and_watch(lab: Lab, own: Path) -> None:
    bare = {name: value for name, value in lab.environment.items() if name not in {"HOME", "USER", "LOGNAME"}}
    told = {**bare, "EVIDENCESYNC_STATE": str(own / "state"), "EVIDENCESYNC_RECEIPTS": str(own / "receipts")}
    sign = ("--sign-key", str(own / "ana"), "--examiner", "Ana")
    (own / "keys").write_bytes((lab.folder / "ana.pub").read_bytes())
    os.chown(own / "keys", _STRANGER, _STRANGER)
    listen = ("serve", "--vault", str(own / "vault"), "--listen", "127.0.0.1:0", "--authorized-keys", str(own / "keys"))
    watch = ("watch", str(own / "evidence"), str(own / "vault"), *ITEM, *sign)
    for arguments, word in ((listen, b"listening on"), (watch, b"published")):
        process = _start(lab, *arguments, env=told)
        with _ending(process):
            assert process.stderr is not None
            seen: list[bytes] = []
            for line in iter(process.stderr.readline, b""):
                seen.append(line)
                if word in line:
                    break
            assert word in seen[-1], seen
        assert process.returncode == 0


@contextlib.contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TIMEOUT_SECONDS)


@pytest.fixture
def own(lab: Lab) -> Iterator[Path]:
    """A vault, a key and evidence that the stranger owns, in a place that he can reach, and a home that he cannot."""
    with tempfile.TemporaryDirectory(prefix="stranger-", dir="/tmp") as reachable:  # pytest closes its own folders to others
        folder = Path(reachable)
        for name in ("vault", "evidence", "ana", "ana.pub"):
            subprocess.run(["cp", "-a", lab.folder / name, folder / name], check=True)
        subprocess.run(["chown", "-R", f"{_STRANGER}:{_STRANGER}", folder], check=True)
        (folder / "closed").mkdir(mode=0o700)
        yield folder


def test_a_working_folder_that_is_gone_is_said_and_full_paths_need_none(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(lab.folder / "home"))
    before = os.getcwd()
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)  # noqa: TID251 - what the test is about; it goes back
    gone.rmdir()
    try:
        for name, line in command_lines().items():
            if name not in _NO_PATHS:
                code = run_in_process(line)
                err = capfd.readouterr().err
                assert (code, "the folder that this was started in is gone" in err) == (2, True), (name, code, err)
        for name, line in _lines(lab).items():
            if name not in _CONNECTING:
                code = run_in_process(line)
                err = capfd.readouterr().err
                assert code in {**_FAILING, "custody seal": (10,)}.get(name, (0,)), (name, code, err)
    finally:
        os.chdir(before)  # noqa: TID251 - as above


def test_a_process_in_a_folder_that_is_gone_reaches_servers(lab: Lab, tmp_path: Path) -> None:
    """The process of the connection starts there, too."""
    gone = tmp_path / "gone"
    gone.mkdir()
    descriptor = os.open(gone, os.O_RDONLY | os.O_DIRECTORY)
    gone.rmdir()
    try:
        far = ["push", str(lab.folder / "evidence"), "ssh://ana@127.0.0.1:1/vault", *ITEM, "--sign-key", str(lab.folder / "ana")]
        process = lab.start(*far, cwd=None, preexec_fn=lambda: os.fchdir(descriptor))  # noqa: TID251 - of the child
        _, err = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 20, err
    finally:
        os.close(descriptor)
