"""Runs a vault's end: one session on the streams that sshd provides, or an SSH server of our own with many sessions.

A session that waits for its sender has no connection, so the server's limits on connections do not count it. It has limits of
its own: a principal that opens session after session and loses each link ends its own oldest sessions, and no others as long as
others have fewer. No evidence is lost: what has arrived is in staging, for the next run.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from evidencesync.connection.event_log import Events, EventSink
from evidencesync.connection.link import ChannelLink, Link
from evidencesync.connection.process import allow_many_files, keep_large_blocks
from evidencesync.connection.sender_connection import SINGLE_SESSION, Host
from evidencesync.custody.documents import SshPeer
from evidencesync.errors import BusyError, EvidenceSyncError, LinkLostError, UsageError
from evidencesync.evidence.number_format import seconds_text
from evidencesync.files.shortages import unexpected
from evidencesync.ingest.receive import receive, refuse
from evidencesync.limits import MIB, SILENCE_SECONDS
from evidencesync.protocol.failures import failure_of, version_in_common
from evidencesync.protocol.framing import FrameDecoder, decode_message, frame_of
from evidencesync.protocol.messages import PREAMBLE, Hello
from evidencesync.ssh.channel import ServedChannel
from evidencesync.ssh.shares import Share, Waiting
from evidencesync.vault.layout import HOST_KEY
from evidencesync.vault.vault import Vault

_READ_BYTES: Final = 1 * MIB
_POLL_SECONDS: Final = 1.0
_MAX_ABSENT: Final = 64  # twice the sessions with links: all links may be lost at once, and again before the first ones end
_MAX_ABSENT_OF_ONE: Final = 32
# Each session keeps a thread for as long as it lasts, also while it waits for a sender whose link was lost. `ssh.server` accepts
# less than half as many at a time; a session that would get no thread is refused as busy.
_THREADS: Final = 512
_QUEUE_SECONDS: Final = 15.0  # to wait for a place, before the session is refused as busy
_STATUS_SECONDS: Final = 1.0
_PERSON_SECONDS: Final = 2.0  # a client speaks at once; a person without a terminal (`restrict`) sees nothing that could be typed
_WHAT_THIS_IS: Final = "this is the other end of a push or a pull, and it has nothing to say to a person"
_FOR_PEOPLE: Final = (
    "On the machine with the evidence type evidencesync push SOURCE VAULT: it starts this end by itself. If your login led here, "
    "your key may only push (authorized_keys): log in with another one for a shell."
)
_HELLO_SECONDS: Final = 5.0  # for the first message of a client that is going to be refused


class StdioLink:
    """A Link over two descriptors, read and written by threads that block. Bytes are counted without the overhead of SSH."""

    peer: SshPeer | None = None

    def __init__(self, source: int, sink: int) -> None:
        """Takes over both descriptors."""
        self.wire_sent = 0
        self.wire_received = 0
        self.timeout_seconds = SILENCE_SECONDS
        self._source = source
        _enlarge(source)
        _enlarge(sink)
        self._sink: _Sink | None = _Sink(sink)

    def read(self) -> bytes:
        """Returns the next bytes; `b""` when the other end has finished."""
        if not self.wire_received:
            self._notify_login()
        try:
            block = os.read(self._source, _READ_BYTES)
        except OSError as error:
            raise LinkLostError(f"the connection broke: {error.strerror}") from error
        self.wire_received += len(block)
        return block

    def _notify_login(self) -> None:
        """Says on stderr what this is, if nobody speaks who was started by a login without a command.

        Our own client names a command, which sshd tells to the one that it starts instead (SSH_ORIGINAL_COMMAND). Where no
        other one is forced, a client that is late is told as well: what a server says on stderr, it shows with an error or -v.
        """
        if "SSH_CONNECTION" not in os.environ or "SSH_ORIGINAL_COMMAND" in os.environ:
            return
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        if not poll.poll(_PERSON_SECONDS * 1000):
            with contextlib.suppress(OSError):
                os.write(2, f"evidencesync: {_WHAT_THIS_IS}. {_FOR_PEOPLE} Ctrl-C ends this.\n".encode())

    def write(self, data: bytes) -> None:
        """Writes all of it. Raises LinkLostError where nothing at all is taken for `timeout_seconds`."""
        view, moved = memoryview(data), time.monotonic()
        try:
            while view:
                if self._sink is None:
                    raise LinkLostError("the connection was closed")
                written = self._sink.write(view)
                if written:
                    self.wire_sent += written
                    view, moved = view[written:], time.monotonic()
                elif time.monotonic() - moved >= self.timeout_seconds:
                    raise LinkLostError(f"the other end has taken nothing for {seconds_text(self.timeout_seconds)}")
                else:
                    self._sink.wait(min(self.timeout_seconds, _POLL_SECONDS))
        except OSError as error:
            raise LinkLostError(f"the connection broke: {error.strerror}") from error

    def close(self) -> None:
        """Ends the outgoing stream. The incoming one ends with the process: a thread may still wait in a read of it."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None


class _Sink:
    """A descriptor that is written without blocking, so that the writer can give up after a timeout.

    O_NONBLOCK is a property of the open file description, which may be shared with a shell. So a pipe is opened again where the
    system allows it, and a socket is written with MSG_DONTWAIT. Anything else (a file, a terminal) is written as it is.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._socket: socket.socket | None = None
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(descriptor))
        elif stat.S_ISFIFO(mode):
            self._descriptor = _opened_anew(descriptor)

    def write(self, data: memoryview) -> int:
        """Writes; returns how many bytes were taken, 0 where there is no room. Raises OSError."""
        try:
            if self._socket is not None:
                return self._socket.send(data, socket.MSG_DONTWAIT)
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0

    def wait(self, seconds: float) -> None:
        """Waits until there is room, or the time is over."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        poll.poll(seconds * 1000)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        os.close(self._descriptor)


def _opened_anew(pipe: int) -> int:
    """Opens a pipe again, with O_NONBLOCK of its own. Takes over the descriptor."""
    try:
        own = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # no /proc, or a pipe of another user
        os.set_blocking(pipe, False)
        return pipe
    os.close(pipe)
    return own


def take_standard_streams() -> StdioLink:
    """Takes standard input and output for the protocol. From now on a stray `print` goes to stderr, and nothing reads 0.

    Raises UsageError where a person types: who lands here by logging in would wait for ever.
    """
    if os.isatty(0):
        raise UsageError(_WHAT_THIS_IS, hint=_FOR_PEOPLE)
    if sys.stdout is not None:  # it was closed when this process began
        sys.stdout.flush()
    source, sink = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    return StdioLink(source, sink)


def _enlarge(descriptor: int) -> None:
    """Makes a pipe hold 1 MiB where the system lets it; anything else stays as it is."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _READ_BYTES)
        except OSError:  # a socket, or the limit on pipe buffers is reached: slower, not wrong
            return


class WaitingSessions:
    """Limits how many sessions of one server wait for their senders. Used by the threads of all sessions."""

    def __init__(self, total: int = _MAX_ABSENT, of_one: int = _MAX_ABSENT_OF_ONE) -> None:
        self._total = total
        self._of_one = of_one
        self._lock = threading.Lock()
        self._waiting: Waiting[WaitingSession] = Waiting(0.0)

    def begin(self, one: WaitingSession, who: str) -> None:
        """Lets a session wait; an older one may have to end for it."""
        with self._lock:
            leaving = self._waiting.enter(one, [Share(who, self._of_one)], self._total, time.monotonic())
            for other in [one] if leaving is None else leaving:
                other.is_over = True

    def end(self, one: WaitingSession) -> None:
        """Records that a session waits no longer."""
        with self._lock:
            self._waiting.leave(one)


class WaitingSession:
    """The waiting of one session, which may lose its link several times."""

    def __init__(self, sessions: WaitingSessions) -> None:
        self.is_over = False
        """Whether the session must stop waiting: another one has taken its place."""
        self._waiting_sessions = sessions

    @contextlib.contextmanager
    def waiting(self, who: str) -> Iterator[None]:
        """Holds a place for as long as the session waits for the sender with this principal."""
        self.is_over = False
        self._waiting_sessions.begin(self, who)
        try:
            yield
        finally:
            self._waiting_sessions.end(self)


def serve_stdio(vault_path: str, *, shows_evidence: bool = True, sink: EventSink | None = None) -> None:
    """Serves one session on standard input and output, as sshd starts it. Raises what ended the session."""
    keep_large_blocks()
    host = msgspec.structs.replace(SINGLE_SESSION, shows_evidence=shows_evidence, events=Events(sink, "vault"))
    _serve_link(take_standard_streams(), vault_path, _client(), None, host)


def serve_source_stdio(source: str, sink: EventSink | None = None) -> None:
    """Serves one pull on standard input and output, as sshd starts it. Raises what ended it."""
    from evidencesync.serve.source_server import serve_source  # a vault's end needs none of it

    keep_large_blocks()
    allow_many_files()
    serve_source(take_standard_streams(), os.fsencode(source), events=Events(sink, "source", peer=_client()))


def serve_listening(
    vault_path: str,
    host: str,
    port: int,
    authorized_keys: Path,
    host_key: Path | None,
    announce: Callable[[str, int, str], None],
    *,
    shows_evidence: bool = True,
    sink: EventSink | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM. `announce` is called with address, port and the host key's fingerprint.

    A signal that is ignored from the start, as SIGINT is in the background of a script, stays ignored.
    Without `shows_evidence` nothing can be restored from afar.
    Raises ConfigurationError when the address or the files cannot be used.
    """
    import asyncio

    keep_large_blocks()
    allow_many_files()
    Vault.open(Path(vault_path))  # so that a wrong path is reported at the start, and not to the first client
    sessions = _Sessions(vault_path, shows_evidence=shows_evidence, events=Events(sink, "vault"))
    asyncio.run(_serve(sessions, host, port, authorized_keys, host_key, announce))


async def _serve(
    sessions: _Sessions,
    host: str,
    port: int,
    authorized_keys: Path,
    host_key: Path | None,
    announce: Callable[[str, int, str], None],
) -> None:
    # Not above: asyncssh takes long to import, and a process that sshd starts does not need it.
    import asyncio

    from evidencesync.ssh.server import serve_embedded

    own_place = Path(sessions.vault_path) / HOST_KEY

    def ready(address: str, number: int, fingerprint: str) -> None:
        sessions.host_key = fingerprint
        announce(address, number, fingerprint)

    loop = asyncio.get_running_loop()
    serving = loop.create_task(
        serve_embedded(host, port, host_key or own_place, authorized_keys, sessions.serve, ready, own_place=own_place)
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # in the background of a script Ctrl-C is meant for other processes
            loop.add_signal_handler(number, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    await sessions.end()


class _Sessions:
    """Runs the sessions of an SSH server of our own, each in a thread. Used in its event loop."""

    def __init__(self, vault_path: str, *, shows_evidence: bool, events: Events) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self.host_key: str | None = None
        self.vault_path = vault_path
        self._shows_evidence = shows_evidence
        self._events = events
        # Not asyncio's own: that has four threads and one for each core, and every login needs one of them for a moment.
        self._pool = ThreadPoolExecutor(_THREADS, "session")
        self._running = 0
        self._closing = threading.Event()
        self._waiting_sessions = WaitingSessions()

    async def serve(self, channel: ServedChannel, who: str) -> None:
        """Serves one session. Raises the error that ended it."""
        import asyncio

        if channel.is_turned_away or self._running >= _THREADS:
            await _turn_away(channel)
            return
        loop = asyncio.get_running_loop()

        def run(work: Coroutine[Any, Any, Any]) -> Any:
            return asyncio.run_coroutine_threadsafe(work, loop).result()

        async def admit_principal(who: str) -> bool:
            return channel.admit_principal(who)

        def has_place(who: str, waits: Callable[[], None]) -> bool:
            until = time.monotonic() + _QUEUE_SECONDS
            while not run(admit_principal(who)):
                if time.monotonic() >= until or self._closing.wait(_STATUS_SECONDS):
                    return False
                waits()
            return True

        session = WaitingSession(self._waiting_sessions)
        is_closing = lambda: session.is_over or self._closing.is_set()  # noqa: E731
        host = Host(has_place, is_closing, session.waiting, self._shows_evidence, self._events)
        self._running += 1
        try:
            work = partial(_serve_link, ChannelLink(channel, run), self.vault_path, who, self.host_key, host)
            await loop.run_in_executor(self._pool, work)
        finally:
            self._running -= 1

    async def end(self) -> None:
        """Ends the sessions that wait for a sender, and waits for the others: this loop must go on, for they need it to close."""
        import asyncio

        self._closing.set()
        await asyncio.to_thread(self._pool.shutdown)


async def _turn_away(channel: ServedChannel) -> None:
    """Sends a client, in its own version, that there is no place; without a thread. Raises BusyError, for the log."""
    import asyncio

    busy = BusyError("the server has as many sessions as it takes from this address or with this key")
    decoder, frames = FrameDecoder(), list[tuple[int, memoryview]]()
    with contextlib.suppress(TimeoutError, EvidenceSyncError):
        async with asyncio.timeout(_HELLO_SECONDS):
            while not frames and (block := await channel.read()):
                frames = list(decoder.update(block))
    version = None
    with contextlib.suppress(EvidenceSyncError):
        hello = decode_message(*frames[0]) if frames else None
        version = version_in_common(hello.versions) if isinstance(hello, Hello) else None
    with contextlib.suppress(LinkLostError):
        await channel.write(PREAMBLE + frame_of(failure_of(busy, version)))
    raise busy


def _serve_link(link: Link, vault_path: str, received_from: str, host_key: str | None, host: Host = SINGLE_SESSION) -> None:
    """Serves one session. The error of a vault that cannot be opened is sent to the client, too."""
    try:
        allow_many_files()
        vault = Vault.open(Path(vault_path))
    except EvidenceSyncError as error:
        refuse(link, error)
        host.events.about(peer=received_from).refuse(error)
        raise
    try:
        receive(link, vault, received_from, host_key=host_key, host=host)
    except EvidenceSyncError:
        raise
    except Exception as error:  # such as no thread for the link: nothing was sent yet
        failure = unexpected(error)
        refuse(link, failure)
        raise failure from error


def _client() -> str:
    """Returns the client's address and port for the receipt, from SSH_CONNECTION, which sshd sets, not the client."""
    connection = os.environ.get("SSH_CONNECTION", "")
    parts = connection.split()
    return f"{parts[0]} port {parts[1]}" if len(parts) == 4 and connection.isascii() and connection.isprintable() else "unknown"
