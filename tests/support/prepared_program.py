"""The program, started once and ready: each command is a fork of it, a process of its own that need not import everything anew.

Most tests of the command line are about what a command does, not about how Python starts it, and starting took most of their
time. A fork has the modules in memory and nothing else of what went before: it gets its own arguments, environment, folder,
session and standard descriptors, and ends as Python ends. Tests of terminals, signals and imports start Python itself.

Who is asked to start a program himself, as sshd is, is given `command_for_others`: see prepared_client.py.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import hashlib
import json
import os
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support.measuring import import_all_modules, measured
from tests.support.spared_disk import spare

_REPOSITORY: Final = Path(__file__).parents[2]
_LONGEST_REQUEST: Final = 1 << 17
# What is read when Python starts cannot be given to a fork.
_READ_AT_THE_START: Final = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "FALSE_CLOCK")


@dataclass(frozen=True)
class Request:
    """A command line, and around it what a process is given by whoever starts it."""

    arguments: tuple[str, ...]
    folder: str
    environment: Mapping[str, str]

    @classmethod
    def make(cls, arguments: Sequence[str | bytes], folder: Path, environment: Mapping[str, str]) -> Request:
        return cls(tuple(map(os.fsdecode, arguments)), os.fsdecode(folder), environment)

    def encode(self) -> bytes:
        return json.dumps([self.arguments, self.folder, dict(self.environment)]).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Request:
        arguments, folder, environment = json.loads(data)
        return cls(tuple(arguments), folder, environment)


# --- In the process of the tests ---------------------------------------------------------------------------------------


class PreparedProgram:
    """The process that is forked. One for each process of tests; it ends with it."""

    _one: PreparedProgram | None = None

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._environment = {**os.environ, "PYTHONPATH": str(_REPOSITORY)}
        self._folder = tempfile.TemporaryDirectory(prefix="evidencesync-")  # the path of a socket is a short one
        with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
            door.bind(self._door)
            door.listen(100)
            numbers = [theirs.fileno(), door.fileno()]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.prepared_program", *map(str, numbers), str(_device())],
                pass_fds=numbers,
                cwd=_REPOSITORY,
                env=measured(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        atexit.register(self.close)

    @classmethod
    def of_this_run(cls) -> PreparedProgram:
        """The one that runs, or a new one."""
        if cls._one is None:
            cls._one = cls()
        return cls._one

    def close(self) -> None:
        """Ends it."""
        self._control.close()
        self._process.wait()
        self._folder.cleanup()

    @property
    def _door(self) -> str:
        return os.path.join(self._folder.name, "door")

    def command_for_others(self) -> str:
        """What a shell is to run in the place of `python -m evidencesync`, with arguments after it."""
        return shlex.join([sys.executable, "-I", "-S", str(_REPOSITORY / "tests/support/prepared_client.py"), self._door])

    def can_run_in(self, environment: Mapping[str, str]) -> bool:
        """Whether a fork in this environment is what a new Python would be."""
        names = {name for name in {*environment, *self._environment} if name.startswith(_READ_AT_THE_START)}
        return all(environment.get(name) == self._environment.get(name) for name in names)

    def run(self, request: Request, given: bytes, timeout_seconds: float) -> tuple[int, bytes, bytes]:
        """Exit code, stdout and stderr of a command that reads `given` from a pipe, which must hold all of it."""
        pipes = [os.pipe() for _ in range(4)]
        (answers, pen), (out, theirs_out), (err, theirs_err), (end, theirs_end) = pipes
        os.write(pen, given)
        os.close(pen)
        theirs = [answers, theirs_out, theirs_err, theirs_end]
        try:
            socket.send_fds(self._control, [request.encode()], theirs)
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        try:
            said = _read_all([out, err, end], timeout_seconds)
        finally:
            for descriptor in (out, err, end):
                os.close(descriptor)
        return int(said[2]), said[0], said[1]


def _device() -> int:
    """Of the folder below which tests write."""
    return Path.home().stat().st_dev


def _read_all(descriptors: Sequence[int], timeout_seconds: float) -> list[bytes]:
    """What is said on each of them, to the end."""
    read = {descriptor: bytearray() for descriptor in descriptors}
    until = time.monotonic() + timeout_seconds
    with selectors.DefaultSelector() as waiting:
        for descriptor in descriptors:
            waiting.register(descriptor, selectors.EVENT_READ)
        while waiting.get_map():
            if time.monotonic() > until:
                raise TimeoutError(f"after {timeout_seconds} seconds: {read}")
            for key, _ in waiting.select(1):
                block = os.read(key.fd, 65536)
                read[key.fd] += block
                if not block:
                    waiting.unregister(key.fd)
    return [bytes(read[descriptor]) for descriptor in descriptors]


# --- In the prepared process --------------------------------------------------------------------------------------------


def load_everything() -> None:
    import_all_modules()
    _parse_once()
    _look_at_all_structs()
    _compute_once()
    gc.collect()
    gc.freeze()


def _parse_once() -> None:
    """The parser is made from all commands, and imports more when it is used: once for all forks."""
    import typer.main

    from evidencesync.cli import commands
    from evidencesync.cli.console import Console

    parser = typer.main.get_command(commands.make_app())
    typer.main.get_command = lambda typer_instance: parser
    commands.make_app = lambda names=(): typer.Typer()
    with (
        open(os.devnull, "w", encoding="ascii") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        commands.run(["list", f"{os.devnull}/no-vault"], Console(as_json=True))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)


def _look_at_all_structs() -> None:
    """What msgspec works out when a struct is first read, and keeps with it: else each fork did so anew for all that it reads."""
    for name, module in list(sys.modules.items()):
        if name.startswith("evidencesync"):
            for found in vars(module).values():
                if isinstance(found, type) and issubclass(found, msgspec.Struct) and found.__module__ == name:
                    with contextlib.suppress(TypeError, NameError):  # one that is never read: it holds what no document can
                        msgspec.json.Decoder(found)


def _compute_once() -> None:
    """OpenSSL makes its tables of algorithms when it is first asked for one: a third of a short command in a fork."""
    for name in ("sha256", "sha512"):
        hashlib.new(name).digest()
    key = Ed25519PrivateKey.generate()
    key.public_key().verify(key.sign(b""), b"")


def _wait_for_a_command(control: socket.socket, door: socket.socket) -> Request | None:
    """Forks for each command that is asked for. Returns in the fork with its request, and here, at the end of all, with None."""
    running: dict[int, tuple[int, int]] = {}
    with selectors.DefaultSelector() as waiting:
        waiting.register(control, selectors.EVENT_READ)
        waiting.register(door, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.fileobj not in (control, door):
                    process, end = running.pop(key.fd)
                    waiting.unregister(key.fd)
                    os.close(key.fd)
                    with contextlib.suppress(BrokenPipeError):  # who has asked was killed
                        os.write(end, b"%d" % os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
                    os.close(end)
                    continue
                data, descriptors = _read_request(control) if key.fileobj is control else _read_at_the_door(door)
                if not data and key.fileobj is control:
                    return None
                process = os.fork()
                if not process:
                    for watch, (_, other) in running.items():
                        os.close(watch)
                        os.close(other)
                    _take_over(descriptors)
                    _restart_coverage()
                    return Request.decode(data)
                for descriptor in descriptors[:3]:
                    os.close(descriptor)
                watch = os.pidfd_open(process)
                running[watch] = process, descriptors[3]
                waiting.register(watch, selectors.EVENT_READ)


def _read_request(control: socket.socket) -> tuple[bytes, list[int]]:
    data, descriptors, _, _ = socket.recv_fds(control, _LONGEST_REQUEST, 4)
    return data, descriptors


def _read_at_the_door(door: socket.socket) -> tuple[bytes, list[int]]:
    """Who comes brings three descriptors, and hears the exit code where the request came from."""
    caller, _ = door.accept()
    data, descriptors, _, _ = socket.recv_fds(caller, _LONGEST_REQUEST, 3)
    return data, [*descriptors, caller.detach()]


def _take_over(descriptors: Sequence[int]) -> None:
    """Becomes the process that was asked for: no terminal, and standard descriptors of its own."""
    os.setsid()
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        os.close(descriptor)


def _restart_coverage() -> None:
    coverage = sys.modules.get("coverage")
    running = coverage.Coverage.current() if coverage else None
    if coverage is None or running is None:
        return
    running._auto_save = False
    running.stop()
    coverage.process_startup(force=True)


def main() -> int:
    """The prepared process, or one of its forks."""
    load_everything()
    with socket.socket(fileno=int(sys.argv[1])) as control, socket.socket(fileno=int(sys.argv[2])) as door:
        request = _wait_for_a_command(control, door)
    if request is None:
        return 0
    spare(int(sys.argv[3]), setattr)
    os.chdir(request.folder)  # noqa: TID251 - a process of its own
    os.environ.clear()
    os.environ.update(request.environment)
    time.tzset()
    sys.argv = [str(_REPOSITORY / "evidencesync" / "__main__.py"), *request.arguments]
    from evidencesync.cli.app import main as command

    code = command()
    if _has_ended_well():
        os._exit(code)  # noqa: TID251 - to take everything apart in memory, for nobody, was most of a fork's time
    return code


def _has_ended_well() -> bool:
    """Does what anybody can see of Python's end, in its order. What fails is left to Python itself, which says so."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
