"""Compares many small stored files with a manifest: size, mode, BLAKE3 and SHA-256.

`FileChecks` compares in threads first, and in helper processes where there are many files: the interpreter's lock lets only one
thread of a process compute. A helper is a new program and not a fork: a fork would copy locks that other threads hold, and keep
the link to the other end open. It gets the descriptor of a `data/` and nothing else. Messages in both directions are frames:
four bytes of length and a MessagePack body, one answer to each request. A helper ends when its input ends, so it does not
outlive its parent.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from queue import SimpleQueue
from typing import IO, Final, Literal, NamedTuple

import msgspec
from blake3 import blake3

from evidencesync.errors import EvidenceSyncError, InternalError, MissingOrExtraError
from evidencesync.files.disk import close_quietly, forget_cached, read_bounded
from evidencesync.limits import FIRST_READ
from evidencesync.vault.tree import TreeReader

_BLOCK: Final = 1 << 20


class StoredFile(NamedTuple):
    """A file as the manifest lists it; digests in hexadecimal."""

    path: bytes
    size: int
    blake3: str
    sha256: str


class CompareOptions(msgspec.Struct, frozen=True):
    """How files are to be compared.

    `sha256`: besides BLAKE3. `from_disk`: not from the page cache. `unsafe_bits`: mode bits that no file may have.
    `survey`: the files need not belong to a vault, so they are hashed whatever their size is, and the digests of those that
    differ are returned; access times are left alone, where the system allows that.
    """

    sha256: bool
    from_disk: bool
    unsafe_bits: int = 0
    survey: bool = False


class FileProblem(msgspec.Struct, frozen=True, array_like=True):
    """What is wrong with a file; `number` is its place in the batch that was compared.

    `gone`: it is missing, or something else has its name. `unreadable`: the system refuses; `text` has the reason. `mode` and
    `size`: the found value, in `value`. `BLAKE3` and `SHA-256`: the first digest that differs; `value` bytes were read.
    `other`, in a survey only: the file has `value` other bytes, whose digests (BLAKE3, then perhaps SHA-256) are in `text`.
    """

    number: int
    kind: Literal["gone", "unreadable", "mode", "size", "BLAKE3", "SHA-256", "other"]
    value: int = 0
    text: str = ""


def compare_files(reader: TreeReader, files: Sequence[StoredFile], comparison: CompareOptions) -> list[FileProblem]:
    """Returns all problems of these files, in their order. Each is read whole: for small files only. Raises nothing."""
    problems: list[FileProblem] = []
    for number, file in enumerate(files):
        try:
            fd, found = reader.open_file(file.path)
        except MissingOrExtraError as error:
            problems.append(FileProblem(number, "gone", text=error.message))
            continue
        except EvidenceSyncError as error:
            problems.append(FileProblem(number, "unreadable", text=error.message))
            continue
        try:
            if found.st_mode & comparison.unsafe_bits:
                problems.append(FileProblem(number, "mode", found.st_mode))
            if comparison.survey:
                digests, size = _hash_all(fd, found.st_size, with_sha256=comparison.sha256)
                if digests != [file.blake3, file.sha256][: len(digests)]:
                    problems.append(FileProblem(number, "other", size, " ".join(digests)))
                continue
            if found.st_size != file.size:
                problems.append(FileProblem(number, "size", found.st_size))
                continue
            if comparison.from_disk:
                forget_cached(fd)
            data = _read_whole(fd, file.size)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno is not None else str(error)
            problems.append(FileProblem(number, "unreadable", text=reason))
            continue
        finally:
            close_quietly(fd)
        if blake3(data).hexdigest() != file.blake3:
            problems.append(FileProblem(number, "BLAKE3", len(data)))
        elif comparison.sha256 and sha256(data).hexdigest() != file.sha256:
            problems.append(FileProblem(number, "SHA-256", len(data)))
    return problems


def _hash_all(fd: int, size: int, *, with_sha256: bool) -> tuple[list[str], int]:
    """Returns the digests and the length of a file with a stated `size`; a longer file is read to its end."""
    whole, other = blake3(), sha256()
    length = 0
    while data := os.read(fd, min(size + 1 if size else FIRST_READ, _BLOCK)):
        whole.update(data)
        if with_sha256:
            other.update(data)
        length += len(data)
        if length == size and len(data) <= size < _BLOCK:  # a read of one byte more returned no more: this is the end
            break
    return [whole.hexdigest(), other.hexdigest()] if with_sha256 else [whole.hexdigest()], length


def _read_whole(fd: int, size: int) -> bytes:
    data = os.read(fd, size + 1)  # one byte more, to see that it ends there
    return data if len(data) == size else data + read_bounded(fd, size - len(data))


_LENGTH: Final = struct.Struct(">I")
# It imports the same modules as this process from the same paths, and no others (-I). It ignores Ctrl-C: the parent handles it.
_PROGRAM: Final = """\
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
fd, comparison, *sys.path = sys.argv[1:]
from evidencesync.vault.file_checks import answer_all
answer_all(sys.stdin.buffer, sys.stdout.buffer, int(fd), comparison)
"""
_ENCODER: Final = msgspec.msgpack.Encoder()
_OPTIONS: Final = msgspec.json.Decoder(CompareOptions)
_FILES: Final = msgspec.msgpack.Decoder(list[StoredFile])
_PROBLEMS: Final = msgspec.msgpack.Decoder(list[FileProblem])


class Helper:
    """One helper process. Used by one thread at a time; other helpers work in parallel."""

    def __init__(self, data_fd: int, comparison: CompareOptions) -> None:
        """Starts the process; the caller keeps the descriptor. Raises OSError where the system starts no further process."""
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

    def compare(self, files: Sequence[StoredFile]) -> list[FileProblem]:
        """Compares files as `compare_files` does, in the process. Raises InternalError when the process has ended."""
        asks, answers, problems = self._process.stdin, self._process.stdout, None
        with contextlib.suppress(OSError):  # the process has ended, and the pipe with it
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
        """Ends the process and waits for its end."""
        self._process.kill()  # it only reads, so nothing can be left incomplete
        self._process.communicate()


def answer_all(asks: IO[bytes], answers: IO[bytes], data_fd: int, comparison: str) -> None:
    """Runs in the helper process: answers requests until its input ends."""
    wanted = _OPTIONS.decode(comparison)
    reader = TreeReader(data_fd, untouched=wanted.survey)
    while (question := _read(asks)) is not None:
        _write(answers, _ENCODER.encode(compare_files(reader, _FILES.decode(question), wanted)))


def _write(pipe: IO[bytes], body: bytes) -> None:
    pipe.write(_LENGTH.pack(len(body)) + body)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes | None:
    """Reads the next body; None at the end, also in the middle of a body."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = pipe.read(length)
    return body if len(body) == length else None


# With very small files, the adding thread keeps only two busy; with larger files, four hash faster than most disks read.
_WORKERS: Final = min(max(os.cpu_count() or 1, 2), 4)
_BATCH_FILES: Final = 256
_BATCH_BYTES: Final = 8 << 20
_BATCHES_AHEAD: Final = _WORKERS + 4
_HELPERS_FROM: Final = 8192  # files: for fewer, starting a process (0.1 s) costs more than it gains

_Compare = Callable[[Sequence[StoredFile]], list[FileProblem]]
Done = Callable[[list[StoredFile], list[FileProblem]], None]
"""Receives files that were compared, and their problems. Called in the thread that adds files."""


class FileChecks:
    """Takes files in manifest order; `done` is called in that order, a little later. Then call `finish` and `close`."""

    def __init__(self, data_fd: int, done: Done, comparison: CompareOptions) -> None:
        """The caller keeps the descriptor of `data/`, and may close it after this call."""
        self._done = done
        self._comparison = comparison
        self._batch: list[StoredFile] = []
        self._batch_bytes = 0
        self._added = 0
        self._pending: deque[tuple[list[StoredFile], Future[list[FileProblem]]]] = deque()
        self._stack = ExitStack()
        self._data_fd = os.dup(data_fd)
        self._stack.callback(os.close, self._data_fd)
        self._comparers: SimpleQueue[_Compare] = SimpleQueue()
        for _ in range(_WORKERS):
            self._comparers.put(self._in_this_process())
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="compare")

    def add(self, file: StoredFile) -> None:
        """Adds the next file. Waits when enough files are queued. Raises InternalError when a helper process has died."""
        self._batch.append(file)
        self._batch_bytes += file.size
        if len(self._batch) >= _BATCH_FILES or self._batch_bytes >= _BATCH_BYTES:
            self._submit()

    def finish(self) -> None:
        """Waits for all files that were added. More may be added afterwards."""
        self._submit()
        while self._pending:
            self._take()

    def close(self) -> None:
        """Ends threads and processes."""
        self._pool.shutdown(cancel_futures=True)
        self._stack.close()

    def _in_this_process(self) -> _Compare:
        reader = TreeReader(os.dup(self._data_fd), untouched=self._comparison.survey)
        self._stack.callback(reader.close)
        return partial(compare_files, reader, comparison=self._comparison)

    def _submit(self) -> None:
        if self._batch:
            batch, self._batch, self._batch_bytes = self._batch, [], 0
            before, self._added = self._added, self._added + len(batch)
            if before < _HELPERS_FROM <= self._added:
                self._call_helpers()
            self._pending.append((batch, self._pool.submit(self._compare, batch)))
        while len(self._pending) > _BATCHES_AHEAD:
            self._take()

    def _take(self) -> None:
        batch, problems = self._pending.popleft()
        self._done(batch, problems.result())

    def _call_helpers(self) -> None:
        """Replaces each thread's work by a helper process, if the system starts them; the thread then only waits."""
        if (os.cpu_count() or 1) < _WORKERS:
            return
        while self._pending:  # a comparer in use cannot be replaced
            self._take()
        for _ in range(_WORKERS):
            try:
                helper = Helper(self._data_fd, self._comparison)
            except OSError:  # then the thread compares, as before
                return
            self._stack.callback(helper.close)
            self._comparers.get()
            self._comparers.put(helper.compare)

    def _compare(self, batch: list[StoredFile]) -> list[FileProblem]:
        """Runs in a thread of the pool."""
        compare = self._comparers.get()
        try:
            return compare(batch)
        finally:
            self._comparers.put(compare)
