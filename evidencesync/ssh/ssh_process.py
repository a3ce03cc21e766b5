"""Runs the user's ssh as a child process: its pipes, the facts that it logs about the server, and the reason if it fails.

There are four streams. The remote command's input and output are pipes of a megabyte. Its stderr is kept for messages. ssh's
own log comes over a pipe that ssh opens by its name in /proc, since ssh closes every other inherited descriptor. ssh asks a
person on the terminal. Therefore the child stays in our process group. SIGINT is blocked in it: at Ctrl-C, our process says
goodbye to the other end, and then ends ssh.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import selectors
import signal
import subprocess
import threading
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from evidencesync.custody.documents import SshPeer
from evidencesync.errors import ConnectError, EvidenceSyncError, LinkLostError, ResourcesError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.evidence.number_format import seconds_text
from evidencesync.files.disk import enlarge_pipe
from evidencesync.files.temporary import temporary_folder, writing_temporary
from evidencesync.limits import KIB, MAX_STDERR
from evidencesync.ssh.explain import FAILED, Ended, contradicted, explain_end, explain_login, explain_no_output, other_destination
from evidencesync.ssh.log import SshLog, is_for_people
from evidencesync.ssh.options import SshOptions, missing_program
from evidencesync.ssh.recorded import held_to_revocations
from evidencesync.ssh.route import Hop, command_of, environment

_LOG: Final = logging.getLogger(__name__)
_READ: Final = 64 * KIB  # all that the pipe of a log holds
_SHOWN_STDERR: Final = 600  # characters of the remote end's messages in one of ours
_LOOK_SECONDS: Final = 0.5  # without a limit on the wait, a lock in the main thread would hold back Ctrl-C on some systems
# How long a login may take without a person: ssh waits for ever while a server sends anything. The timeout for silence applies to
# each address of a name.
_LOGIN_SECONDS: Final = 120.0
_LOGIN_TIMEOUTS: Final = 4
_STATUS_SECONDS: Final = 5.0  # how long an exit status may come after the end of the stream
_MORE_SECONDS: Final = 2.0
_END_SECONDS: Final = 2.0  # for an ssh that was told to end, and gives the terminal back


class SshProcess:
    """One ssh process and its session. One thread may read `source`, another may write `sink`; only `release` closes them.

    Call `wait_ready` first, `end` after the end of `source`, and `kill` in any case.
    """

    def __init__(
        self,
        route: Sequence[Hop],
        options: SshOptions,
        wanted: str,
        *,
        subsystem: bool = False,
        on_stderr: Callable[[bytes], None] | None = None,
    ) -> None:
        """Starts ssh. `wanted` is a command line for the account's shell, or the name of a subsystem.

        `on_stderr` gets all that the remote command prints on stderr, in a thread of its own.

        Raises ConfigurationError if there is no such program, ResourcesError if the system cannot start a process, and
        HostKeyError if it cannot be known which host keys are revoked.
        """
        self.route = tuple(route)
        self.logs = tuple(SshLog() for _ in route)
        self.has_received = False
        self._options = options
        self._person = options.person
        self._on_stderr = on_stderr
        self._stderr = bytearray()
        self._shown = 0
        self._lock = threading.RLock()  # entered in place of the condition, which a function of Python enters
        self._changed = threading.Condition(self._lock)
        self._is_over = False
        self._is_closed = False
        self._lent_to = self._person
        if self._person is not None:
            self._person.lend()
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher = threading.Thread(target=self._watch, name="ssh", daemon=True)
        self._waiter = threading.Thread(target=self._await_end, name="ssh end", daemon=True)
        try:
            self._start(wanted, subsystem=subsystem)
        except BaseException:
            self._return_terminal()
            raise

    def _start(self, wanted: str, *, subsystem: bool) -> None:
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            route = [held_to_revocations(hop, ours) for hop in self.route]
            try:
                logs = [_log_stream(ours) for _ in self.route]
                self._log_ends = tuple(end for end, _ in logs)
                self.source, their_stdout = _pipe(ours, theirs)
                self._sink_owner = ours.enter_context(contextlib.ExitStack())
                their_stdin, self.sink = _pipe(theirs, self._sink_owner)
                self._errors, their_stderr = self._error_stream(ours, theirs)
                self._wake, self._waker = _pipe(ours, ours)
                for descriptor in (self.source, self.sink):
                    enlarge_pipe(descriptor)
                command = command_of(route, [name for _, name in logs], wanted, subsystem=subsystem)
                ours.callback(self._end_process)
                _LOG.info("starting: %s", shell_text(*command))
                with _interrupt_held_back():
                    self._process = subprocess.Popen(
                        command, stdin=their_stdin, stdout=their_stdout, stderr=their_stderr, env=environment()
                    )
                os.set_blocking(self.sink, False)
                self._waiter.start()
                self._watcher.start()
            except (FileNotFoundError, PermissionError) as error:
                raise missing_program(self.route[-1].program[0], error.strerror or "it is closed to us") from error
            except (OSError, RuntimeError) as error:  # no process, or no thread
                raise ResourcesError(f"a process for the SSH connection can't be started: {safe_text(str(error))}") from error
            self._ours = ours.pop_all()

    def _error_stream(self, ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> tuple[int, int]:
        """A pipe for stderr; with a person, a pseudo-terminal: ssh prints requests to touch a token only to a terminal."""
        if self._person is None:
            return _pipe(ours, theirs)
        try:
            near, far = os.openpty()
        except OSError:
            return _pipe(ours, theirs)
        ours.callback(os.close, near)
        theirs.callback(os.close, far)
        tty.setraw(far)
        return near, far

    @property
    def process_id(self) -> int:
        """The child's process id."""
        return 0 if self._process is None else self._process.pid

    def wait_ready(self) -> SshPeer:
        """Waits until ssh has logged in, and returns the facts about the server. Raises the error with which it failed."""
        limit = _LOGIN_SECONDS + _LOGIN_TIMEOUTS * self._options.timeout_seconds
        until = time.monotonic() + (limit if self._person is None else math.inf)
        with self._lock:
            while not (self.logs[-1].is_authenticated or self._is_over):
                if time.monotonic() > until:
                    raise LinkLostError(f"{self.route[-1].where} has not completed the login in {seconds_text(limit)}")
                self._changed.wait(_LOOK_SECONDS)
        self._return_terminal()
        if any(log.contradiction is not None or log.host_key is None for log in self.logs):
            self.wait(_MORE_SECONDS)  # no real login: the log may get the reason a little later
        if self._is_over and not self._is_logged_in:
            raise explain_login(self._ended())
        self._require_consistent_logs()
        for hop, log in zip(self.route, self.logs, strict=True):
            if (error := other_destination(hop, log)) is not None:
                raise error
        peer = self.peer
        sent = safe_text(peer.algorithms["send_cipher"])
        _LOG.info("logged in to %s as %s: host key %s, cipher %s", hop.where, safe_text(hop.user), peer.host_key, sent)
        return peer

    @property
    def _is_logged_in(self) -> bool:
        return self.logs[-1].is_authenticated and all(log.host_key_refusal is None for log in self.logs)

    @property
    def peer(self) -> SshPeer:
        """The server as ssh has authenticated it, for a manifest. Raises ConnectError if ssh does not log its host key."""
        hop, log = self.route[-1], self.logs[-1]
        if log.host_key is None:
            raise ConnectError(
                f"ssh does not say which host key {hop.where} has shown", hint="It must be OpenSSH's client, 7.4 or later."
            )
        names = ("send_cipher", "send_mac", "recv_cipher", "recv_mac", "server_version")
        return SshPeer(
            user=hop.user,
            host=hop.host,
            port=hop.port,
            host_key=log.host_key.fingerprint,
            algorithms={name: log.algorithms.get(name, "") for name in names},
        )

    @property
    def stderr_text(self) -> str:
        """The last lines of the remote end's stderr, safe for a terminal, joined with ` | `."""
        with self._lock:
            said = bytes(self._stderr)
        text = " | ".join([safe_text(line.rstrip(b"\r")) for line in said.split(b"\n") if line.strip()][-5:])
        return text if len(text) <= _SHOWN_STDERR else "…" + text[-_SHOWN_STDERR:]

    @property
    def ending(self) -> str:
        """How the remote command has ended, and what it printed on stderr, safe to show; empty where that is not known."""
        status, said = self.logs[-1].exit_status, self.stderr_text
        if not self._is_over or status is None:
            return ""
        return f"with exit status {status}" + (f" (stderr: {said})" if said else "")

    def begin_receiving(self) -> None:
        """Must be called when the first bytes of `source` have arrived. Raises ProtocolError for a server that forges ssh's log.

        ssh has logged all facts about the connection before these bytes, so all of them are known now.
        """
        if not self.has_received:
            self.has_received = True
            with self._lock:
                if not self._is_closed:
                    self._drain()
            self._require_consistent_logs()
            for log in self.logs:
                log.end_login()

    def end(self) -> EvidenceSyncError | None:
        """Must be called at the end of `source`. Returns why the session ended; None if the remote command finished normally."""
        is_over = self.wait(_STATUS_SECONDS)
        if self._is_closed:
            return LinkLostError("the connection was closed")
        if not is_over:  # the remote command has closed its output, and goes on
            return None if self.has_received else explain_no_output(None, self.stderr_text)
        ended = self._ended()
        if not self._is_logged_in:
            return explain_login(ended)
        status, log = ended.status, self.logs[-1]
        failed_itself = status < 0 or (status == FAILED and log.exit_status is None)
        if failed_itself and self.has_received:
            return explain_end(ended) if status >= 0 else LinkLostError("the process that carried the connection has ended")
        if failed_itself:
            return explain_login(ended) if status >= 0 else LinkLostError("the process that carried the connection has ended")
        return None if self.has_received else explain_no_output(status, ended.stderr)

    def wait(self, seconds: float) -> bool:
        """Waits until ssh has ended, at most for some seconds. Returns whether it has."""
        until = time.monotonic() + seconds
        with self._lock:
            while not (self._is_over or self._is_closed) and (left := until - time.monotonic()) > 0:
                self._changed.wait(min(left, _LOOK_SECONDS))
            return self._is_over

    def kill(self) -> None:
        """Ends ssh at once. A thread that reads `source` gets its end. Repeatable."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._changed.notify_all()
        self._end_process()
        self._return_terminal()
        self._watcher.join()

    def _end_process(self) -> None:
        """Ends the process, if it has been started. Nothing writes to our own pipes after that."""
        if (process := self._process) is None:
            return
        process.terminate()  # not SIGKILL: ssh may have changed the terminal's modes, and restores them first
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._waiter.is_alive():
            self._waiter.join()

    def end_input(self) -> None:
        """Closes `sink`: ssh sends what it has, and then the end of the stream. Repeatable."""
        self._sink_owner.close()

    def release(self) -> None:
        """Closes our ends of the pipes. Only after `kill`, and when no thread reads or writes any more. Repeatable."""
        self._ours.close()

    # Log and stderr.

    def _watch(self) -> None:
        """Reads logs and stderr until the process has ended and all of them has been read."""
        with selectors.DefaultSelector() as selector:
            for descriptor in (*self._log_ends, self._errors, self._wake):
                os.set_blocking(descriptor, False)
                selector.register(descriptor, selectors.EVENT_READ)
            while not self._is_over:
                is_ending = any(key.fd == self._wake for key, _ in selector.select())
                with self._lock:
                    if not self._drain() and self._errors in selector.get_map():
                        selector.unregister(self._errors)
                    self._is_over = is_ending
                    if self._is_over or self.logs[-1].is_authenticated:
                        self._return_terminal()
                    self._changed.notify_all()

    def _drain(self) -> bool:
        """Reads what has arrived until now, and no more: a server that sends without end could keep us here, with the lock.

        Returns whether stderr is still open. A log ends only with its process.
        """
        for descriptor, log in zip(self._log_ends, self.logs, strict=True):
            for line in log.update(_read_some(descriptor) or b""):
                _LOG.log(logging.INFO if is_for_people(line) else logging.DEBUG, "%s", safe_text(line, _SHOWN_STDERR))
        taken = 0
        while taken < _READ and (data := _read_some(self._errors)):  # a terminal gives little at a time
            taken += len(data)
            self._stderr += data
            del self._stderr[:-MAX_STDERR]
            if self._on_stderr is not None and self.logs[-1].is_authenticated:
                self._on_stderr(data)
            self._show(data)
        return taken >= _READ or data is None

    def _show(self, data: bytes) -> None:
        """Shows stderr to the person before the login is complete: then it is the server's banner, or a message of ssh.

        After the login it comes from the remote command: it is kept for an error message, and logged.
        """
        if self._shown >= MAX_STDERR:
            return
        self._shown += len(data)
        person = None if self.logs[-1].is_authenticated else self._person
        for line in data.replace(b"\r", b"").split(b"\n"):
            if line.strip() and person is not None:
                person.show(safe_text(line, _SHOWN_STDERR))
            elif line.strip():
                _LOG.info("stderr: %s", safe_text(line, _SHOWN_STDERR))

    def _await_end(self) -> None:
        if self._process is not None:
            self._process.wait()
            os.write(self._waker, b"\0")

    def _return_terminal(self) -> None:
        """Takes the terminal back from ssh. Repeatable."""
        with self._lock:
            person, self._lent_to = self._lent_to, None
        if person is not None:
            person.take_back()

    def _ended(self) -> Ended:
        status = FAILED if self._process is None else self._process.wait()
        return Ended(self.route, self.logs, status, self.stderr_text, self._options.timeout_seconds)

    def _require_consistent_logs(self) -> None:
        for hop, log in zip(self.route, self.logs, strict=True):
            if log.contradiction is not None:
                raise contradicted(hop, log)


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe. Each stack closes one end of it."""
    source, sink = os.pipe()
    reader.callback(os.close, source)
    writer.callback(os.close, sink)
    return source, sink


def _log_stream(ours: contextlib.ExitStack) -> tuple[int, str]:
    """A stream for a log: the descriptor to read it, and the name by which ssh opens it: ssh closes inherited ones.

    A pipe of ours has a name in /proc, and leaves no trace. If children cannot open that (a program with file privileges, no
    /proc), it is a pseudo-terminal, which leaves none either. Where there is none, it is a FIFO in a temporary folder.
    """
    if _is_open_to_children():
        source, sink = _pipe(ours, ours)
        return source, f"/proc/{os.getpid()}/fd/{sink}"
    with contextlib.suppress(OSError):
        return _log_terminal(ours)
    name = str(ours.enter_context(temporary_folder()) / "log")
    with writing_temporary():
        os.mkfifo(name, 0o600)
    source = os.open(name, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)  # O_RDWR: else it would be at its end until ssh opens it
    ours.callback(os.close, source)
    return source, name


def _log_terminal(ours: contextlib.ExitStack) -> tuple[int, str]:
    """A pseudo-terminal that changes no byte. Raises OSError where there is none, or its name leads nowhere."""
    source, sink = os.openpty()
    ours.callback(os.close, source)
    ours.callback(os.close, sink)  # open until the end: else ssh could be the last one to close it, and what it said be lost
    tty.setraw(sink)
    name = os.ttyname(sink)
    if not os.path.samestat(os.stat(name), os.fstat(sink)):
        raise FileNotFoundError(name)
    return source, name


def _is_open_to_children() -> bool:
    try:
        return os.stat(f"/proc/{os.getpid()}/fd").st_uid == os.geteuid()
    except OSError:
        return False


def _read_some(descriptor: int) -> bytes | None:
    """The bytes that have arrived; None if there are none, empty at the end."""
    try:
        return os.read(descriptor, _READ)
    except BlockingIOError:
        return None
    except OSError:  # a terminal whose other end is closed
        return b""


@contextlib.contextmanager
def _interrupt_held_back() -> Iterator[None]:
    """Blocks SIGINT: a process that is started meanwhile, and the processes that it starts, ignore Ctrl-C."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
