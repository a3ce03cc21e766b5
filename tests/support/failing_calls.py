"""Commands of which the n-th system call of a kind fails, below a folder: each is a fork of one process with a shim before libc.

The shim is compiled where a C compiler is. Calls are counted only where they are about something below the folder that is
named, so that no module that Python loads is among them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

KINDS: Final = tuple("open read write truncate fsync syncfs rename link mkdir unlink chmod readdir stat close".split())
SHORT: Final = -1
KILL: Final = -2
_SOURCE: Final = Path(__file__).with_suffix(".c")
_REPOSITORY: Final = Path(__file__).parents[2]
_SECONDS: Final = 120.0


@dataclass(frozen=True)
class Fault:
    """The n-th call of a kind fails with an error, or does a part only (SHORT), or is never made: the process is killed (KILL).

    With `lasting`, all that follow fail, too.
    """

    call: str
    nth: int
    error: int
    lasting: bool = False

    def __str__(self) -> str:
        name = {SHORT: "a part only", KILL: "killed"}.get(self.error) or errno.errorcode[self.error]
        return f"{self.call} {self.nth}{' and all later ones' if self.lasting else ''}: {name}"


NONE: Final = Fault("", 0, 0)


@dataclass(frozen=True)
class Ended:
    """How a command ended; `code` is None where it was killed. `met` counts its calls by kind, `fired` those that failed."""

    code: int | None
    out: str
    err: str
    met: Mapping[str, int]
    fired: int
    hung: bool


def build(folder: Path, compiler: str) -> Path:
    """Compiles the shim."""
    library = folder / "failing_calls.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"], check=True)
    return library


class FailingProgram:
    """The process that is forked."""

    def __init__(self, library: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.failing_calls"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_REPOSITORY,
            env={**os.environ, **environment, "LD_PRELOAD": str(library), "PYTHONPATH": str(_REPOSITORY)},
        )

    def run(self, arguments: list[str], below: Path, fault: Fault = NONE, *, files: int = 0) -> Ended:
        """One command, in a process of its own. `files`: it may not have more descriptors; 0: as many as we."""
        request = {
            "arguments": arguments,
            "below": str(below),
            "fault": asdict(fault),
            "folder": str(self._folder),
            "files": files,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        out, err = ((self._folder / name).read_text(errors="replace") for name in ("stdout", "stderr"))
        return Ended(answer["code"], out, err, answer["met"], answer["fired"], answer["hung"])

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


# --- In the process that is forked -----------------------------------------------------------------------------------------


def _serve() -> None:
    from tests.support.prepared_program import load_everything

    load_everything()
    for line in sys.stdin.buffer:
        sys.stdout.write(json.dumps(_run(json.loads(line))) + "\n")
        sys.stdout.flush()


def _run(request: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _be_the_command(request, writing)
    os.close(writing)
    hung, until = False, time.monotonic() + _SECONDS
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            hung = True
            break
        time.sleep(0.002)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read()
    found: dict[str, Any] = json.loads(said) if said else {"code": None, "met": {}, "fired": 0}
    return {**found, "hung": hung}


def _be_the_command(request: dict[str, Any], answer: int) -> None:
    """Never returns."""
    from evidencesync.cli.app import main

    code: int | None = None
    shim = ctypes.CDLL(None)
    try:
        for descriptor, name in enumerate((os.devnull, "stdout", "stderr")):
            file = os.open(Path(request["folder"], name), os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600)
            os.dup2(file, descriptor)
            os.close(file)
        if request["files"]:
            resource.setrlimit(resource.RLIMIT_NOFILE, (request["files"], request["files"]))
        fault = request["fault"]
        shim.shim_arm(
            fault["call"].encode(), request["below"].encode(), ctypes.c_long(fault["nth"]), fault["error"], int(fault["lasting"])
        )
        code = main(request["arguments"])
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        shim.shim_met.restype = shim.shim_fired.restype = ctypes.c_long
        met = {kind: shim.shim_met(kind.encode()) for kind in KINDS}
        os.write(answer, json.dumps({"code": code, "met": met, "fired": shim.shim_fired()}).encode())
        os.kill(os.getpid(), signal.SIGKILL)  # nothing that Python does at its end is looked at


if __name__ == "__main__":
    _serve()
