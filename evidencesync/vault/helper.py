"""A helper process that compares stored files, for the interpreter's lock lets only one thread of a process compute.

It is started as a program of its own and not forked: a fork would copy locks that other threads hold, and keep the link
to the other end open. It gets the descriptor of a `data/` and nothing else. Both sides speak in frames: four bytes of
length and a MessagePack body, one answer to each question. It ends when its input does, so also when its parent dies.
"""

from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import IO, Final

import msgspec

from evidencesync.errors import InternalError
from evidencesync.vault.stored import Comparison, Problem, StoredFile, compare_files
from evidencesync.vault.tree import TreeReader

_LENGTH: Final = struct.Struct(">I")
# It imports exactly what this process does, from the same places, and from no others (-I). Ctrl-C is for the parent.
_PROGRAM: Final = """\
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
fd, comparison, *sys.path = sys.argv[1:]
from evidencesync.vault.helper import answer_all
answer_all(sys.stdin.buffer, sys.stdout.buffer, int(fd), comparison)
"""
_ENCODER: Final = msgspec.msgpack.Encoder()
_FILES: Final = msgspec.msgpack.Decoder(list[StoredFile])
_PROBLEMS: Final = msgspec.msgpack.Decoder(list[Problem])


class Helper:
    """One helper process. For one thread at a time; other helpers work meanwhile."""

    def __init__(self, data_fd: int, comparison: Comparison) -> None:
        """Starts it; the descriptor stays the caller's. Raises OSError where the system starts no further process."""
        if not sys.executable or getattr(sys, "frozen", False):
            raise FileNotFoundError("there is no interpreter to start")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _PROGRAM, str(data_fd), msgspec.json.encode(comparison).decode(), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(data_fd,),
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def compare(self, files: Sequence[StoredFile]) -> list[Problem]:
        """As `stored.compare_files`, over there. Raises InternalError when the process is gone: nothing counts as compared."""
        asks, answers, problems = self._process.stdin, self._process.stdout, None
        with contextlib.suppress(OSError):  # it is gone, and so is the pipe
            if asks is not None and answers is not None:
                _write(asks, _ENCODER.encode(files))
                problems = _read(answers)
        if problems is None:
            raise InternalError(
                f"helper process {self.pid} ended while it compared files (status {self._process.wait()})",
                hint="Something has ended it, perhaps for lack of memory. Nothing counts as checked: run the command again.",
            )
        return _PROBLEMS.decode(problems)

    def close(self) -> None:
        """Ends the process, and waits for its end."""
        self._process.kill()  # it only reads: there is nothing that it could leave half done
        self._process.communicate()


def answer_all(asks: IO[bytes], answers: IO[bytes], data_fd: int, comparison: str) -> None:
    """The helper's own side: answers until there are no more questions."""
    wanted = msgspec.json.decode(comparison, type=Comparison)
    reader = TreeReader(data_fd, untouched=wanted.survey)
    while (question := _read(asks)) is not None:
        _write(answers, _ENCODER.encode(compare_files(reader, _FILES.decode(question), wanted)))


def _write(pipe: IO[bytes], body: bytes) -> None:
    pipe.write(_LENGTH.pack(len(body)) + body)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes | None:
    """The next body; None at the end, also in the middle of one."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = pipe.read(length)
    return body if len(body) == length else None
